"""Creates whose replies are lost, and a list that lags behind ``settle_s``: is the batch bought once more each round?

The tokens of the earlier rounds are known, and their jobs stand in the list by then. A service that takes longer for a
create than ``create_timeout_s`` + ``settle_s`` looks like this: large files, a bad day.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from gemqueue import Queue
from tests.proofs.contradictions.common import (
    MODEL,
    at_emulator,
    bought,
    give_up,
    jobs_of,
    let_pass,
    rows_in_jobs,
    some_counts,
)

if TYPE_CHECKING:
    from tests.proofs.contradictions.common import Verdict

QUICK: dict[str, Any] = {"linger_s": 0.5, "create_timeout_s": 1, "lease_s": 3, "settle_s": 2, "drain_s": 2}
ROWS = 100


async def main(_how: str) -> Verdict:
    """How many jobs there are of the same rows, every ten seconds."""
    with at_emulator(job_s=600) as emulator:
        emulator.faults([{"on": "create", "do": "lost_after"}, {"on": "list", "do": "lag", "seconds": 4}])
        async with Queue.connect(emulate=True, base_url=emulator.url, **QUICK) as queue:
            asked = asyncio.create_task(queue.map([f"question {n}" for n in range(ROWS)], model=MODEL))
            for passed_s in range(10, 50, 10):
                await let_pass(10)
                jobs = len(jobs_of(emulator))
                counts = await some_counts(queue, "fenced", "adopted", "bought_twice")
                print(f"after {passed_s} s: jobs in the list {jobs}, rows in them {ROWS * jobs},", counts)
            await give_up(asked)
            return bought(rows_in_jobs(emulator), ROWS)
