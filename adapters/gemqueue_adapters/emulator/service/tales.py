"""What each kind of lie makes of an exchange: pure functions, of which `lies.py` has the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue_adapters.emulator.wire import NOT_FOUND, STATUS_NAMES, Json, page_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Change = Callable[["Lie", dict[str, Any], bool], bool]
    """Changes a job or a file, of a list or alone; whether it had to."""
    Tell = Callable[["Lie", "Exchange"], "Reply | None"]

LISTS = ("list", "list_files")
_FILES = ("get_file", "delete_file", "download")
_ENDED = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")
_OUTPUTS = ("response", "output")
_ERRORS = {
    "FAILED": {"code": 13, "message": "Internal error."},
    "EXPIRED": {"code": 4, "message": "Batch expired before it was completed."},
    "CANCELLED": {"code": 13, "message": "Batch was cancelled."},
}
_HTML = b"<html>\n<head><title>%d</title></head>\n<body>\n%b</body>\n</html>\n"
_HTML_LINES = 400
_AFTER_ALL, _BEFORE_ALL = page_token(0), page_token(1 << 53)


class Lie(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One declared lie. `from_s` and `for_s` are virtual seconds from the moment at which it was set."""

    route: str
    """A point of the faults, or "any" for all at which this kind can be told."""
    kind: str
    share: float = 1.0
    """Of the exchanges in its window, by seeded dice."""
    from_s: float = 0.0
    for_s: float | None = None
    nth: int | None = None
    """The window begins with the nth exchange (from 1), and `for_s` counts from there."""
    times: int | None = None
    match: str = ""
    """In the path; in a list, in the name or display name of an entry, which alone is lied about."""
    status: int = 0
    """0 for that of its kind."""
    how: str = ""
    """Which variant of its kind; the first one if empty."""
    effect: bool | None = None
    """Whether the request has its effect; None leaves that to the kind."""


class Exchange(msgspec.Struct, frozen=True):
    """What was asked and what is true: `status` 0 where the request did not get through.

    `earlier` is what was last told of the same thing and differs; `page_before` the page of this list last told.
    """

    point: str
    status: int = 0
    body: bytes = b""
    asked_token: str = ""
    earlier: bytes | None = None
    page_before: bytes | None = None

    def value(self) -> dict[str, Any] | None:
        """The object that a good native reply holds."""
        try:
            found = msgspec.json.decode(self.body, type=dict[str, Any]) if self.status == 200 else None
        except msgspec.DecodeError:
            return None
        return None if found is None or "object" in found else found


class Reply(msgspec.Struct, frozen=True):
    """What is told; `dropped` is no reply at all, `cut` half of the true one, to the end of a "line" or a "byte"."""

    status: int = 200
    body: bytes = b""
    media_type: str = Json.media_type
    dropped: bool = False
    cut: str = ""


def _json(value: object, status: int = 200) -> Reply:
    return Reply(status, msgspec.json.encode(value))


def stale(_lie: Lie, seen: Exchange) -> Reply | None:
    """What was told of the same thing before: an old state, page or file; a list of which nothing was told is empty."""
    if seen.earlier is not None:
        return Reply(body=seen.earlier)
    return _json({}) if seen.point in LISTS else None


def blank(_lie: Lie, _seen: Exchange) -> Reply:
    """An empty object."""
    return _json({})


def repeated(_lie: Lie, seen: Exchange) -> Reply | None:
    """The page before, or this one again, with a token."""
    value = seen.value()
    if value is not None and seen.asked_token and seen.page_before is not None:
        value = msgspec.json.decode(seen.page_before)
    if value is None:
        return None
    return _json({**value, "nextPageToken": seen.asked_token or value.get("nextPageToken", _AFTER_ALL)})


def empty_token(_lie: Lie, seen: Exchange) -> Reply | None:
    """A page without entries whose token leads to the true one."""
    return _json({"nextPageToken": seen.asked_token or _BEFORE_ALL}) if seen.value() is not None else None


