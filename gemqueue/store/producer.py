"""The producer's side of the store: segments in, notices and outcomes out."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from gemqueue.effects import Effect, effect
from gemqueue.policy.packing import first_review_ms, full_limits
from gemqueue.records import Known, Lane
from gemqueue.sealing.box import is_sealed
from gemqueue.states import SegmentState
from gemqueue.store import bitmap, calls
from gemqueue.store.base import segment_record
from gemqueue.store.looks import LookStore
from gemqueue.store.scripts import translated
from gemqueue.store.unreadable import reading
from gemqueue.store.workers import WorkerStore

RETRY_WINDOW_S = 3600
"""How long a payload waits for its registration, and so how long a producer may go on retrying the same segment."""


_DELIVERED_MAX = 100  # segments a call, of some five commands each: 500 blocked the server for 14 ms


class SegmentWrite(msgspec.Struct, frozen=True, kw_only=True):
    """A segment as a producer hands it over; ``names`` holds (index, name, digest) of the named prompts.

    One that belongs to a ``run`` carries the run's ``epoch`` and the ``entry`` that the run's list gets with it.
    """

    id: str
    lane: str
    producer: str
    count: int
    raw_bytes: int
    tokens: int
    tenant: str = "default"
    priority: int = 0
    deadline_at: int = 0
    names: list[tuple[int, str, str]] = []
    run: str = ""
    epoch: int = 0
    entry: bytes = b""


class Owner(NamedTuple):
    """Who has a name: the prompt's key and digest, and whether that is of its whole config.

    0.2.0 knew the row's own config alone, and its segments do not say ``merges``.
    """

    key: str
    digest: str
    merges: bool


class Enqueued(msgspec.Struct, frozen=True):
    """What became of a segment: ``word`` is ok, taken, full, resend, sealed or superseded.

    ``taken`` maps an index to who has its name already. ``home`` is the account's in this server, once it has one.
    """

    word: str
    taken: dict[int, Owner] = {}
    home: str = ""


class Watched(msgspec.Struct, frozen=True):
    """What a watcher learns of a segment: its state, its number of prompts, its lane where that can be read."""

    state: SegmentState
    count: int
    lane: Lane | None


class ProducerStore(LookStore, WorkerStore):
    """Segments in, notices and outcomes out."""

    async def enqueue(self, segment: SegmentWrite, body: bytes) -> Enqueued:
        """Write a segment and register it, in one round trip; safe to repeat under the same id for an hour.

        The body goes by SET, because a script would copy it; ``enqueue`` then makes it live once. Raises ServerFull
        when the server itself is out of memory; NotReplicated when no replica has it, where ``durability`` wants one.
        """
        body = await self.seals.shut("segment", segment.id, segment.tenant, body)
        fields = msgspec.structs.asdict(segment) | {
            "names": await self._names_of_segment(segment),
            "memory_bytes_max": self.settings.memory_bytes_max,
            "full": full_limits(self.settings),
            "review_ms": segment.deadline_at
            and first_review_ms(self.settings, Lane.parse(segment.lane), segment.deadline_at),
        }
        entry = segment.entry and await self.seals.shut(
            "run", f"{account_of(segment.lane)}/{segment.run}", segment.tenant, segment.entry
        )
        del fields["entry"]  # apart: the server's cmsgpack knows no binary type
        packed = msgspec.msgpack.encode(fields)
        body_first = ("SET", self.key("segment", segment.id), body, "NX", "EX", RETRY_WINDOW_S)
        with effect(Effect.PRODUCE_ENQUEUE):
            call = calls.Enqueue(packed, entry)
            reply = _enqueued(await self.scripts.run(call, retry=False, confirm=True, before=body_first))
        if reply.word == "sealed":
            await self.seals.begin()  # raises: it is, and this process is not
        known = self.known(account_of(segment.lane))
        known.home = known.home or reply.home
        return await self._told(segment, reply) if reply.taken and self.seals.on else reply

    async def recall(self, account: str) -> Known:
        """What this process remembers of the server, after a look at it.

        ``forgot`` is the sentence to say while the server does not know the home under which it took prompts of this
        process; ``was`` that home, once somebody has said that the account goes on without it, or if it is emulated.
        """
        known = self.known(account)
        with translated(self.url):
            here, past = await self.redis.hmget(self.key("server", account), "home", "past_homes")
        home = (here or b"").decode()
        known.forgot = ""
        if known.home not in {"", home}:
            if not account.startswith("emulated.") and known.home not in (past or b"").decode().split():
                known.forgot = forgotten_words(known.home)
                return known
            known.was = known.home
        known.home = home
        return known

    async def _names_of_segment(self, segment: SegmentWrite) -> list[tuple[int, str, str, str]]:
        """The names as the script takes them: those of a sealed queue are digests, beside what they were before."""
        if not self.seals.on:
            return [(*each, "") for each in segment.names]
        account = account_of(segment.lane)
        return [
            (index, await self.seals.name(account, name), await self.seals.digest(digest), name)
            for index, name, digest in segment.names
        ]

    async def _told(self, segment: SegmentWrite, reply: Enqueued) -> Enqueued:
        """The reply with the digests that the segment came with, where what stands there is of the same."""
        came = {index: digest for index, _, digest in segment.names}
        taken: dict[int, Owner] = {}
        for index, owner in reply.taken.items():
            same = owner.digest == await self.seals.digest(came[index])
            taken[index] = owner._replace(digest=came[index] if same else owner.digest.lstrip("#"))
        return msgspec.structs.replace(reply, taken=taken)

    async def discard(self, segment: str) -> None:
        """Drop the payload of a segment that will not be registered."""
        with translated(self.url):
            await self.redis.unlink(self.key("segment", segment))

    async def named(self, account: str, name: str) -> tuple[str, str] | None:
        """Key and digest of the prompt that has ``name``, if any. A sealed queue may know it by itself, too."""
        names = [name, await self.seals.name(account, name)] if self.seals.on else [name]
        with translated(self.url):
            values: list[bytes | None] = await self.redis.mget([self.key("name", account, each) for each in names])
        value = next((value for value in reversed(values) if value is not None), None)
        if value is None:
            return None
        key, _, digest = value.decode(errors="replace").partition(" ")
        return key, digest

    async def open_inbox(self, producer: str) -> str:
        """Make sure that the inbox exists, with a TTL; returns the id to read on from."""
        name = self.key("inbox", producer)
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=True)  # whoever dies in between would leave it for ever
            pipe.xadd(name, {"s": ""}, maxlen=10_000)
            pipe.expire(name, int(self.settings.inbox_keep_s))
            entry: bytes = (await pipe.execute())[0]
        return entry.decode()

    async def renew_inbox(self, producer: str) -> bool:
        """Renew the inbox's TTL; False when it is gone, and notices with it."""
        with translated(self.url):
            return bool(await self.redis.expire(self.key("inbox", producer), int(self.settings.inbox_keep_s)))

    async def read_inbox(self, producer: str, after: str, block_ms: int) -> tuple[str, list[str]]:
        """Wait for notices: the id to read on from, and the segments that have news (each once, in order)."""
        name = self.key("inbox", producer)
        with translated(self.url):
            reply: Any = await self.redis.xread({name: after}, count=1000, block=block_ms)
        entries: list[tuple[bytes, dict[bytes, bytes]]] = reply[0][1] if reply else []
        seen: dict[str, None] = {}
        for entry_id, fields in entries:
            after = entry_id.decode()
            seen.update(dict.fromkeys(fields.get(b"s", b"").decode(errors="replace").split()))
        return after, list(seen)

    async def close_inbox(self, producer: str) -> None:
        """Drop the inbox; outcomes stay where they are."""
        with translated(self.url):
            await self.redis.unlink(self.key("inbox", producer))

    async def outcomes(self, cursors: list[tuple[str, int]], blobs_max: int) -> list[list[bytes]]:
        """For each (segment, blobs seen so far), the blobs that have landed since, at most ``blobs_max`` of each.

        Raises SealError. One that will never open (its key was destroyed, it was changed) comes as it is, unreadable.
        """
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)
            for segment, seen in cursors:
                pipe.lrange(self.key("outcomes", segment), seen, seen + blobs_max - 1)
            found = await self.replies(pipe) if cursors else []
        pairs = zip([segment for segment, _ in cursors], found, strict=True)
        lists = [self.unreadable.read(f"outcomes of segment {id_}", list, blobs) or [] for id_, blobs in pairs]
        if not any(is_sealed(blob) for blobs in lists for blob in blobs):
            return lists
        opened = [
            await self.seals.open_all("outcomes", [(segment, blob) for blob in blobs])
            for (segment, _), blobs in zip(cursors, lists, strict=True)
        ]
        return [[blob for blob in blobs if blob is not None] for blobs in opened]

    async def outcome_counts(self, segments: list[str]) -> list[tuple[SegmentState | None, int]]:
        """For each segment, its state (None when it is gone) and how many blobs had landed just after."""
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)
            for segment in segments:
                pipe.hget(self.key("segmeta", segment), "state")  # first: what is closed has all of its blobs
                pipe.llen(self.key("outcomes", segment))
            flat: list[Any] = await self.replies(pipe) if segments else []
        return [
            (self._state_of(id_, state) if state else None, blobs if isinstance(blobs, int) else 0)
            for id_, state, blobs in zip(segments, flat[::2], flat[1::2], strict=True)
        ]

    def _state_of(self, id_: str, state: bytes | Exception) -> SegmentState:
        """The state; live where it cannot be read, for then nobody can say that no more outcomes will come."""
        return self.unreadable.read(segment_record(id_), _state, state) or SegmentState.LIVE

    async def watch(self, segment: str, producer: str) -> Watched | None:
        """Register this inbox for a segment's notices, then look; None when there is no such segment.

        Raises UnreadableRecord.
        """
        with reading(segment_record(segment)):
            reply = await self.scripts.run(calls.Watch(segment, producer))
        if reply[0] != b"ok":
            return None
        with reading(segment_record(segment)):
            return Watched(_state(reply[1]), int(reply[2]), Lane.named(reply[3].decode()))

    async def deliver(self, segments: list[str], *, keyed: bool = False) -> None:
        """The caller has taken every outcome of these segments: they may go after ``keep_delivered_s``.

        ``keyed``: its code has their keys, and may ask by them in any process. Then they stay as long as others, unless
        the queue takes more than a quarter of ``memory_bytes_max``.
        """
        room_bytes = self.settings.memory_bytes_max // 4 if keyed else -1
        with effect(Effect.PRODUCE_DELIVER):
            for start in range(0, len(segments), _DELIVERED_MAX):
                part = segments[start : start + _DELIVERED_MAX]
                await self.scripts.run(calls.Deliver(int(self.settings.keep_delivered_s), room_bytes, part))

    async def cancel(self, segment: str, index: int, blob: bytes) -> str:
        """Settle one prompt as cancelled; returns pending, a batch state, settled (too late) or unknown."""
        bits = bitmap.of([index], index + 1)
        with effect(Effect.PRODUCE_CANCEL):
            keep_s = int(self.settings.keep_outcome_s)
            reply = await self.scripts.run(calls.Cancel(segment, index, bits=bits, blob=blob, keep_s=keep_s))
        where: bytes = reply[1] if reply[0] == b"ok" else reply[0]
        return where.decode()

    async def held_reason(self, account: str, batches_max: int = 100) -> str:
        """Why an account's prompts wait: after a change of the server, or as its oldest held batch says; else empty."""
        paused = (await self.pause(account)).text
        if paused:
            return paused
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)
            pipe.zrange(self.key("batches"), 0, batches_max - 1)
            pipe.smembers(self.key("lanes"))
            ids, lanes = await pipe.execute()
            for id_ in ids:
                pipe.hmget(self.key("batch", id_.decode(errors="replace")), "lane", "held_reason", "pool")
            for lane in sorted(lane.decode(errors="replace") for lane in lanes):
                if lane.startswith(f"{account}/"):
                    pipe.hmget(self.key("lane", lane), "prompts", "held_reason")
            rows: list[Any] = await self.replies(pipe)
        of_batches: list[list[bytes | None]] = [row for row in rows[: len(ids)] if not isinstance(row, Exception)]
        of_lanes: list[list[bytes | None]] = [row for row in rows[len(ids) :] if not isinstance(row, Exception)]
        batches = [row[1] for row in of_batches if _is_of(account, row[0], row[2])]
        waiting = [row[1] for row in of_lanes if row[0] and row[0].isdigit() and int(row[0]) > 0]
        return next((reason.decode(errors="replace") for reason in (*batches, *waiting) if reason), "")


def forgotten_words(home: str) -> str:
    """What a process is told whose prompts a server took under a home that it does not know any more."""
    return (
        f"the server has forgotten this queue: it took the prompt under home {home}, which it does not know any more "
        "(it was emptied or set back, or another server or database answers). Its job may run or have ended: "
        f"`gemqueue admin reconcile --home {home}` says so. Submitted again, it may be bought again"
    )


def account_of(lane: str) -> str:
    """The account in a lane's text."""
    return lane.partition("/")[0]


def _is_of(account: str, lane: bytes | None, pool: bytes | None) -> bool:
    """Whether a batch has prompts of the account, which may be a pool."""
    return (lane or b"").startswith(f"{account}/".encode()) or (pool or b"") == account.encode()


def _state(text: bytes) -> SegmentState:
    return SegmentState(text.decode())


def _enqueued(reply: list[Any]) -> Enqueued:
    word = reply[0].decode()
    taken: dict[int, Owner] = {}
    for row in reply[1] if word == "taken" else ():
        index, key, digest, merges = row.decode().split(" ")
        taken[int(index)] = Owner(key, digest, merges == "1")
    return Enqueued(word, taken, reply[1].decode() if word == "ok" else "")
