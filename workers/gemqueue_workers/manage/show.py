"""``gemqueue admin batches`` and ``gemqueue show``: what is known of a batch, a prompt, a run."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from rich.table import Table

from gemqueue.errors import ConfigError
from gemqueue.ids import split_key
from gemqueue.policy.beliefs import evidence_of
from gemqueue.policy.believed import batch_waits, belief_words
from gemqueue.policy.holds import waits_for
from gemqueue.records import Hold
from gemqueue.store import codec
from gemqueue_workers.manage.find import find, is_settled
from gemqueue_workers.screen import duration, held, plain, shortened

if TYPE_CHECKING:
    from rich.console import Console

    from gemqueue.records import Batch
    from gemqueue_workers.run.connection import Link

_TEXT_CHARS_MAX = 2000
_BLOBS_MAX = 10_000
_ROWS_MAX = 20
_ROW_CHARS_MAX = 500
_FIRST_TIME_MS = 1_000_000_000_000


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One open batch; ``held_reason`` is empty where nothing holds it but the provider's own pace.

    ``held_age_s`` is for how long it has been held, where that is known.
    """

    id: str
    state: str
    job: str
    job_state: str
    lane: str
    prompts: int
    bytes: int
    tokens: int
    age_s: float
    polls: int
    tries: int
    held_reason: str
    held_age_s: float | None = None


async def batches(link: Link) -> list[Line]:
    """Every open batch, oldest first."""
    now_ms = await link.store.server_now_ms()
    open_ = await link.store.open_records()
    paused = await link.store.pauses(account for batch in open_ for account in waits_for(batch.lane, batch.pool))
    return [_line(batch, now_ms, batch_waits(batch, paused, link.store.settings)) for batch in open_]


def _age_s(since_ms: int, now_ms: int) -> float | None:
    return max(0, now_ms - since_ms) / 1000 if since_ms else None


def _line(batch: Batch, now_ms: int, why: Hold) -> Line:
    return Line(
        id=batch.id,
        state=str(batch.state),
        job=batch.job,
        job_state=batch.job_state,
        lane=str(batch.lane),
        prompts=batch.prompts,
        bytes=batch.raw_bytes,
        tokens=batch.tokens,
        age_s=max(0, now_ms - batch.created_at) / 1000,
        polls=batch.polls,
        tries=batch.tries,
        held_reason=why.text,
        held_age_s=_age_s(why.since_ms, now_ms) if why.text else None,
    )


def show_batches(console: Console, lines: list[Line]) -> None:
    """For a person."""
    if not lines:
        console.print("No batch is open.")
        return
    table = Table("batch", "state", "job", "at the provider")
    for name in ("prompts", "tokens", "age", "looks"):
        table.add_column(name, justify="right")
    table.add_column("held", style="yellow")
    for line in lines:
        numbers = (f"{line.prompts:,}", f"{line.tokens:,}", duration(line.age_s), str(line.polls))
        why = plain(held(line.held_reason, line.held_age_s) or "nothing")
        table.add_row(line.id, line.state, plain(line.job), plain(line.job_state), *numbers, why)
    console.print(table)


async def show(link: Link, word: str) -> dict[str, Any]:
    """Everything that is known of a batch, a prompt or a run. Raises ConfigError."""
    found = await find(link, word)
    if found.sort == "batch":
        return await _batch(link, found.id)
    if found.sort == "run":
        return await _run(link, found.id)
    return await _prompt(link, found.id)


