"""FLUSHALL while a job runs: what do futures, workers and the next submits do?"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import time
from typing import Any

from gemqueue import GemqueueError, Queue
from tests.proofs.contradictions.common import MODEL, Verdict, at_emulator, jobs_of, when

QUICK: dict[str, Any] = {
    "linger_s": 0,
    "watchdog_s": 1,
    "create_timeout_s": 1,
    "settle_s": 2,
    "lease_s": 3,
    "drain_s": 2,
}


async def main(_how: str) -> Verdict:
    """A named prompt, before and after."""
    with at_emulator(job_s=6) as emulator:
        async with Queue.connect(emulate=True, base_url=emulator.url, **QUICK) as queue:
            future = await queue.submit("hello", model=MODEL, name="doc-1")
            await when(lambda: jobs_of(emulator))
            await queue._store.redis.flushall()
            print("flushed")
            started_s = time.monotonic()
            ended = True
            try:
                print("first:", await future.outcome(timeout_s=60))
            except TimeoutError:
                ended = False
            except GemqueueError as error:
                print("first:", type(error).__name__, error)
            print(f"after {time.monotonic() - started_s:.1f} s")
            again = await queue.submit("hello", model=MODEL, name="doc-1")
            outcome = await again.outcome(timeout_s=60)
            print("again:", outcome.ok, "rows bought:", emulator.ledger()["rows_bought"])
            print(await queue.counts())
            what = f"after FLUSHALL: the future has ended {ended}, the same prompt again is answered {outcome.ok}"
            return Verdict(what, ended and outcome.ok)
