"""When a lane is better not packed: the line for room, and what is sealed ahead."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from gemqueue.policy.packing import Line, why_parked
from gemqueue.policy.pools import OpenBatch, Room
from gemqueue.policy.quota import Ledger, Limits, Reservation
from gemqueue.records import Lane, LaneState
from gemqueue.states import BatchState, Kind

_MODELS = st.sampled_from(("m", "n"))
_HELD_FOR = st.sampled_from(("", "", "", "jobs", "spend", "stored_bytes", "tokens/m", "model_jobs/m", "tokens/n"))
_BOUNDS = Limits(1, 100, stored_bytes_max=1_000)


def _lane(model: str) -> Lane:
    return Lane("a", model, Kind.GENERATE)


@st.composite
def _lines(draw: st.DrawFn) -> tuple[Room, Line]:
    """An account with batches under way, some of which have room and some of which stand in line."""
    batches, reserved, line = list[OpenBatch](), list[Reservation](), list[str]()
    for id_ in string.ascii_lowercase[: draw(st.integers(0, 8))]:
        model, tokens = draw(_MODELS), draw(st.integers(1, 100))
        has_room = draw(st.booleans())
        batches.append(
            OpenBatch(
                id=id_,
                lane=_lane(model),
                state=BatchState.SUBMITTED if has_room else BatchState.SEALED,
                tokens=tokens,
                held_for="" if has_room else draw(_HELD_FOR),
                priority=draw(st.integers(-1, 2)),
            )
        )
        if has_room:
            reserved.append(Reservation(id_, model, tokens, 0))
        else:
            line.append(id_)
    room = Room(account="a", batches=batches, ledger=Ledger(tuple(reserved), {}), now_ms=1)
    return room, Line(batches=line, priority=draw(st.integers(-1, 2)))


_LIMITS = st.builds(Limits, st.integers(1, 6), st.sampled_from((100, 10**9)), st.integers(1, 6))


@given(_lines(), _LIMITS)
def test_a_lane_is_parked_only_behind_its_own_model(drawn: tuple[Room, Line], limits: Limits) -> None:
    """Whoever is parked has a batch of its model in line, no less urgent, whose move wakes it: it is never stuck."""
    room, line = drawn
    found = why_parked(room, line, LaneState(lane=_lane("m"), fence=1, tokens=50), limits, _BOUNDS)
    ahead = {one.id: one for one in room.batches if one.id in line.batches and one.lane.model == "m"}
    if found is None:
        return
    assert ahead[found.ahead].priority == found.priority == max(one.priority for one in ahead.values())
    assert line.priority <= found.priority
    assert found.reason


@given(_lines(), _LIMITS)
def test_room_is_never_left_for_want_of_a_batch(drawn: tuple[Room, Line], limits: Limits) -> None:
    """With nothing of the model in line it is packed, and so it is while what stands there leaves room for one more."""
    room, line = drawn
    roomy = Limits(100, 10**9, 100)
    plain = Room(
        account="a",
        batches=[OpenBatch(id=one.id, lane=one.lane, state=one.state, tokens=one.tokens) for one in room.batches],
        ledger=room.ledger,
        now_ms=1,
    )
    state = LaneState(lane=_lane("m"), fence=1, tokens=50)
    assert why_parked(plain, Line(batches=line.batches), state, roomy, _BOUNDS) is None
    assert why_parked(room, Line(), state, limits, _BOUNDS) is None


@given(_lines())
def test_without_room_one_is_sealed_ahead(drawn: tuple[Room, Line]) -> None:
    """Where the account has room for one job and has it, nobody who is not more urgent is sealed behind another."""
    room, line = drawn
    limits = Limits(1, 10**9, 1)
    ahead = [one for one in room.batches if one.id in line.batches and one.lane.model == "m"]
    found = why_parked(room, line, LaneState(lane=_lane("m"), fence=1, tokens=50), limits, _BOUNDS)
    more_urgent = line.priority > max((one.priority for one in ahead), default=-9)
    assert (found is None) == (not ahead or more_urgent)
