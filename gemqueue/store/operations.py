"""What operators ask of the store, and what becomes of the records when the server is another one than before.

A server that was started again, or a replica that took its place, may have lost the last writes. Nothing is packed or
submitted then until the provider's jobs have been compared with the records: ``claim`` refuses it in its script, so
there is no moment in between. Who compares holds a lease, so that one worker asks the provider and not all of them;
that two do it at once would be harmless, because each of their writes is a transition of its own.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gemqueue.errors import WrongState
from gemqueue.policy.unknown import KEEP_S, Unknown, again_s
from gemqueue.store import calls
from gemqueue.store.base import batch_of
from gemqueue.store.batches import QUARANTINE_ROW_BYTES_MAX, QUARANTINE_ROWS_MAX, BatchStore
from gemqueue.store.groups import Compared, Listed
from gemqueue.store.quota import checked
from gemqueue.store.scripts import ServerFull, translated
from gemqueue.store.seals.ring import QUEUE
from gemqueue.store.unreadable import reading
from gemqueue.store.workers import WorkerStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gemqueue.provider import JobStatus
    from gemqueue.records import Batch, Lane, Sign
    from gemqueue.states import Step
    from gemqueue.store.batches import Claim

_COMPARED = (
    "v", "state", "lane", "fence", "prompts", "job", "job_state", "intent_token", "past_tokens", "missed_jobs",
    "given_back",
)  # fmt: skip
"""What ``policy.reconciling.standing`` reads of a record; a whole one has an operation of 64 KiB."""

_NOTED = ("token", "state", "created_at", "first_at", "counted", "compared")
_SEGMENTS_A_CALL = 500
_WRITES_THROUGH: Final = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}


class Sizes(msgspec.Struct, frozen=True):
    """How much stands in the places that no counter tells."""

    overdue: int
    """Steps of the accounts that are due and that nobody has claimed yet."""
    dead: int
    quarantine: int


class Stray(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a batch's results that belongs to nobody, as far as its bytes are kept, and why."""

    batch: str
    reason: str
    row: str


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows of the server that it is on, for one account. Times are the store's ms, 0 for never.

    ``noticed`` is the server's run id where it is another one than ``run_id``, on which the records were last known
    whole; packing and submitting are held since ``noticed_at``. What was written before ``seen_at`` was not lost.
    ``forgot`` are the homes that workers remember and this server does not know, for which the account is held;
    ``past_homes`` those to whose jobs somebody has seen. The home was given at ``began_at``; ``older_homes`` are those
    of jobs from before, None until a worker has looked.
    """

    home: str = ""
    run_id: str = ""
    noticed: str = ""
    noticed_at: int = 0
    seen_at: int = 0
    held_reason: str = ""
    forgot: str = ""
    forgot_at: int = 0
    forgot_reason: str = ""
    past_homes: str = ""
    began_at: int = 0
    older_homes: str | None = None


class ClockBack(msgspec.Struct, frozen=True):
    """When the server's clock was last seen to have gone back, in its ms, and by how much."""

    back_at: int
    back_ms: int


