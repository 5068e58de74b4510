"""What ``--dry-run`` says of tokens, against Google's tokenizer as recorded, and against what the ledger charged."""

from __future__ import annotations

import csv
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue.language.gemini.requests import generate_request
from gemqueue.states import Kind
from gemqueue_adapters.emulator.answers import tokens as emulator
from gemqueue_workers.prices import Usage, batch_usd
from gemqueue_workers.run.token_estimate import MEDIA_TOKENS, request_tokens, text_tokens
from tests.cli.run.token_texts import TEXTS
from tests.cli.run_world import MODEL, RunWorld

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.valkey_server import ValkeyServer

SCRIPTS = sorted({script for script, _, _ in TEXTS})


@pytest.fixture(scope="module")
def world(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunWorld]:
    """One for the module; a key of its own in the emulator is not needed, for each test looks at what was added."""
    with RunWorld(tmp_path_factory.mktemp("tokens"), valkey.url, f"t{secrets.token_hex(6)}") as world:
        yield world


@pytest.mark.parametrize("script", SCRIPTS)
def test_estimate_against_the_recorded_tokenizer(script: str) -> None:
    """In every script the estimate is within a fifth of what the tokenizer counts; over all of them within a tenth."""
    recorded = sum(count for name, _, count in TEXTS if name == script)
    assert sum(text_tokens(text) for name, text, _ in TEXTS if name == script) == pytest.approx(recorded, rel=0.2)
    assert sum(text_tokens(text) for _, text, _ in TEXTS) == pytest.approx(sum(n for _, _, n in TEXTS), rel=0.1)


def test_the_emulator_counts_like_it_too() -> None:
    """The emulator, which shares no code with the estimate, is within a tenth of the tokenizer over all texts."""
    assert sum(emulator.text_tokens(text) for _, text, _ in TEXTS) == pytest.approx(
        sum(n for _, _, n in TEXTS), rel=0.1
    )


def test_tokens_are_those_of_the_contents() -> None:
    """Config, spelling and JSON around a prompt count nothing; a system instruction and a picture do."""
    bare = generate_request("Say 12")
    assert request_tokens(bare) == request_tokens(
        generate_request("Say 12", {"temperature": 0.5, "max_output_tokens": 9})
    )
    told = generate_request("Say 12", {"system_instruction": "Be brief, please."})
    assert request_tokens(told).total > request_tokens(bare).total
    picture = generate_request([{"text": "Say 12"}, {"inline_data": {"mime_type": "image/png", "data": "aaaa"}}])
    assert request_tokens(picture).total == pytest.approx(request_tokens(bare).total + MEDIA_TOKENS)
    assert request_tokens(picture).media == 1
    for request in (bare, told, picture):
        counted = emulator.prompt_tokens(msgspec.json.decode(request))
        assert counted == pytest.approx(request_tokens(request).total, abs=1)


def rows_of_every_length() -> list[str]:
    """Prompts from one character up to some thousand, in every script."""
    texts = [text for _, text, _ in TEXTS]
    cut = [text[: 1 + n % 7].strip() or "a" for n, text in enumerate(texts)]
    long = [" ".join(texts[n:] + texts[:n]) * (1 + n % 3) for n in range(0, len(texts), 5)]
    return texts + cut + long


def plain_lines(path: Path, texts: list[str]) -> tuple[str, ...]:
    """One prompt a line."""
    path.write_text("".join(" ".join(text.split()) + "\n" for text in texts), encoding="utf-8")
    return ()


def comma_separated(path: Path, texts: list[str]) -> tuple[str, ...]:
    """A CSV with a template, and line ends within fields."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *([str(n), text] for n, text in enumerate(texts))])
    return ("--template", "Classify: {text}", "--key", "id")


def gemini_lines(path: Path, texts: list[str]) -> tuple[str, ...]:
    """Gemini's own format, in both spellings, with configs that count nothing."""
    config: list[dict[str, Any]] = [
        {},
        {"generation_config": {"temperature": 0.1}},
        {"generationConfig": {"maxOutputTokens": 50, "topK": 3}},
    ]
    rows = [
        {"key": str(n), "request": {"contents": [{"parts": [{"text": text}]}], **config[n % 3]}}
        for n, text in enumerate(texts)
    ]
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return ()


Write = Callable[[Path, list[str]], tuple[str, ...]]
FORMS: list[tuple[str, Write]] = [("a.txt", plain_lines), ("a.csv", comma_separated), ("a.jsonl", gemini_lines)]


@pytest.mark.parametrize("texts", ["short", "mixed"])
@pytest.mark.parametrize(("name", "write"), FORMS)
def test_dry_run_against_the_ledger(world: RunWorld, tmp_path: Path, name: str, write: Write, texts: str) -> None:
    """Prompts are exactly those that the ledger then has, and its ``prompt_tokens`` are within a tenth."""
    rows = rows_of_every_length() if texts == "mixed" else [f"Say {n}" for n in range(60)] + ["Hi", "Why?", "Ja", "好"]
    more = write(tmp_path / name, rows)
    planned = world.dry_run(tmp_path / name, tmp_path / "out.jsonl", *more)
    before = world.emulator.ledger()
    assert list(tmp_path.glob("out.jsonl*")) == []
    world.run(tmp_path / name, tmp_path / "out.jsonl", *more)
    after = world.emulator.ledger()
    assert after["rows_bought"] - before["rows_bought"] == planned["rows"] == len(rows)
    charged = after["prompt_tokens"] - before["prompt_tokens"]
    assert planned["input_tokens"] == pytest.approx(charged, rel=0.1)
    usd = sum(job["usd"] for job in after["jobs"] if job["model"] == MODEL) - sum(job["usd"] for job in before["jobs"])
    answered = after["answer_tokens"] - before["answer_tokens"]
    answers_usd = batch_usd(MODEL, Usage(0, answered))
    assert answers_usd
    assert planned["batch_input_usd"] + answers_usd == pytest.approx(usd, rel=0.1)


def test_dry_run_of_embeddings_against_the_ledger(world: RunWorld, tmp_path: Path) -> None:
    """Embeddings, which are charged by their input alone, too."""
    plain_lines(tmp_path / "a.txt", rows_of_every_length())
    options = ("--embed", "-m", "gemini-embedding-2")
    planned = world.dry_run(tmp_path / "a.txt", tmp_path / "out.jsonl", *options)
    before = world.emulator.ledger()["prompt_tokens"]
    world.run(tmp_path / "a.txt", tmp_path / "out.jsonl", *options)
    assert planned["input_tokens"] == pytest.approx(world.emulator.ledger()["prompt_tokens"] - before, rel=0.1)
    assert planned["kind"] == Kind.EMBED
