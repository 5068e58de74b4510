"""``queue.future(key)`` in another process, days later: is the key gone once the submitting process took the answer?"""

from __future__ import annotations

from typing import Any

from gemqueue import GemqueueError, Queue
from tests.proofs.contradictions.common import MODEL, Verdict, data_folder, let_pass

QUICK: dict[str, Any] = {"linger_s": 0, "submit_timeout_s": 2, "keep_delivered_s": 2, "watchdog_s": 0.5}


async def main(_how: str) -> Verdict:
    """Two seconds are the hour here."""
    with data_folder():
        async with Queue.connect(emulate=True, **QUICK) as one, Queue.connect(emulate=True, **QUICK) as other:
            future = await one.submit("hello", model=MODEL)
            key = future.key  # into the caller's database
            print("taken:", (await future).text[:30])
            await let_pass(4)
            found = False
            try:
                print("other process:", (await other.future(key)).text[:30])
                found = True
            except GemqueueError as error:
                print("other process:", type(error).__name__, error)
            return Verdict(f"a key whose answer was taken is {'known' if found else 'gone'} later", found)
