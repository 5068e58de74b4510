"""A result file that is incomplete, or not there, for a while: is it believed, and what is missing bought again?

``short``: the download brings half of the file for 15 s after the job's end, with default settings. ``html``: eleven
downloads are answered by a gateway's HTML 404 (12 minutes with default settings, here with a short backoff).
``cancelled``: one such page, of a job that was cancelled at the provider after half of its rows.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import httpx
from starlette.responses import Response

from gemqueue import Queue
from tests.proofs.contradictions.common import (
    KEY,
    MODEL,
    at_emulator,
    bought,
    give_up,
    jobs_of,
    let_pass,
    some_counts,
    when,
    within,
)
from tests.proofs.contradictions.proxy import proxied

if TYPE_CHECKING:
    from tests.emulator_process import EmulatorProcess
    from tests.proofs.contradictions.common import Verdict

ROWS = 1000
WAIT_S = 400.0
PAGE = "<html>404 Not Found</html>"
PAGES = {"short": 0, "html": 11, "cancelled": 1}
SETTINGS: dict[str, dict[str, Any]] = {
    "short": {},
    "html": {"backoff_first_s": 0.1, "backoff_max_s": 0.3, "retry_first_s": 1},
    "cancelled": {"cancel_settle_s": 1, "retry_first_s": 1},
}


class Gateway:
    """What stands between the workers and the results."""

    def __init__(self, how: str) -> None:
        self._pages = PAGES[how]
        self.downloads_s: list[float] = []

    def hook(self, _method: str, path: str, _body: bytes) -> Response | None:
        """Its own page in the place of a file, as often as it is to."""
        if ":download" not in path:
            return None
        self.downloads_s.append(time.monotonic())
        return Response(PAGE, 404, media_type="text/html") if len(self.downloads_s) <= self._pages else None


async def halves(emulator: EmulatorProcess, gateway: Gateway) -> None:
    """For 15 s from the first download on, half of the file comes."""
    await when(lambda: gateway.downloads_s)
    await let_pass(15)
    print("downloads within 15 s:", [round(at_s - gateway.downloads_s[0], 1) for at_s in gateway.downloads_s])
    emulator.faults([])


async def cancelled(emulator: EmulatorProcess) -> None:
    """The job is cancelled at the provider when half of its rows are answered."""
    await when(lambda: jobs_of(emulator))
    await let_pass(3)
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        for job in jobs_of(emulator):
            await client.post(f"{emulator.url}/v1beta/{job['name']}:cancel", headers={"x-goog-api-key": KEY})


async def main(how: str) -> Verdict:
    """``short``, ``html`` or ``cancelled``."""
    gateway = Gateway(how)
    with at_emulator(job_s=6 if how == "cancelled" else 1) as emulator:
        if how == "short":
            emulator.faults([{"on": "download", "do": "truncated", "nth": list(range(1, 200))}])
        async with (
            proxied(emulator.url, gateway.hook) as url,
            Queue.connect(emulate=True, linger_s=0.5, base_url=url, **SETTINGS[how]) as queue,
        ):
            asked = asyncio.create_task(queue.map([f"question {n}" for n in range(ROWS)], model=MODEL))
            if how == "short":
                await halves(emulator, gateway)
            if how == "cancelled":
                await cancelled(emulator)
            answered, ledger = await within(WAIT_S, asked, ROWS), emulator.ledger()
            print("rows bought twice:", len(ledger["bought_twice"]))
            print(await some_counts(queue, "requeued", "returned", "lost_answers", "bought_twice", "created"))
            await give_up(asked)
            return bought(ledger["rows_bought"], ROWS, well=answered == ROWS)
