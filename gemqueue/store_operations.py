"""What operators ask of the store: how full it is, and what waits in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.scripts import translated
from gemqueue.store_batches import BatchStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_READ_AT_ONCE = 500


class Sizes(msgspec.Struct, frozen=True):
    """How much stands in the places that no counter tells."""

    overdue: int
    """Steps of the accounts that are due and that nobody has claimed yet."""
    dead: int
    quarantine: int


class OperationsStore(BatchStore):
    """Reading for operators."""

    async def sizes(self, accounts: Iterable[str]) -> Sizes:
        """How long the overdue part of the accounts' due indexes, the dead letters and the quarantine are."""
        now = await self.server_now_ms()
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)
            pipe.xlen(self.key("dead"))
            pipe.xlen(self.key("quarantine"))
            for account in accounts:
                pipe.zcount(self.key("due", account), "-inf", now)
            dead, quarantine, *overdue = await pipe.execute()
        return Sizes(sum(overdue), dead, quarantine)

    async def batch_fields(self, batches: Sequence[str], *fields: str) -> list[dict[str, str]]:
        """Some fields of each batch's record, in order; a batch that is gone has none."""
        found: list[dict[str, str]] = []
        for start in range(0, len(batches), _READ_AT_ONCE):
            with translated(self.url):
                pipe: Any = self.redis.pipeline(transaction=False)
                for id_ in batches[start : start + _READ_AT_ONCE]:
                    pipe.hmget(self.key("batch", id_), fields)
                rows: list[list[bytes | None]] = await pipe.execute()
            found += [{f: v.decode(errors="replace") for f, v in zip(fields, row, strict=True) if v} for row in rows]
        return found
