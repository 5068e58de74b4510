"""``gemqueue cancel``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.ids import split_key
from gemqueue.language.lines import cancelled_line
from gemqueue.store import codec
from gemqueue_workers.manage.find import find, keys_in, segments_of

if TYPE_CHECKING:
    from gemqueue_workers.run.connection import Link

_AT_A_TIME: Final = 64
_GROUP: Final = 100
TOO_LATE: Final = ("settled", "unknown")


class Cancelled(msgspec.Struct, kw_only=True):
    """How many prompts were given up, by where they were; ``too_late`` had their outcome already."""

    cancelled: int = 0
    too_late: int = 0
    where: dict[str, int] = {}


async def cancel(link: Link, word: str, run: str) -> Cancelled:
    """Cancel a prompt, a batch's prompts or a run's. Raises ConfigError."""
    found = Cancelled(where={})
    if run or (await find(link, word)).sort == "run":
        segments = await segments_of(link, run or word)
        for start in range(0, len(segments), _GROUP):
            await _cancel(link, await keys_in(link, segments[start : start + _GROUP]), found)
        return found
    thing = await find(link, word)
    keys = [thing.id] if thing.sort == "key" else await keys_in(link, await link.store.manifest(thing.id))
    await _cancel(link, keys, found)
    return found


async def _cancel(link: Link, keys: list[str], found: Cancelled) -> None:
    for start in range(0, len(keys), _AT_A_TIME):
        part = keys[start : start + _AT_A_TIME]
        for word in await asyncio.gather(*(_cancel_one(link, key) for key in part)):
            if word in TOO_LATE:
                found.too_late += 1
            else:
                found.cancelled += 1
                found.where[word] = found.where.get(word, 0) + 1


async def _cancel_one(link: Link, key: str) -> str:
    segment, index = split_key(key)
    return await link.store.cancel(segment, index, codec.compress(cancelled_line(key)))
