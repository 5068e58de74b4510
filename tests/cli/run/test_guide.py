"""The samples of the Gemini batch guide (protocol section 9), run as they are: text, embeddings, images."""

from __future__ import annotations

import base64
import secrets
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.cli.run_world import MODEL, RunWorld, rows_of

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.valkey_server import ValkeyServer

SAMPLES = Path(__file__).parent / "guide"
IMAGE_MODEL = "gemini-3.1-flash-image"
TEXT_SAMPLE = SAMPLES / "text.jsonl"
EMBED_SAMPLE = SAMPLES / "embeddings.jsonl"
IMAGE_SAMPLE = SAMPLES / "images.jsonl"


@pytest.fixture(scope="module")
def world(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunWorld]:
    """One for the module."""
    with RunWorld(tmp_path_factory.mktemp("guide"), valkey.url, f"t{secrets.token_hex(6)}") as world:
        yield world


def picture_in(row: dict[str, Any]) -> bytes:
    """The one picture of a row, as the bytes of its file."""
    parts = row["response"]["candidates"][0]["content"]["parts"]
    (blob,) = (part["inlineData"] for part in parts if "inlineData" in part)
    assert blob["mimeType"] == "image/png"
    return base64.b64decode(blob["data"], validate=True)


def pixels_of(png: bytes) -> bytes:
    """The pixels of a PNG; every chunk must carry the checksum of its bytes."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    data, at, kinds = b"", 8, list[bytes]()
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        chunk = png[at + 4 : at + 8 + length]
        assert int.from_bytes(png[at + 8 + length : at + 12 + length], "big") == zlib.crc32(chunk)
        kinds.append(chunk[:4])
        data += chunk[4:] if chunk[:4] == b"IDAT" else b""
        at += 12 + length
    assert (kinds[0], kinds[-1]) == (b"IHDR", b"IEND")
    return zlib.decompress(data)


def test_text(world: RunWorld, tmp_path: Path) -> None:
    """Each line gets its own answer, under its own key or its line number; snake case is taken as it is."""
    report = world.run(TEXT_SAMPLE, tmp_path / "out.jsonl")
    assert (report["rows"], report["answered"], report["failed"], report["emulated"]) == (3, 3, 0, True)
    rows = rows_of(tmp_path / "out.jsonl")
    assert set(rows) == {"request-1", "request-2", "3"}
    asked = msgspec.json.decode(TEXT_SAMPLE.read_bytes().splitlines()[0])["request"]
    asked["generationConfig"] = asked.pop("generation_config")
    assert rows["request-1"]["response"]["candidates"] == world.emulator.expect(MODEL, asked)["candidates"]


def test_embeddings(world: RunWorld, tmp_path: Path) -> None:
    """With --embed each line gets a vector of the dimension that it asks for, and another one than its neighbour."""
    world.run(EMBED_SAMPLE, tmp_path / "out.jsonl", "--embed", "-m", "gemini-embedding-2")
    vectors = {key: row["response"]["embedding"]["values"] for key, row in rows_of(tmp_path / "out.jsonl").items()}
    assert {key: len(values) for key, values in vectors.items()} == {"request_1": 512, "request_2": 512}
    assert vectors["request_1"] != vectors["request_2"]


def test_images(world: RunWorld, tmp_path: Path) -> None:
    """Each line gets a picture of its own, whole, as inline data in OUT; with text beside it where it was asked for."""
    world.run(IMAGE_SAMPLE, tmp_path / "out.jsonl", "-m", IMAGE_MODEL)
    rows = rows_of(tmp_path / "out.jsonl")
    assert set(rows) == {"request-1", "request-2"}
    pixels = {key: pixels_of(picture_in(row)) for key, row in rows.items()}
    assert pixels["request-1"] != pixels["request-2"]
    both, alone = (rows[key]["response"]["candidates"][0]["content"]["parts"] for key in ("request-1", "request-2"))
    assert ["text" in part for part in both] == [True, False]
    assert ["text" in part for part in alone] == [False]


def test_text_of_images_says_what_it_leaves_out(world: RunWorld, tmp_path: Path) -> None:
    """With --text the picture is not in OUT, and both the line and the report say so."""
    source = IMAGE_SAMPLE
    ended = world.command("run", str(source), "-o", str(tmp_path / "out.jsonl"), "-m", IMAGE_MODEL, "--text", "--json")
    assert ended.returncode == 0, ended.stderr
    rows = rows_of(tmp_path / "out.jsonl")
    assert {key: row["left_out"] for key, row in rows.items()} == {key: ["image/png"] for key in rows}
    assert (rows["request-1"]["text"].startswith("[emulated] "), rows["request-2"]["text"]) == (True, "")
    assert msgspec.json.decode(ended.stdout)["left_out"] == 2
    assert "--text left out pictures" in ended.stderr


def test_a_model_of_the_other_kind_is_refused(world: RunWorld, tmp_path: Path) -> None:
    """Prompts for an embedding model, and embeddings of a text model, are refused before anything is bought."""
    source = TEXT_SAMPLE
    out = tmp_path / "out.jsonl"
    assert "gemini-embedding-2 makes embeddings" in world.refused(source, out, "-m", "gemini-embedding-2")
    assert f"{MODEL} makes no embeddings" in world.refused(source, out, "--embed")
    assert list(tmp_path.glob("out.jsonl*")) == []
