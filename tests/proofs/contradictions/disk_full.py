"""The disk under the embedded server fills up: is what was acknowledged still there when there is room again?

Needs root: it mounts a small file system (tmpfs, 12 MB), and makes room by ``mount -o remount,size=300m``.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gemqueue import Future, GemqueueError, Queue
from tests.proofs.contradictions.common import MODEL, Verdict, some_counts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

PROMPTS = 400


async def run(*command: str) -> None:
    """One command of the system."""
    await asyncio.to_thread(subprocess.run, command, check=True)


@asynccontextmanager
async def small_disk() -> AsyncGenerator[str]:
    """A folder on a file system of 12 MB."""
    folder = tempfile.mkdtemp()
    await run("mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder)
    try:
        yield folder
    finally:
        await run("umount", "--lazy", folder)
        await asyncio.to_thread(os.rmdir, folder)


async def main(_how: str) -> Verdict:
    """Before there is room, and after."""
    logging.basicConfig(level=logging.WARNING, format="LOG %(message).200s")
    async with small_disk() as folder:
        os.environ["GEMQUEUE_DATA_DIR"] = folder
        return await filled_up(folder)


async def filled_up(how: str) -> Verdict:
    """What was acknowledged, and what became of it."""
    async with Queue.connect(emulate=True, linger_s=1, submit_timeout_s=6, watchdog_s=1) as queue:
        futures: list[Future] = []
        errors: list[str] = []
        for n in range(PROMPTS):
            text = f"{n} " + base64.b85encode(os.urandom(60_000)).decode()
            try:
                futures.append(await queue.submit(text, model=MODEL))
            except GemqueueError as error:
                errors.append(f"{type(error).__name__}: {error}"[:200])
                if len(errors) >= 3:
                    break
        print("acknowledged:", len(futures), "errors:", errors[:2])
        print(shutil.disk_usage(how))
        await run("mount", "-o", "remount,size=300m", how)
        print("room again")
        started_s = time.monotonic()
        asked = (future.outcome(timeout_s=120) for future in futures)
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        ok = sum(getattr(outcome, "ok", False) for outcome in outcomes)
        print(f"answered {ok} of {len(futures)} after {time.monotonic() - started_s:.0f} s")
        names = ("accepted", "answered", "lost_prompts", "failed", "created", "bought_twice")
        counts = await some_counts(queue, *names)
        print(counts)
        what = f"acknowledged {len(futures)}, answered {ok}, bought twice {counts['bought_twice']}"
        return Verdict(what, ok == len(futures) and not counts["bought_twice"])
