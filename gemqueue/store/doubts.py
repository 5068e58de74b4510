"""What is in doubt: jobs of ours that no record knows, and what a person says of what is being believed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.errors import StoreError, WrongState
from gemqueue.policy.unknown import KEEP_S, Unknown, again_s
from gemqueue.store import calls
from gemqueue.store.base import StoreBase, batch_of
from gemqueue.store.quota import checked
from gemqueue.store.scripts import ServerFull, translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gemqueue.records import Batch
    from gemqueue.states import Step
    from gemqueue.store.batches import Claim

_COMPARED = (
    "v", "state", "lane", "fence", "prompts", "job", "job_state", "intent_token", "past_tokens", "missed_jobs",
)  # fmt: skip
"""What ``policy.reconciling.standing`` reads of a record; a whole one has an operation of 64 KiB."""

_NOTED = ("token", "state", "created_at", "first_at", "counted", "compared")


class DoubtStore(StoreBase):
    """See the module's text."""

    async def note_unknown(self, account: str, jobs: Iterable[Unknown]) -> list[str]:
        """These jobs were listed, and no record knows them; those of them that are counted now."""
        seen = [calls.Listed(one.job, one.token, one.state, one.created_at) for one in jobs]
        again_ms = int(again_s(self.settings) * 1000)
        reply = await self.scripts.run(calls.NoteUnknown(account, again_ms, KEEP_S, seen))
        return [job.decode() for job in reply[1]]

    async def clear_unknown(self, account: str, compared: Mapping[str, str]) -> None:
        """Jobs were compared, and stayed unknown in this state; those with an empty one are forgotten."""
        if compared:
            done = [calls.Compared(job, state) for job, state in compared.items()]
            await self.scripts.run(calls.ClearUnknown(account, done))

    async def unknown_jobs(self, account: str) -> list[Unknown]:
        """The account's jobs that are noted, the first first."""
        with translated(self.url):
            raw: dict[bytes, bytes] = await self.redis.hgetall(self.key("unknown", account))
        found: list[Unknown] = []
        for job, packed in raw.items():
            values = dict(zip(_NOTED, msgspec.msgpack.decode(packed), strict=False))
            found.append(msgspec.convert(values | {"job": job.decode()}, Unknown, strict=False))
        return sorted(found, key=lambda one: (one.first_at, one.job))

    async def take_look(self, account: str, every_s: float, now_ms: int) -> bool:
        """Whether nobody has looked at the account's newest jobs for so long; then it is up to the caller."""
        with translated(self.url):
            looked_at = int(await self.redis.get(self.key("looked", account)) or 0)
        if looked_at and 0 <= now_ms - looked_at < every_s * 1000:
            return False
        await self.looked(account, now_ms)
        return True

    async def looked(self, account: str, now_ms: int) -> None:
        """The account's newest jobs have been looked at."""
        with suppress(ServerFull), translated(self.url):
            await self.redis.set(self.key("looked", account), now_ms, ex=KEEP_S)

    async def records_of(self, batches: Sequence[str]) -> dict[str, Batch | None]:
        """What of each batch's record a comparison reads; None for one that is gone.

        One that cannot be read is left out.
        """
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)
            for id_ in batches:
                pipe.hmget(self.key("batch", id_), _COMPARED)
            rows: list[list[bytes | None]] = await pipe.execute() if batches else []
        found: dict[str, Batch | None] = {}
        for id_, row in zip(batches, rows, strict=True):
            raw = {name.encode(): value for name, value in zip(_COMPARED, row, strict=True) if value is not None}
            with suppress(StoreError):
                found[id_] = batch_of(id_, raw) if raw else None
        return found

    async def due_at(self, step: Step, batch: str, account: str) -> int:
        """When a batch's step is due, in ms; 0 where it is not."""
        with translated(self.url):
            score = await self.redis.zscore(self.key("due", account), f"{step} {batch}")
        return int(score or 0)

    async def decide(self, claim: Claim, decided: str) -> None:
        """Record what a person decided of a claimed batch, and have its step due; empty to drop all evidence.

        Raises StaleFence; WrongState where nothing is believed of the batch any more.
        """
        call = calls.Decide(claim.member, claim.account, claim.fence, decided)
        reply = checked(await self.scripts.run(call), "decide")
        if reply[0] == b"none":
            raise WrongState(f"decide {claim.id}: nothing is believed of it any more")
