"""``gemqueue run`` as a person uses it: files in, files out, again and again."""

from __future__ import annotations

import gzip
import resource
import secrets
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import msgspec
import pytest
import zstandard

from tests.cli.command import COMMAND, environment
from tests.cli.run_world import MODEL, RunWorld, rows_of

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.valkey_server import ValkeyServer

BIG = 1 << 20


@pytest.fixture(scope="module")
def world(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunWorld]:
    """One for the module; every test has files, and so runs, of its own."""
    with RunWorld(tmp_path_factory.mktemp("run"), valkey.url, f"t{secrets.token_hex(6)}") as world:
        yield world


def write(path: Path, *rows: object) -> Path:
    """A JSONL file."""
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path


def prompts(path: Path, n: int, start: int = 0) -> Path:
    """A JSONL file of n prompts with keys."""
    return write(path, *({"key": f"k{i}", "prompt": f"Say {i}"} for i in range(start, start + n)))


def test_every_form_of_input(world: RunWorld, tmp_path: Path) -> None:
    """CSV, plain text, gzip, zstandard and standard input come to the same as JSONL does."""
    (tmp_path / "a.csv").write_text('id,text\nx,"one, two"\ny,three\n', encoding="utf-8")
    (tmp_path / "b.txt").write_text("Classify: one, two\nClassify: three\n", encoding="utf-8")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress((tmp_path / "b.txt").read_bytes()))
    (tmp_path / "d.txt.zst").write_bytes(zstandard.compress((tmp_path / "b.txt").read_bytes()))
    world.run(tmp_path / "a.csv", tmp_path / "a.out", "--template", "Classify: {text}", "--key", "id", "--text")
    for name in ("b.txt", "c.txt.gz", "d.txt.zst"):
        world.run(tmp_path / name, tmp_path / f"{name}.out", "--text")
    piped = subprocess.run(
        [*COMMAND, "run", "-", "-o", "-", "-m", MODEL, "--text", "-q"],
        env=environment(**world.env),
        input=(tmp_path / "b.txt").read_bytes(),
        capture_output=True,
        check=True,
    )
    texts = {row["text"] for row in rows_of(tmp_path / "a.out").values()}
    assert set(rows_of(tmp_path / "a.out")) == {"x", "y"}
    assert len(texts) == 2
    for name in ("b.txt", "c.txt.gz", "d.txt.zst"):
        rows = rows_of(tmp_path / f"{name}.out")
        assert (set(rows), {row["text"] for row in rows.values()}) == ({"1", "2"}, texts)
    assert {msgspec.json.decode(line)["text"] for line in piped.stdout.splitlines()} == texts


def test_again_and_grown(world: RunWorld, tmp_path: Path) -> None:
    """The same command again buys and writes nothing; a longer IN is continued; --order input sorts OUT."""
    source, out = prompts(tmp_path / "in.jsonl", 30), tmp_path / "out.jsonl"
    world.run(source, out, "--order", "input")
    first = out.read_bytes()
    report = world.run(source, out, "--order", "input")
    assert (report["resumed"], report["submitted"], out.read_bytes() == first) == (30, 0, True)
    prompts(source, 50)
    report = world.run(source, out, "--order", "input")
    assert (report["rows"], report["answered"], report["resumed"], report["submitted"]) == (50, 50, 30, 20)
    assert list(rows_of(out)) == [f"k{i}" for i in range(50)]
    assert world.emulator.ledger()["bought_twice"] == []


