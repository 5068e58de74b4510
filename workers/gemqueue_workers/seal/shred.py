"""``gemqueue admin shred``: one tenant's data becomes unreadable, here and in every backup.

What is open fails first, so that nothing more of it is bought and late answers are dropped. Then its keys go, and what
of its prompts and answers was not sealed. That leaves the backups: they hold the tenant's keys as they were wrapped. So
the others' keys are wrapped by a new wrapping key, and the operator destroys the old one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.errors import ConfigError
from gemqueue.language.lines import failure_line
from gemqueue.sealing.wrapping import KEY_ENV, KEY_FILE_ENV, KeyTexts
from gemqueue.states import FailureKind
from gemqueue.store import codec
from gemqueue.store.seals.ring import NAMES, QUEUE
from gemqueue_workers.manage.find import is_settled

if TYPE_CHECKING:
    from collections.abc import Callable

    from gemqueue.store.purge import Owned
    from gemqueue_workers.run.connection import Link

_WHY: Final = "its tenant's key was destroyed (gemqueue admin shred): neither the prompt nor an answer can be read"
_AT_ONCE: Final = 64


class Shredded(msgspec.Struct, frozen=True, kw_only=True):
    """What is gone: prompts that were open, outcomes that were not sealed, dead letters.

    ``destroy`` are the ids of the wrapping keys that must go for a backup to be unreadable.
    """

    tenant: str
    open_prompts: int
    plain_outcomes: int
    dead_letters: int
    rewrapped: int
    destroy: list[str]


async def check(link: Link, tenant: str, *, keep_key: bool) -> list[str]:
    """The ids of the wrapping keys that a backup may hold the tenant's keys under. Raises ConfigError, SealError."""
    seals = link.store.seals
    await seals.begin()
    if not seals.on:
        raise ConfigError("this queue is not sealed, so there is no key to destroy: `gemqueue admin purge` deletes")
    found = await seals.generations(tenant)
    if tenant in {NAMES, QUEUE} or not (found.wrapped or found.shredded):
        raise ConfigError(f"tenant {tenant!r} has no key in this queue: nothing that it holds is sealed for it")
    by = seals.wrappers_of(found)
    if not keep_key and isinstance(seals.wrapper, KeyTexts) and seals.wrapper.ids[0] in by:
        raise ConfigError(
            f"a backup of this server holds the keys of {tenant}, wrapped by {', '.join(by)}, so that key has to go: "
            f"put the line of a new one (`gemqueue admin seal key`) first into {KEY_FILE_ENV} or {KEY_ENV} of every "
            "process, and repeat this; --keep-key leaves the backups readable"
        )
    return by


async def shred(link: Link, tenant: str, *, keep_key: bool) -> Shredded:
    """Destroy what there is of the tenant. Raises ConfigError, SealError; then nothing was destroyed."""
    store, seals = link.store, link.store.seals
    by = await check(link, tenant, keep_key=keep_key)
    open_prompts = await _fail_open(link, tenant, lambda _: True)
    await seals.shred(tenant)
    last = (await seals.generations(tenant)).shredded
    open_prompts += await _fail_open(link, tenant, lambda segment: 0 < segment.generation <= last)
    await seals.shred(QUEUE)
    await store.drop_quarantine()
    letters = await store.purge_dead_of(tenant)
    plain = 0
    async for segment in store.segments_of_tenant(tenant):
        plain += await store.blank_plain_outcomes(segment.id, _line)
    rewrapped = 0 if keep_key else sum([await seals.rewrap(other) for other in await seals.tenants()])
    return Shredded(
        tenant=tenant,
        open_prompts=open_prompts,
        plain_outcomes=plain,
        dead_letters=letters,
        rewrapped=rewrapped,
        destroy=by,
    )


def _line(key: str) -> bytes:
    return failure_line(key, FailureKind.LOST, _WHY)


async def _fail_open(link: Link, tenant: str, chosen: Callable[[Owned], bool]) -> int:
    """Settle the tenant's open prompts as failed, wherever they are; how many."""
    failed = 0
    async for segment in link.store.segments_of_tenant(tenant):
        if segment.live and chosen(segment):
            bits = (await link.store.bitmaps([segment.id], []))[0][segment.id]
            left = [index for index in range(segment.prompts) if not is_settled(bits, index)]
            for start in range(0, len(left), _AT_ONCE):
                part = left[start : start + _AT_ONCE]
                words = await asyncio.gather(*[_fail(link, segment.id, index) for index in part])
                failed += sum(word not in {"settled", "unknown"} for word in words)
    return failed


async def _fail(link: Link, segment: str, index: int) -> str:
    return await link.store.cancel(segment, index, codec.compress(_line(f"{segment}.{index}")))
