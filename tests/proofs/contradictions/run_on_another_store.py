"""The same ``gemqueue run`` on another store: is every row bought again that was bought and has not landed?

OUT.gemqueue remembers run, account and settings; a shell without ``GEMQUEUE_REDIS_URL``, another ``GEMQUEUE_QUEUE`` or
another data folder lead to a store that knows nothing of the run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tests.proofs.contradictions.common import MODEL, at_emulator, bought, rows_in_jobs

if TYPE_CHECKING:
    from tests.emulator_process import EmulatorProcess
    from tests.proofs.contradictions.common import Verdict

ROWS = 300


def once(emulator: EmulatorProcess, command: list[str], env: dict[str, str], rows: int, wait_s: float) -> None:
    """The command, until so many rows are in jobs, it has ended, or the time is over."""
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    end = time.monotonic() + wait_s
    while time.monotonic() < end and rows_in_jobs(emulator) < rows and process.poll() is None:
        time.sleep(0.05)
    print("rows in jobs at the provider:", rows_in_jobs(emulator))
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    print("  the command said:", process.communicate(timeout=60)[0].strip()[-420:])


async def main(how: str) -> Verdict:
    """``queue`` or ``data``: what is another one the third time."""
    with at_emulator(job_s=3600) as emulator:
        folder = emulator.data.parent
        rows = [json.dumps({"key": f"r{n}", "prompt": f"question {n}"}) + "\n" for n in range(ROWS)]
        source = folder / "in.jsonl"
        source.write_text("".join(rows))
        env = os.environ | {
            "GEMQUEUE_EMULATE": "1",
            "GOOGLE_GEMINI_BASE_URL": emulator.url,
            "GEMQUEUE_DATA_DIR": str(folder / "a"),
            "GEMQUEUE_LINGER_S": "0",
            "GEMQUEUE_QUEUE": "nightly",
        }
        command = [sys.executable, "-m", "gemqueue", "run", str(source), "-o", str(folder / "out.jsonl"), "-m", MODEL]
        once(emulator, command, env, ROWS, 60)
        print("--- the same command again, with the store as it was")
        once(emulator, command, env, ROWS + 1, 6)
        other = {"data": {"GEMQUEUE_DATA_DIR": str(folder / "b")}, "queue": {"GEMQUEUE_QUEUE": "default"}}[how]
        print("--- the same command again,", other)
        once(emulator, command, env | other, 2 * ROWS, 60)
        return bought(rows_in_jobs(emulator), ROWS)
