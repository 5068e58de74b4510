"""SUCCEEDED shows before the output does (two replicas of the service, a gateway's cache): is the batch bought again?

``late``: for 3 s after the job's end GET shows SUCCEEDED without an output. ``stale``: the look that ended the batch
saw everything; the download fails once (503), and the look after that trouble is answered from before: RUNNING, once.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from gemqueue import Queue
from tests.proofs.contradictions.common import MODEL, ask, at_emulator, bought, give_up, some_counts, within
from tests.proofs.contradictions.proxy import proxied

if TYPE_CHECKING:
    from starlette.responses import Response

    from tests.emulator_process import EmulatorProcess
    from tests.proofs.contradictions.common import Verdict

BUSY = {"error": {"code": 503, "status": "UNAVAILABLE", "message": "busy"}}
LATE_S = 3.0
ROWS = 300
WAIT_S = 240.0


class Gateway:
    """A service that tells of one job's end in pieces."""

    def __init__(self, emulator: EmulatorProcess, how: str) -> None:
        self._emulator = emulator
        self._how = how
        self._job = ""
        self._began_s = 0.0
        self._troubled = self._told = False

    def hook(self, method: str, path: str, _body: bytes) -> Response | None:
        """What it says of this job."""
        if self._how == "stale" and ":download" in path and not self._troubled:
            self._troubled = True
            return JSONResponse(BUSY, 503)
        if method != "GET" or "/batches/" not in path:
            return None
        found = ask(self._emulator, path)
        if found.get("metadata", {}).get("state") != "BATCH_STATE_SUCCEEDED":
            return None
        return self._late(found) if self._how == "late" else self._stale(found)

    def _late(self, found: dict[str, Any]) -> Response | None:
        if not self._job:
            self._job, self._began_s = found["name"], time.monotonic()
        if found["name"] != self._job or time.monotonic() - self._began_s > LATE_S:
            return None
        for place in (found, found["metadata"]):
            for field in ("response", "output", "done"):
                place.pop(field, None)
        return JSONResponse(found)

    def _stale(self, found: dict[str, Any]) -> Response | None:
        if not self._troubled or self._told:
            return None
        self._told = True
        name = found["name"]
        return JSONResponse({"name": name, "metadata": {"name": name, "state": "BATCH_STATE_RUNNING"}})


async def main(how: str) -> Verdict:
    """``late`` or ``stale``."""
    with at_emulator(job_s=2) as emulator:
        gateway = Gateway(emulator, how)
        async with (
            proxied(emulator.url, gateway.hook) as url,
            Queue.connect(emulate=True, linger_s=0.5, base_url=url, retry_first_s=1) as queue,
        ):
            asked = asyncio.create_task(queue.map([f"question {n}" for n in range(ROWS)], model=MODEL))
            answered, ledger = await within(WAIT_S, asked, ROWS), emulator.ledger()
            print("rows bought twice:", len(ledger["bought_twice"]))
            print(await some_counts(queue, "created", "returned", "lost_answers", "bought_twice"))
            await give_up(asked)
            return bought(ledger["rows_bought"], ROWS, well=answered == ROWS)
