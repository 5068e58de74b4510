"""``gemqueue cancel`` and ``gemqueue purge``."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue import codec
from gemqueue.config import api_key_from_env
from gemqueue.errors import ConfigError, ProviderError
from gemqueue.models import split_key
from gemqueue.outcomes import cancelled_line
from gemqueue.states import BatchState
from gemqueue_workers.manage.finding import find, keys_in, segments_of
from gemqueue_workers.settings import make_provider

if TYPE_CHECKING:
    from gemqueue.models import Batch
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


class Purged(msgspec.Struct, kw_only=True):
    """What is gone: segments with their outcomes here, jobs and files at the provider."""

    segments: int = 0
    jobs: int = 0
    files: int = 0


async def purge(link: Link, name: str, run: str) -> Purged:
    """Forget a finished run, or a prompt that travelled alone, here and at the provider.

    Raises ConfigError while any of it is under way, or when others would go with it.
    """
    if run:
        segments = await segments_of(link, run)
    else:
        thing = await find(link, name)
        if thing.sort != "key":
            raise ConfigError(f"{name!r} is a {thing.sort}; purge takes a prompt's NAME, or --run RUN")
        segments = [split_key(thing.id)[0]]
        (meta,) = await link.store.segment_metas(segments)
        if meta is not None and meta.count > 1:
            raise ConfigError(
                f"{name!r} was written together with {meta.count - 1} other prompts and goes with them, "
                "after keep_outcome_s; a run of its own can be purged (--run)"
            )
    ids = {meta.batch for meta in await link.store.segment_metas(segments) if meta is not None and meta.batch}
    batches = [batch for id_ in sorted(ids) if (batch := await link.store.batch(id_)) is not None]
    purged = Purged(segments=await link.store.purge(link.account, run, segments))
    await _forget(link, [batch for batch in batches if batch.state is BatchState.CLOSED], purged)
    return purged


async def _forget(link: Link, batches: list[Batch], purged: Purged) -> None:
    """Jobs and files of closed batches; what is gone already is no error."""
    settings = link.store.settings
    if not batches or (settings.emulate and not settings.base_url):
        return
    provider = make_provider(settings, api_key_from_env())
    try:
        for batch in batches:
            for file in (batch.input_file, batch.output_file):
                if file:
                    with suppress(ProviderError):
                        await provider.delete_file(file)
                        purged.files += 1
            if batch.job:
                with suppress(ProviderError):
                    await provider.delete_job(batch.job)
                    purged.jobs += 1
    finally:
        await provider.aclose()
