"""The store's side of input files: a batch whose job missed its input, and what an account has taught of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        args = (claim.id, claim.fence, job, int(delay_s * 1000), hold.text, "1" if proven else "")
        checked(await self.scripts.run("restart", *args), "restart")

    async def input_needed(self, accounts: Iterable[str]) -> dict[str, int]:
        """Since when (ms) it is known of which of these accounts that their jobs need their input files to the end."""
        found: dict[str, int] = {}
        with translated(self.url):
            for account in sorted(set(accounts)):
                if at := await self.redis.hget(self.key("account", account), _NEEDED):
                    found[account] = int(at)
        return found
