"""The rescue step's side of the store: who is due for a look, and the ways out of the batch lane.

A lane's deadlines are an index by the time of each segment's next look, so that nothing is ever scanned.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.errors import StaleFence, WrongState
from gemqueue.language.gemini.usage import Charge, Spent
from gemqueue.policy import doubts
from gemqueue.policy.packing import full_limits
from gemqueue.records import Lane, Onward
from gemqueue.store import calls
from gemqueue.store.base import StoreBase
from gemqueue.store.groups import Raise, Review
from gemqueue.store.scripts import translated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gemqueue.store.batches import Claim

_pack = msgspec.msgpack.encode
_TOTALS = ("answers", "input_tokens", "output_tokens")
"""What stands in ``spent:<lane>``; readers of 0.2.0 take no more than these."""
_SEPARATOR = "|"


class RescueSegment(Onward, frozen=True, kw_only=True):
    """Lines of a segment in an open batch that go on in another lane, as a segment of this ``id``."""

    segment: str
    lines: bytes
    batch: str


def _check(reply: list[Any], what: str) -> list[Any]:
    if reply[0] == b"stale":
        raise StaleFence(f"{what}: overtaken")
    return reply


class Leave(msgspec.Struct, frozen=True):
    """Whether a prompt may be asked for.

    ``settled``: it has its outcome. ``silent_since``: its lane has got no replies since then (ms), and asks nothing
    for another ``wait_s``.
    """

    settled: bool = False
    silent_since: int = 0
    wait_s: float = 0.0


class Asked(msgspec.Struct, frozen=True):
    """Calls for one prompt of an open batch whose replies are not known, and when the last one was made (ms)."""

    calls: int = 0
    at_ms: int = 0


class Replied(StrEnum):
    """What came of a call at an interactive service; a refusal is certain to have billed nothing."""

    ANSWERED = "answered"
    REFUSED = "refused"
    LOST = "lost"


_LIMITS = _pack(
    {
        "silent_calls": doubts.SILENT_CALLS,
        "first_ms": int(doubts.PROBE_FIRST_S * 1000),
        "max_ms": int(doubts.PROBE_MAX_S * 1000),
    }
)


class DeadlineStore(StoreBase):
    """Watching over deadlines, and the interactive lanes' own transitions."""

    async def watched(self, lane: Lane, now_ms: int, segments_max: int) -> list[str]:
        """Segments of the lane that are due for a look, longest due first."""
        with translated(self.url):
            found: list[bytes] = await self.redis.zrangebyscore(
                self.key("deadlines", str(lane)), "-inf", now_ms, start=0, num=segments_max
            )
        return [id_.decode() for id_ in found]

    async def waiting_prompts(self, lanes: list[Lane]) -> list[int]:
        """How many prompts wait to be packed in each of the lanes."""
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)
            for lane in lanes:
                pipe.hget(self.key("lane", str(lane)), "prompts")
            found: list[bytes | None] = await self.replies(pipe)
        return [_number(value) for value in found]

    async def defer(self, claim: Claim, again_at: dict[str, int], not_within_s: float | None = None) -> None:
        """When to look at these segments again, in ms; 0 for never. With ``not_within_s`` the step is put back."""
        reviews = [Review(segment, at_ms) for segment, at_ms in again_at.items()]
        not_within_ms = -1 if not_within_s is None else int(not_within_s * 1000)
        _check(await self.scripts.run(calls.Defer(claim.id, claim.fence, not_within_ms, reviews)), "defer")

    async def reconsider(self, lane: Lane, segments: list[str]) -> int:
        """Have the rescue step look at these segments now; how many of them anybody watches over."""
        reply = await self.scripts.run(calls.Reconsider(str(lane), segments))
        return int(reply[1])

    async def divert(self, claim: Claim, segment: str, lane: Lane) -> int | None:
        """A segment that waits to be packed goes over to ``lane``; its open prompts, None if it waits no more."""
        full = _pack(full_limits(self.settings, lane))
        call = calls.Divert(lane=claim.id, fence=claim.fence, segment=segment, to=str(lane), full=full)
        reply = _check(await self.scripts.run(call), "divert")
        return int(reply[1]) if reply[0] == b"ok" else None

    async def rescue(self, claim: Claim, rescued: RescueSegment, body: bytes) -> None:
        """Lines of an open batch go on in another lane. Raises WrongState where they are not there any more."""
        fields = msgspec.structs.asdict(rescued) | {
            "lane": str(rescued.lane),
            "full": full_limits(self.settings, rescued.lane),
        }
        for apart in ("keys", "lines"):
            del fields[apart]
        call = calls.Rescue(
            lane=claim.id,
            fence=claim.fence,
            retry=_pack(fields),
            body=await self.seals.shut("segment", rescued.id, rescued.tenant, body),
            keys=_pack(rescued.keys),
            segment=rescued.segment,
            bits=rescued.lines,
            batch=rescued.batch,
        )
        reply = await self.scripts.run(call)
        if _check(reply, "rescue")[0] != b"ok":
            raise WrongState(f"rescue: lines of {rescued.segment} have gone on already")

    async def permit_s(self, account: str, service: str) -> float:
        """Leave for one interactive call: how long to wait before it."""
        per_min = self.settings.interactive_per_min_max
        reply = await self.scripts.run(calls.Permit(account, service, per_min), retry=False)
        return int(reply[1]) / 1000

    async def ask(self, claim: Claim, key: str, calls_made: int, *, again: bool) -> Leave:
        """Leave for one call for this prompt, and a note that the calls without a reply are ``calls_made`` with it.

        ``again``: one before it may have been billed.
        """
        call = calls.Ask(claim.id, claim.fence, prompt=key, calls=calls_made, again=int(again), limits=_LIMITS)
        reply = _check(await self.scripts.run(call), "ask")
        if reply[0] == b"silent":
            return Leave(silent_since=int(reply[1]), wait_s=int(reply[2]) / 1000)
        return Leave(settled=reply[0] == b"settled")

    async def replied(self, claim: Claim, key: str, how: Replied, calls_left: int) -> tuple[int, int]:
        """What came of it; ``calls_left`` are in doubt now. Lost replies in a row of the whole lane, and since when."""
        call = calls.Replied(claim.id, claim.fence, prompt=key, how=how, calls=calls_left, limits=_LIMITS)
        reply = _check(await self.scripts.run(call), "replied")
        return int(reply[1]), int(reply[2])

    async def asked(self, batch: str) -> dict[str, Asked]:
        """By key, the calls of the batch's prompts that were noted and whose replies are not known."""
        with translated(self.url):
            raw: dict[bytes, bytes] = await self.redis.hgetall(self.key("asked", batch))
        found: dict[str, Asked] = {}
        for key, value in raw.items():
            read = self.unreadable.read(f"call of {key.decode(errors='replace')}", _asked, value)
            found[key.decode(errors="replace")] = read or Asked(1)  # there was a call, and it may be billed
        return found

    async def count_doubt(self, claim: Claim, crashes: int, calls_max: int) -> int:
        """Count calls that a crashed holder may have left behind, once for each crash; how many were counted."""
        reply = await self.scripts.run(calls.CountDoubt(claim.id, claim.fence, crashes, calls_max))
        return int(_check(reply, "count_doubt")[1])

    async def add_spent(self, lane: Lane, spent: Mapping[Charge, Spent], rerouted: int = 0) -> set[str]:
        """A lane has answered so much, of it ``rerouted`` by another model than was asked; the versions new to it.

        A crash just before or after may leave some of it out.
        """
        numbers = [Raise("counts", "rerouted", rerouted)]
        for by, one in spent.items():
            fields = msgspec.structs.asdict(one)
            numbers += [Raise(f"spent:{lane}", name, fields[name]) for name in _TOTALS]
            numbers += [Raise(f"usage:{lane}", _SEPARATOR.join((*by, name)), n) for name, n in fields.items()]
        reply = await self.scripts.run(calls.Tally(numbers), retry=False)
        answers = reply[2 + len(_TOTALS) :: len(_TOTALS) + len(Spent.__struct_fields__)]
        return {by.version for (by, one), n in zip(spent.items(), answers, strict=True) if n == one.answers}

    async def spent(self, lane: Lane) -> Spent:
        """What the lane has answered since it was first used."""
        return (await self._spent(lane))[0]

    async def charges(self, lane: Lane) -> dict[Charge, Spent]:
        """The same by what it is charged by; what was counted without that stands under an empty charge."""
        whole, usage = await self._spent(lane)
        charges: dict[Charge, Spent] = {}
        for name, n in usage.items():
            version, since, what = name.rsplit(_SEPARATOR, 2)
            setattr(charges.setdefault(Charge(version, since), Spent()), what, n)
        rest = whole.less(charges.values())
        if rest.answers:
            charges[Charge()] = rest + charges.get(Charge(), Spent())
        return charges

    async def _spent(self, lane: Lane) -> tuple[Spent, dict[str, int]]:
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)  # a full Redis refuses to queue even reads
            pipe.hgetall(self.key("usage", str(lane)))  # first: what is counted in between is in the whole
            pipe.hgetall(self.key("spent", str(lane)))
            usage, spent = [{k.decode(errors="replace"): v for k, v in raw.items()} for raw in await pipe.execute()]
        totals = {name: self._spent_n(lane, name, n) for name, n in spent.items() if name in Spent.__struct_fields__}
        parts = {name: self._spent_n(lane, name, n) for name, n in usage.items() if _is_charged(name)}
        return Spent(**totals), parts

    def _spent_n(self, lane: Lane, name: str, value: bytes) -> int:
        return self.unreadable.read(f"cost of {lane} {name}", int, value) or 0


def _is_charged(name: str) -> bool:
    """Whether it is a number of ours; a newer gemqueue may have others."""
    return name.count(_SEPARATOR) == 2 and name.rpartition(_SEPARATOR)[2] in Spent.__struct_fields__


def _asked(value: bytes) -> Asked:
    n, _, at_ms = value.decode().partition(" ")
    return Asked(int(n), int(at_ms))


def _number(value: object) -> int:
    """A number as it stands in Redis, 0 for anything else."""
    return int(value) if isinstance(value, bytes) and value.isdigit() else 0
