"""The emulator that a run without ``--live`` asks; it lives beside the report, and a killed run finds it again."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from gemqueue.embedded.local import healthy_url
from gemqueue.errors import ConfigError
from gemqueue.extras import need

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

JOB_S: Final = 3.0
"""How long its jobs take: long enough to be seen pending and running."""
SETTLE_S: Final = 3.0
"""How long its list may hide a job."""
_START_S: Final = 20.0
_LOOK_S: Final = 0.05


@asynccontextmanager
async def own_emulator(folder: Path) -> AsyncGenerator[str]:
    """Its address; the one that a killed run has left goes on. Raises ConfigError where it does not start."""
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - nothing else waits for this loop yet
    ready_file = folder / "ready.json"
    url = await healthy_url(ready_file)
    if url is None:
        url = await _started(folder, ready_file)
    try:
        yield url
    finally:
        await _stop(ready_file)


def forget(folder: Path) -> None:
    """Delete what it kept."""
    shutil.rmtree(folder, ignore_errors=True)


async def _started(folder: Path, ready_file: Path) -> str:
    need("emulator", "`gemqueue prove` without --live")
    ready_file.unlink(missing_ok=True)  # noqa: ASYNC240 - as above
    argv = [sys.executable, "-m", "gemqueue_adapters.emulator", f"--job-s={JOB_S}"]
    argv += [f"--data={folder / 'data'}", f"--ready-file={ready_file}"]
    process = subprocess.Popen(argv, start_new_session=True)  # noqa: S603, ASYNC220 - our own; it outlives a kill
    end_s = asyncio.get_running_loop().time() + _START_S
    while (url := await healthy_url(ready_file)) is None:
        if process.poll() is not None or asyncio.get_running_loop().time() > end_s:
            raise ConfigError(f"the emulator did not start in {folder}")
        await asyncio.sleep(_LOOK_S)
    return url


async def _stop(ready_file: Path) -> None:
    """Stop it, if it is the one that wrote the file."""
    if await healthy_url(ready_file) is not None:
        with suppress(OSError, ValueError):
            ready = json.loads(ready_file.read_bytes())  # noqa: ASYNC240 - as above
            os.kill(int(ready["pid"]), signal.SIGTERM)
