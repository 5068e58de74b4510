"""The quota ledger's side of the store, and the input files'; ``lua/_quota.lua`` says how the ledger lies there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.errors import StaleFence, WrongState
from gemqueue.policy.holds import QuotaHold
from gemqueue.policy.quota import Correction, Ledger, Limits, Reservation, Resource, spend_pauses_s
from gemqueue.store import calls
from gemqueue.store.base import StoreBase
from gemqueue.store.scripts import translated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gemqueue.records import Hold, Lane
    from gemqueue.store.batches import Claim

_pack = msgspec.msgpack.encode
_WHY_CHARS_MAX = 300
_INPUT_NEEDED = "input_needed_at"


class QuotaStore(StoreBase):
    """Reservations of open jobs and enqueued tokens."""

    async def reserve(self, claim: Claim, limits: Limits) -> QuotaHold | str:
        """Take room for a sealed batch's job: ``ok``, or ``large`` when it alone is over the limit, or why it waits.

        Asking again changes nothing. ``end``, and whatever puts the batch back, gives the room back.
        """
        fields = msgspec.structs.asdict(limits) | {"wait_ms": int(self.settings.backoff_max_s * 1000)}
        reply = checked(await self.scripts.run(calls.Reserve(claim.id, claim.fence, _pack(fields))), "reserve")
        if reply[0] != b"held":
            word: str = reply[0].decode()
            return word
        resource = Resource(reply[1].decode().partition("/")[0])
        why = reply[6].decode() if len(reply) > 6 else ""
        return QuotaHold(resource, int(reply[2]), int(reply[3]), int(reply[4]) / 1000, bool(reply[5]), why)

    async def shrink(
        self, claim: Claim, resource: Resource, limits: Limits, wish_s: float | None
    ) -> tuple[float, int, bool]:
        """A create was refused for quota: how long nothing more is created, refusals in a row, and whether alone.

        ``wish_s`` is the provider's own wish for the pause.
        """
        fields = msgspec.structs.asdict(limits) | {
            "resource": resource,
            "first_ms": int(self.settings.quota_backoff_s * 1000),
            "max_ms": int(self.settings.backoff_max_s * 1000),
            "wish_ms": int((wish_s or 0) * 1000),
        }
        reply = checked(await self.scripts.run(calls.Shrink(claim.id, claim.fence, _pack(fields))), "shrink")
        return int(reply[1]) / 1000, int(reply[2]), bool(reply[3])

    async def suspend(self, claim: Claim, why: str, wish_s: float | None) -> float:
        """The provider refused for want of money, in these words: how long the account creates nothing more.

        ``wish_s`` is the provider's own wish for the pause. The first create that succeeds ends it.
        """
        first_s, max_s = spend_pauses_s(self.settings)
        fields = {
            "first_ms": int(first_s * 1000),
            "max_ms": int(max_s * 1000),
            "wish_ms": int((wish_s or 0) * 1000),
            "why": why[:_WHY_CHARS_MAX],
        }
        reply = checked(await self.scripts.run(calls.Suspend(claim.id, claim.fence, _pack(fields))), "suspend")
        return int(reply[1]) / 1000

    async def learn_token_ratio(self, lane: Lane, ratio: float) -> None:
        """Learn how many tokens the provider counted for each that was estimated."""
        await self.scripts.run(calls.LearnTokenRatio(str(lane), ratio))

    async def ledger(self, account: str) -> Ledger:
        """What the account's batches have reserved, and what refusals have taught."""
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)  # a full Redis refuses to queue even reads
            pipe.hgetall(self.key("reserved", account))
            pipe.hgetall(self.key("quota", account))
            reserved, quota = await pipe.execute()
        read = self.unreadable.read
        taken = [read(f"reservation {_text(one[0])}", _reservation, one) for one in reserved.items()]
        learnt = [read(f"quota {account} {_text(one[0])}", _correction, one) for one in quota.items()]
        return Ledger(tuple(one for one in taken if one is not None), dict(one for one in learnt if one is not None))


def _text(name: bytes) -> str:
    return name.decode(errors="replace")


def _reservation(entry: tuple[bytes, bytes]) -> Reservation:
    tokens, until, model = entry[1].decode().split(" ", 2)
    return Reservation(entry[0].decode(), model, int(tokens), int(until))


def _correction(entry: tuple[bytes, bytes]) -> tuple[str, Correction]:
    return entry[0].decode(), msgspec.msgpack.decode(entry[1], type=Correction)


def checked(reply: list[Any], what: str) -> list[Any]:
    """The reply of a fenced transition. Raises StaleFence, WrongState."""
    if reply[0] == b"stale":
        raise StaleFence(f"{what}: overtaken")
    if reply[0] == b"state":
        raise WrongState(f"{what}: the batch is {reply[1].decode()}")
    return reply


class InputStore(StoreBase):
    """Input files: a batch whose job missed its own, and what an account has taught of that."""

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
                at: bytes | None = await self.redis.hget(self.key("account", account), _INPUT_NEEDED)
                since = self.unreadable.read(f"account {account}", int, at) if at else None
                if since is not None:
                    found[account] = since
        return found
