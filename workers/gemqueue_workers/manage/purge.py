"""``gemqueue admin purge``: what is finished is deleted, first at the provider and then here, and can be asked again.

A run goes with its segments and its record. A single prompt goes out of the values that it shares with others: its
outcome becomes one that says so, its name is free, and its request leaves the segments that still have it. A job at
the provider can only go as a whole, when nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.accounts import api_key_from_env
from gemqueue.errors import ConfigError
from gemqueue.ids import split_key
from gemqueue.language.lines import purged_line
from gemqueue.states import BatchState, SegmentState
from gemqueue_workers.manage.find import find, is_settled, segments_of
from gemqueue_workers.settings import make_provider

if TYPE_CHECKING:
    from gemqueue.provider import Provider
    from gemqueue.records import Batch, SegmentMeta
    from gemqueue_workers.run.connection import Link

_GROUP: Final = 500
_CLOSING_S_MAX: Final = 20.0
_POLL_S: Final = 0.1
_UPLOADING: Final = frozenset({BatchState.SEALED, BatchState.SUBMITTING})


class Purged(msgspec.Struct, kw_only=True):
    """What is gone: prompts here, jobs and files at the provider; ``left`` batches have others who wait for them."""

    prompts: int = 0
    jobs: int = 0
    files: int = 0
    key: str = ""
    left: list[str] = []


async def purge(link: Link, name: str, run: str) -> Purged:
    """Forget a finished run or prompt, here and at the provider. Raises ConfigError while it is under way.

    What the provider refuses or cannot do is raised before anything is purged here.
    """
    if run:
        return await _purge_run(link, run)
    thing = await find(link, name)
    if thing.sort != "key":
        raise ConfigError(f"{name!r} is a {thing.sort}; purge takes a prompt's NAME or KEY, or --run RUN")
    return await _purge_prompt(link, thing.id)


async def _purge_run(link: Link, run: str) -> Purged:
    ids = await segments_of(link, run)
    metas = await _metas(link, ids)
    live = next((meta for meta in metas if meta.state is SegmentState.LIVE), None)
    if live is not None:
        raise ConfigError(f"run {run!r} is still under way (segment {live.id}): cancel it first, or wait for its end")
    batches, _ = await _travelled(link, {meta.id for meta in metas}, {meta.batch for meta in metas})
    for batch in batches:
        await _wait_until_closed(link, batch)
    purged = Purged(prompts=sum(meta.count for meta in metas))
    await _forget(link, batches, purged)
    ours = set(ids)
    await link.store.purge_streams(lambda key: key.rpartition(".")[0] in ours, {batch.id for batch in batches})
    await link.store.purge(link.account, run, ids)
    return purged


async def _purge_prompt(link: Link, key: str) -> Purged:
    store, (segment, index) = link.store, split_key(key)
    metas = await _metas(link, [segment])
    if not metas or index >= metas[0].count:
        raise ConfigError(f"{key} is not known (any more): there is nothing to purge")
    settled, _ = await store.bitmaps([segment], [])
    if not is_settled(settled[segment], index):
        raise ConfigError(f"{key} is still under way: cancel it first, or wait for its end")
    batches, holders = await _travelled(link, {segment}, {metas[0].batch}, key)
    bodies = [meta for meta in (*metas, *holders) if meta.state is SegmentState.LIVE]
    uploading = {batch.id for batch in batches if batch.state in _UPLOADING}
    if any(meta.batch in uploading for meta in bodies):
        raise ConfigError(f"{key} lies in a segment that is being uploaded: repeat the command in a moment")
    purged = Purged(prompts=1, key=key, left=[batch.id for batch in batches if batch.state is not BatchState.CLOSED])
    await _forget(link, [batch for batch in batches if batch.state is BatchState.CLOSED], purged)
    for meta in bodies:
        await store.purge_body_line(meta, key, b'{"key":"%b","request":{}}' % key.encode())
    await store.purge_streams(lambda other: other == key, {batch.id for batch in batches})
    await store.forget_name(link.account, segment, key)
    await store.purge_outcome_line(segment, key, purged_line(key))
    return purged


async def _metas(link: Link, ids: list[str]) -> list[SegmentMeta]:
    found: list[SegmentMeta] = []
    for start in range(0, len(ids), _GROUP):
        metas = await link.store.segment_metas(ids[start : start + _GROUP])
        found += [meta for meta in metas if meta is not None]
    return found


async def _travelled(
    link: Link, origins: set[str], batches: set[str], key: str = ""
) -> tuple[list[Batch], list[SegmentMeta]]:
    """Every batch that the prompts of these segments (or that of ``key``) were in, and the retry segments of them."""
    retries = [meta for meta in await _metas(link, await link.store.retry_segments()) if _holds(meta, origins, key)]
    ids = {batch for batch in batches if batch} | {meta.batch for meta in retries if meta.batch}
    ids |= {meta.id.rpartition("r")[0] for meta in retries}
    found = [await link.store.batch(id_) for id_ in sorted(ids)]
    return [batch for batch in found if batch is not None], retries


def _holds(meta: SegmentMeta, origins: set[str], key: str) -> bool:
    return key in meta.keys if key else any(split_key(each)[0] in origins for each in meta.keys)


async def _wait_until_closed(link: Link, batch: Batch) -> None:
    """A batch whose last answer has just landed is closed within moments. Raises ConfigError for one that is not."""
    deadline = asyncio.get_running_loop().time() + _CLOSING_S_MAX
    found: Batch | None = batch
    while found is not None and found.state is not BatchState.CLOSED:
        ending = found.state in {BatchState.ENDED, BatchState.CLOSING}
        if not ending or asyncio.get_running_loop().time() > deadline:
            raise ConfigError(
                f"batch {batch.id} is still {found.state}: its job cannot be deleted before it has ended. "
                "Nothing was purged; repeat the command later"
            )
        await asyncio.sleep(_POLL_S)
        found = await link.store.batch(batch.id)


async def _forget(link: Link, batches: list[Batch], purged: Purged) -> None:
    """Jobs and files of closed batches; what is gone already is no error.

    Those of another account of the pool are not there for this key, which says nothing: they are left, and whose they
    are is said before anything is purged here. Raises ProviderError, ConfigError.
    """
    if not any(map(_is_there, batches)):
        return
    provider = make_provider(await link.provider_settings(), api_key_from_env())
    try:
        others: set[str] = set()
        for batch in batches:
            account = batch.lane.account
            if account == provider.account or not _is_there(batch):
                await _delete(provider, batch, purged)
                await link.store.scrub_batch(batch.id)
            elif batch.operation:  # else its own key has scrubbed it
                others.add(account)
    finally:
        await provider.aclose()
    if others:
        raise ConfigError(
            f"jobs and files of the account {', '.join(sorted(others))} go only with its own key: repeat "
            "the command with that account's GEMQUEUE_ACCOUNT and key. Nothing was purged here yet"
        )


def _is_there(batch: Batch) -> bool:
    """Whether the provider has, or had, something of it."""
    return bool(batch.job or batch.input_file or batch.output_file)


async def _delete(provider: Provider, batch: Batch, purged: Purged) -> None:
    for file in filter(None, (batch.input_file, batch.output_file)):
        await provider.delete_file(file)
        purged.files += 1
    if batch.job:
        await provider.delete_job(batch.job)
        purged.jobs += 1
