"""``gemqueue demo`` as a person runs it: one command, answers in a file, nothing left behind."""

from __future__ import annotations

import ast
import shutil
import signal
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from gemqueue.states import Kind
from gemqueue_workers.demo.prompts import demo_prompts, docstrings
from tests.cli.command import gemqueue, processes_with, start

if TYPE_CHECKING:
    from collections.abc import Generator

FIELDS = [
    "prompts", "answered", "failed", "batches", "seconds", "prompts_per_s", "tokens", "interactive_usd", "batch_usd",
    "emulated", "out",
]  # fmt: skip
STARTED_S_MAX = 60.0


@pytest.fixture
def scratch() -> Generator[Path]:
    """A short temporary folder, as a Unix socket needs, that the demo takes for the system's."""
    folder = Path(tempfile.mkdtemp(prefix="gqd-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_demo_answers_everything(scratch: Path) -> None:
    """It exits with 0, prints one JSON object, writes one result row per prompt, and leaves only the answers."""
    env = {"TMPDIR": str(scratch), "GEMQUEUE_REDIS_URL": "redis://nobody.invalid", "GOOGLE_API_KEY": "never-used"}
    ended = gemqueue("demo", "--prompts", "60", "--json", **env)
    assert ended.returncode == 0, ended.stderr
    report = msgspec.json.decode(ended.stdout)
    assert list(report) == FIELDS
    assert (report["prompts"], report["answered"], report["failed"], report["emulated"]) == (60, 60, 0, True)
    assert report["batches"] >= 2
    assert report["tokens"] > 0
    assert 0 < report["batch_usd"] == pytest.approx(report["interactive_usd"] / 2, abs=1e-6)
    assert "EMULATED" in ended.stderr
    assert "never-used" not in ended.stderr
    rows = [msgspec.json.decode(line) for line in Path(report["out"]).read_bytes().splitlines()]
    assert {row["key"] for row in rows} == {prompt.label for prompt in demo_prompts(60)}
    assert len(rows) == 60
    assert all("candidates" in row["response"] or "embedding" in row["response"] for row in rows)
    assert [file.name for file in Path(report["out"]).parent.iterdir()] == ["answers.jsonl"]
    assert processes_with(str(scratch)) == []


def test_demo_keeps_its_data_when_asked(scratch: Path) -> None:
    """With --keep a status can look at what the demo did; with --out the answers are where they were wanted."""
    out = scratch / "mine.jsonl"
    ended = gemqueue("demo", "--prompts", "3", "--json", "--keep", "--out", str(out), TMPDIR=str(scratch))
    assert ended.returncode == 0, ended.stderr
    assert len(out.read_bytes().splitlines()) == 3
    (data,) = scratch.glob("gemqueue-demo-*/data")
    found = msgspec.json.decode(gemqueue("status", "--json", "--emulate", GEMQUEUE_DATA_DIR=str(data)).stdout)
    assert (found["counts"]["accepted"], found["counts"]["answered"], found["batches"]) == (3, 3, [])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_demo_leaves_nothing_behind_when_stopped(scratch: Path, number: signal.Signals, code: int) -> None:
    """Ctrl-C and SIGTERM in the middle end the server, the worker and the emulator too, and remove the data."""
    process = start("demo", "--prompts", "50000", TMPDIR=str(scratch))
    with process:
        deadline = time.monotonic() + STARTED_S_MAX
        while len(processes_with(str(scratch))) < 4:  # the demo, its server, its emulator and its worker
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=STARTED_S_MAX)
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    assert processes_with(str(scratch)) == []
    assert list(scratch.glob("gemqueue-demo-*/data")) == []


def test_demo_prompts_are_real_and_different() -> None:
    """However many are asked for, no two prompts are the same; some want embeddings, one wants JSON."""
    prompts = demo_prompts(9_000)
    assert len(prompts) == 9_000
    assert len({prompt.label for prompt in prompts}) == 9_000
    assert len({(prompt.kind, prompt.text) for prompt in prompts}) == 9_000
    assert prompts[:60] == demo_prompts(60)
    few = demo_prompts(60)
    assert 1 <= sum(prompt.kind is Kind.EMBED for prompt in few) < 10
    assert sum(prompt.config is not None for prompt in few) == 1


def test_demo_prompts_are_found_beside_aliases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library of Python 3.14 has ``type`` statements, which have names that are no strings."""
    doc = "A docstring that is long enough to be asked about, and that nothing else here has."
    (tmp_path / "aliases.py").write_text(f'def f() -> None:\n    """{doc}"""\n', encoding="utf-8")
    parse = ast.parse

    def with_alias(source: bytes) -> ast.Module:
        tree = parse(source)
        alias = ast.Expr(ast.Constant(value=0))
        vars(alias)["name"] = ast.Name("Alias", ast.Store())
        tree.body.insert(0, alias)
        return tree

    def library(_: str) -> str:
        return str(tmp_path)

    with monkeypatch.context() as patched:
        patched.setattr(ast, "parse", with_alias)
        patched.setattr(sysconfig, "get_path", library)
        found = next(docstrings())
    assert found == ("aliases.f", doc)
