"""A failure is read from its line, also by a version that does not know its kind."""

from __future__ import annotations

import pytest

from gemqueue.language.lines import decode_line, failure_line
from gemqueue.language.outcomes import Failed, outcome_of
from gemqueue.states import FailureKind


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_is_read_as_it_was_written(kind: FailureKind) -> None:
    """Kind, message and code of a failure come back."""
    found = outcome_of(decode_line(failure_line("s.1", kind, "why", 3, 2)), None, None, emulated=False)
    assert isinstance(found, Failed)
    assert (found.failure.kind, found.failure.message, found.failure.code) == (kind, "why", 3)


def test_a_kind_that_only_a_newer_version_knows_is_the_providers() -> None:
    """As 0.2.0 does with ``doubt``: the kind is ``provider``, and the message says what happened."""
    written = failure_line("s.1", FailureKind.DOUBT, "6 calls got no reply").replace(b'"doubt"', b'"of_tomorrow"')
    found = outcome_of(decode_line(written), None, None, emulated=False)
    assert isinstance(found, Failed)
    assert (found.failure.kind, found.failure.message) == (FailureKind.PROVIDER, "6 calls got no reply")
