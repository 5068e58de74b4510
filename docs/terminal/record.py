"""Makes the pictures in this folder: real commands on a real terminal, played by pyte, drawn by rich.

    python -m docs.terminal.record            all of them, in about two minutes

Everything is started here and stopped here: a Valkey server, an emulator, a worker. A picture is taken when the screen
says what it is to show, so that no picture can show what did not happen.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyte
from rich.console import Console
from rich.style import Style
from rich.text import Text

from tests.cli.command import COMMAND, environment
from tests.cli.run_world import MODEL, RunWorld
from tests.valkey_server import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
ROWS = 40_000
BATCH_ROWS = 4_000
COLOURS = {"brown": "yellow"}


class Terminal:
    """A command on a terminal of some size, and what stands on it."""

    def __init__(self, shown: str, arguments: list[str], env: dict[str, str], columns: int, lines: int = 24) -> None:
        self.shown = shown
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self._columns = columns
        self._stream.feed(f"$ {shown}\r\n".encode())
        self.pid, self._fd = pty.fork()
        if not self.pid:
            size = {"COLUMNS": str(columns), "LINES": str(lines), "TERM": "xterm-256color"}
            os.execve(COMMAND[0], [*COMMAND, *arguments], environment(**env) | size)  # noqa: S606 - our own
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def until(self, said: Callable[[str], bool], wait_s_max: float = 90.0) -> bool:
        """Let it go on until the screen says so, or it ends; whether the screen says so."""
        deadline = time.monotonic() + wait_s_max
        while not said(self.text):
            if time.monotonic() > deadline:
                raise AssertionError(f"never shown: {self.text}")
            if select.select([self._fd], [], [], 0.05)[0]:
                try:
                    self._stream.feed(os.read(self._fd, 65_536))
                except OSError:  # it has ended
                    return said(self.text)
        return True

    @property
    def text(self) -> str:
        """The screen as text."""
        return "\n".join(line.rstrip() for line in self.screen.display)

    def end(self, number: int | None = None) -> None:
        """Send it a signal, if one is given, and let it print to its end."""
        if number is not None:
            os.kill(self.pid, number)
        self.until(lambda _: False)
        os.waitpid(self.pid, 0)

    def save(self, name: str) -> None:
        """Draw the screen into ``name``.svg."""
        used = max((n for n, line in enumerate(self.screen.display) if line.strip()), default=0)
        console = Console(record=True, width=self._columns, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        for n in range(used + 1):
            console.print(self._line(n), soft_wrap=True)
        console.save_svg(str(HERE / f"{name}.svg"), title=self.shown[: self._columns - 12])
        sys.stdout.write(f"{name}: {self.screen.display[used].strip()[:100]}\n")

    def _line(self, n: int) -> Text:
        text = Text()
        for column in range(self._columns):
            char = self.screen.buffer[n][column]
            style = Style(color=_colour(char.fg), bgcolor=_colour(char.bg), bold=char.bold, reverse=char.reverse)
            text.append(char.data, style)
        return text


def _colour(name: str) -> str | None:
    if name == "default":
        return None
    return f"#{name}" if re.fullmatch("[0-9a-f]{6}", name) else COLOURS.get(name, name)


def answered(text: str) -> int:
    """How many answers the screen counts; -1 before there is a bar."""
    found = re.search(r"([\d,]+) of [\d,]+ answered", text)
    return int(found[1].replace(",", "")) if found else -1


def write_input(path: Path) -> None:
    """A file of prompts."""
    with path.open("wb") as file:
        for n in range(ROWS):
            file.write(msgspec.json.encode({"key": f"mail-{n}", "prompt": f"Classify this mail, number {n}"}) + b"\n")


def record(world: RunWorld, folder: Path) -> None:
    """All scenes, one after the other."""
    env: dict[str, Any] = world.env | {"GEMQUEUE_BATCH_PROMPTS_MAX": str(BATCH_ROWS)}
    write_input(folder / "mails.jsonl")
    os.chdir(folder)
    arguments = ["run", "mails.jsonl", "-o", "labels.jsonl", "-m", MODEL, "--name", "mails"]
    shown = shlex.join(["gemqueue", *arguments])

    run = Terminal(shown, arguments, env, 96)
    run.until(lambda text: answered(text) == 0 and f"{ROWS:,} submitted" in text)
    run.save("run-1-start")
    run.until(lambda text: answered(text) >= BATCH_ROWS and "/s" in text)
    run.save("run-2-middle")
    watch = Terminal("gemqueue status --watch", ["status", "--watch"], env, 110, 44)
    watch.until(lambda text: "Open batches" in text and "submitted" in text and "How long jobs take" in text)
    watch.save("status-watch")
    watch.end(signal.SIGINT)
    run.end(signal.SIGINT)
    run.save("run-3-ctrl-c")

    again = Terminal(shown, arguments, env, 96)
    again.until(lambda text: "goes on" in text and answered(text) > 0)
    again.save("run-4-resume")
    again.until(lambda text: answered(text) >= ROWS * 0.8)
    again.end()
    again.save("run-5-end")

    for name, columns, more in (("run-narrow", 56, {}), ("run-wide-no-colour", 140, {"NO_COLOR": "1"})):
        out = [*arguments[:3], f"{name}.jsonl", *arguments[4:6], "--name", name]
        other = Terminal(shlex.join(["gemqueue", *out]), out, env | more, columns)
        other.until(lambda text: BATCH_ROWS <= answered(text) < ROWS and "/s" in text)
        other.save(name)
        other.end(signal.SIGINT)


def main() -> None:
    """Start what is needed, record, stop it."""
    with tempfile.TemporaryDirectory(prefix="gqv-", dir="/tmp") as name, ValkeyServer() as server:
        world = RunWorld(Path(name), server.url, "default", job_s=3.0)
        with world:
            jobs = range(1, 60)  # they end one after the other
            slow = [{"on": "job", "do": "pending", "seconds": 3 * n % 33, "nth": [n + 1]} for n in jobs]
            world.emulator.faults(slow)
            record(world, Path(name))


if __name__ == "__main__":
    main()
