"""The stages' side of the store: claims, a batch's transitions, and what the stages read.

Every transition names the batch and the fence of the claim that the caller holds. A caller that has been overtaken gets
StaleFence and has changed nothing; one that is in the wrong state gets WrongState.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.errors import StaleFence, UnreadableRecord, WrongState
from gemqueue.policy.packing import first_review_ms, full_limits
from gemqueue.records import NOT_HELD, Batch, Hold, Lane, LaneState, Note, Onward
from gemqueue.states import LANE_STEPS, Step
from gemqueue.store import calls
from gemqueue.store.base import StoreBase, lane_of
from gemqueue.store.groups import Field, Landing, Move, Raise
from gemqueue.store.scripts import translated
from gemqueue.store.seals.ring import QUEUE
from gemqueue.store.unreadable import reading

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

    from gemqueue.policy.packing import Parked
    from gemqueue.provider import JobStatus

_pack = msgspec.msgpack.encode
QUARANTINE_ROWS_MAX = 1_000
QUARANTINE_ROW_BYTES_MAX = 65_536
"""Both bound what nobody counts: 64 MB."""
_BELL_S = 10.0
_PAGE = 100


class Claim(msgspec.Struct, frozen=True):
    """A step that this process holds: for whom, under which fence, since when (monotonic seconds, before it asked)."""

    step: Step
    id: str
    account: str
    fence: int
    since: float
    home: str = ""
    """What marks jobs and files of this account at the provider (``policy/job_names.py``)."""
    at_ms: int = 0
    """When it was claimed, by the clock that decides."""

    @property
    def member(self) -> str:
        """The step as the due index has it."""
        return f"{self.step} {self.id}"


class Due(msgspec.Struct, frozen=True):
    """What a look at the due index found: steps with their due time, the time it was, and how long until the next."""

    overdue: list[tuple[str, int]]
    now_ms: int
    next_ms: int | None


class RetrySegment(Onward, frozen=True, kw_only=True):
    """Lines that are asked again, and which lines of which segments they leave behind.

    With ``new_batch`` it is sealed at once into a batch of its own, otherwise it waits ``delay_ms`` and is packed.
    """

    requeues: int
    delay_ms: int
    moves: list[tuple[str, bytes]]
    new_batch: str = ""
    refusals: int = 0


class JobEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended, for ``end``; ``sample`` (see ``turnaround.sample``) is what the history learns of it.

    ``seen_what`` is what the look that saw the end shows of missing results (``policy.beliefs``): the first such look.
    """

    job_state: str
    output_file: str = ""
    rows: int = 0
    error: str = ""
    operation: str = ""
    delay_ms: int = 0
    sample: tuple[int, int] | None = None
    halve: bool = False
    seen_what: str = ""


def _check(reply: list[Any], what: str) -> list[Any]:
    word = reply[0]
    if word == b"stale":
        raise StaleFence(f"{what}: overtaken")
    if word == b"state":
        raise WrongState(f"{what}: the batch is {reply[1].decode()}")
    return reply


