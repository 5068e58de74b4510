"""The judge objects to every kind of bad history, and to no good one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.proofs.soak.checker import Verdict, check
from tests.proofs.soak.history import Event, Log, read

if TYPE_CHECKING:
    from pathlib import Path


def expected(prompt: str) -> str:
    """The right answer."""
    return prompt.upper()


def judged(*events: Event, accepted: int = 1, bought_twice: tuple[str, ...] = ()) -> Verdict:
    """The verdict on one client."""
    return check({"p0": events}, bought_twice=bought_twice, accepted=accepted, expected=expected)


def asked(op: int = 0, prompt: str = "a", name: str = "") -> Event:
    """A prompt is submitted."""
    return Event("invoke", op, prompt=prompt, name=name)


def told(op: int = 0, key: str = "k.0") -> Event:
    """It is acknowledged."""
    return Event("ok", op, key=key)


def answered(op: int = 0, text: str = "A", key: str = "k.0") -> Event:
    """Its answer comes."""
    return Event("outcome", op, key=key, kind="answered", text=text)


def failed(kind: str, op: int = 0) -> Event:
    """It fails."""
    return Event("outcome", op, key="k.0", kind=kind, text="why")


UNKNOWN = Event("unknown", 0, kind="StoreUnavailable")

GOOD: dict[str, tuple[tuple[Event, ...], int]] = {
    "answered": ((asked(), told(), answered()), 1),
    "told twice, the same": ((asked(), told(), answered(), answered()), 1),
    "refused": ((asked(), Event("failed", 0, kind="QueueFull")), 0),
    "unknown and absent": ((asked(), UNKNOWN), 0),
    "unknown and present": ((asked(), UNKNOWN), 1),
    "killed before it was told": ((asked(),), 1),
    "a name, asked again": ((asked(name="n"), UNKNOWN, asked(name="n"), told(), answered()), 1),
    "cancelled": ((asked(), told(), Event("cancel", 0), failed("cancelled")), 1),
    "cancelled too late": ((asked(), told(), Event("cancel", 0), answered()), 1),
}
BAD: dict[str, tuple[tuple[Event, ...], int, str]] = {
    "acknowledged and lost": ((asked(), told()), 1, "lost"),
    "never ends": ((asked(), told(), Event("hung", 0)), 1, "hung"),
    "another prompt's answer": ((asked(), told(), answered(text="B")), 1, "wrong"),
    "two different answers": ((asked(), told(), answered(), answered(text="B")), 1, "wrong"),
    "an answer and a failure": ((asked(), told(), answered(), failed("cancelled")), 1, "wrong"),
    "one key for two prompts": ((asked(), told(), answered(), asked(1, "b"), told(1), answered(1, "B")), 1, "wrong"),
    "two keys for one name": (
        (asked(name="n"), told(), answered(), asked(name="n"), told(key="k.1"), answered(key="k.1")),
        2,
        "taken_twice",
    ),
    "unknown and taken twice": ((asked(), UNKNOWN), 2, "taken_twice"),
    "refused and taken all the same": ((asked(), Event("failed", 0, kind="QueueFull")), 1, "taken_twice"),
    "told and not taken": ((asked(), told(), answered()), 0, "taken_twice"),
    "failed": ((asked(), told(), failed("expired")), 1, "failed"),
    "cancelled by nobody": ((asked(), told(), failed("cancelled")), 1, "failed"),
    "an answer that nobody asked for": ((answered(),), 1, "wrong"),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_good_history_passes(case: str) -> None:
    """What may happen is not objected to."""
    events, accepted = GOOD[case]
    verdict = judged(*events, accepted=accepted)
    assert verdict.holds, verdict.complaints


@pytest.mark.parametrize("case", BAD)
def test_a_bad_history_is_objected_to(case: str) -> None:
    """What may never happen is named and counted."""
    events, accepted, what = BAD[case]
    verdict = judged(*events, accepted=accepted)
    assert not verdict.holds
    assert getattr(verdict, what) > 0
    assert verdict.complaints != []


def test_the_provider_s_ledger_is_believed() -> None:
    """A key that was answered in two jobs is objected to, whatever the clients saw."""
    verdict = judged(asked(), told(), answered(), bought_twice=("k.0",))
    assert verdict.bought_twice == 1
    assert not verdict.holds


@pytest.mark.parametrize(("again", "counted", "holds"), [(2, 2, True), (2, 3, True), (3, 2, False), (0, 0, False)])
def test_what_was_bought_again_must_have_been_counted(again: int, counted: int, holds: bool) -> None:
    """Purchases beyond the first are no objection if the queue has counted as many itself."""
    verdict = check(
        {"p0": (asked(), told(), answered())},
        bought_twice=("k.0",),
        bought_again=again,
        counted=counted,
        accepted=1,
        expected=expected,
    )
    assert (verdict.holds, verdict.bought_again) == (holds, max(again, 1))


@given(st.data())
def test_any_damage_to_a_good_run_is_noticed(data: st.DataObject) -> None:
    """Of a run of many prompts, one answer dropped, changed or given to another prompt is always seen."""
    n = data.draw(st.integers(2, 20))
    run = [[asked(op, f"p{op}"), told(op, f"k.{op}"), answered(op, f"P{op}", f"k.{op}")] for op in range(n)]
    assert judged(*(event for events in run for event in events), accepted=n).holds
    op = data.draw(st.integers(0, n - 1))
    damage = data.draw(st.sampled_from(["dropped", "changed", "exchanged"]))
    if damage == "dropped":
        run[op].pop()
    elif damage == "changed":
        run[op][2] = answered(op, "?", f"k.{op}")
    else:
        other = (op + 1) % n
        run[op][2], run[other][2] = answered(op, f"P{other}", f"k.{op}"), answered(other, f"P{op}", f"k.{other}")
    assert not judged(*(event for events in run for event in events), accepted=n).holds


def test_a_log_survives_a_torn_line(tmp_path: Path) -> None:
    """What a killed client wrote is read, but for the line that it was writing; its next life writes on a new line."""
    path = tmp_path / "p0.jsonl"
    Log(path).write(asked(), told())
    path.write_bytes(path.read_bytes() + b'{"what":"outc')
    Log(path).write(answered())
    assert read(path) == [asked(), told(), answered()]
    assert read(tmp_path / "none") == []
