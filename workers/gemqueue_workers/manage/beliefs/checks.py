"""What ``gemqueue doctor`` says of beliefs: the setting, what is waited for, what was given up or is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gemqueue.policy.beliefs import evidence_of
from gemqueue.policy.believed import belief_words
from gemqueue_workers.manage.status import read_unknown, unknown_words
from gemqueue_workers.screen import counted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from gemqueue.config import Settings
    from gemqueue.store.store import Store

BELIEF_S_MIN: Final = 3600.0
_SHOWN_MAX: Final = 5
_COUNTED: Final = {
    "bought_again": "prompts were given back or asked again on what the provider said or kept silent about, and may be "
    "bought again",
    "concluded_by_age": "beliefs ended only because nothing could be left at the provider",
}
_SHORT: Final = (
    "belief_s = {:g}: results that the service denies for longer than that are given up, and bought again; "
    "it keeps them for two days: {:g} or more is safer (default 21600)"
)

Said = tuple[str, str]
"""A finding's state and words, without its title."""


async def believing(store: Store, settings: Settings, counts: Mapping[str, int]) -> AsyncGenerator[Said]:
    """Every finding."""
    if settings.belief_s < BELIEF_S_MIN and not settings.emulate:
        yield "warning", _SHORT.format(settings.belief_s, BELIEF_S_MIN)
    batches = await store.believed()
    for batch in batches[:_SHOWN_MAX]:
        yield "ok", belief_words(batch, evidence_of(batch), settings)
    if len(batches) > _SHOWN_MAX:
        more = len(batches) - _SHOWN_MAX
        yield "ok", f"{counted(more, 'batch more is', 'batches more are')} under a belief (gemqueue belief show)"
    for name, words in _COUNTED.items():
        if n := counts.get(name, 0):
            yield "warning", f"{n:,} {words} ({name}; the log says of which batch: belief.concluded)"
    if not batches:
        yield "ok", "nothing is being believed of any batch"


async def unknown(store: Store, now_ms: int) -> AsyncGenerator[Said]:
    """The jobs of ours that no record knows."""
    accounts = sorted({lane.lane.account for lane in await store.lanes()})
    jobs = await read_unknown(store, accounts, now_ms)
    for job in jobs[:_SHOWN_MAX]:
        yield "warning", unknown_words(job)
    if len(jobs) > _SHOWN_MAX:
        yield "warning", f"{counted(len(jobs) - _SHOWN_MAX, 'such job', 'such jobs')} more"
    if not jobs:
        yield "ok", "none that no record knows"
