"""A proxy or NAT that cuts silent connections loses every reply of an interactive call: how often is it paid for?

60 s are usual; Flex may think for 15 minutes. Each call was executed and billed. Backoffs are short here.
"""

from __future__ import annotations

from typing import Any

from gemqueue import Queue
from tests.proofs.contradictions.common import MODEL, Verdict, at_emulator, some_counts

QUICK: dict[str, Any] = {
    "linger_s": 0,
    "sweep_s": 0.05,
    "backoff_first_s": 0.01,
    "backoff_max_s": 0.02,
    "interactive_per_min_max": 6000,
    "flex_lead_s": 7,
    "standard_lead_s": 3,
}


async def main(how: str) -> Verdict:
    """``flex`` or ``standard``: the policy."""
    with at_emulator(job_s=1) as emulator:
        emulator.faults([{"on": "generate", "do": "lost_after"}])
        async with Queue.connect(emulate=True, base_url=emulator.url, deadline_policy=how, **QUICK) as queue:
            future = await queue.submit("one question", model=MODEL, deadline=3600)
            outcome = await future.outcome(timeout_s=90)
            ledger = emulator.ledger()
            print("ok:", outcome.ok, "by", getattr(outcome, "service", None))
            print("calls that were answered and billed for this one prompt:", ledger["interactive"]["calls"])
            print("rows in batches:", ledger["rows_bought"])
            counts = await some_counts(queue, "accepted", "answered", "interactive_in_doubt", "requeued")
            print(counts)
            calls, rows = ledger["interactive"]["calls"], ledger["rows_bought"]
            well = rows <= 1 and calls <= 2 and counts["interactive_in_doubt"] == calls
            return Verdict(f"rows bought {rows}, prompts 1, and calls in doubt {calls}, at most 2", well and outcome.ok)
