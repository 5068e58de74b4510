"""The store's side of input files: a batch whose job missed its input, and what an account has taught of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.store import calls
from gemqueue.store.base import StoreBase
from gemqueue.store.quota import checked
from gemqueue.store.scripts import translated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gemqueue.records import Hold
    from gemqueue.store.batches import Claim

_NEEDED = "input_needed_at"


class InputStore(StoreBase):
    """See the module's text."""

    async def restart(self, claim: Claim, job: str, *, delay_s: float, hold: Hold, proven: bool) -> None:
        """The claimed batch's job failed for want of its input file: it is sealed again, and submitted in ``delay_s``.

        ``proven`` says that the file had been deleted before the job's end. Raises StaleFence, WrongState.
        """
        delay_ms = int(delay_s * 1000)
        call = calls.Restart(claim.id, claim.fence, job, delay_ms, held_reason=hold.text, proven=int(proven))
        checked(await self.scripts.run(call), "restart")

    async def input_needed(self, accounts: Iterable[str]) -> dict[str, int]:
        """Since when (ms) it is known of which of these accounts that their jobs need their input files to the end."""
        found: dict[str, int] = {}
        with translated(self.url):
            for account in sorted(set(accounts)):
                if at := await self.redis.hget(self.key("account", account), _NEEDED):
                    found[account] = int(at)
        return found
