"""What one raw line of a result file says about its prompt.

``row_verdict`` is the whole decision and touches nothing. It takes any bytes and never raises: a result file of a
million rows may hold truncated, foreign, doubled or mangled lines, and one of them must not stop the others. The answer
itself stays undecoded; only the few fields that decide are looked at (protocol sections 9.3 to 9.5).
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.language.gemini.row_shapes import Candidate, Metadata, Part, PlainResponse, Response, Row, Status, TextRow

if TYPE_CHECKING:
    from collections.abc import Sequence


class Verdict(StrEnum):
    """What a result row says about its prompt; the resolver acts on it."""

    ANSWERED = "answered"
    """There is content, cut off or not: settle it."""
    BLOCKED = "blocked"
    """Withheld by the provider; repeating it unchanged is pointless."""
    EMPTY = "empty"
    """A success without any content; the same request would be bought again, so it is not retried."""
    INVALID = "invalid"
    """The provider calls the request wrong; it never becomes right."""
    UNUSABLE = "unusable"
    """A success that nobody can use, as a malformed call: it was billed, so only who asks for it buys it again."""
    RETRYABLE = "retryable"
    """The provider failed on this row; it goes back with a count."""
    GARBAGE = "garbage"
    """Not a result row. A key is given only where it is certain."""


class RowVerdict(msgspec.Struct, frozen=True, gc=False):
    """The verdict on one line.

    ``key`` is None where none could be read. ``code`` is the row's own error code (google.rpc, or HTTP where the row
    had that), 0 where it had none. ``message`` is at most 500 characters. ``raw`` is the undecoded JSON that the
    verdict rests on: the ``response`` of an answer, the ``error`` of a failure, empty for garbage. ``usage`` is an
    answer's usageMetadata, undecoded, and ``version`` its modelVersion.
    """

    key: str | None
    verdict: Verdict
    code: int = 0
    message: str = ""
    raw: bytes = b""
    usage: bytes = b""
    version: bytes = b""


_METADATA: Final = msgspec.json.Decoder(Metadata)
_ROW: Final = msgspec.json.Decoder(Row).decode
_TEXT_ROW: Final = msgspec.json.Decoder(TextRow).decode
_RESPONSE: Final = msgspec.json.Decoder(Response)
_STATUS: Final = msgspec.json.Decoder(Status)
_TEXT: Final = msgspec.json.Decoder(str)
_MESSAGE_CHARS_MAX: Final = 500
_BROKEN: Final = (msgspec.MsgspecError, ValueError, RecursionError)
_NOTHING: Final = (b"", b"null", b'""')  # a tuple: comparing lengths is cheaper than hashing an answer
_EMPTY_LIST: Final = re.compile(rb"\[\s*\]")

# Only at the very start of a line is an unescaped "key" surely the row's own and not one inside an answer's data.
_LEADING_KEY: Final = re.compile(rb'\s*\{\s*"key"\s*:\s*"([\x20\x21\x23-\x5b\x5d-\x7e]+)"')
_DIGITS: Final = re.compile(r"[0-9]{1,5}")
_CODE_IN_TEXT: Final = re.compile(r'"code"\s*:\s*(\d{1,5})\b')

_WITHHELD: Final = frozenset(
    {
        "SAFETY",
        "RECITATION",
        "LANGUAGE",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "MODEL_ARMOR",
        "ESCALATION",
        "PUP_LIMITED_DISABLED",
    }
)
"""Finish reasons that mean "withheld" (protocol section 9.3; the rest of the names from google-genai 3.4)."""

_FINISH_VERDICT: Final = {
    **dict.fromkeys(_WITHHELD, Verdict.BLOCKED),
    "MALFORMED_FUNCTION_CALL": Verdict.UNUSABLE,
    "UNEXPECTED_TOOL_CALL": Verdict.UNUSABLE,
    "TOO_MANY_TOOL_CALLS": Verdict.UNUSABLE,
    "MALFORMED_RESPONSE": Verdict.UNUSABLE,
    "MISSING_THOUGHT_SIGNATURE": Verdict.INVALID,
}
"""A candidate without content, by its finish reason; every other reason (STOP, MAX_TOKENS, OTHER ...) is empty."""

_RPC_CODES: Final = {
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}

# Protocol section 9.5. HTTP codes stand in rows of the sibling backend; unknown codes are worth another try.
_RPC_INVALID: Final = frozenset({3, 5, 6, 7, 9, 11, 12, 16})
_HTTP_RETRYABLE: Final = frozenset({408, 409, 425, 429, 499})


def text_rows(lines: Sequence[bytes]) -> list[TextRow | None]:
    """What most rows are, in a short look: a key and an answer with text that is no thought, and nothing else.

    None says nothing of the line. What is not None, ``row_verdict`` calls answered, with the same key, usage, version.
    """
    rows: list[TextRow | None]
    try:
        if not all(map(bytes.isascii, lines)):
            b"\n".join(lines).decode()
        rows = list(map(_TEXT_ROW, lines))
    except _BROKEN:
        rows = [_text_row(line) for line in lines]
    return [row if row is not None and row.key and _has_text(row.response) else None for row in rows]


def _text_row(line: bytes) -> TextRow | None:
    try:
        if not line.isascii():
            line.decode()
        return _TEXT_ROW(line)
    except _BROKEN:
        return None


def _has_text(response: PlainResponse) -> bool:
    for candidate in response.candidates or ():
        for part in (candidate.content and candidate.content.parts) or ():
            if part.text and not part.thought:
                return True
    return False


def row_verdict(line: bytes) -> RowVerdict:
    """Judge one line of a result file (or one inline result item), with or without its newline. Never raises."""
    try:
        if not line.isascii():
            line.decode()  # msgspec does not look at the bytes of strings that it skips
        row = _ROW(line)
    except msgspec.ValidationError as error:
        return _odd_row(line, error)
    except _BROKEN as error:
        return RowVerdict(_leading_key(line), Verdict.GARBAGE, 0, f"not a JSON line: {error}"[:_MESSAGE_CHARS_MAX])
    return _judge(row)


def _judge(row: Row) -> RowVerdict:
    key = row.key or _metadata_key(bytes(row.metadata))
    if not key:
        return RowVerdict(None, Verdict.GARBAGE, 0, "the row has no key")
    response = bytes(row.response)
    answer = _judge_response(key, response) if response not in _NOTHING else None
    if answer is not None and answer.verdict is Verdict.ANSWERED:
        return answer
    for source in (row.error, row.status):
        raw = bytes(source)
        if raw not in _NOTHING:
            return _judge_error(key, raw)
    return answer or RowVerdict(key, Verdict.EMPTY, 0, "the row has neither response nor error")


def _metadata_key(raw: bytes) -> str | None:
    """The key of an inline result item (protocol section 9.4)."""
    try:
        return _METADATA.decode(raw).key
    except _BROKEN:
        return None


def _judge_response(key: str, raw: bytes) -> RowVerdict:
    try:
        decoded = _RESPONSE.decode(raw)
    except _BROKEN as error:
        return _judge_odd_response(key, raw, error)
    if decoded.candidates:
        if any(map(_has_content, decoded.candidates)):
            return _answered(key, decoded, raw)
        return _judge_candidate(key, decoded.candidates[0], raw)
    if decoded.embedding is not None:
        return _judge_embedding(key, decoded, raw)
    feedback = decoded.prompt_feedback
    if feedback and feedback.block_reason and not feedback.block_reason.endswith("_UNSPECIFIED"):
        message = _reason("prompt blocked: ", feedback.block_reason, feedback.block_reason_message)
        return RowVerdict(key, Verdict.BLOCKED, 0, message, raw)
    return RowVerdict(key, Verdict.EMPTY, 0, "the response has no candidates", raw)


def _judge_odd_response(key: str, raw: bytes, error: Exception) -> RowVerdict:
    """JSON of another shape than a response's: it was billed, so it is an answer where it may hold one."""
    try:
        given = msgspec.json.decode(raw, type=dict[str, object])
    except _BROKEN:
        return RowVerdict(key, Verdict.EMPTY, 0, f"not a response: {error}"[:_MESSAGE_CHARS_MAX], raw)
    if given.get("candidates") or given.get("embedding"):
        return RowVerdict(key, Verdict.ANSWERED, 0, "", raw)
    return RowVerdict(key, Verdict.EMPTY, 0, f"no response: {error}"[:_MESSAGE_CHARS_MAX], raw)


