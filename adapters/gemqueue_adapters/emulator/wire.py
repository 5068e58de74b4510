"""What every route shares: the error envelope, JSON replies, timestamps and projects (protocol section 2)."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.requests import Request

MARK = "x-gemini-emulator"
"""The header that every reply of the emulator carries, so that nobody takes it for the service."""

STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "ALREADY_EXISTS",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""HTTP status to google.rpc status name (protocol section 14)."""

CODE_NAMES = {
    1: "CANCELLED",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    16: "UNAUTHENTICATED",
}
"""google.rpc code to its name (protocol section 9.5)."""

NOT_FOUND = "Requested entity was not found."
BAD_KEY = "API_KEY_INVALID"
QUOTA_EXCEEDED = "You exceeded your current quota, please check your plan and billing details."
HELP = {
    "@type": "type.googleapis.com/google.rpc.Help",
    "links": [
        {
            "description": "Learn more about Gemini API quotas",
            "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
        }
    ],
}


NO_MONEY: dict[str, tuple[int, str, str, str]] = {
    "spend_cap": (
        429,
        "RESOURCE_EXHAUSTED",
        "",
        "Your project has exceeded its monthly spending cap. Please go to AI Studio to manage your project spend cap.",
    ),
    "no_credits": (
        429,
        "RESOURCE_EXHAUSTED",
        "",
        "Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing.",
    ),
    "no_billing": (
        403,
        "PERMISSION_DENIED",
        "BILLING_DISABLED",
        "This API method requires billing to be enabled. Please enable billing on the project, then retry.",
    ),
    "unpaid": (
        400,
        "FAILED_PRECONDITION",
        "",
        "The billing account of the project is not open. Please enable billing on your project in Google AI Studio.",
    ),
}
"""Refusals for want of money: HTTP code, status, reason of the ErrorInfo where there is one, message."""


class ApiError(Exception):
    """A refusal, answered with the envelope of protocol section 2.1."""

    def __init__(
        self,
        code: int,
        message: str,
        *,
        status: str | None = None,
        details: list[dict[str, Any]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or STATUS_NAMES.get(code, "UNKNOWN")
        self.details = details or []
        self.headers = headers or {}
        self.listed = False
        """Whether the reply is a list of one, as the OpenAI layer has it."""

    def response(self) -> Json:
        """The reply that carries this error."""
        error: dict[str, Any] = {"code": self.code, "message": self.message, "status": self.status}
        if self.details:
            error["details"] = self.details
        envelope = {"error": error}
        return Json([envelope] if self.listed else envelope, self.code, self.headers)


class Json(Response):
    """A JSON reply; the content type is the one that the service sends."""

    media_type = "application/json; charset=UTF-8"

    def __init__(self, value: object, status_code: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(msgspec.json.encode(value), status_code, headers)


def quota_error(*, retry_after_s: float | None = None, retry_info_s: float | None = None) -> ApiError:
    """A 429 as the service words it, which does not say which quota it was (protocol section 14)."""
    details: list[dict[str, Any]] = [HELP]
    if retry_info_s is not None:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{retry_info_s:g}s"})
    headers = {} if retry_after_s is None else {"Retry-After": f"{retry_after_s:g}"}
    return ApiError(429, QUOTA_EXCEEDED, details=details, headers=headers)


def money_error(name: str) -> ApiError:
    """A refusal for want of money: no quota frees itself here, somebody has to pay or to raise a cap."""
    code, status, reason, message = NO_MONEY[name]
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}
    return ApiError(code, message, status=status, details=[info] if reason else [HELP])


def timestamp(ms: int, extra_ns: int = 0) -> str:
    """RFC 3339 with nine fraction digits, as the service writes it; `extra_ns` fills the digits below 1 ms."""
    at = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}{extra_ns % 1_000_000:06d}Z"


def api_key(request: Request) -> str | None:
    """The key of a request: header, bearer token or query parameter (protocol section 1.3)."""
    bearer = request.headers.get("authorization", "")
    if bearer.lower().startswith("bearer "):
        return bearer[7:].strip()
    return request.headers.get("x-goog-api-key") or request.query_params.get("key")


def project_of(request: Request) -> str:
    """The project that a request acts for: each key is a project of its own, and is never stored.

    Keys that end in the same `@name`, which no real key does, are keys of one project.

    Raises:
        ApiError: 403 without a key, 400 for a bad one (protocol section 2.1).
    """
    key = api_key(request)
    if not key:
        raise ApiError(403, "Method doesn't allow unregistered callers (callers without established identity).")
    if key == "invalid-key":
        reason = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": BAD_KEY,
            "domain": "googleapis.com",
            "metadata": {"service": "generativelanguage.googleapis.com"},
        }
        raise ApiError(400, "API key not valid. Please pass a valid API key.", details=[reason])
    name = key.rpartition("@")[1:] if "@" in key else key
    return hashlib.sha256("".join(name).encode()).hexdigest()[:16]


def page_size(request: Request, default: int, most: int = 100) -> int:
    """The `pageSize` of a list request.

    Raises:
        ApiError: 400 if it is not a number or is negative.
    """
    text = request.query_params.get("pageSize") or request.query_params.get("page_size") or "0"
    if not text.isascii() or not text.isdigit():
        raise ApiError(400, f"Invalid value at 'page_size' (TYPE_INT32), \"{text[:40]}\"")
    return min(int(text[:18]) or default, most)


def page_start(request: Request) -> int | None:
    """The sequence number below which the page starts, out of `pageToken`; None for the first page.

    Raises:
        ApiError: 400 if the token is not one of ours.
    """
    token = request.query_params.get("pageToken") or request.query_params.get("page_token")
    if not token:
        return None
    try:
        return int(base64.urlsafe_b64decode(token.encode()))
    except ValueError as error:
        raise ApiError(400, "Invalid page token.") from error


def page_token(start: int) -> str:
    """The opaque token of the page that starts below sequence number `start`."""
    return base64.urlsafe_b64encode(str(start).encode()).decode()
