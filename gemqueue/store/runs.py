"""Runs in the store: what a run has submitted, so that any process can go on where another one was killed.

A run is a record and a list. ``enqueue`` appends a segment's entry to the list in the very script that registers the
segment, so the list holds exactly what was bought, whenever a process dies. The epoch is the fence: opening a run
raises it, and a segment of an earlier epoch is refused, so that one who was thought dead cannot buy beside its
successor.
"""

from __future__ import annotations

import hashlib
from typing import Any, NoReturn

import msgspec

from gemqueue.errors import ConfigError, SealError
from gemqueue.ids import new_producer_id, new_store_id
from gemqueue.language.gemini.configs import ConfigMode
from gemqueue.sealing.box import is_sealed_text
from gemqueue.store import calls, codec
from gemqueue.store.purge import PurgeStore
from gemqueue.store.scripts import translated
from gemqueue.store.store import Store
from gemqueue.store.unreadable import reading

_ENTRIES_A_CALL = 32
_SEGMENTS_A_CALL = 500
_TENANT = "default"
"""Whose the rows of a run are."""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows of a run; ``open`` counts its live segments.

    ``settings`` and ``command`` are JSON: what must stay the same, and how it was last started. ``config_mode`` is
    how it began, and how it goes on; 0.2.0 knew one and wrote none. ``producer`` is drawn with the record, and so
    says which record it is; ``store`` is the id of the queue in its server, as ``open_run`` tells it.
    """

    settings: str
    producer: str
    command: str = ""
    epoch: int
    entries: int = 0
    open: int = 0
    rows: int = 0
    created_at: int = 0
    config_mode: str = ConfigMode.REPLACE
    store: str = ""


class RunEntry(msgspec.Struct, frozen=True, array_like=True):
    """One entry of a run's list: a segment's rows in order, by the caller's key and a digest of the content.

    Without a segment it takes rows back: earlier entries no longer speak for these keys.
    """

    segment: str
    keys: list[str]
    digests: bytes = b""


_decode_entry = msgspec.msgpack.Decoder(RunEntry).decode


def pack_entry(entry: RunEntry) -> bytes:
    """An entry as the list holds it."""
    return codec.compress(msgspec.msgpack.encode(entry))


def unpack_entry(blob: bytes) -> RunEntry:
    """The entry. Raises ValueError when it is none."""
    return _decode_entry(codec.expand(blob))


def digest64(data: bytes) -> bytes:
    """Eight bytes that stand for ``data``; 10 million rows collide with a probability of 3 in a million."""
    return hashlib.blake2b(data, digest_size=8).digest()


class RunStore(Store, PurgeStore):
    """The store, and runs; and what operators take away."""

    async def open_run(
        self, account: str, name: str, settings: str, command: str, entries: list[bytes], *, config_mode: str = ""
    ) -> RunRecord:
        """Take the run over, or begin it; ``entries`` go to its list.

        Without a ``config_mode`` it goes on as it began, and a new one merges. Raises ConfigError when it began with
        other settings or another mode.
        """
        producer = new_producer_id()  # the first one stays: its inbox hears of every segment of the run
        keep_s = int(self.settings.keep_outcome_s)
        await self.seals.begin()
        place = f"{account}/{name}"
        entries = [await self.seals.shut("run", place, _TENANT, entry) for entry in entries]
        command = await self.seals.shut_text("command", place, _TENANT, command)
        stored = await self._stored_settings(account, name, settings)
        call = calls.OpenRun(
            account=account,
            name=name,
            settings=stored,
            producer=producer,
            keep_s=keep_s,
            command=command,
            config_mode=config_mode,
            store=new_store_id(),
            entries=entries,
        )
        reply = await self.scripts.run(call, retry=False)
        if reply[0] == b"other":
            _refuse_settings(name, stored, reply[1].decode())
        if reply[0] == b"mode":
            begun = reply[1].decode()
            raise ConfigError(
                f"run {name!r} was started with config_mode = {begun!r}, and now it is {str(config_mode)!r}: "
                "leave --config-mode out to go on, or give the new one another --name"
            )
        epoch, producer, count, mode = int(reply[1]), reply[2].decode(), int(reply[3]), reply[4].decode()
        return RunRecord(
            settings=settings,
            epoch=epoch,
            producer=producer,
            entries=count,
            config_mode=mode,
            store=reply[5].decode(),
        )

    async def _stored_settings(self, account: str, name: str, settings: str) -> str:
        """The settings as the record has them: sealed, unless the run began before the queue was."""
        if not self.seals.on:
            return settings
        with translated(self.url):
            known: bytes | None = await self.redis.hget(self.key("run", account, name), "settings")
        return settings if known == settings.encode() else await self.seals.sealed_settings(settings)

    async def run_record(self, account: str, name: str) -> RunRecord | None:
        """The run as it is; None when nothing is known of it (any more). Raises UnreadableRecord."""
        with reading(f"run {name}"), translated(self.url):
            raw: dict[bytes, bytes] = await self.redis.hgetall(self.key("run", account, name))
            entries: int = await self.redis.llen(self.key("runlist", account, name))
        if not raw:
            return None
        with reading(f"run {name}"):
            text = {field.decode(): value.decode() for field, value in raw.items()}
            if is_sealed_text(text.get("command", "")):
                text["command"] = await self._command(f"{account}/{name}", text["command"])
            return msgspec.convert(text | {"entries": entries}, RunRecord, strict=False)

    async def _command(self, place: str, text: str) -> str:
        try:
            return await self.seals.open_text("command", place, text)
        except (SealError, ValueError):  # who only looks at it needs no key
            return ""

    async def run_entries(self, account: str, name: str, start: int, stop: int) -> list[RunEntry]:
        """The entries at ``start`` to ``stop`` (not included), at most 32 of them a call, that can be read."""
        stop = min(stop, start + _ENTRIES_A_CALL)
        with translated(self.url):
            blobs: list[bytes] = await self.redis.lrange(self.key("runlist", account, name), start, stop - 1)
        frames = await self.seals.open_all("run", [(f"{account}/{name}", blob) for blob in blobs])
        read = [
            self.unreadable.read(f"run {name}: entry {number}", unpack_entry, frame or b"")
            for number, frame in enumerate(frames, start)
        ]
        return [entry for entry in read if entry is not None]

    async def run_names(self, account: str) -> list[str]:
        """The names of all runs of an account that are known, sorted."""
        prefix = self.key("run", account, "")
        with translated(self.url):
            found: list[bytes] = [key async for key in self.redis.scan_iter(match=f"{_literal(prefix)}*", count=1000)]
        return sorted(key.decode(errors="replace").removeprefix(prefix) for key in found)

    async def purge(self, account: str, name: str, segments: list[str]) -> int:
        """Forget these segments and, with a ``name``, the run. Raises ConfigError while one of them is live."""
        purged = 0
        groups = [segments[i : i + _SEGMENTS_A_CALL] for i in range(0, len(segments), _SEGMENTS_A_CALL)] or [[]]
        for group in groups:
            call = calls.PurgeRun(account, name if group is groups[-1] else "", group)
            reply: list[Any] = await self.scripts.run(call)
            if reply[0] == b"live":
                raise ConfigError(f"{reply[1].decode()} is still under way: cancel it first, or wait for its end")
            purged += int(reply[1])
        return purged


def _literal(text: str) -> str:
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in text)


def _refuse_settings(name: str, given: str, known: str) -> NoReturn:
    ours, theirs = msgspec.json.decode(given), msgspec.json.decode(known)
    field = next(field for field in {**ours, **theirs} if ours.get(field) != theirs.get(field))
    raise ConfigError(
        f"run {name!r} was started with {field} = {theirs.get(field)!r}, and now it is {ours.get(field)!r}: "
        "repeat the same command, or give the new one another --name"
    )
