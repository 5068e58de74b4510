"""The judge: what clients were told and what the provider sold, held against the four promises. A pure function.

It does not know how the queue works. It sees the clients' histories, the ledger of the emulator, which keeps book of
every row that it answered, and the function by which the emulator answers.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tests.proofs.soak.history import Event

_SHOWN_MAX = 20


class Verdict(msgspec.Struct):
    """Counts of what was asked and told, and of each broken promise; ``complaints`` says the first in words."""

    invoked: int = 0
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    answered: int = 0
    cancelled: int = 0
    failed: int = 0
    lost: int = 0
    hung: int = 0
    wrong: int = 0
    bought_twice: int = 0
    bought_again: int = 0
    """Counted by the queue itself where ``bought_twice`` is 0."""
    taken_twice: int = 0
    complaints: list[str] = []

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return not (self.failed or self.lost or self.hung or self.wrong or self.bought_twice or self.taken_twice)


class _Op(msgspec.Struct):
    """All that a history says of one prompt."""

    prompt: str = ""
    name: str = ""
    invokes: int = 0
    answers_to_invokes: int = 0
    keys: set[str] = msgspec.field(default_factory=set[str])
    outcomes: set[tuple[str, str]] = msgspec.field(default_factory=set[tuple[str, str]])
    refused: int = 0
    cancels: int = 0
    hung: bool = False


def check(
    histories: Mapping[str, Iterable[Event]],
    *,
    bought_twice: Sequence[str],
    accepted: int,
    expected: Callable[[str], str],
    bought_again: int = 0,
    counted: int = 0,
) -> Verdict:
    """Judge finished histories, by client.

    ``bought_twice`` is the provider's own list of keys that were answered in more than one job, ``bought_again`` how
    often that happened in all, ``accepted`` how many prompts the queue says that it took, ``expected`` the one right
    answer to a prompt. Where the provider lies, the queue may have bought again, but no more than it has ``counted``.
    """
    verdict = Verdict()
    owners: dict[str, set[str]] = defaultdict(set)
    at_most = 0
    for client, events in histories.items():
        for number, op in _ops(events).items():
            _judge(verdict, f"{client}:{number}", op, expected)
            for key in op.keys:
                owners[key].add(op.prompt)
            at_most += len(op.keys) + (0 if op.name and op.keys else op.invokes - op.answers_to_invokes)
    for key, prompts in owners.items():
        if len(prompts) > 1:
            _complain(verdict, "wrong", f"the key {key} was given to {len(prompts)} prompts")
    verdict.bought_again = max(bought_again, len(bought_twice))
    for key in bought_twice if verdict.bought_again > counted else ():
        _complain(verdict, "bought_twice", f"{key} was answered in more than one job")
    if not len(owners) <= accepted <= at_most:
        _complain(
            verdict,
            "taken_twice",
            f"the queue took {accepted} prompts; clients were told of {len(owners)} and can have caused {at_most}",
        )
    return verdict


def _ops(events: Iterable[Event]) -> dict[int, _Op]:
    ops: dict[int, _Op] = defaultdict(_Op)
    for event in events:
        op = ops[event.op]
        if event.what == "invoke":
            op.prompt, op.name = event.prompt, event.name
            op.invokes += 1
        elif event.what == "ok":
            op.keys.add(event.key)
            op.answers_to_invokes += 1
        elif event.what == "failed":
            op.refused += 1
            op.answers_to_invokes += 1
        elif event.what == "outcome":
            op.outcomes.add((event.kind, event.text if event.kind == "answered" else ""))
            if event.key:
                op.keys.add(event.key)
        elif event.what == "cancel":
            op.cancels += 1
        elif event.what == "hung":
            op.hung = True
    return ops


def _judge(verdict: Verdict, who: str, op: _Op, expected: Callable[[str], str]) -> None:
    verdict.invoked += 1
    verdict.acknowledged += bool(op.keys)
    verdict.refused += bool(op.refused and not op.keys)
    verdict.unknown += not op.keys and op.invokes > op.answers_to_invokes
    if not op.invokes:
        _complain(verdict, "wrong", f"{who} was answered and never asked")
    if op.hung:
        _complain(verdict, "hung", f"{who} never ended")
    elif op.keys and not op.outcomes:
        _complain(verdict, "lost", f"{who} was acknowledged and came to nothing")
    if op.name and len(op.keys) > 1:
        _complain(verdict, "taken_twice", f"{who} got {len(op.keys)} keys under one name")
    if len(op.outcomes) > 1:
        _complain(verdict, "wrong", f"{who} came to {len(op.outcomes)} different ends")
    for kind, text in op.outcomes:
        if kind == "answered":
            verdict.answered += 1
            if text != expected(op.prompt):
                _complain(verdict, "wrong", f"{who} got another prompt's answer")
        elif kind == "cancelled" and op.cancels:
            verdict.cancelled += 1
        else:
            _complain(verdict, "failed", f"{who} failed as {kind}")


def _complain(verdict: Verdict, what: str, why: str) -> None:
    setattr(verdict, what, getattr(verdict, what) + 1)
    if len(verdict.complaints) < _SHOWN_MAX:
        verdict.complaints.append(f"{what}: {why}")