class Rebuild(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a batch that is lost, as its job tells it."""

    batch: str
    lane: str
    job: str
    token: str
    input_file: str = ""
    created_at_ms: int = 0
    """By the provider's clock; 0 where it does not say."""
    by_key: str = ""
    """Fingerprint of a key that sees the job."""


def writes_through(config: Mapping[str, str]) -> bool:
    """Whether a server of this configuration has on its disk what it acknowledges: with everysec it may not."""
    return _WRITES_THROUGH.items() <= config.items()


class OperationsStore(BatchStore, WorkerStore):
    """Reading for operators; the life of a server's record."""

    async def greet(self, account: str) -> tuple[str, bool]:
        """A worker of the account begins, or meets a server that does not know it.

        Returns the home of its jobs' names, and whether packing and submitting wait for a comparison. Whether the
        server has forgotten a home that this process remembers, ``known`` says then.
        """
        known, lossless = self.known(account), int(await self.lossless())
        call = calls.Greet(account, secrets.token_hex(4), lossless=lossless, known=known.packed())
        word, home, run_id, forgot = await self.scripts.run(call)
        known.met(home.decode(), run_id.decode(), forgot.decode())
        return home.decode(), bool(word == b"held")

    async def beat(self, worker: str, roles: str, account: str, sign: Sign | None = None) -> bool:
        """This worker is alive, for three heartbeats; whether packing and submitting are held.

        A server that has forgotten the account's beginning is greeted anew, or its next change would go unnoticed.
        """
        word = await self.heartbeat(worker, roles, account, sign)
        return (await self.greet(account))[1] if word == "new" else word == "held"

    async def note_older(self, account: str, homes: Iterable[str]) -> None:
        """The account has jobs of these homes that are older than its own."""
        with translated(self.url):
            await self.redis.hset(self.key("server", account), "older_homes", " ".join(homes))

    async def rehome(self, account: str, home: str) -> list[str]:
        """The account goes on here without the other home, to whose jobs somebody has seen.

        Returns the homes that it is still held for.
        """
        reply = await self.scripts.run(calls.Rehome(account, home))
        return str(reply[1].decode()).split()

    async def server(self, account: str) -> Server:
        """What is known of the server. Raises UnreadableRecord."""
        with translated(self.url):
            raw: dict[bytes, bytes] = await self.redis.hgetall(self.key("server", account))
        with reading(f"server of {account}"):
            found = {name.decode(): value.decode() for name, value in raw.items()}
            return msgspec.convert(found, Server, strict=False)

    async def tick(self, account: str) -> float:
        """Look at the server's clock for an account, or a pool; the seconds that it went back since the last look.

        What was due later has come forward by as much then.
        """
        return float((await self.scripts.run(calls.Tick(account)))[1]) / 1000

    async def clock_back(self, account: str) -> ClockBack | None:
        """When the account's workers last saw the server's clock go back; None if never."""
        with translated(self.url):
            at, ms = await self.redis.hmget(self.key("clock", account), "back_at", "back_ms")
        return (
            self.unreadable.read(f"clock of {account}", lambda both: ClockBack(*map(int, both)), (at, ms))
            if at
            else None
        )

    async def lossless(self) -> bool:
        """Whether the server writes through to its disk before it answers, and is no replica that was promoted.

        Started again, such a server has lost nothing that anybody was told. False where it does not say.
        """
        replication = await self.server_info("replication")
        promoted = str(replication.get("master_replid2", "")).strip("0") != ""
        return writes_through(await self.server_config()) and not promoted and replication.get("role") == "master"

    async def take_reconciling(self, account: str, holder: str, lease_s: float) -> bool:
        """Be the one who compares, for ``lease_s``; False while somebody else is."""
        name = self.key("reconciling", account)
        try:
            with translated(self.url):
                taken = await self.redis.set(name, holder, nx=True, px=int(lease_s * 1000))
                return bool(taken) or (await self.redis.get(name)) == holder.encode()
        except ServerFull:
            return True  # it costs the provider a few listings, and the pause must end on a full server, too

    async def leave_reconciling(self, account: str) -> None:
        """The comparison is over."""
        with translated(self.url):
            await self.redis.unlink(self.key("reconciling", account))

    async def resume(self, account: str, noticed: str, *, reason: str = "") -> bool:
        """End the pause, or with a ``reason`` say why it goes on; False when the server has changed once more."""
        lossless = int(await self.lossless())
        reply = await self.scripts.run(calls.Resume(account, noticed, reason=reason, lossless=lossless))
        return bool(reply[0] == b"ok")

    async def adopt(self, claim: Claim, job: JobStatus, by_key: str) -> None:
        """Record the job that a batch waits for, whose intent may be lost, and look at it now; the key sees the job."""
        await self.accept(claim, job.job, "adopted", 0.0, found=job, by_key=by_key)

    async def rebuild(self, account: str, rebuild: Rebuild, segments: Sequence[str]) -> int:
        """Make a lost batch's record anew, with those of the segments that nobody else has; how many those are.

        Raises WrongState when there is a record, or when somebody holds a batch with one of the segments: later, then.
        """
        parts = [segments[start : start + _SEGMENTS_A_CALL] for start in range(0, len(segments), _SEGMENTS_A_CALL)]
        taken = 0
        for number, part in enumerate(parts, 1):
            fields = msgspec.structs.asdict(rebuild) | {"last": number == len(parts)}
            del fields["batch"]
            reply = await self.scripts.run(
                calls.Rebuild(rebuild.batch, account, msgspec.msgpack.encode(fields), [*part])
            )
            if reply[0] != b"ok":
                raise WrongState(f"rebuild {rebuild.batch}: {b' '.join(reply).decode()}")
            taken += int(reply[1])
        return taken

    async def count_twice(self, batch: str, job: str, prompts: int) -> bool:
        """A second job of the batch bought ``prompts`` of it; whether that is news."""
        return bool((await self.scripts.run(calls.CountTwice(batch, job, prompts)))[1])

    async def waiting_segments(self, lane: Lane) -> list[str]:
        """Every segment of a lane that is in no batch: pending, and waiting for its retry."""
        with translated(self.url):
            tenants: list[bytes] = await self.redis.zrange(self.key("tenants", str(lane)), 0, -1)
            tenants += await self.redis.hkeys(self.key("over", str(lane)))
            pipe: Any = self.redis.pipeline(transaction=False)
            pipe.zrange(self.key("later", str(lane)), 0, -1)
            for tenant in tenants:
                pipe.zrange(self.key("pending", str(lane), tenant.decode()), 0, -1)
            found: list[list[bytes]] = await pipe.execute()
        return [id_.decode() for ids in found for id_ in ids]

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

    async def quarantine(self, batch: str, rows: list[tuple[str, bytes]]) -> None:
        """Keep rows that belong to nobody, with the reason and their bytes, and count them."""
        kept = [
            (reason, await self.seals.shut("row", batch, QUEUE, row[:QUARANTINE_ROW_BYTES_MAX])) for reason, row in rows
        ]
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=True)
            for reason, row in kept:
                fields = {"batch": batch, "reason": reason, "row": row}
                pipe.xadd(self.key("quarantine"), fields, maxlen=QUARANTINE_ROWS_MAX, approximate=True)
            pipe.hincrby(self.key("counts"), "quarantined", len(rows))
            await pipe.execute()

    async def quarantined(self, batch: str = "") -> list[Stray]:
        """The newest rows that belong to nobody, or those among them that came in one batch's results."""
        with translated(self.url):
            entries: list[tuple[bytes, dict[bytes, bytes]]] = await self.redis.xrevrange(
                self.key("quarantine"), count=QUARANTINE_ROWS_MAX
            )
        ids = [fields.get(b"batch", b"").decode(errors="replace") for _, fields in entries]
        kept = zip(ids, [fields.get(b"row", b"") for _, fields in entries], strict=True)
        rows = await self.seals.open_all("row", kept)
        found = [
            Stray(
                batch=id_,
                reason=fields.get(b"reason", b"").decode(errors="replace"),
                row=(row or b"").decode(errors="replace"),
            )
            for id_, (_, fields), row in zip(ids, entries, rows, strict=True)
        ]
        return [stray for stray in found if not batch or stray.batch == batch]

    async def note_unknown(self, account: str, jobs: Iterable[Unknown]) -> list[str]:
        """These jobs were listed, and no record knows them; those of them that are counted now."""
        seen = [Listed(one.job, one.token, one.state, one.created_at) for one in jobs]
        again_ms = int(again_s(self.settings) * 1000)
        reply = await self.scripts.run(calls.NoteUnknown(account, again_ms, KEEP_S, seen))
        return [job.decode() for job in reply[1]]

    async def clear_unknown(self, account: str, compared: Mapping[str, str]) -> None:
        """Jobs were compared, and stayed unknown in this state; those with an empty one are forgotten."""
        if compared:
            done = [Compared(job, state) for job, state in compared.items()]
            await self.scripts.run(calls.ClearUnknown(account, done))

    async def unknown_jobs(self, account: str) -> list[Unknown]:
        """The account's jobs that are noted, the first first."""
        with translated(self.url):
            raw: dict[bytes, bytes] = await self.redis.hgetall(self.key("unknown", account))
        read = [
            self.unreadable.read(f"unknown job {job.decode(errors='replace')}", _unknown, (job, packed))
            for job, packed in raw.items()
        ]
        return sorted((one for one in read if one is not None), key=lambda one: (one.first_at, one.job))

    async def take_look(self, account: str, every_s: float, now_ms: int) -> bool:
        """Whether nobody has looked at the account's newest jobs for so long; then it is up to the caller."""
        with translated(self.url):
            value: bytes | None = await self.redis.get(self.key("looked", account))
        looked_at = int(value) if value is not None and value.isdigit() else 0
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
            rows: list[list[bytes | None]] = await self.replies(pipe) if batches else []
        found: dict[str, Batch | None] = {}
        for id_, row in zip(batches, rows, strict=True):
            read = self.unreadable.read(f"batch {id_}", partial(_compared, id_), row)
            if read is not None:
                found[id_] = read[0]
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


def _unknown(noted: tuple[bytes, bytes]) -> Unknown:
    job, packed = noted
    values = dict(zip(_NOTED, msgspec.msgpack.decode(packed), strict=False))
    return msgspec.convert(values | {"job": job.decode()}, Unknown, strict=False)


def _compared(id_: str, row: list[bytes | None]) -> tuple[Batch | None]:
    raw = {name.encode(): value for name, value in zip(_COMPARED, row, strict=True) if value is not None}
    return (batch_of(id_, raw) if raw else None,)
