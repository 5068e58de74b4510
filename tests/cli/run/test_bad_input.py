"""What cannot be right, and what comes in between: each ends in one clear line, with nothing lost and no traceback."""

from __future__ import annotations

import resource
import secrets
import signal
import subprocess
from typing import TYPE_CHECKING

import msgspec
import pytest

from gemqueue_workers.run.differences import first_difference
from tests.cli.command import COMMAND, environment, gemqueue, start
from tests.cli.run.test_run import prompts, write
from tests.cli.run_world import MODEL, RunWorld, rows_of

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.valkey_server import ValkeyServer


@pytest.fixture(scope="module")
def world(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Generator[RunWorld]:
    """One for the module."""
    with RunWorld(tmp_path_factory.mktemp("bad"), valkey.url, f"t{secrets.token_hex(6)}") as world:
        yield world


def test_a_device_that_is_full(world: RunWorld, tmp_path: Path) -> None:
    """OUT on a full device is said with the way out, and that way buys nothing again and has every row."""
    source, out = prompts(tmp_path / "in.jsonl", 50), tmp_path / "out.jsonl"
    ended = world.command("run", str(source), "-o", "/dev/full", "-m", MODEL, "-q")
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert "/dev/full: the disk is full" in ended.stderr
    name = ended.stderr.partition("--name ")[2].split()[0]
    report = world.run(source, out, "--name", name)
    assert (report["rows"], report["answered"], report["resumed"], report["submitted"]) == (50, 50, 50, 0)
    assert len(rows_of(out)) == 50
    assert world.emulator.ledger()["bought_twice"] == []


@pytest.mark.parametrize("arguments", [("config",), ("config", "--json"), ("--help",), ("status", "--json")])
def test_standard_output_that_is_full(world: RunWorld, arguments: tuple[str, ...]) -> None:
    """A command whose standard output takes nothing says so in one line."""
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        ended = subprocess.run(
            [*COMMAND, *arguments], env=environment(**world.env), stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (ended.returncode, ended.stderr) == (2, b"gemqueue: standard output: No space left on device\n")


def limited() -> None:
    """No file of more than 100 kB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))


def test_an_index_or_a_pipe_that_do_not_fit(world: RunWorld, tmp_path: Path) -> None:
    """Where the index beside OUT, or standard input's copy, finds no room, nothing is bought; with room it goes on."""
    source, out = prompts(tmp_path / "in.jsonl", 5000), tmp_path / "out.jsonl"
    before = world.emulator.ledger()["rows_bought"]
    for arguments in ((str(source), "-o", str(out)), ("-", "-o", str(out))):
        ended = subprocess.run(
            [*COMMAND, "run", *arguments, "-m", MODEL, "-q"],
            env=environment(**world.env),
            input=source.read_bytes(),
            capture_output=True,
            check=False,
            preexec_fn=limited,
        )
        assert (ended.returncode, ended.stderr.count(b"\n")) == (2, 1), ended.stderr
        assert b"make room" in ended.stderr
    assert world.emulator.ledger()["rows_bought"] == before
    assert world.run(source, out)["answered"] == 5000


@pytest.mark.parametrize("beyond", [1, 4_000, 60_000])
def test_a_copy_of_standard_input_that_does_not_fit(world: RunWorld, beyond: int) -> None:
    """However little of it finds no room, that is said: Python's buffer, larger since 3.14, hides it until the end."""
    ended = subprocess.run(
        [*COMMAND, "run", "-", "-m", MODEL, "--dry-run"],
        env=environment(**world.env),
        input=b'{"prompt": "p"}\n'.ljust(100_000 + beyond, b"\n"),
        capture_output=True,
        check=False,
        preexec_fn=limited,
    )
    assert (ended.returncode, ended.stderr.count(b"\n")) == (2, 1), ended.stderr
    assert b"standard input cannot be kept in " in ended.stderr
    assert b"make room there" in ended.stderr


def test_a_changed_row_is_shown_while_its_request_is_kept(world: RunWorld, tmp_path: Path) -> None:
    """Before it is answered: line, key, and the place where old and new part, wherever in the row that is."""
    nobody = {**world.env, "GEMQUEUE_QUEUE": f"t{secrets.token_hex(6)}"}  # no worker works there
    long = "All work and no play. " * 20
    rows = [{"key": "a", "prompt": "Say a"}, {"key": "b", "prompt": f"{long}It ends well."}]
    source, out = write(tmp_path / "in.jsonl", *rows), tmp_path / "out.jsonl"
    command = ("run", str(source), "-o", str(out), "-m", MODEL)
    with start(*command, **nobody) as process:
        assert process.stderr is not None
        while "2 submitted" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    write(source, rows[0], {"key": "b", "prompt": f"{long}It ends badly\x1b[31m."})
    ended = gemqueue(*command, **nobody)
    assert ended.returncode == 2
    assert "line 2: row 'b' was submitted with another content" in ended.stderr
    assert "It ends well." in ended.stderr
    assert "It ends badly" in ended.stderr
    assert "All work and no play. All work and no play." not in ended.stderr
    assert "\x1b" not in ended.stderr
    source.write_bytes(rb'{"prompt": "Say \u0061", "key": "a"}')
    assert "the request is the same" in gemqueue(*command, **nobody).stderr


def test_a_changed_row_is_shown_when_its_request_has_gone(world: RunWorld, tmp_path: Path) -> None:
    """Afterwards the beginning of a row is remembered; what lies beyond is said to be no longer kept."""
    long = "All work and no play. " * 20
    source = write(tmp_path / "in.jsonl", {"key": "a", "prompt": "Say a"}, {"key": "b", "prompt": long})
    out = tmp_path / "out.jsonl"
    world.run(source, out)
    write(source, {"key": "a", "prompt": "Say something"}, {"key": "b", "prompt": long})
    said = world.refused(source, out)
    assert "line 1: row 'a'" in said
    assert "it was" in said
    assert "Say a" in said
    assert "Say something" in said
    write(source, {"key": "a", "prompt": "Say a"}, {"key": "b", "prompt": f"{long}!"})
    said = world.refused(source, out)
    assert "line 2: row 'b'" in said
    assert "it had 442 bytes, now it has 443" in said
    assert "no longer kept" in said
    out.rename(tmp_path / "elsewhere.jsonl")
    (tmp_path / "out.jsonl.gemqueue").unlink()
    assert "what it was is no longer kept" in world.refused(source, out)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"abc", b"abd", "it was 'abc', now it is 'abd'"),
        (b"x" * 100 + b"old", b"x" * 100 + b"new", f"it was …'{'x' * 24}old', now it is …'{'x' * 24}new'"),
        (b"", b"y" * 100, f"it was '', now it is '{'y' * 60}'…"),
        ("pré".encode(), "prè".encode(), "it was 'pré', now it is 'prè'"),
        (b"a\x1b[2Jb", b"a\x1b[2Jc", "it was 'a [2Jb', now it is 'a [2Jc'"),
    ],
)
def test_the_first_difference(old: bytes, new: bytes, said: str) -> None:
    """A little of what is the same, then where they part; whole characters, and none that steers a terminal."""
    assert first_difference(old, new) == f"the first difference: {said}"


