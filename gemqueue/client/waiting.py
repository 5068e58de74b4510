"""A sign of life: whoever waits at a terminal is told once what for.

A batch takes minutes to hours, and a program that awaits an answer is silent all the while. Once somebody has waited
for ``_PATIENCE_S``, standard error gets two lines, if it is a terminal: how many prompts, where they are, when they are
expected, and that nobody has to stay. Then the task of it has ended. What is silenced in ``logging`` as
``gemqueue.waiting`` is not said.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from gemqueue.client.looks import PromptState
from gemqueue.errors import GemqueueError
from gemqueue.policy.workers import why_unserved
from gemqueue.tasks import end_tasks, ending

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gemqueue.client.listener import Listener
    from gemqueue.client.looks import Looks
    from gemqueue.client.tickets import Segment
    from gemqueue.store.producer import ProducerStore

log = logging.getLogger("gemqueue.waiting")

_PATIENCE_S = 3.0
_LOOK_S = 0.25
_SEGMENTS_MAX = 16
"""Of so many segments it is looked up where they are; of the others it is only said that they wait too."""
_ON_THE_WAY = "on their way"
_NOT_TAKEN = "not taken by the server yet"
_WHERE = {
    PromptState.BUFFERED: _NOT_TAKEN,
    PromptState.PENDING: "waiting to be packed",
    PromptState.PACKING: "being packed",
    PromptState.SEALED: "packed, waiting to be sent",
    PromptState.SUBMITTING: "being sent",
    PromptState.SUBMITTED: "at the provider",
    PromptState.ENDED: "back from the provider, being read",
}
_FIND = "kept whatever becomes of this program: queue.lookup(name) or queue.future(key) finds"
_KEPT = f"They are {_FIND} their answers."
_KEPT_ONE = f"It is {_FIND} its answer."
_KEPT_IN_PART = f"What the server has taken is {_FIND} its answers."


class Seen(NamedTuple):
    """Where some prompts are: in words, since when (ms) where that says something, and when they are expected."""

    prompts: int
    where: str
    since_ms: int = 0
    eta: datetime | None = None


class SignOfLife:
    """Says it once for a ``Queue``; costs nothing where standard error is no terminal."""

    def __init__(self, store: ProducerStore, listener: Listener, looks: Looks) -> None:
        self._store = store
        self._listener = listener
        self._looks = looks
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Wait for somebody who waits for long, if there is a terminal to tell it."""
        if _is_terminal() and log.isEnabledFor(logging.WARNING):
            self._task = asyncio.create_task(self._run(), name="gemqueue-sign-of-life")

    async def stop(self) -> None:
        """Say nothing any more."""
        if self._task is not None:
            await end_tasks([self._task])

    async def _run(self) -> None:
        since, segment = 0.0, None
        while not ending():
            await asyncio.sleep(_LOOK_S)
            now = time.monotonic()
            if segment is None or self._listener.waited.get(segment.id) is not segment:
                segment, since = next(iter(self._listener.waited.values()), None), now
            elif now - since >= _PATIENCE_S - _LOOK_S:
                break
        if log.isEnabledFor(logging.WARNING):
            said = await self._said()
            print(said, file=sys.stderr, flush=True)  # noqa: T201 - to the person, whatever becomes of the log

    async def _said(self) -> str:
        waited = list(self._listener.waited.values())
        account = self._listener.account
        try:
            has_worker = not why_unserved(await self._store.workers(), account, self._store.settings)
            seen = [await self._seen(segment) for segment in waited[:_SEGMENTS_MAX]]
        except GemqueueError as error:
            return f"gemqueue: {_count(sum(map(_waiting, waited)))} for answers; {error}\n{_KEPT_IN_PART}"
        seen += [Seen(_waiting(one), _ON_THE_WAY if one.live else _NOT_TAKEN) for one in waited[_SEGMENTS_MAX:]]
        return words(seen, has_worker=has_worker, emulated=account.startswith("emulated."), now=datetime.now(UTC))

    async def _seen(self, segment: Segment) -> Seen:
        """Where a segment's prompts are, which is where one of those is that somebody waits for."""
        n = _waiting(segment)
        if not segment.live:
            return Seen(n, _NOT_TAKEN)
        place, look = await self._looks.look_at(segment.id, next(_indices(segment), 0))
        if look.held_reason:
            return Seen(n, f"held ({look.held_reason})", place.held_since)
        since_ms = place.accepted_at if look.state is PromptState.SUBMITTED else 0
        return Seen(n, _WHERE.get(look.state, _ON_THE_WAY), since_ms, look.eta)


def words(seen: Iterable[Seen], *, has_worker: bool, emulated: bool, now: datetime) -> str:
    """The two lines, from what was seen."""
    counts: Counter[str] = Counter()
    since: dict[str, int] = {}
    etas: list[datetime] = []
    for one in seen:
        counts[one.where] += one.prompts
        if one.since_ms:
            since[one.where] = min(one.since_ms, since.get(one.where, one.since_ms))
        if one.eta is not None:
            etas.append(one.eta)
    parts = [
        f"{n:,} {where}{f' since {_clock(datetime.fromtimestamp(since[where] / 1000, UTC))}' if where in since else ''}"
        for where, n in counts.most_common()
    ]
    total = counts.total()
    places = parts[0].partition(" ")[2] if len(parts) == 1 else ", ".join(parts)
    expected = _expected(etas, emulated=emulated, now=now) if has_worker else "no worker runs: start `gemqueue work`"
    kept = _KEPT_IN_PART if _NOT_TAKEN in counts else _KEPT_ONE if total == 1 else _KEPT
    return f"gemqueue: {_count(total)} for {'its answer' if total == 1 else 'answers'}: {places}; {expected}.\n{kept}"


def _expected(etas: list[datetime], *, emulated: bool, now: datetime) -> str:
    if not etas:
        return "it is not known yet how long such jobs take" + ("" if emulated else ", at Google minutes to hours")
    left_s = max(0.0, (max(etas) - now).total_seconds())
    if left_s < 90:
        return f"the last one is expected in about {max(1, round(left_s))} s"
    return f"the last one is expected at about {_clock(max(etas))}"


def _clock(moment: datetime) -> str:
    local = moment.astimezone()
    return local.strftime("%H:%M" if local.date() == datetime.now().astimezone().date() else "%a %H:%M")


def _count(n: int) -> str:
    return "1 prompt waits" if n == 1 else f"{n:,} prompts wait"


def _waiting(segment: Segment) -> int:
    return len(segment.tickets) + sum(span.left for span in segment.spans)


def _indices(segment: Segment) -> Iterator[int]:
    yield from islice(segment.tickets, 1)
    for span in segment.spans:
        yield from (index for index in range(span.start, span.stop) if not segment.routed[index])


def _is_terminal() -> bool:
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False
