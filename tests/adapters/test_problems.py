"""The error table: every status and exception, for the call that may buy and for those that may not."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest

from gemqueue.errors import Ambiguous, ProviderError, Rejected, Transient
from gemqueue_adapters.problems import Problem, failure, read_problem, refusal

NOW_S = 1_784_937_600.0  # Sat, 25 Jul 2026 00:00:00 GMT
MISSING_FILE = "You do not have permission to access the File abc or it may not exist."
NOT_ACTIVE = "The File abc is not in an ACTIVE state and usage is not allowed."
BAD_KEY = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]

ORDINARY = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "head to: https://ai.google.dev/gemini-api/docs/rate-limits. Quota exceeded for metric: generate_requests, limit: 0"
)
SPENT = (
    "Your project has exceeded its monthly spending cap.",
    "The spend cap of this project is reached; manage it in AI Studio.",
    "Monthly spend limit exceeded.",
    "Your prepayment credits are depleted. Please manage your project and billing.",
    "The project is out of budget for the month.",
    "Your account has insufficient funds.",
    "Billing is disabled for this project.",
)

STATUSES: list[tuple[int, str, str, list[Any], str, str]] = [
    # code, status, message, details, kind, kind for a create
    (400, "INVALID_ARGUMENT", "API key not valid.", BAD_KEY, "auth", "auth"),
    (400, "INVALID_ARGUMENT", "bad", [], "never", "never"),
    (400, "FAILED_PRECONDITION", NOT_ACTIVE, [], "later", "later"),
    (400, "FAILED_PRECONDITION", "Billing is not active.", [], "spend", "spend"),
    (400, "FAILED_PRECONDITION", "User location is not supported for the API use.", [], "never", "auth"),
    (400, "INVALID_ARGUMENT", "BLOCK_NONE is for accounts with monthly invoiced billing.", [], "never", "never"),
    (402, "", "", [], "spend", "spend"),
    (401, "UNAUTHENTICATED", "", [], "auth", "auth"),
    (403, "PERMISSION_DENIED", "no", [], "auth", "auth"),
    (403, "PERMISSION_DENIED", "This API method requires billing to be enabled.", [], "spend", "spend"),
    (403, "PERMISSION_DENIED", "no", [{"reason": "BILLING_DISABLED"}], "spend", "spend"),
    (403, "PERMISSION_DENIED", "The billing account for the owning project is disabled.", [], "spend", "spend"),
    (403, "PERMISSION_DENIED", "Consumer has been suspended.", [{"reason": "CONSUMER_SUSPENDED"}], "auth", "auth"),
    (403, "PERMISSION_DENIED", MISSING_FILE, [], "missing", "missing"),
    (404, "NOT_FOUND", "Requested entity was not found.", [], "missing", "missing"),
    (408, "", "", [], "later", "in doubt"),
    (409, "ABORTED", "", [], "later", "in doubt"),
    (409, "ALREADY_EXISTS", "", [], "never", "in doubt"),
    (413, "", "", [], "never", "never"),
    (429, "RESOURCE_EXHAUSTED", "", [], "quota", "quota"),
    (429, "RESOURCE_EXHAUSTED", ORDINARY, [], "quota", "quota"),
    (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).", [], "quota", "quota"),
    *[(429, "RESOURCE_EXHAUSTED", said, list[Any](), "spend", "spend") for said in SPENT],
    (499, "CANCELLED", "", [], "later", "in doubt"),
    (500, "INTERNAL", "", [], "later", "in doubt"),
    (503, "UNAVAILABLE", "", [], "later", "in doubt"),
    (504, "DEADLINE_EXCEEDED", "", [], "later", "in doubt"),
]


def kind_of(error: ProviderError) -> str:
    match error:
        case Ambiguous():
            return "in doubt"
        case Transient():
            return "spend" if error.spend else "quota" if error.quota else "later"
        case Rejected():
            return "missing" if error.missing else "auth" if error.auth else "never"
        case _:
            raise AssertionError(error)


def envelope(code: int, status: str = "", message: str = "", details: object = ()) -> bytes:
    return msgspec.json.encode({"error": {"code": code, "status": status, "message": message, "details": details}})


def raised(code: int, body: bytes, *, risky: bool = False, headers: dict[str, str] | None = None) -> Any:
    problem = read_problem(code, headers or {}, body, now_s=NOW_S)
    return refusal(problem, call="create" if risky else "poll", risky=risky)


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("row", STATUSES)
def test_statuses(row: tuple[int, str, str, list[Any], str, str], wrapped: bool) -> None:
    """Each status means what the table says, also when the envelope comes inside an array."""
    code, status, message, details, safe, risky = row
    body = envelope(code, status, message, details)
    body = b"[" + body + b"]\n" if wrapped else body
    assert (kind_of(raised(code, body)), kind_of(raised(code, body, risky=True))) == (safe, risky)
    assert raised(code, body).code == code


@pytest.mark.parametrize(
    ("error", "risky"),
    [
        (httpx.ConnectError("refused"), "later"),
        (httpx.ConnectTimeout(""), "later"),
        (httpx.PoolTimeout(""), "later"),
        (httpx.ProxyError("407"), "later"),
        (httpx.ReadTimeout(""), "in doubt"),
        (httpx.WriteTimeout(""), "in doubt"),
        (httpx.ReadError(""), "in doubt"),
        (httpx.WriteError(""), "in doubt"),
        (httpx.CloseError(""), "in doubt"),
        (httpx.RemoteProtocolError(""), "in doubt"),
        (httpx.DecodingError(""), "in doubt"),
        (TimeoutError(), "in doubt"),
        (ConnectionResetError(), "in doubt"),
    ],
)
def test_exceptions(error: Exception, risky: str) -> None:
    """What failed before sending may be sent again; afterwards a create is in doubt and all else merely later."""
    assert kind_of(failure(error, call="poll", risky=False)) == "later"
    assert kind_of(failure(error, call="create", risky=True)) == risky


@pytest.mark.parametrize(
    ("message", "field", "line"),
    [
        ("Error on line 7: invalid JSON, near column 436: no such field: 'cachedContent'", "", 7),
        ("Invalid JSON payload received.", "batch.input_config.requests.requests[4].request", 5),
        ("Invalid value at 'batch.input_config.requests.requests[0].request'", "", 1),
        ("Error on line 0: what?", "", None),
        ("Bad model.", "batch.model", None),
    ],
)
def test_the_refused_line(message: str, field: str, line: int | None) -> None:
    """A create that is refused for one row says which, counting lines from 1; other calls never do."""
    body = envelope(400, "INVALID_ARGUMENT", message, [{"fieldViolations": [{"field": field}]}])
    assert raised(400, body, risky=True).line == line
    assert raised(400, body).line is None


@pytest.mark.parametrize(
    ("header", "details", "wish_s"),
    [
        ("17", [], 17.0),
        ("Sat, 25 Jul 2026 00:00:30 GMT", [], 30.0),
        ("Sat, 25 Jul 2020 00:00:00 GMT", [], 0.0),
        ("", [{"retryDelay": "17s"}], 17.0),
        ("", [{"retryDelay": "0.250s"}], 0.25),
        ("5", [{"retryDelay": "17s"}], 5.0),
        ("99999999", [], 86_400.0),
        ("nan", [], None),
        ("soon", [{"retryDelay": "later"}], None),
        ("", [], None),
    ],
)
def test_the_providers_own_wish(header: str, details: list[object], wish_s: float | None) -> None:
    """Retry-After in seconds or as a date comes first, then RetryInfo; nonsense is no wish."""
    body = envelope(429, "RESOURCE_EXHAUSTED", "", details)
    assert raised(429, body, headers={"retry-after": header}).retry_after_s == wish_s


@pytest.mark.parametrize(
    "body", [b"", b"<html>no</html>", b"null", b"[]", b"[[", b'{"error": "x"}', b"\xff\xfe", b"[" * 9]
)
def test_a_body_that_is_no_envelope_leaves_the_code(body: bytes) -> None:
    """A proxy's page does not hide the status."""
    assert kind_of(raised(503, body)) == "later"
    assert kind_of(raised(400, body)) == "never"


