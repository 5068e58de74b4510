"""Named effects, so that a process can be made to die exactly before or after any one of them.

An effect is anything that the world can see: a write to the store, a call to the provider. Every one is wrapped as
``with effect(Effect.X):``. ``GEMQUEUE_CRASH_AT=submit.create:after:1`` ends the process, as ``kill -9`` would, right
after the first ``submit.create`` has taken effect and before anybody knows of it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

from gemqueue.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Generator

CRASH_AT_ENV = "GEMQUEUE_CRASH_AT"
CRASH_EXIT_CODE = 137


class Effect(StrEnum):
    """Every effect, as ``role.verb``: this list is the list of crash points."""

    PRODUCE_ENQUEUE = "produce.enqueue"
    """A segment is written and registered."""
    PRODUCE_DELIVER = "produce.deliver"
    """Outcomes that the caller has taken may go sooner."""
    PRODUCE_CANCEL = "produce.cancel"
    """A prompt is settled as cancelled."""
    PRODUCE_REPLAY = "produce.replay"
    """Dead letters become a live segment."""
    PACK_CLAIM = "pack.claim"
    """A lane's pack step is leased."""
    PACK_PACK = "pack.pack"
    """A slice of segments is moved into the batch; the last one seals it."""
    PACK_RELEASE = "pack.release"
    """The lane's step is put back for its next due time."""
    SUBMIT_CLAIM = "submit.claim"
    """A batch's submit step is leased."""
    SUBMIT_RESERVE = "submit.reserve"
    """Room for a job is reserved in the quota ledger, or the batch stands in line for it."""
    SUBMIT_SHRINK = "submit.shrink"
    """A create was refused for quota: a ceiling shrinks."""
    SUBMIT_SUSPEND = "submit.suspend"
    """A create or its upload was refused for want of money: the account waits."""
    SUBMIT_UPLOAD = "submit.upload"
    """The input file is at the provider; it buys nothing."""
    SUBMIT_BEGIN = "submit.begin"
    """The intent is written: token and file."""
    SUBMIT_CREATE = "submit.create"
    """The job is created at the provider: the one call that must never be doubled."""
    SUBMIT_ACCEPT = "submit.accept"
    """The job's name is recorded."""
    SUBMIT_DELETE = "submit.delete"
    """The intent's input file is deleted: from here on its create can only fail."""
    SUBMIT_FENCE = "submit.fence"
    """The fence is recorded."""
    SUBMIT_REOPEN = "submit.reopen"
    """A dead intent is cleared; the batch is sealed again."""
    SUBMIT_SPLIT = "submit.split"
    """A part of a refused batch becomes a batch of its own."""
    SUBMIT_END = "submit.end"
    """A batch that will not be submitted goes straight to its end."""
    SUBMIT_RELEASE = "submit.release"
    """The step is put back for later."""
    TRACK_CLAIM = "track.claim"
    """A batch's track step is leased."""
    TRACK_CANCEL = "track.cancel"
    """The provider is asked to cancel a job that nobody waits for."""
    TRACK_DELETE = "track.delete"
    """The input file of a running job is deleted, where that is chosen, or that of one that failed for want of it."""
    TRACK_RESTART = "track.restart"
    """A batch whose job missed its input file is sealed again."""
    TRACK_END = "track.end"
    """The job's end is recorded."""
    TRACK_RELEASE = "track.release"
    """The step is put back for the next look."""
    RESOLVE_CLAIM = "resolve.claim"
    """A batch's resolve step is leased."""
    RESOLVE_ASK = "resolve.ask"
    """A prompt of an interactive lane is answered at once, and paid for; the answer is not settled yet."""
    RESOLVE_SETTLE = "resolve.settle"
    """Outcomes land: blobs, bits, counts, notices."""
    RESOLVE_REQUEUE = "resolve.requeue"
    """Rows go on into a retry segment."""
    RESOLVE_QUARANTINE = "resolve.quarantine"
    """Rows that belong to nobody are kept with their bytes."""
    RESOLVE_DELETE = "resolve.delete"
    """The input file of an ended job is deleted."""
    RESOLVE_CLOSE = "resolve.close"
    """A slice of the batch is checked and cleaned; the last one closes it."""
    RESOLVE_FORGET = "resolve.forget"
    """Results and job are deleted at the provider."""
    RESOLVE_RELEASE = "resolve.release"
    """The step is put back for later."""
    SERVE_ANNOUNCE = "serve.announce"
    """A webhook's event is heard: its batch's next look is due."""
    RECONCILE_CLAIM = "reconcile.claim"
    """The submit step of a batch that waits for a listed job is leased."""
    RECONCILE_ADOPT = "reconcile.adopt"
    """A listed job's name is recorded."""
    RECONCILE_REBUILD = "reconcile.rebuild"
    """A lost batch's record is made anew."""
    RECONCILE_RESUME = "reconcile.resume"
    """The pause after a change of the server ends, or is given a reason."""
    RECONCILE_CANCEL = "reconcile.cancel"
    """A job that no record claims is cancelled, because a person asked for it."""
    RECONCILE_DELETE = "reconcile.delete"
    """A stray input file is deleted, because a person asked for it."""
    RETURN_CLAIM = "return.claim"
    """A step of a batch is leased, because a person gives the batch back to its pool."""
    RETURN_END = "return.end"
    """The batch will not be submitted."""
    RETURN_CLOSE = "return.close"
    """A slice of its segments waits in the pool again."""
    DECIDE_CLAIM = "decide.claim"
    """A step of a batch is leased, because a person knows better than what is believed of it."""
    DECIDE_DECIDE = "decide.decide"
    """What that person says is recorded, and the step is due."""
    RESCUE_CLAIM = "rescue.claim"
    """A lane's rescue step is leased."""
    RESCUE_DIVERT = "rescue.divert"
    """A waiting segment goes over to an interactive lane."""
    RESCUE_RESCUE = "rescue.rescue"
    """Lines of an open batch go on in an interactive lane."""
    RESCUE_RELEASE = "rescue.release"
    """It is recorded when to look again."""


_hits: dict[str, int] = {}


def _parse(text: str) -> tuple[str, str, int] | None:
    if not text:
        return None
    name, _, rest = text.partition(":")
    when, _, nth = rest.partition(":")
    nth = nth or "1"
    if name not in set(Effect) or when not in {"before", "after"} or not nth.isdecimal() or not int(nth):
        raise ConfigError(f"{CRASH_AT_ENV}: expected <effect>:<before|after>:<nth>, effects: {', '.join(Effect)}")
    return name, when, int(nth)


_crash_at = _parse(os.environ.get(CRASH_AT_ENV, ""))


@contextmanager
def effect(name: Effect) -> Generator[None]:
    """Mark the body as the effect ``name``; die here if ``GEMQUEUE_CRASH_AT`` says so."""
    if _crash_at is None or _crash_at[0] != name:
        yield
        return
    _hits[name] = _hits.get(name, 0) + 1
    due = _hits[name] == _crash_at[2]
    if due and _crash_at[1] == "before":
        os._exit(CRASH_EXIT_CODE)
    yield
    if due:
        os._exit(CRASH_EXIT_CODE)
