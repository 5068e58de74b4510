"""Lines of OUT: Gemini's own, with what is wrong said beside it, and no code that nobody gave."""

from __future__ import annotations

import json
from typing import Any

from gemqueue.language.answers import Answer
from gemqueue.language.outcomes import Failed
from gemqueue.records import Failure
from gemqueue.states import FailureKind
from gemqueue_workers.run.results import result_line
from gemqueue_workers.run.writing import decode_written

RESPONSE = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 7}}
ANSWER = {"candidates": [{"content": {"parts": [{"text": "a"}]}}, {"content": {"parts": [{"text": "b"}]}}]}


def failed(kind: FailureKind, code: int = 0, raw: object = None) -> Failed:
    given = json.dumps(raw).encode() if raw is not None else b""
    return Failed(Failure(key="00a.0", kind=kind, message="why", code=code, raw=given))


def line(outcome: Answer | Failed, *, text: bool = False) -> dict[str, Any]:
    written = result_line("k", outcome, text=text)
    assert decode_written(written).key == "k"
    return dict(json.loads(written))


def test_a_blocked_row_is_its_response_and_why() -> None:
    """What was billed is there, and whoever reads OUT again sees that it is no answer."""
    found = line(failed(FailureKind.BLOCKED, raw=RESPONSE))
    assert found == {"key": "k", "response": RESPONSE, "error": {"message": "blocked: why"}}
    assert decode_written(result_line("k", failed(FailureKind.BLOCKED, raw=RESPONSE))).error


def test_an_error_has_the_code_that_the_provider_gave() -> None:
    """And none where nobody gave one, as for a row that never came."""
    assert line(failed(FailureKind.INVALID, 3, {"code": 3})) == {
        "key": "k",
        "error": {"code": 3, "message": "invalid: why"},
    }
    assert line(failed(FailureKind.MISSING)) == {"key": "k", "error": {"message": "missing: why"}}
    assert line(failed(FailureKind.BLOCKED, raw=RESPONSE), text=True) == {
        "key": "k",
        "error": {"message": "blocked: why"},
    }


def test_a_repaired_answer_says_so_and_a_text_what_it_leaves_out() -> None:
    """The answer as it could be read; the other candidates are named."""
    answer = Answer("00a.0", json.dumps(ANSWER).encode(), original=b"?")
    assert line(answer) == {"key": "k", "response": ANSWER, "repaired": True}
    assert line(answer, text=True) == {"key": "k", "text": "a", "left_out": ["candidate 2"]}
