"""``gemqueue run`` under ``kill -9``: everything is killed at random moments, and the same command goes on.

    python -m tests.run_soak --rows 50000 --kills 3 --seed 1 --json report.json

The command, its server, its worker and the emulator die together. At the end OUT must hold each key once, be equal to
that of an undisturbed run but for order, and the emulator's ledger must have bought each row once.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from tests.cli.command import COMMAND, environment, processes_with
from tests.emulator_process import EmulatorProcess
from tests.worlds.processes import QUICK

END_S_MAX = 300.0
MODEL = "gemini-3.8-flash"


def write_input(path: Path, rows: int) -> None:
    """Rows in Gemini's own format."""
    with path.open("w", encoding="utf-8") as file:
        for n in range(rows):
            part = {"text": f"Describe photosynthesis in {n} words."}
            request = {"contents": [{"parts": [part]}], "generation_config": {"temperature": 0.7}}
            file.write(msgspec.json.encode({"key": f"request-{n}", "request": request}).decode() + "\n")


class Place:
    """A folder with one data directory, one emulator and one OUT."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.out = folder / "out.jsonl"
        self.source = source
        self.emulator = EmulatorProcess(folder / "emulator", job_s=0.5).start()
        quick = {f"GEMQUEUE_{name.upper()}": str(value) for name, value in QUICK.items()}
        data = {"GEMQUEUE_DATA_DIR": str(folder / "d"), "GEMQUEUE_BATCH_PROMPTS_MAX": "5000"}
        self.env = environment(**quick, **data, GOOGLE_GEMINI_BASE_URL=self.emulator.url, GEMQUEUE_REDIS_URL="")

    def start(self) -> subprocess.Popen[str]:
        """The command."""
        arguments = ["run", str(self.source), "-o", str(self.out), "-m", MODEL, "--emulate", "--json", "-q"]
        return subprocess.Popen(
            [*COMMAND, *arguments], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(self) -> dict[str, Any]:
        """Run it to its end; its report."""
        process = self.start()
        stdout, stderr = process.communicate(timeout=END_S_MAX)
        if process.returncode != 0:
            raise AssertionError(f"exit {process.returncode}: {stderr}")
        report: dict[str, Any] = msgspec.json.decode(stdout)
        return report

    def kill_after(self, seconds: float) -> int:
        """Start the command and kill it, and all that it has started, and the emulator; the lines in OUT then."""
        process = self.start()
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()
        self.emulator.kill()
        for pid in processes_with(str(self.folder / "d")):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()
        self.emulator.start()
        return self.out.read_bytes().count(b"\n") if self.out.exists() else 0

    def rows(self) -> list[bytes]:
        """OUT's lines, sorted."""
        return sorted(self.out.read_bytes().splitlines())


def without_ids(lines: list[bytes]) -> str:
    """A digest of what the lines say; ids of single responses apart, which differ from job to job."""
    digest = hashlib.sha256()
    for line in lines:
        row = msgspec.json.decode(line)
        row["response"].pop("responseId", None)
        digest.update(msgspec.json.encode(row, order="sorted"))
    return digest.hexdigest()


def soak(rows: int, kills: int, seed: int) -> dict[str, Any]:
    """The whole thing; what was seen."""
    folder = Path(tempfile.mkdtemp(prefix="gqr-", dir="/tmp"))
    chance = random.Random(seed)
    try:
        source = folder / "in.jsonl"
        write_input(source, rows)
        calm, hard = Place(folder / "a", source), Place(folder / "b", source)
        started = time.monotonic()
        calm_report = calm.finish()
        calm_s = time.monotonic() - started
        moments = [round(chance.uniform(0.6, max(1.5, calm_s * 0.95)), 2) for _ in range(kills)]
        lines = [hard.kill_after(moment) for moment in moments]
        hard_report = hard.finish()
        keys = [msgspec.json.decode(line)["key"] for line in hard.rows()]
        ledger = hard.emulator.ledger()
        found = {
            "rows": rows,
            "undisturbed_s": round(calm_s, 1),
            "killed_at_s": moments,
            "lines_in_out_after_each_kill": lines,
            "last_start": hard_report,
            "lines": len(keys),
            "keys_twice": len(keys) - len(set(keys)),
            "rows_bought": ledger["rows_bought"],
            "bought_twice": len(ledger["bought_twice"]),
            "equal_but_for_order": without_ids(hard.rows()) == without_ids(calm.rows()),
        }
        whole = len(set(keys)) == rows == len(keys) == ledger["rows_bought"] == calm_report["answered"]
        found["ok"] = whole and not ledger["bought_twice"] and found["equal_but_for_order"]
        for place in (calm, hard):
            place.emulator.stop()
        return found
    finally:
        for pid in processes_with(str(folder)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run it and say what was seen; exit 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = soak(given.rows, given.kills, given.seed)
    text = msgspec.json.format(msgspec.json.encode(found)).decode()
    sys.stdout.write(text + "\n")
    if given.json is not None:
        given.json.write_text(text + "\n", encoding="utf-8")
    sys.exit(0 if found["ok"] else 1)


if __name__ == "__main__":
    main()