def test_a_torn_line_is_written_again_and_out_may_be_lost(world: RunWorld, tmp_path: Path) -> None:
    """A torn last line is cut off and its row comes again; without OUT all rows come again; neither buys anything."""
    source, out = prompts(tmp_path / "in.jsonl", 20), tmp_path / "out.jsonl"
    world.run(source, out)
    whole = rows_of(out)
    bought = world.emulator.ledger()["rows_bought"]
    out.write_bytes(out.read_bytes()[:-7])
    assert world.run(source, out)["submitted"] == 0
    assert rows_of(out) == whole
    out.unlink()
    assert world.run(source, out)["submitted"] == 0
    assert rows_of(out) == whole
    assert world.emulator.ledger()["rows_bought"] == bought


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_and_continued(world: RunWorld, tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C or kill -9 in the middle, then the same command: each key once, nothing bought twice."""
    source, out = prompts(tmp_path / "in.jsonl", 4000), tmp_path / "out.jsonl"
    arguments = [*COMMAND, "run", str(source), "-o", str(out), "-m", MODEL, "-q"]
    with subprocess.Popen(
        arguments,
        env=environment(**world.env, GEMQUEUE_SEGMENT_PROMPTS_MAX="50"),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - one thread in the tests
    ) as process:
        deadline = time.monotonic() + 60
        while not (out.exists() and out.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    if number is signal.SIGINT and process.returncode:
        assert process.returncode == 130
        assert "Go on: gemqueue run" in stderr
    report = world.run(source, out)
    assert (report["rows"], report["answered"]) == (4000, 4000)
    assert len(rows_of(out)) == 4000
    assert world.emulator.ledger()["bought_twice"] == []


def test_bad_lines_are_named_and_the_others_go_on(world: RunWorld, tmp_path: Path) -> None:
    """Each bad line is named with number, beginning and reason on standard error; the exit code is 1."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(
        b'{"key":"a","prompt":"one"}\nno json\n\n{"key":"b","promt":"two"}\n\xff\xfa\n'
        b'{"key":"c","request":{"contents":[{"parts":[{"text":"x"}]}],"bogus":1}}\n{"key":"d","contents":["y"]}\n'
    )
    ended = world.command("run", str(source), "-o", str(out), "-m", MODEL, "--json")
    assert ended.returncode == 1
    report = msgspec.json.decode(ended.stdout)
    assert (report["rows"], report["answered"], report["bad_lines"]) == (2, 2, 4)
    assert set(rows_of(out)) == {"a", "d"}
    for said in ("line 2: JSON", "no json", "line 4: ", "promt", "line 5: it is not UTF-8", "line 6: request.bogus"):
        assert said in ended.stderr


def test_what_is_refused(world: RunWorld, tmp_path: Path) -> None:
    """Nothing is bought for a file, an OUT, a key or an option that cannot be right, and nothing is left behind."""
    source, out = prompts(tmp_path / "in.jsonl", 3), tmp_path / "out.jsonl"
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "wide.jsonl").write_bytes("{}".encode("utf-16"))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(source.read_bytes())[:30])
    twice = write(tmp_path / "twice.jsonl", *({"key": "same", "prompt": str(n)} for n in range(2)))
    assert "is empty" in world.refused(tmp_path / "empty.jsonl", out)
    assert "No such file" in world.refused(tmp_path / "nowhere.jsonl", out)
    assert "UTF-16" in world.refused(tmp_path / "wide.jsonl", out)
    assert "cut off" in world.refused(tmp_path / "cut.jsonl.gz", out)
    assert "'same' in lines 1 and 2" in world.refused(twice, out)
    assert list(tmp_path.glob("out.jsonl*")) == []
    assert "cannot be written" in world.refused(source, tmp_path / "no" / "out.jsonl")
    assert "same file" in world.refused(source, source)
    assert "API key" in world.refused(source, out, GEMQUEUE_EMULATE="0")
    assert "model must be" in world.refused(source, out, "-m", "Not A Model")
    assert "config.bogus" in world.refused(source, out, "--config", str(write(tmp_path / "c.json", {"bogus": 1})))
    assert "no run's output" in world.refused(twice, source, "--dedupe", "first")
    assert world.run(twice, out, "--dedupe", "first")["duplicates"] == 1


def test_a_rows_config_is_laid_over_config(world: RunWorld, tmp_path: Path) -> None:
    """--config holds for rows with a config of their own; not with --config-mode replace, which a run keeps."""
    config, source = tmp_path / "config.json", tmp_path / "in.jsonl"
    config.write_text('{"maxOutputTokens": 2}')
    source.write_text('{"key": "a", "prompt": "one two three", "config": {"temperature": 0}}\n')
    for mode, reason in (("merge", "MAX_TOKENS"), ("replace", "STOP")):
        out = tmp_path / f"{mode}.jsonl"
        more = ["--config-mode", mode] if mode == "replace" else []
        world.run(source, out, "--config", str(config), *more)
        assert rows_of(out)["a"]["response"]["candidates"][0]["finishReason"] == reason
        other = "replace" if mode == "merge" else "merge"
        said = world.refused(source, out, "--config", str(config), "--config-mode", other)
        assert f"was begun with --config-mode {mode}, and now it is {other}" in said
        again = world.command("run", str(source), "-o", str(out), "-m", MODEL, "--config", str(config), "-q")
        assert ("goes on as it began" in again.stderr) == (mode == "replace")


