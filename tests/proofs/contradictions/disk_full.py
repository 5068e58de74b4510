"""The disk under the embedded server fills up: is what was acknowledged still there when there is room again?

Needs a small file system, as root: ``mount -t tmpfs -o size=12m tmpfs DIR``, then give DIR as the variant. The script
makes room by ``mount -o remount,size=300m DIR``.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import shutil
import subprocess
import time

from gemqueue import Future, GemqueueError, Queue
from tests.proofs.contradictions.common import MODEL, some_counts

PROMPTS = 400


async def main(how: str) -> None:
    """``how`` is the folder."""
    logging.basicConfig(level=logging.WARNING, format="LOG %(message).200s")
    if not await asyncio.to_thread(os.path.ismount, how):
        print("needs a small file system: mount -t tmpfs -o size=12m tmpfs DIR, and DIR as the variant")
        return
    os.environ["GEMQUEUE_DATA_DIR"] = how
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
        await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,size=300m", how], check=True)
        print("room again")
        started_s = time.monotonic()
        asked = (future.outcome(timeout_s=120) for future in futures)
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        ok = sum(getattr(outcome, "ok", False) for outcome in outcomes)
        print(f"answered {ok} of {len(futures)} after {time.monotonic() - started_s:.0f} s")
        names = ("accepted", "answered", "lost_prompts", "failed", "created", "bought_twice")
        print(await some_counts(queue, *names))
