"""``gemqueue run`` on a large file: time, and the peak memory of the command itself.

    python -m tests.run_large --rows 1000000 --json report.json

The bar is held to the file: each line that the command prints of its progress must not say more than OUT had.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

import msgspec

from tests.cli.command import COMMAND, environment
from tests.proofs.run_soak import MODEL, write_input


def peak_bytes(pid: int) -> int:
    """The largest resident size of a process so far (Linux)."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    return int(found[1]) * 1024 if found else 0


def _watch(stderr: IO[str], out: Path, said: list[tuple[int, int]], lines: list[str]) -> None:
    for line in stderr:
        lines.append(line.rstrip())
        found = re.match(r"EMULATED ([\d,]+) of", line)
        if found:
            in_out = out.read_bytes().count(b"\n") if out.exists() else 0
            said.append((int(found[1].replace(",", "")), in_out))


def large(rows: int) -> dict[str, Any]:
    """One run; what was seen."""
    folder = Path(tempfile.mkdtemp(prefix="gql-", dir="/tmp"))
    try:
        source, out = folder / "in.jsonl", folder / "out.jsonl"
        write_input(source, rows)
        env = environment(GEMQUEUE_DATA_DIR=str(folder / "d"), GEMQUEUE_REDIS_URL="", GOOGLE_GEMINI_BASE_URL="")
        started = time.monotonic()
        arguments = ["run", str(source), "-o", str(out), "-m", MODEL, "--emulate", "--json"]
        process = subprocess.Popen(
            [*COMMAND, *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        said: list[tuple[int, int]] = []
        lines: list[str] = []
        assert process.stderr is not None
        watcher = threading.Thread(target=_watch, args=(process.stderr, out, said, lines))
        watcher.start()
        peak = 0
        while process.poll() is None:
            peak = max(peak, peak_bytes(process.pid))
            time.sleep(0.05)
        watcher.join()
        assert process.stdout is not None
        with out.open("rb") as file:
            written = sum(1 for _ in file)
        return {
            "rows": rows,
            "seconds": round(time.monotonic() - started, 1),
            "peak_mb": round(peak / 1e6, 1),
            "lines": written,
            "exit": process.returncode,
            "bar_said_more_than_out_had": [pair for pair in said if pair[0] > pair[1]],
            "bar": lines,
            "report": msgspec.json.decode(process.stdout.read() or "null"),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run it and say what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    text = msgspec.json.format(msgspec.json.encode(large(given.rows))).decode()
    sys.stdout.write(text + "\n")
    if given.json is not None:
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
