"""``gemqueue belief``: what is being believed of which batch and until when, and a person's word on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from gemqueue.effects import Effect, effect
from gemqueue.errors import ConfigError, WrongState
from gemqueue.policy.beliefs import RULES, evidence_of
from gemqueue.policy.believed import GONE, belief_words, decision, given_up_ms, is_decided, utc
from gemqueue.records import Batch
from gemqueue.states import STEP_OF
from gemqueue_workers.screen import plain

if TYPE_CHECKING:
    from rich.console import Console

    from gemqueue.config import Settings
    from gemqueue.policy.beliefs import Rule
    from gemqueue.store.batches import Claim
    from gemqueue.store.store import Store
    from gemqueue_workers.run.connection import Link


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table of beliefs: what is concluded, what that costs if it is wrong, and what it takes."""

    belief: str
    concludes: str
    costs: str
    evidence: str
    pace: str
    ends: str
    setting: str


class Believed(msgspec.Struct, frozen=True, kw_only=True):
    """A batch under a belief: ``looks`` agreed until now. Times are in ms, 0 where there is none.

    ``given_up_at`` is when it is concluded if all looks to come agree, and come in time; ``decided`` says that a person
    has said that it is gone.
    """

    batch: str
    belief: str
    said: str
    state: str
    job: str
    prompts: int
    looks: int
    first_at: int
    last_at: int
    next_at: int
    given_up_at: int
    decided: bool


class Beliefs(msgspec.Struct, frozen=True, kw_only=True):
    """The table, and every open batch that is under a belief, oldest first."""

    rules: list[Row]
    batches: list[Believed]


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What a person said of what is believed of a batch: gone or wait."""

    batch: str
    belief: str
    decision: str
    prompts: int


async def beliefs(link: Link) -> Beliefs:
    """Everything that ``belief show`` shows."""
    store = link.store
    rows = [_row(belief, rule) for belief, rule in RULES.items()]
    return Beliefs(rules=rows, batches=[await _believed(store, batch) for batch in await store.believed()])


def _row(belief: str, rule: Rule) -> Row:
    fields = {name: str(value) for name, value in msgspec.structs.asdict(rule).items()}
    return Row(belief=str(belief), **fields)


async def _believed(store: Store, batch: Batch) -> Believed:
    seen, step = evidence_of(batch), STEP_OF[batch.state]
    return Believed(
        batch=batch.id,
        belief=str(seen.belief),
        said=belief_words(batch, seen, store.settings),
        state=str(batch.state),
        job=batch.job,
        prompts=batch.prompts,
        looks=seen.n,
        first_at=seen.first_at,
        last_at=seen.last_at,
        next_at=await store.due_at(step, batch.id, batch.lane.account) if step is not None else 0,
        given_up_at=given_up_ms(batch, seen, store.settings),
        decided=is_decided(batch, seen),
    )


async def decide(store: Store, id_: str, word: str) -> Decided:
    """Say of what is believed of a batch that it is gone, or that the looks begin at zero (``wait``).

    Raises ConfigError where nothing is believed of the batch, or somebody holds it.
    """
    batch = await store.batch(id_)
    if batch is None:
        raise ConfigError(f"batch {id_[:80]!r} is not known (any more): `gemqueue belief show` lists those under one")
    _must_be_believed(batch, store.settings)
    claim, now = await _claim(store, batch)
    seen = evidence_of(now)
    if not decision(seen):
        await store.release(claim, 0.0)
        _must_be_believed(now, store.settings)
    with effect(Effect.DECIDE_DECIDE):
        await store.decide(claim, decision(seen) if word == GONE else "")
    return Decided(batch=id_, belief=str(seen.belief), decision=word, prompts=now.prompts)


def _must_be_believed(batch: Batch, settings: Settings) -> None:
    if not belief_words(batch, evidence_of(batch), settings):
        raise ConfigError(
            f"batch {batch.id} is under no belief, it is {batch.state}: there is nothing to decide "
            "(`gemqueue show` says what it waits for)"
        )


async def _claim(store: Store, batch: Batch) -> tuple[Claim, Batch]:
    """Before its look is due, and also while packing and submitting wait after a change of the server."""
    step = STEP_OF[batch.state]
    taken = None
    if step is not None:
        try:
            with effect(Effect.DECIDE_CLAIM):
                taken = await store.claim(step, batch.id, batch.lane.account, held=True)
        except WrongState as error:
            raise ConfigError(str(error)) from error
    if taken is None or not isinstance(taken[1], Batch):
        raise ConfigError(f"a worker holds batch {batch.id} at the moment: repeat the command later")
    return taken[0], taken[1]


def show_beliefs(console: Console, found: Beliefs) -> None:
    """For a person: the batches, and below them the table."""
    for one in found.batches:
        console.print(Text(one.said, "yellow"), soft_wrap=True)
        looks = f"{one.looks} looks agree, the last at {utc(one.last_at)}"
        following = f", the next at {utc(one.next_at, one.last_at)}" if one.next_at else ""
        more = f"{one.prompts:,} prompts, {one.job or 'no job'}, {one.state}; {looks}{following}"
        console.print(Padding(plain(more), (0, 0, 0, 2)), soft_wrap=True)
    if not found.batches:
        console.print("Nothing is being believed of any batch.")
    table = Table("belief", "concludes", "when wrong", "takes", "ends", "setting", title="What it takes to conclude")
    for row in found.rules:
        table.add_row(row.belief, row.concludes, row.costs, f"{row.evidence}; {row.pace}", row.ends, row.setting)
    console.print(table)
