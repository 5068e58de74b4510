"""Measures the emulator with the largest input that the service takes: `python -m tests.emulator_scale --json F`.

Uploads a file of 2 GB in the official clients' chunks, creates a batch, waits until it has run, downloads the results
and counts them. Prints seconds for each step and the emulator's peak memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.emulator.plain import Plain, text_request
from tests.emulator_process import EmulatorProcess

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK_BYTES = 8 << 20
LIMIT_BYTES = 2 << 30
POLL_S = 0.05


def main() -> None:
    """Measure, print, and write the JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--answers", choices=["full", "echo"], default="full")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.jsonl"
        written = write(source, arguments.rows)
        with EmulatorProcess(Path(folder) / "data", job_s=0, answers=arguments.answers) as emulator:
            found = {"rows": arguments.rows, "answers": arguments.answers, "input_bytes": written}
            found |= measure(emulator, source, arguments.rows)
    text = json.dumps(found)
    sys.stdout.write(text + "\n")
    if arguments.json is not None:
        arguments.json.write_text(text)


def write(path: Path, rows: int) -> int:
    """Write an input file just below the limit; its size."""
    bare = len(json.dumps({"key": f"row-{rows:09d}", "request": text_request("")})) + 1
    text = "x" * min(2000, LIMIT_BYTES // rows - bare)
    tail = json.dumps(text_request(text))
    with path.open("w") as file:
        for row in range(rows):
            file.write(f'{{"key": "row-{row:09d}", "request": {tail}}}\n')
    return path.stat().st_size


def measure(emulator: EmulatorProcess, source: Path, rows: int) -> dict[str, Any]:
    """Seconds of each step, and the peak of the emulator's memory."""
    plain = Plain(emulator.url)
    plain.http.timeout = 600
    seconds: dict[str, float] = {}

    def timed(name: str, step: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        value = step()
        seconds[f"{name}_s"] = round(time.perf_counter() - start, 1)
        return value

    with plain.http:
        file = timed("upload", lambda: upload(plain, source))
        batch = {"displayName": "scale", "inputConfig": {"fileName": file}}
        name = timed("create", lambda: plain.post_batch(batch).raise_for_status().json()["name"])
        operation = timed("run", lambda: finished(plain, name))
        lines, size = timed("download", lambda: download(plain, operation))
    if lines != rows:
        raise SystemExit(f"{lines} result rows for {rows} requests")
    ledger = timed("ledger", emulator.ledger)
    status = Path(f"/proc/{emulator.pid}/status").read_text(encoding="ascii")
    peak_kb = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    return seconds | {"output_bytes": size, "rows_bought": ledger["rows_bought"], "peak_mb": round(peak_kb / 1024, 1)}


def upload(plain: Plain, source: Path) -> str:
    """Upload in chunks of 8 MiB; the file's name."""
    size = source.stat().st_size
    url, offset = plain.start(size), 0
    with source.open("rb") as file:
        while True:
            chunk = file.read(CHUNK_BYTES)
            last = offset + len(chunk) == size
            reply = plain.chunk(url, chunk, offset, "upload, finalize" if last else "upload").raise_for_status()
            if last:
                return str(reply.json()["file"]["name"])
            offset += len(chunk)


def finished(plain: Plain, name: str) -> dict[str, Any]:
    """The operation when it is done; it may take minutes."""
    while not (operation := plain.get(name)).get("done"):
        time.sleep(POLL_S)
    return operation


def download(plain: Plain, operation: dict[str, Any]) -> tuple[int, int]:
    """The count of lines and bytes of the result file, which is not kept."""
    name = operation["metadata"]["output"]["responsesFile"]
    lines = size = 0
    with plain.http.stream("GET", f"/v1beta/{name}:download?alt=media") as reply:
        for part in reply.iter_raw():
            lines += part.count(b"\n")
            size += len(part)
    return lines, size


if __name__ == "__main__":
    main()