def _answered(key: str, response: Response, raw: bytes) -> RowVerdict:
    usage, version = bytes(response.usage_metadata), bytes(response.model_version)
    return RowVerdict(key, Verdict.ANSWERED, 0, "", raw, usage, version)


def _has_content(candidate: Candidate) -> bool:
    parts = candidate.content.parts if candidate.content else None
    return bool(parts) and any(map(_is_content, parts or ()))


def _is_content(part: Part) -> bool:
    if part.thought:  # some image models put their only picture there
        return bytes(part.inline_data) not in _NOTHING
    return bool(part.text) or any(
        bytes(value) not in _NOTHING
        for value in (
            part.inline_data,
            part.file_data,
            part.function_call,
            part.function_response,
            part.executable_code,
            part.code_execution_result,
            part.tool_call,
            part.tool_response,
            part.audio_transcription,
        )
    )


def _judge_candidate(key: str, candidate: Candidate, raw: bytes) -> RowVerdict:
    reason = candidate.finish_reason or "no finish reason"
    verdict = _FINISH_VERDICT.get(reason, Verdict.EMPTY)
    prefix = "answer withheld: " if verdict is Verdict.BLOCKED else "no content: "
    return RowVerdict(key, verdict, 0, _reason(prefix, reason, candidate.finish_message), raw)