def test_details_that_cannot_be_read_do_not_hide_the_rest() -> None:
    """Status and message count although the details have a shape nobody knows."""
    error = raised(409, envelope(409, "ALREADY_EXISTS", "taken", {"surprise": 1}))
    assert kind_of(error) == "never"
    assert "taken" in str(error)


def test_messages_are_printable_and_bounded() -> None:
    """Control characters and endless texts do not reach a log or a terminal."""
    text = str(raised(400, envelope(400, "INVALID_ARGUMENT", "\x1b[2J\n\u202e" + "x" * 9000)))
    assert text.isprintable()
    assert len(text) < 600


@pytest.mark.parametrize("key", ["AIzaSyA-1b_c-D3efGhIjK-LmNoPqRs-tUvWxYz0", "AQ.Ab8RN6Kx-yz_Abcdef"])
def test_a_key_that_the_service_names_is_not_repeated(key: str) -> None:
    """The refusal of a suspended key names it; what goes to logs, records and screens does not, cut or whole."""
    for words in (f"Permission denied: Consumer 'api_key:{key}' has been suspended.", "x" * 490 + f" {key}"):
        body = msgspec.json.encode({"error": {"code": 403, "message": words, "status": "PERMISSION_DENIED"}})
        said = str(refusal(read_problem(403, {}, body, now_s=0), call="create", risky=True))
        assert key[:6] not in said
        assert said.startswith("create: HTTP 403 PERMISSION_DENIED: ")


def test_an_account_that_may_not_buy_fails_no_prompt() -> None:
    """Billing or region refuses a synchronous call for the account's fault, so that its prompts wait."""
    for message, kind in (("User location is not supported.", "auth"), ("Billing is not active.", "spend")):
        problem = Problem(code=400, status="FAILED_PRECONDITION", message=message)
        assert kind_of(refusal(problem, call="answer", risky=False)) == kind


@pytest.mark.parametrize(
    ("message", "model"),
    [("models/gemini-9 is not found for API version v1beta", True), ("Requested entity was not found.", False)],
)
def test_a_model_that_is_not_there_is_told_from_a_file(message: str, model: bool) -> None:
    """What names the model is about the model; anything else may be a lost file, or another project's key."""
    error = raised(404, envelope(404, "NOT_FOUND", message), risky=True)
    assert (error.missing, error.model) == (True, model)


def test_a_refusal_names_its_quota() -> None:
    """Where the words of a 429 say which quota is short, the error says so."""
    named = raised(429, envelope(429, "RESOURCE_EXHAUSTED", "Too many enqueued tokens"), risky=True)
    assert (named.quota, named.resource) == (True, "tokens")