class BatchStore(StoreBase):
    """Claims and the transitions of lanes and batches."""

    async def overdue(self, account: str, steps: Sequence[Step], limit: int = 500) -> list[tuple[str, int]]:
        """Members of the due index that are due now for ``steps``, oldest first, each with its due time in ms."""
        return (await self.due_steps(account, steps, limit)).overdue

    async def due_steps(self, account: str, steps: Sequence[Step], limit: int = 500) -> Due:
        """What is due now for ``steps``, at most ``limit``, and how long until the next one that was seen behind it."""
        due: list[tuple[str, int]] = []
        start, now, page = 0, 0, min(limit, _PAGE)
        while len(due) < limit:  # overdue steps of other roles may stand before these
            with translated(self.url):
                pipe: Any = self.redis.pipeline(transaction=False)
                pipe.time()
                pipe.zrange(self.key("due", account), start, start + page - 1, withscores=True)
                (seconds, micros), found = await pipe.execute()
            now = self.scripts.now_arg() or int(seconds) * 1000 + int(micros) // 1000
            members = ((member.decode(errors="replace"), int(score)) for member, score in found)
            ours = [(member, due_ms) for member, due_ms in members if member.partition(" ")[0] in steps]
            due += [(member, due_ms) for member, due_ms in ours if due_ms <= now]
            if ours and ours[-1][1] > now:
                return Due(due[:limit], now, next(due_ms for _, due_ms in ours if due_ms > now) - now)
            start += page
            if len(found) < page or found[-1][1] > now:
                break
        return Due(due[:limit], now, None)

    @asynccontextmanager
    async def bell(self, account: str) -> AsyncGenerator[Callable[[], Awaitable[bool]]]:
        """Subscribe to the account's bell; what this gives waits a while for it, and says whether it rang.

        Raises redis's NoPermissionError where the server's ACL refuses the channel.
        """
        with translated(self.url):
            async with self.redis.pubsub() as bell:
                await bell.subscribe(self.key("bell", account))
                await bell.get_message(timeout=_BELL_S)  # the confirmation, or a refusal

                async def rang() -> bool:
                    return await bell.get_message(ignore_subscribe_messages=True, timeout=_BELL_S) is not None

                yield rang

    async def claim(
        self, step: Step, id_: str, account: str, *, held: bool = False
    ) -> tuple[Claim, Batch | LaneState] | None:
        """Take a due step under a lease of ``lease_s``; None when it is not due or not there.

        Pack and submit steps are not to be had while they are held after a change of the server, or because it has
        forgotten a home that this process remembers, but with ``held``, which takes a step before it is due, too. Not
        retried on a lost reply: the lease that may have been taken runs out by itself. Raises UnreadableRecord: its
        step is left alone for as long.
        """
        since = self.clock.monotonic()
        lease_ms = int(self.settings.lease_s * 1000)
        known = self.known(account)
        call = calls.Claim(f"{step} {id_}", account, lease_ms, "held" if held else "", known.packed())
        reply = await self.scripts.run(call, retry=False)
        if reply[0] == b"unreadable":
            raise UnreadableRecord(f"{'lane' if step in LANE_STEPS else 'batch'} {id_}", reply[1].decode())
        if reply[0] == b"newer":
            raise WrongState(f"{step} {id_}: its record is of a newer gemqueue; upgrade this process")
        if reply[0] != b"ok":
            return None
        flat: list[bytes] = reply[1]
        raw = dict(zip(flat[::2], flat[1::2], strict=True))
        record = lane_of(id_, raw) if step in LANE_STEPS else await self.batch_in(id_, raw)
        known.fence = max(known.fence, record.fence)
        return Claim(step, id_, account, record.fence, since, reply[2].decode(), reply[3]), record

    async def renew(self, claim: Claim) -> Claim:
        """A new lease under the same fence."""
        since = self.clock.monotonic()
        lease_ms = int(self.settings.lease_s * 1000)
        call = calls.Renew(claim.member, claim.account, claim.fence, lease_ms)
        _check(await self.scripts.run(call), "renew")
        return msgspec.structs.replace(claim, since=since)

    async def release(
        self, claim: Claim, delay_s: float, note: Note | None = None, *, hold: Hold | None = None
    ) -> None:
        """Put a batch's step back, due in ``delay_s``, with what it learned and why it is held.

        Without a ``hold`` the record's stays as it is; one without a time says nothing about since when.
        """
        fields = self.seals.kept(note)
        if hold is not None:
            hold = self.seals.said(hold)
            fields |= {"held_reason": hold.text, "held_cause": str(hold.cause)}
            fields |= {"held_since": hold.since_ms} if hold.since_ms else {}
        changes = [Field(name, value) for name, value in fields.items()]
        call = calls.Release(claim.member, claim.account, claim.fence, int(delay_s * 1000), changes)
        _check(await self.scripts.run(call), "release")

    async def rest(self, claim: Claim, delay_s: float = 0.0, parked: Parked | None = None) -> None:
        """Put a lane's pack step back for when it is next due, but not within ``delay_s``.

        A ``parked`` one is due when the batch that it is parked behind has left the line.
        """
        full = _pack(full_limits(self.settings, Lane.parse(claim.id)))
        why = _pack(msgspec.structs.asdict(parked)) if parked is not None else b""
        _check(await self.scripts.run(calls.Rest(claim.id, claim.fence, full, int(delay_s * 1000), why)), "rest")

    async def pack(
        self, claim: Claim, batch: str, weights: Mapping[str, float], own: Lane | None = None, **limits_max: int
    ) -> tuple[str, int, int]:
        """Move a slice of the lane into ``batch``; ``limits_max`` (prompts, tokens) take the settings' place.

        ``own`` is the batch's lane where the packed lane is a pool's.

        Returns packing, sealed or empty; the prompts in the batch; the prompts left in the lane.
        """
        limits = (
            full_limits(self.settings, Lane.parse(claim.id))
            | limits_max
            | {"weights": weights, "own": str(own or claim.id)}
        )
        reply = _check(await self.scripts.run(calls.Pack(claim.id, claim.fence, batch, _pack(limits))), "pack")
        return reply[1].decode(), int(reply[2]), int(reply[3])

    async def begin(self, claim: Claim, token: str, file: str, by_key: str = "") -> Claim:
        """Write the intent and renew the lease; refused when the lease has run out.

        Raises NotReplicated when no replica has it, where ``durability`` asks for one: then nothing may be created.
        """
        since = self.clock.monotonic()
        lease_ms = int(self.settings.lease_s * 1000)
        call = calls.Begin(claim.id, claim.fence, lease_ms, token=token, file=file, by_key=by_key)
        _check(await self.scripts.run(call, confirm=True), "begin")
        return msgspec.structs.replace(claim, since=since)

    async def accept(
        self, claim: Claim, job: str, how: str, delay_s: float, *, found: JobStatus | None = None, by_key: str = ""
    ) -> None:
        """Record the job, ``how`` it came (created or adopted), and track it from ``delay_s`` on.

        The record may know nothing of a job that was ``found``, nor of the key that sees it.
        """
        call = calls.Accept(
            batch=claim.id,
            fence=claim.fence,
            job=job,
            how=how,
            delay_ms=int(delay_s * 1000),
            input_file=found.input_file if found is not None else "",
            created_at_ms=found.created_at_ms if found is not None else 0,
            by_key=by_key,
        )
        _check(await self.scripts.run(call, confirm=True), "accept")

    async def fence(self, claim: Claim, delay_s: float, by_key: str = "") -> None:
        """Record that the intent's file is deleted; look for the job in ``delay_s``."""
        _check(await self.scripts.run(calls.Fence(claim.id, claim.fence, int(delay_s * 1000), by_key)), "fence")

    async def reopen(
        self,
        claim: Claim,
        token: str,
        note: Note | None = None,
        *,
        delay_s: float | None = None,
        hold: Hold = NOT_HELD,
    ) -> None:
        """Clear the dead intent of this token, and leave a note.

        With ``delay_s`` the step is put back, held by ``hold`` since the first of such holds; without it the holder
        goes on.
        """
        hold = self.seals.said(hold)
        fields = self.seals.kept(note) | {"held_cause": str(hold.cause)}
        changes = [Field(name, value) for name, value in fields.items()]
        delay_ms = -1 if delay_s is None else int(delay_s * 1000)
        call = calls.Reopen(claim.id, claim.fence, delay_ms, held_reason=hold.text, token=token, fields=changes)
        _check(await self.scripts.run(call), "reopen")

    async def split(self, claim: Claim, new_batch: str, segments: int, refusals: int) -> None:
        """The last ``segments`` of the batch, at most 500, become a sealed batch of their own."""
        _check(
            await self.scripts.run(calls.Split(claim.id, claim.fence, new_batch, segments=segments, refusals=refusals)),
            "split",
        )

    async def end(self, claim: Claim, end: JobEnd) -> None:
        """The job is terminal, or there will be none."""
        fields = msgspec.structs.asdict(end) | {
            "prompts_max": self.settings.batch_prompts_max,
            "cool_ms": int(self.settings.quota_cool_s * 1000),
        }
        if self.seals.on:
            fields |= {"operation": "", "error": await self.seals.shut_text("batch", claim.id, QUEUE, end.error)}
        _check(await self.scripts.run(calls.End(claim.id, claim.fence, _pack(fields))), "end")

    async def settle(
        self, claim: Claim, landings: list[Landing], dead: Sequence[tuple[str, str, str, str, str]] = ()
    ) -> tuple[str, dict[str, bytes]]:
        """Land outcomes, all or nothing, and count them; ``dead`` holds key, lane, kind, message and body of each.

        Returns ok; conflict with the bitmaps that have some of the bits already; unknown with the segment.
        """
        keep_s = int(self.settings.keep_outcome_s)
        dead_bytes_max = min(self.settings.dead_bytes_max, self.settings.memory_bytes_max // 4)
        if self.seals.on:
            tenants = await self.owners(landing.segment for landing in landings)
            landings, dead = await self.seals.shut_landing(tenants, landings, dead)
        call = calls.Settle(claim.id, claim.fence, keep_s, dead_bytes_max, dead=_pack(dead), landings=landings)
        reply = _check(await self.scripts.run(call), "settle")
        word = reply[0].decode()
        if word == "conflict":
            found: list[bytes] = reply[1]
            return word, {segment.decode(): bits for segment, bits in zip(found[::2], found[1::2], strict=True)}
        return word, {reply[1].decode(): b""} if word == "unknown" else {}

    async def requeue(self, claim: Claim, retry: RetrySegment, body: bytes) -> None:
        """Move lines into a retry segment. Raises WrongState when some of them have moved already."""
        fields = msgspec.structs.asdict(retry) | {
            "lane": str(retry.lane),
            "full": full_limits(self.settings, retry.lane),
            "review_ms": first_review_ms(self.settings, retry.lane, retry.deadline_at),
        }
        del fields["moves"], fields["keys"]
        body = await self.seals.shut("segment", retry.id, retry.tenant, body)
        moves = [Move(segment, bits) for segment, bits in retry.moves]
        call = calls.Requeue(claim.id, claim.fence, _pack(fields), body=body, keys=_pack(retry.keys), moves=moves)
        reply = _check(await self.scripts.run(call), "requeue")
        if reply[0] != b"ok":
            raise WrongState(f"requeue: lines of {reply[1].decode()} have moved already")

    async def confirm_closed(self, batch: str) -> bool:
        """As ``confirm``; whether the batch is closed where that was confirmed. True where ``durability`` is local."""
        waits = self.scripts.replicate_ms > 0
        return not waits or bool((await self.scripts.run(calls.Confirm(batch), confirm=True))[0] == b"ok")

    async def close(self, claim: Claim, *, give_back: bool, delay_s: float = 0.0) -> tuple[str, list[str]]:
        """Close a slice: closing or closed; or open with the segments that are not done.

        With ``give_back`` segments that are not done go back to their lane, unless they have been back too often.
        """
        fields = {
            "mode": "requeue" if give_back else "settled",
            "requeues_max": self.settings.requeues_max,
            "keep_s": int(self.settings.keep_outcome_s),
            "delay_ms": int(delay_s * 1000),
            "delay_max_ms": int(self.settings.retry_max_s * 1000),
            "full": full_limits(self.settings),
        }
        reply = _check(await self.scripts.run(calls.Close(claim.id, claim.fence, _pack(fields))), "close")
        if reply[0] == b"open":
            return "open", [segment.decode() for segment in reply[1]]
        return reply[1].decode(), []

    async def manifest(self, batch: str) -> list[str]:
        """The batch's segments, in order."""
        with translated(self.url):
            ids: list[bytes] = await self.redis.lrange(self.key("manifest", batch), 0, -1)
        return [id_.decode(errors="replace") for id_ in ids]

    async def batch(self, batch: str) -> Batch | None:
        """The batch's record; None when it is gone. Raises UnreadableRecord."""
        with reading(f"batch {batch}"), translated(self.url):
            raw: dict[bytes, bytes] = await self.redis.hgetall(self.key("batch", batch))
        return await self.batch_in(batch, raw) if raw else None

    async def open_count(self) -> int:
        """How many batches are not closed."""
        with translated(self.url):
            return int(await self.redis.zcard(self.key("batches")))

    async def lane(self, lane: Lane) -> LaneState:
        """One lane, with what waits in it. Raises UnreadableRecord."""
        with reading(f"lane {lane}"), translated(self.url):
            return lane_of(str(lane), await self.redis.hgetall(self.key("lane", str(lane))))

    async def lanes(self) -> list[LaneState]:
        """Every lane that was ever used, with what waits in it, without those that cannot be read."""
        with translated(self.url):
            members: set[bytes] = await self.redis.smembers(self.key("lanes"))
            names = sorted(name.decode(errors="replace") for name in members)
            pipe: Any = self.redis.pipeline(transaction=False)
            for name in names:
                pipe.hgetall(self.key("lane", name))
            raws = await self.replies(pipe) if names else []
        read = self.unreadable.read
        found = [read(f"lane {name}", partial(lane_of, name), raw) for name, raw in zip(names, raws, strict=True)]
        return [lane for lane in found if lane is not None]

    async def add_count(self, name: str, n: int) -> None:
        """Raise a counter for something that no transition sees."""
        await self.scripts.run(calls.Tally([Raise("counts", name, n)]), retry=False)