def _judge_embedding(key: str, response: Response, raw: bytes) -> RowVerdict:
    values = bytes(response.embedding.values) if response.embedding else b""
    if values.startswith(b"[") and not _EMPTY_LIST.fullmatch(values):
        return _answered(key, response, raw)
    return RowVerdict(key, Verdict.EMPTY, 0, "the embedding has no values", raw)


def _judge_error(key: str, raw: bytes) -> RowVerdict:
    """A google.rpc.Status, or whatever else stands in its place: a string, a bare code, a status name."""
    try:
        status = _STATUS.decode(raw)
        code, message = _code(status.code) or _code(status.status), status.message or ""
    except _BROKEN:
        code, message = _judge_text(raw)
    verdict = Verdict.INVALID if _is_final(code) else Verdict.RETRYABLE
    return RowVerdict(key, verdict, code, (message or f"error code {code} without a message")[:_MESSAGE_CHARS_MAX], raw)


def _judge_text(raw: bytes) -> tuple[int, str]:
    try:
        text = _TEXT.decode(raw)
    except _BROKEN:
        return 0, ""
    found = _CODE_IN_TEXT.search(text)
    return int(found[1]) if found else _code(text), text


def _code(value: int | str | None) -> int:
    if isinstance(value, str):
        text = value.strip()
        return int(text) if _DIGITS.fullmatch(text) else _RPC_CODES.get(text.upper(), 0)
    return value or 0


def _is_final(code: int) -> bool:
    if 400 <= code < 500:
        return code not in _HTTP_RETRYABLE
    return code in _RPC_INVALID


def _odd_row(line: bytes, error: Exception) -> RowVerdict:
    """JSON, but not of a row's shape; a readable key is still worth having, for the prompt can then be retried."""
    try:
        row: object = msgspec.json.decode(line)
        key = msgspec.convert(row, dict[str, object]).get("key")
    except _BROKEN:
        key = None
    known = key if isinstance(key, str) and key else None
    return RowVerdict(known, Verdict.GARBAGE, 0, f"not a result row: {error}"[:_MESSAGE_CHARS_MAX])


def _leading_key(line: bytes) -> str | None:
    found = _LEADING_KEY.match(line)
    return found[1].decode("ascii") if found else None


def _reason(prefix: str, reason: str, detail: str | None) -> str:
    return f"{prefix}{reason}: {detail}"[:_MESSAGE_CHARS_MAX] if detail else (prefix + reason)[:_MESSAGE_CHARS_MAX]
