"""IN in odd forms: taken where the meaning is plain, else refused with the way out; never bought as text."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import threading
import zipfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import zstandard

from gemqueue.errors import ConfigError
from gemqueue_workers.run.command import options_from
from gemqueue_workers.run.source.opening import readable_twice
from gemqueue_workers.run.source.reading import read_rows
from gemqueue_workers.run.source.rows import BadLine, Row

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "gemini-3.8-flash"
ROWS = b'{"key":"a","prompt":"one"}\n{"key":"b","prompt":"two"}\n'
BOM = b"\xef\xbb\xbf"
REQUEST = b'{"contents":[{"parts":[{"text":"hi"}]}]}'


class Odd(msgspec.Struct, frozen=True):
    """A file: its name and bytes, the options, and what becomes of it: the keys, and a piece of each reason."""

    name: str
    data: bytes
    keys: list[str]
    reasons: tuple[str, ...] = ()
    given: dict[str, Any] = {}


def zipped(data: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("rows.jsonl", data)
    return made.getvalue()


def template(text: str) -> dict[str, Any]:
    return {"template": text, "key": "id"}


TAKEN = {
    "gzip under another name": Odd("rows.jsonl", gzip.compress(ROWS), ["a", "b"]),
    "gzip in capitals": Odd("ROWS.JSONL.GZ", gzip.compress(ROWS), ["a", "b"]),
    "zstd under another name": Odd("rows.jsonl", zstandard.compress(ROWS), ["a", "b"]),
    "two zstd frames": Odd("rows.jsonl.zst", zstandard.compress(ROWS[:27]) + zstandard.compress(ROWS[27:]), ["a", "b"]),
    "two gzip members": Odd("rows.jsonl.gz", gzip.compress(ROWS[:27]) + gzip.compress(ROWS[27:]), ["a", "b"]),
    "bzip2": Odd("rows.jsonl.bz2", bz2.compress(ROWS), ["a", "b"]),
    "xz": Odd("rows.jsonl.xz", lzma.compress(ROWS), ["a", "b"]),
    "not packed under .gz": Odd("rows.jsonl.gz", ROWS, ["a", "b"]),
    "no suffix": Odd("rows", ROWS, ["a", "b"]),
    "a strange suffix": Odd("rows.data", ROWS, ["a", "b"]),
    "blank lines first": Odd("rows.data", b"\n  \n\r\n" + ROWS, ["a", "b"]),
    "a byte order mark": Odd("rows.jsonl", BOM + ROWS, ["a", "b"]),
    "joined files with marks": Odd("rows.jsonl", BOM + ROWS[:27] + BOM + ROWS[27:], ["a", "b"]),
    "a mark before a csv's header": Odd("r.csv", BOM + b"id,text\n1,x\n", ["1"], given={"column": "text", "key": "id"}),
    "CRLF": Odd("rows.jsonl", ROWS.replace(b"\n", b"\r\n"), ["a", "b"]),
    "no line end": Odd("rows.jsonl", ROWS.rstrip(), ["a", "b"]),
    "custom_id": Odd("rows.jsonl", b'{"custom_id":"a","request":' + REQUEST + b"}", ["a"]),
    "id": Odd("rows.jsonl", b'{"id":7,"prompt":"x"}', ["7"]),
    "key before custom_id": Odd("rows.jsonl", b'{"custom_id":"c","key":"k","prompt":"x"}', ["k"]),
    "a named key beside more": Odd(
        "r.jsonl", b'{"uid":"a","more":1,"request":' + REQUEST + b"}", ["a"], given={"key": "uid"}
    ),
    "the run's model in the request": Odd(
        "r.jsonl", b'{"key":"a","request":{"model":"models/%b",%b}' % (MODEL.encode(), REQUEST[1:]), ["a"]
    ),
    "the run's model in the row": Odd("r.jsonl", b'{"key":"a","model":"%b","prompt":"x"}' % MODEL.encode(), ["a"]),
    "the run's model in a bare request": Odd("r.jsonl", b'{"model":"%b",%b' % (MODEL.encode(), REQUEST[1:]), ["1"]),
    "text that begins with a bracket": Odd("r.txt", b"[INST] say hi\n[INST] say ho\n", ["1", "2"]),
    "doubled braces": Odd("r.csv", b"id,text\n1,x\n", ["1"], given=template('As {{"label": 1}}: {text}')),
    "a column with blanks": Odd("r.csv", b"id,the text\n1,x\n", ["1"], given=template("Say {the text}")),
    "a quote in a field": Odd("r.csv", b'id,text\n1,"a ""b"" c"\n', ["1"], given={"column": "text", "key": "id"}),
    "a line end in a field": Odd(
        "r.csv", b'id,text\n1,"a\nb"\n2,c\n', ["1", "2"], given={"column": "text", "key": "id"}
    ),
}
BAD_LINES = {
    "another model": Odd(
        "r.jsonl", b'{"model":"gemini-2.0-x","prompt":"x"}\n' + ROWS, ["a", "b"], ("its model is 'gemini-2.0-x'",)
    ),
    "OpenAI's rows": Odd(
        "r.jsonl", b'{"custom_id":"r","method":"POST","url":"/v1","body":{}}', [], ("OpenAI's batch format",)
    ),
    "an unknown field": Odd(
        "r.jsonl", b'{"key":"a","promt":"x"}\n' + ROWS[27:], ["b"], ("it has 'promt', which no row",)
    ),
    "half an emoji": Odd("r.jsonl", b'{"key":"a","prompt":"half \\ud83d"}\n' + ROWS[27:], ["b"], ("surrogate pair",)),
    "half an emoji in a request": Odd(
        "r.jsonl", b'{"key":"a","prompt":"\\udc00 x"}\n' + ROWS[27:], ["b"], ("surrogate pair",)
    ),
    "NaN": Odd("r.jsonl", b'{"key":"a","prompt":"x","config":{"seed":NaN}}\n' + ROWS[27:], ["b"], ("NaN or Infinity",)),
    "a field twice": Odd("r.jsonl", b'{"key":"a","prompt":"x","prompt":"y"}\n' + ROWS[27:], ["b"], ("'prompt' twice",)),
    "null in a template": Odd(
        "r.jsonl", b'{"id":1,"text":null}\n{"id":2,"text":"x"}', ["2"], ("'text' is null",), template("{text}")
    ),
    "a list in a template": Odd(
        "r.jsonl", b'{"id":1,"text":["a"]}\n{"id":2,"text":"x"}', ["2"], ("is a list",), template("{text}")
    ),
    "an empty cell in a template": Odd("r.csv", b"id,text\n1,\n2,x\n", ["2"], ("'text' is empty",), template("{text}")),
    "a cut line": Odd("r.jsonl", ROWS + b'{"key":"c","pro', ["a", "b"], ("truncated",)),
    "deep": Odd(
        "r.jsonl", b'{"key":"c","request":' + b"[" * 100_000 + b"\n" + ROWS, ["a", "b"], ("nested too deeply",)
    ),
    "latin-1": Odd("r.jsonl", '{"key":"a","prompt":"é"}\n'.encode("latin-1") + ROWS[27:], ["b"], ("not UTF-8",)),
    "no such key": Odd("r.jsonl", ROWS, [], ("no 'uid', which --key names",) * 2, {"key": "uid"}),
}
REFUSED = {
    "a JSON array": Odd("r.jsonl", b'[\n{"prompt":"a"},\n{"prompt":"b"}\n]\n', [], ("is one JSON array",)),
    "a JSON array on a line": Odd("r.data", b'[{"prompt":"a"},{"prompt":"b"}]', [], ("is one JSON array",)),
    "a JSON array of another name": Odd("r.data", b'[\n  {"prompt":"a"}\n]', [], ("is one JSON array",)),
    "UTF-16": Odd("r.jsonl", ROWS.decode().encode("utf-16"), [], ("is UTF-16",)),
    "ZIP": Odd("r.jsonl", zipped(ROWS), [], ("is a ZIP archive",)),
    "a workbook": Odd("r.xlsx", zipped(b"x"), [], ("is a ZIP archive",)),
    "Parquet": Odd("r.parquet", b"PAR1\x15\x04", [], ("is a Parquet file",)),
    "PDF": Odd("r.txt", b"%PDF-1.7\n", [], ("is a PDF",)),
    "a cut gzip": Odd("r.jsonl.gz", gzip.compress(ROWS * 99)[:-20], [], ("is cut off",)),
    "a cut xz": Odd("r.jsonl.xz", lzma.compress(os.urandom(9999))[:-20], [], ("is cut off",)),
    "an open quote": Odd("r.csv", b'id,text\n1,ok\n2,"open\n3,x\n4,y\n', [], ("line 3: a quote",), {"column": "text"}),
    "a column twice": Odd("r.csv", b"id,text,text\n1,a,b\n", [], ("'text' more than once",), {"column": "text"}),
    "JSON braces": Odd("r.csv", b"id,text\n1,x\n", [], ("double the braces",), template('As {"label": 1}: {text}')),
    "an odd brace": Odd("r.csv", b"id,text\n1,x\n", [], ("double the braces",), template("As } {text}")),
}


def options(path: Path, given: dict[str, Any]) -> Any:
    plain = dict.fromkeys(
        ("name", "config_mode", "form", "column", "template", "key", "deadline", "out", "config", "failed", "dedupe")
    )
    flags = {"embed": False, "text": False, "order": "landed", "model": MODEL}
    return options_from({**plain, **flags, "source": str(path), **given})


def read(folder: Path, odd: Odd) -> list[Row | BadLine]:
    path = folder / odd.name
    path.write_bytes(odd.data)
    return list(read_rows(options(path, odd.given), str(path)))


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_plain_is_taken(tmp_path: Path, name: str) -> None:
    """Each row with its key, and nothing else; the same when it is read again."""
    for _ in range(2):
        found = read(tmp_path, TAKEN[name])
        assert [item.key if isinstance(item, Row) else item.reason for item in found] == TAKEN[name].keys


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_named_and_the_others_go_on(tmp_path: Path, name: str) -> None:
    """With a reason that says what is wrong; what was not understood is not bought."""
    found = read(tmp_path, BAD_LINES[name])
    reasons = [item.reason for item in found if isinstance(item, BadLine)]
    assert [item.key for item in found if isinstance(item, Row)] == BAD_LINES[name].keys
    assert len(reasons) == len(BAD_LINES[name].reasons)
    assert all(part in reason for part, reason in zip(BAD_LINES[name].reasons, reasons, strict=True))


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_no_rows_is_refused_as_a_whole(tmp_path: Path, name: str) -> None:
    """In one sentence, with the way out, before anything is bought."""
    with pytest.raises(ConfigError, match=REFUSED[name].reasons[0]):
        read(tmp_path, REFUSED[name])


def test_a_pipe_is_read_once_and_kept(tmp_path: Path) -> None:
    """A named pipe, and what a shell gives for ``<(command)``: a copy is read twice."""
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(ROWS,))
    writer.start()
    with ExitStack() as stack:
        given = options(pipe, {})
        path = readable_twice(str(pipe), stack)
        assert [len(list(read_rows(given, path))) for _ in range(2)] == [2, 2]
        assert given.source == "-"
    writer.join()


def test_the_digest_of_a_row_is_that_of_its_content(tmp_path: Path) -> None:
    """A row that says the same under another name for its key is the same row: nothing is bought again."""
    rows = [json.dumps({name: "a", "request": json.loads(REQUEST)}).encode() for name in ("key", "custom_id", "id")]
    found = [read(tmp_path, Odd("r.jsonl", row, ["a"]))[0] for row in rows]
    assert len({item.content for item in found if isinstance(item, Row)}) == 1