def test_no_file_at_all(world: RunWorld, tmp_path: Path) -> None:
    """A folder as IN or OUT, and an OUT without permission or in nowhere, are refused in one line."""
    source = prompts(tmp_path / "in.jsonl", 1)
    assert "directory" in world.refused(tmp_path, tmp_path / "out.jsonl").lower()
    assert "directory" in world.refused(source, tmp_path).lower()
    assert "cannot be written" in world.refused(source, tmp_path / "no" / "out.jsonl")


def test_the_config_file_is_wrong(world: RunWorld, tmp_path: Path) -> None:
    """A --config that is no JSON, or not there, is named."""
    source, out, config = prompts(tmp_path / "in.jsonl", 1), tmp_path / "out.jsonl", tmp_path / "c.json"
    config.write_text("[1]", encoding="utf-8")
    assert "no JSON object" in world.refused(source, out, "--config", str(config))
    assert "nowhere.json" in world.refused(source, out, "--config", str(tmp_path / "nowhere.json"))
    assert "--model is missing" in world.command("run", str(source), "-o", str(out)).stderr


def test_bad_lines_never_steer_the_terminal(world: RunWorld, tmp_path: Path) -> None:
    """What a bad line holds is printed without control characters, shortened, and only the first twenty are printed."""
    source = tmp_path / "in.jsonl"
    source.write_bytes(b'{"key":"a","prompt":"one"}\n' + b'\x1b[2J\x07{"broken\n' * 25 + b"x" * 500 + b"\n")
    ended = world.command("run", str(source), "-o", str(tmp_path / "out.jsonl"), "-m", MODEL, "--json", "-q")
    assert ended.returncode == 1
    assert msgspec.json.decode(ended.stdout)["bad_lines"] == 26
    assert "\x1b" not in ended.stderr
    assert ended.stderr.count("\nline ") <= 20
    assert "further bad lines are only counted" in ended.stderr


DEEP = b"[" * 100_000 + b"]" * 100_000
UNREADABLE = {
    b'{"key":"deep","request":%b}' % DEEP: "line 2: it is nested too deeply",
    b'{"key":"open","request":%b' % (b"[" * 100_000): "line 3: it is nested too deeply",
    b'{"key":"config","prompt":"x","config":{"a":%b}}' % DEEP: "line 4: it is nested too deeply",
    b'{"key":"byte","request":{"contents":[{"parts":[{"text":"\xff"}]}]}}': "line 5: request: Invalid UTF-8",
    b'{"key":"large","request":{"contents":1e999}}': "line 6: request: Number out of range",
    b'{"key":"digits","request":{"contents":%b}}' % (b"9" * 6_000): "line 7: request: Integer value out of range",
}


def test_no_line_holds_up_the_others(world: RunWorld, tmp_path: Path) -> None:
    """A line of 100,000 levels, a broken byte in a request, a number without end: each named, the others answered."""
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b"\n".join([b'{"key":"a","prompt":"one"}', *UNREADABLE, b'{"key":"z","prompt":"two"}', b""]))
    ended = world.command("run", str(source), "-o", str(out), "-m", MODEL, "--json", "-q")
    assert (ended.returncode, "defect" in ended.stderr) == (1, False), ended.stderr
    assert msgspec.json.decode(ended.stdout)["bad_lines"] == len(UNREADABLE)
    assert [said for said in UNREADABLE.values() if said not in ended.stderr] == []
    assert {msgspec.json.decode(row)["key"] for row in out.read_bytes().splitlines()} == {"a", "z"}