def test_out_belongs_to_its_run_and_account(world: RunWorld, tmp_path: Path) -> None:
    """OUT is not continued by another account, other settings or another IN; nor by the same IN with changed rows."""
    source, out = prompts(tmp_path / "in.jsonl", 3), tmp_path / "out.jsonl"
    world.run(source, out)
    before = out.read_bytes()
    assert "account emulated.local" in world.refused(source, out, GEMQUEUE_EMULATE="0", GEMINI_API_KEY="k")
    assert "text = False, and now it is True" in world.refused(source, out, "--text")
    assert "belongs to the run" in world.refused(prompts(tmp_path / "other.jsonl", 3), out)
    write(source, {"key": "k0", "prompt": "Say 0"}, {"key": "k1", "prompt": "Say something else"})
    said = world.refused(source, out)
    assert "line 2" in said
    assert "something else" in said
    assert out.read_bytes() == before


def test_a_full_disk_leaves_whole_lines(world: RunWorld, tmp_path: Path) -> None:
    """When OUT can take no more, the run stops with a clear line; OUT holds whole lines; the next start fills it."""
    source, out = prompts(tmp_path / "in.jsonl", 3000), tmp_path / "out.jsonl"

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (BIG // 2, resource.RLIM_INFINITY))

    ended = subprocess.run(
        [*COMMAND, "run", str(source), "-o", str(out), "-m", MODEL, "-q"],
        env=environment(**world.env), capture_output=True, text=True, check=False, preexec_fn=limit,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "nothing is lost" in ended.stderr
    assert out.read_bytes().endswith(b"\n")
    assert world.run(source, out)["submitted"] == 0
    assert len(rows_of(out)) == 3000


def test_failures_apart_and_again(world: RunWorld, tmp_path: Path) -> None:
    """--failed separates failures, the exit code is 1, and ``retry`` asks for them again, once."""
    source, out, failed = prompts(tmp_path / "in.jsonl", 6), tmp_path / "out.jsonl", tmp_path / "failed.jsonl"
    world.emulator.faults([{"on": "row", "do": "invalid", "times": 2}])
    try:
        report = world.run(source, out, "--failed", str(failed), "--name", "again", code=1)
    finally:
        world.emulator.faults([])
    assert (report["answered"], report["failed"]) == (4, 2)
    assert all(row["error"]["code"] == 3 for row in rows_of(failed).values())
    assert set(rows_of(out)) | set(rows_of(failed)) == {f"k{i}" for i in range(6)}
    assert world.run(source, out, "--failed", str(failed), "--name", "again", code=1)["submitted"] == 0
    ended = world.command("admin", "retry", "--run", "again", "--json")
    assert ended.returncode == 0, ended.stderr
    report = msgspec.json.decode(ended.stdout)
    assert (report["rows"], report["answered"], report["failed"], report["submitted"]) == (6, 6, 0, 2)
    assert (set(rows_of(out)), failed.read_bytes()) == ({f"k{i}" for i in range(6)}, b"")


def test_dry_run_buys_nothing_and_is_right(world: RunWorld, tmp_path: Path) -> None:
    """Prompts are exact, and input tokens within a tenth of what the ledger then counts."""
    out, text = tmp_path / "out.jsonl", "A real prompt says what it wants in some sentences. " * 8
    source = write(tmp_path / "in.jsonl", *({"key": f"k{i}", "prompt": f"{text}{i}"} for i in range(500)))
    before = world.emulator.ledger()["rows_bought"]
    ended = world.command("run", str(source), "-o", str(out), "-m", MODEL, "--dry-run", "--json")
    assert ended.returncode == 0, ended.stderr
    planned = msgspec.json.decode(ended.stdout)
    assert list(tmp_path.glob("out.jsonl*")) == []
    assert world.emulator.ledger()["rows_bought"] == before
    world.run(source, out)
    assert world.emulator.ledger()["rows_bought"] - before == planned["rows"] == 500
    charged = sum(row["response"]["usageMetadata"]["promptTokenCount"] for row in rows_of(out).values())
    assert planned["input_tokens"] == pytest.approx(charged, rel=0.1)
    assert planned["batch_input_usd"] == pytest.approx(planned["interactive_input_usd"] / 2)


def test_a_closed_pipe_ends_quietly(world: RunWorld, tmp_path: Path) -> None:
    """``gemqueue run IN -o - | head -1`` says nothing on standard error."""
    source = prompts(tmp_path / "in.jsonl", 3000)
    with subprocess.Popen(
        [*COMMAND, "run", str(source), "-o", "-", "-m", MODEL, "-q"],
        env=environment(**world.env), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b'{"key":')
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 141
