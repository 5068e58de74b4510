"""What a word on the command line means: a batch, a prompt's key, a run, a row of a run, or a prompt's name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from gemqueue.errors import ConfigError
from gemqueue.ids import split_key
from gemqueue.states import SegmentState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from gemqueue.store.runs import RunEntry
    from gemqueue_workers.run.connection import Link

_BATCH: Final = re.compile(r"[0-9a-f]{2}b[0-9a-f]{20}(-\w+)?")
_KEY: Final = re.compile(r"[0-9a-f]{22}\.\d+")


class Found(NamedTuple):
    """The thing: its sort (batch, key, run), and its id."""

    sort: str
    id: str


async def find(link: Link, word: str) -> Found:
    """What the word names on this account. Raises ConfigError when nothing."""
    if _BATCH.fullmatch(word):
        return Found("batch", word)
    if _KEY.fullmatch(word):
        return Found("key", word)
    if await link.store.run_record(link.account, word) is not None:
        return Found("run", word)
    named = await link.store.named(link.account, word)
    if named is not None:
        return Found("key", named[0])
    run, slash, row = word.partition("/")
    if slash and await link.store.run_record(link.account, run) is not None:
        async for entry in entries(link, run):
            if entry.segment and row in entry.keys:
                return Found("key", f"{entry.segment}.{entry.keys.index(row)}")
    raise ConfigError(
        f"{word!r} is no batch, key, run, RUN/KEY or name that is known on the account {link.account} "
        "(outcomes and names are kept for keep_outcome_s)"
    )


async def entries(link: Link, run: str) -> AsyncGenerator[RunEntry]:
    """A run's entries, the last one first. Raises ConfigError when there is no such run."""
    record = await link.store.run_record(link.account, run)
    if record is None:
        known = ", ".join(await link.store.run_names(link.account)) or "none"
        raise ConfigError(f"no run {run!r} is known on the account {link.account}; known: {known}")
    for stop in range(record.entries, 0, -32):
        for entry in reversed(await link.store.run_entries(link.account, run, max(0, stop - 32), stop)):
            yield entry


async def segments_of(link: Link, run: str) -> list[str]:
    """The ids of a run's segments."""
    return [entry.segment async for entry in entries(link, run) if entry.segment]


async def keys_in(link: Link, segments: list[str]) -> list[str]:
    """The keys in these segments that have no outcome yet."""
    keys: list[str] = []
    for meta in await link.store.segment_metas(segments):
        if meta is None or meta.state is not SegmentState.LIVE:
            continue
        of_meta = [meta.key_of(index) for index in range(meta.count)]
        settled, _ = await link.store.bitmaps({split_key(key)[0] for key in of_meta}, [])
        for key in of_meta:
            segment, index = split_key(key)
            if not is_settled(settled[segment], index):
                keys.append(key)
    return keys


def is_settled(bits: bytes, index: int) -> bool:
    """Whether the prompt at ``index`` has its outcome."""
    return index // 8 < len(bits) and bool(bits[index // 8] & (0x80 >> index % 8))
