"""The error table: every status and exception, for the call that may buy and for those that may not."""

from __future__ import annotations

from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue.errors import Ambiguous, ProviderError, Rejected, Transient
from gemqueue_adapters.envelope import Problem, read_problem
from gemqueue_adapters.problems import failure, refusal

NOW_S = 1_784_937_600.0  # Sat, 25 Jul 2026 00:00:00 GMT
MISSING_FILE = "You do not have permission to access the File abc or it may not exist."
MISSING_GRANT = "Permission 'x.files.get' denied on resource '//x/files/abc' (or it may not exist)."
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
    (402, "", "", [], "spend", "in doubt"),
    (401, "UNAUTHENTICATED", "", [], "auth", "auth"),
    (403, "PERMISSION_DENIED", "no", [], "auth", "auth"),
    (403, "PERMISSION_DENIED", "This API method requires billing to be enabled.", [], "spend", "spend"),
    (403, "PERMISSION_DENIED", "no", [{"reason": "BILLING_DISABLED"}], "spend", "spend"),
    (403, "PERMISSION_DENIED", "The billing account for the owning project is disabled.", [], "spend", "spend"),
    (403, "PERMISSION_DENIED", "Consumer has been suspended.", [{"reason": "CONSUMER_SUSPENDED"}], "auth", "auth"),
    (403, "PERMISSION_DENIED", MISSING_FILE, [], "missing", "missing"),
    (403, "PERMISSION_DENIED", MISSING_GRANT, [], "auth", "auth"),
    (404, "NOT_FOUND", "Requested entity was not found.", [], "missing", "missing"),
    (408, "", "", [], "later", "in doubt"),
    (409, "ABORTED", "", [], "later", "in doubt"),
    (409, "ALREADY_EXISTS", "", [], "never", "in doubt"),
    (413, "", "", [], "later", "in doubt"),
    (429, "RESOURCE_EXHAUSTED", "", [], "quota", "quota"),
    (429, "RESOURCE_EXHAUSTED", ORDINARY, [], "quota", "quota"),
    (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota).", [], "quota", "quota"),
    *[(429, "RESOURCE_EXHAUSTED", said, list[Any](), "spend", "spend") for said in SPENT],
    (499, "CANCELLED", "", [], "later", "in doubt"),
    (500, "INTERNAL", "", [], "later", "in doubt"),
    (503, "UNAVAILABLE", "", [], "later", "in doubt"),
    (504, "DEADLINE_EXCEEDED", "", [], "later", "in doubt"),
]


FITTING = {
    **dict.fromkeys(("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"), 400),
    **dict.fromkeys(("UNKNOWN", "INTERNAL", "DATA_LOSS", "UNIMPLEMENTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"), 500),
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
}
"""Each google.rpc status, and the HTTP code that belongs to it; 500 stands for all from there on."""


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


OTHERS = [
    b"",
    b"<html>no</html>",
    b"null",
    b"[]",
    b"[[",
    b"\xff\xfe",
    b"[" * 9,
    b"404 page not found\n",
    b'{"error": "not found"}',
    b'{"error": null}',
    b'{"message": "no Route matched with those values"}',
    b'{"error": {"message": "No such model.", "type": "invalid_request_error", "code": "model_not_found"}}',
    b'{"error": {"code": 404, "message": "no models/x here"}}',
    b'{"error": {"code": 404, "message": "no", "status": "Not Found"}}',
    b'{"error": {"code": 418, "message": "no", "status": "NOT_FOUND"}}',
    b'{"error": {"message": "no", "status": "NOT_FOUND"}}',
    b'{"code": 404, "message": "no", "status": "NOT_FOUND"}',
    b'[{"error": {"code": 404, "status": "NOT_FOUND"}}, {"error": {"code": 404, "status": "NOT_FOUND"}}]',
]


@pytest.mark.parametrize("code", [206, 400, 401, 403, 404, 405, 407, 410, 413, 422, 500, 502, 503, 504])
@pytest.mark.parametrize("body", OTHERS)
def test_only_the_apis_own_words_conclude_anything(body: bytes, code: int) -> None:
    """A page, a bare body or another service's JSON is a reason to wait, and for a create doubt, whatever its code."""
    assert (kind_of(raised(code, body)), kind_of(raised(code, body, risky=True))) == ("later", "in doubt")
    assert kind_of(raised(429, body)) == kind_of(raised(429, body, risky=True)) == "quota"


@given(
    sent=st.integers(400, 599),
    told=st.integers(400, 599) | st.none(),
    status=st.sampled_from([*FITTING, "", "Not Found", "not_found", "OK", "invalid_request_error"]),
    message=st.sampled_from(["", MISSING_FILE, NOT_ACTIVE, "models/x is not found", "Billing is not active."]),
    same=st.booleans(),
)
def test_an_envelope_whose_parts_do_not_fit_is_somebody_elses(
    sent: int, told: int | None, status: str, message: str, same: bool
) -> None:
    """Whatever the code, status and words: only where code, repeated code and status agree is anything concluded."""
    told = sent if same else told
    inner = {"message": message} | ({"status": status} if status else {}) | ({"code": told} if told else {})
    body = msgspec.json.encode({"error": inner})
    own = told == sent and (sent >= 500 if FITTING.get(status) == 500 else FITTING.get(status) == sent)
    if not own and sent not in {402, 429}:
        assert (kind_of(raised(sent, body)), kind_of(raised(sent, body, risky=True))) == ("later", "in doubt")
    if kind_of(raised(sent, body, risky=True)) in {"missing", "never", "auth"}:
        assert own


@given(st.binary(max_size=40), st.integers(400, 599))
def test_any_bytes_are_an_error_that_can_be_raised(body: bytes, code: int) -> None:
    """No body makes the reader of errors fail, and none that is no envelope ends more than a try."""
    assert kind_of(raised(code, body)) in {"later", "quota", "spend"}
    assert kind_of(raised(code, body, risky=True)) in {"in doubt", "quota"}


def test_who_answered_is_said() -> None:
    """A wait for what somebody else answered says so, with the code and the content type."""
    said = str(raised(403, b"<html>", headers={"content-type": "text/html; charset=utf-8"}))
    assert said.startswith("poll: HTTP 403 not in the API's own words (text/html; ")


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
    [
        ("models/gemini-9 is not found for API version v1beta", True),
        ("tunedModels/mine is not found.", True),
        ("Requested entity was not found.", False),
        ("No route for POST /v1beta/models/gemini-9:batchGenerateContent", False),
    ],
)
def test_a_model_that_is_not_there_is_told_from_a_file(message: str, model: bool) -> None:
    """What names the model is about the model; anything else may be a lost file, or another project's key."""
    error = raised(404, envelope(404, "NOT_FOUND", message), risky=True)
    assert (error.missing, error.model) == (True, model)


def test_a_refusal_names_its_quota() -> None:
    """Where the words of a 429 say which quota is short, the error says so."""
    named = raised(429, envelope(429, "RESOURCE_EXHAUSTED", "Too many enqueued tokens"), risky=True)
    assert (named.quota, named.resource) == (True, "tokens")
