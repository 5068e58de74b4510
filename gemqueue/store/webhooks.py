"""The store's side of webhooks: an event hastens a look, and each lane remembers whether events can be relied on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gemqueue.policy import job_names
from gemqueue.records import Lane, WebhookHealth
from gemqueue.store import calls
from gemqueue.store.base import StoreBase
from gemqueue.store.groups import Raise
from gemqueue.store.scripts import translated

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEARD_S: Final = 25 * 3600
"""The provider tries to deliver an event for 24 h (protocol section 11.4); for so long a second one is a double."""
_EARLY_S: Final = 600
"""A job is recorded within a create's lease; whatever event comes earlier than that is not of a job of ours."""


class WebhookStore(StoreBase):
    """What the receiver of webhooks writes, and what the tracker reads of it."""

    async def announce(self, event: str, job: str, token: str) -> tuple[str, str]:
        """Take an event, by its id, that says that ``job`` has ended; ``token`` is what it carries of ours, or empty.

        Returns what became of it (submit or track: that step is due now; late, double, early, stray) and the batch,
        empty where none is known.
        """
        batch = job_names.batch_of(token)
        call = calls.Announce(event, job, token, named=batch, heard_s=_HEARD_S, early_s=_EARLY_S)
        reply = await self.scripts.run(call)
        words = [word.decode() for word in reply]
        return (words[1], words[2]) if words[0] == "ok" else (words[0], words[1] if len(words) > 1 else "")

    async def webhook_health(self, lane: Lane) -> WebhookHealth:
        """How far this lane's webhooks can be relied on."""
        with translated(self.url):
            raw: list[bytes | None] = await self.redis.hmget(self.key("lane", str(lane)), "announced", "announced_at")
        return WebhookHealth(*(int(value) if value is not None and value.isdigit() else 0 for value in raw))

    async def add_counts(self, counts: Mapping[str, int]) -> None:
        """Raise several counters at once; on a full server, too."""
        call = calls.Tally([Raise("counts", name, n) for name, n in counts.items()])
        await self.scripts.run(call, retry=False)