async def _batch(link: Link, id_: str) -> dict[str, Any]:
    batch = await link.store.batch(id_)
    if batch is None:
        raise ConfigError(f"batch {id_} is not known (any more)")
    paused = await link.store.pauses(waits_for(batch.lane, batch.pool))
    why = batch_waits(batch, paused, link.store.settings)
    fields = msgspec.structs.asdict(batch) | {"lane": str(batch.lane), "held_cause": why.cause} | await _why(link, why)
    segments = await link.store.manifest(id_)
    strays = await link.store.quarantined(id_)
    kept = [{"reason": stray.reason, "row": shortened(stray.row, _ROW_CHARS_MAX)} for stray in strays[:_ROWS_MAX]]
    found = {k: v for k, v in fields.items() if v not in ("", 0, None)} | ({"quarantined": kept} if kept else {})
    if words := belief_words(batch, evidence_of(batch), link.store.settings):
        found["believed"] = words
    return {"sort": "batch", **found, "segment_ids": segments}


async def _why(link: Link, why: Hold) -> dict[str, Any]:
    """As ``batches`` has it."""
    if not why.text:
        return {}
    return {"held_reason": why.text, "held_age_s": _age_s(why.since_ms, await link.store.server_now_ms())}


async def _run(link: Link, name: str) -> dict[str, Any]:
    record = await link.store.run_record(link.account, name)
    assert record is not None  # noqa: S101 - it was just found
    fields = msgspec.structs.asdict(record)
    command = msgspec.json.decode(fields.pop("command") or b"{}")
    del fields["settings"]
    return {
        "sort": "run",
        "name": name,
        "account": link.account,
        **fields,
        **{f"command.{k}": v for k, v in command.items()},
    }


async def _prompt(link: Link, key: str) -> dict[str, Any]:
    segment, index = split_key(key)
    (meta,) = await link.store.segment_metas([segment])
    if meta is None or index >= meta.count:
        raise ConfigError(f"{key} is not known (any more)")
    settled, _ = await link.store.bitmaps([segment], [])
    done = is_settled(settled[segment], index)
    found: dict[str, Any] = {"sort": "prompt", "key": key, "lane": str(meta.lane), "batch": meta.batch, "settled": done}
    if not done:
        place = await link.store.place(segment, index)
        why = Hold(place.held_cause, place.held_reason, place.held_since)
        found |= {"held_cause": why.cause} | await _why(link, why) if why.text else {}
    (body,) = await link.store.bodies([segment])
    store = link.store
    if body is not None:
        lines = store.unreadable.read(
            f"body of segment {segment}", partial(codec.expand, bytes_max=meta.raw_bytes), body
        )
        found["request"] = _row(lines or b"", key, "request")
    if done:
        (blobs,) = await link.store.outcomes([(segment, 0)], _BLOBS_MAX)
        for number, blob in enumerate(blobs):
            lines = store.unreadable.read(f"outcome {number} of segment {segment}", codec.expand, blob)
            row = _row(lines or b"", key, "")
            if row:
                found["outcome"] = row
    return found


def _row(lines: bytes, key: str, field: str) -> Any:
    mark = msgspec.json.encode(key)
    for line in lines.split(b"\n"):
        if mark in line:
            try:
                row = msgspec.json.decode(line)
            except (ValueError, RecursionError) as error:
                return f"it cannot be read: {error}"
            if row["key"] == key:
                return row[field] if field else {name: value for name, value in row.items() if name != "key"}
    return None


def show_fields(console: Console, fields: dict[str, Any]) -> None:
    """For a person: one field a line, foreign text without control characters."""
    table = Table(show_header=False, box=None)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    if "held_reason" in fields:
        why = held(fields["held_reason"], fields.get("held_age_s"))
        fields = {name: value for name, value in fields.items() if name != "held_age_s"} | {"held_reason": why}
    for name, value in fields.items():
        text = value if isinstance(value, str) else _said(name, value)
        table.add_row(name, plain(shortened(text, _TEXT_CHARS_MAX)))
    console.print(table)


def _said(name: str, value: Any) -> str:
    """A value as JSON; a time (ms) as one that a person can read."""
    if isinstance(value, int) and value > _FIRST_TIME_MS and name.endswith(("_at", "_since")):
        return f"{datetime.fromtimestamp(value / 1000).astimezone():%Y-%m-%d %H:%M:%S %Z}"
    return msgspec.json.encode(value).decode()
