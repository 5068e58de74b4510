"""A create's reply is lost, and the list of jobs answers with an empty page: is the job declared dead and bought again?

``token``: the first page is empty and has a nextPageToken, which the protocol notes call legal; the job stands on the
second. ``error``: 200 with an error envelope in the body (a gateway), once. ``blank``: 200 with {} once (seen in August
2025), though the account has other open jobs at that moment.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from gemqueue import Queue
from tests.proofs.contradictions.common import (
    MODEL,
    at_emulator,
    bought,
    give_up,
    jobs_of,
    rows_in_jobs,
    some_counts,
    when,
    within,
)
from tests.proofs.contradictions.proxy import proxied

if TYPE_CHECKING:
    from starlette.responses import Response

    from tests.proofs.contradictions.common import Verdict

ERROR = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "try later"}}
ROWS = 100
QUICK: dict[str, Any] = {"linger_s": 0.5, "create_timeout_s": 1, "lease_s": 3, "settle_s": 2, "drain_s": 2}


class Gateway:
    """What stands between the workers and the list."""

    def __init__(self, how: str) -> None:
        self._how = how
        self.armed = False

    def hook(self, method: str, path: str, _body: bytes) -> Response | str | None:
        """Answer for the list, where it is its turn."""
        if method != "GET" or "/batches?" not in path or "pageSize=100" not in path:
            return None
        if self._how == "token":
            if "pageToken=second" in path:
                return path.replace("&pageToken=second", "")
            return None if "pageToken" in path else JSONResponse({"nextPageToken": "second"})
        if not self.armed:
            return None
        self.armed = False
        return JSONResponse({} if self._how == "blank" else ERROR)


async def main(how: str) -> Verdict:
    """``token``, ``error`` or ``blank``."""
    gateway = Gateway(how)
    with at_emulator(job_s=20) as emulator:
        async with (
            proxied(emulator.url, gateway.hook) as url,
            Queue.connect(emulate=True, base_url=url, **QUICK) as queue,
        ):
            beside = [await queue.submit(f"other {n}", model=MODEL) for n in range(3)]  # an open job of the account
            await when(lambda: jobs_of(emulator))
            emulator.faults([{"on": "create", "do": "lost_after", "nth": [1]}])
            gateway.armed = True
            asked = asyncio.create_task(queue.map([f"question {n}" for n in range(ROWS)], model=MODEL))
            answered = await within(120, asked, ROWS)
            jobs = [job["metadata"] for job in jobs_of(emulator)]
            print("jobs at the provider:", [(job["displayName"], job["batchStats"]["requestCount"]) for job in jobs])
            print(await some_counts(queue, "accepted", "fenced", "adopted", "created", "bought_twice"))
            await give_up(asked)
            return bought(rows_in_jobs(emulator), ROWS + len(beside), well=answered == ROWS)
