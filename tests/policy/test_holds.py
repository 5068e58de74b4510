"""Why something waits, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.errors import ProviderError, Rejected, Transient
from gemqueue.policy import holds
from gemqueue.states import Cause

if TYPE_CHECKING:
    from collections.abc import Callable


WORDS: list[tuple[Callable[[], ProviderError], str]] = [
    (lambda: Transient("429", quota=True, call="create"), "quota (create): 429"),
    (lambda: Transient("429", spend=True, call="create"), "spend (create): 429"),
    (lambda: Transient("503", call="poll"), "provider (poll): 503"),
    (lambda: Rejected("403", auth=True, call="upload"), "account (upload): 403"),
]


@pytest.mark.parametrize(("error", "reason"), WORDS)
def test_held_reasons_say_whose_fault_it_is(error: Callable[[], ProviderError], reason: str) -> None:
    """What a batch waits for names the limit, account or provider, and the call; code asks for the cause."""
    held = holds.why_call_failed(error())
    assert held.text == reason
    assert str(held.cause) == reason.partition(" ")[0]


@pytest.mark.parametrize(
    ("cause", "reason", "expected"),
    [
        ("", "", Cause.NONE),
        ("account", "", Cause.NONE),
        ("", "account (poll): 403", Cause.ACCOUNT),
        ("", "open jobs: 3 of 3 in use", Cause.QUOTA),
        ("", "spend: the provider refuses for want of money", Cause.SPEND),
        ("", "replica: no replica confirms", Cause.REPLICA),
        ("", "crashes: 5 leases on this batch ran out", Cause.CRASHES),
        ("", "KeyError: 'x'", Cause.DEFECT),
        ("provider", "the provider does not know the job", Cause.PROVIDER),
        ("account", "quota (create): 429", Cause.QUOTA),  # a worker of 0.2.0 has written the reason since
        ("account", "ReadTimeout: the server is away", Cause.DEFECT),  # the same
        ("account", "the provider does not know the job", Cause.PROVIDER),
        ("account", "held as a newer worker words it", Cause.ACCOUNT),
        ("weather", "hail", Cause.DEFECT),  # of a newer one
    ],
)
def test_the_cause_of_a_record(cause: str, reason: str, expected: Cause) -> None:
    """A record of 0.2.0 has words alone: its causes are read from them, also where an older cause stands beside."""
    assert holds.cause_of(cause, reason) is expected
