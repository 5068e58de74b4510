"""Two programs with different accounts (say, two API keys) share the default data folder: does the second get a worker?

Whoever comes first starts a worker for its account; the second has to see that this one is not for it.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import logging
import time

from gemqueue import Queue
from tests.proofs.contradictions.common import MODEL, Verdict, data_folder

WAIT_S = 60.0


async def main(_how: str) -> Verdict:
    """The second program's prompt, after the first's has been answered."""
    logging.basicConfig(level=logging.WARNING, format="LOG %(name)s %(message)s")
    with data_folder():
        async with Queue.connect(emulate=True, account="one", linger_s=0, watchdog_s=1) as first:
            print("first:", (await first.generate("hello", model=MODEL)).text[:40])
            async with Queue.connect(emulate=True, account="two", linger_s=0, watchdog_s=1) as second:
                future = await second.submit("hello", model=MODEL)
                started = time.monotonic()
                answered = 0
                try:
                    answered = int((await future.outcome(timeout_s=WAIT_S)).ok)
                except TimeoutError:
                    waited_s = time.monotonic() - started
                    print(f"second: NOTHING after {waited_s:.0f} s; held_reason={future.held_reason!r}")
                    print(f"state={future.state} workers={await second._store.workers()}")
                return Verdict(f"prompts of the second account 1, answered {answered}", answered == 1)