def unreachable(_lie: Lie, seen: Exchange) -> Reply | None:
    """A page that lacks the newer half, and says that something could not be reached."""
    value = seen.value()
    if value is None:
        return None
    name = "files" if seen.point == "list_files" else "operations"
    entries = value.pop(name, [])
    left = entries[(len(entries) + 1) // 2 :]
    return _json({**({name: left} if left else {}), **value, "unreachable": ["locations/us-central1"]})


def error_page(_lie: Lie, _seen: Exchange) -> Reply:
    """An error with the status of success."""
    error = {"code": 503, "message": "The service is currently unavailable.", "status": "UNAVAILABLE"}
    return _json({"error": error})


def html(lie: Lie, _seen: Exchange) -> Reply:
    """The page of a gateway, of so many lines that they could be taken for rows."""
    code = lie.status
    return Reply(code, _HTML % (code, b"<p>Please try again later.</p>\n" * _HTML_LINES), "text/html")


def foreign(lie: Lie, _seen: Exchange) -> Reply:
    """JSON of another service, or of one that speaks in the API's own words."""
    code = lie.status
    if lie.how == "other":
        return _json({"message": "no Route matched with those values", "request_id": "5f3c"}, code)
    message = NOT_FOUND if code == 404 else "The request was refused."
    return _json({"error": {"code": code, "message": message, "status": STATUS_NAMES.get(code, "UNKNOWN")}}, code)


def denied(lie: Lie, seen: Exchange) -> Reply | None:
    """The API's own denial of what is there."""
    if seen.status not in {0, 200}:
        return None
    code = lie.status or (403 if seen.point in _FILES else 404)
    forbidden = "You do not have permission to access the File or it may not exist."
    message = forbidden if code == 403 else NOT_FOUND
    return _json({"error": {"code": code, "message": message, "status": STATUS_NAMES.get(code, "UNKNOWN")}}, code)


def reply_lost(_lie: Lie, _seen: Exchange) -> Reply:
    """Nothing: the connection ends."""
    return Reply(dropped=True)


def short(lie: Lie, seen: Exchange) -> Reply | None:
    """Half of a result file, which ends without a sign that more should come."""
    return Reply(cut=lie.how) if seen.status == 200 else None


def of_entries(names: tuple[str, str], change: Change) -> Tell:
    """Tells the reply with each of its jobs or files changed; None if none of them had to be."""
    many, one = names

    def tell(lie: Lie, seen: Exchange) -> Reply | None:
        value = seen.value()
        if value is None:
            return None
        listed = many in value
        entries = [each for each in value[many] if _named(lie, each)] if listed else [value.get(one, value)]
        changed = [change(lie, entry, listed) for entry in entries]
        return _json(value) if any(changed) else None

    return tell


def _named(lie: Lie, entry: dict[str, Any]) -> bool:
    return lie.match in f"{entry.get('name')} {_batch(entry).get('displayName')}"


def _batch(entry: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = entry.get("metadata", entry)
    return found


def _places(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield entry
    yield _batch(entry)


def _split(entry: dict[str, Any]) -> tuple[str, str]:
    """The prefix and the name of a job's state."""
    before, mark, state = str(_batch(entry).get("state", "")).partition("_STATE_")
    return before + mark, state


def _drop(entry: dict[str, Any], *fields: str) -> bool:
    dropped = [place.pop(field, None) for place in _places(entry) for field in fields]
    return any(value is not None for value in dropped)


def _uncount(batch: dict[str, Any]) -> None:
    if stats := batch.get("batchStats"):
        batch["batchStats"] = {"requestCount": stats["requestCount"], "pendingRequestCount": stats["requestCount"]}


def back(lie: Lie, job: dict[str, Any], _listed: bool) -> bool:
    """An ended job that is RUNNING, or PENDING, again."""
    prefix, state = _split(job)
    if state not in _ENDED:
        return False
    _drop(job, *_OUTPUTS, "done", "error", "endTime")
    _batch(job)["state"] = prefix + lie.how
    _uncount(_batch(job))
    return True


def failed(lie: Lie, job: dict[str, Any], listed: bool) -> bool:
    """A job that goes on, or has succeeded, as FAILED, EXPIRED or CANCELLED."""
    (prefix, state), batch, told = _split(job), _batch(job), lie.how
    if state in {"", told}:
        return False
    _drop(job, *_OUTPUTS)
    _uncount(batch)
    batch |= {"state": prefix + told, "endTime": batch.get("endTime", batch.get("updateTime"))}
    if batch is not job:
        job |= {"done": True} | ({} if listed else {"error": _ERRORS[told]})
    return True


def no_output_yet(_lie: Lie, job: dict[str, Any], _listed: bool) -> bool:
    """A job that has succeeded, and does not say where its results are."""
    return _split(job)[1] == "SUCCEEDED" and _drop(job, *_OUTPUTS)


def counters(lie: Lie, job: dict[str, Any], _listed: bool) -> bool:
    """The counters of a job as at its start, or none, or twice as many."""
    batch = _batch(job)
    true = batch.get("batchStats")
    if true is None:
        return False
    if lie.how == "zero":
        del batch["batchStats"]
    elif lie.how == "stale":
        _uncount(batch)
    else:
        batch["batchStats"] = {name: str(2 * int(count)) for name, count in true.items()}
    return bool(batch.get("batchStats") != true)


def processing(_lie: Lie, file: dict[str, Any], _listed: bool) -> bool:
    """A file that is ready as one that is not."""
    changed = file.get("state") == "ACTIVE"
    if changed:
        file["state"] = "PROCESSING"
    return changed


def upload_failed(_lie: Lie, file: dict[str, Any], _listed: bool) -> bool:
    """A file that is ready as one that the service could not process."""
    changed = file.get("state") in {"ACTIVE", "PROCESSING"}
    if changed:
        file |= {"state": "FAILED", "error": {"code": 13, "message": "The file failed to be processed."}}
    return changed
