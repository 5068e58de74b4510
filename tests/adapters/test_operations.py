"""Reading jobs: every shape of protocol sections 5, 6 and 10."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gemqueue.states import JobState
from gemqueue_adapters.operations import RAW_BYTES_MAX, epoch_ms, files_of, inline_rows, page_of, status_of

JOB = "batches/ek3q0x7m1t9v8b2n5c6z4a0s1d2f3g4h5j6k"
ROWS = [
    {"response": {"candidates": [{"index": 0}], "responseId": "r1"}, "metadata": {"key": "k1"}},
    {"error": {"code": 3, "message": "Invalid argument"}, "metadata": {"key": "k2"}},
]
LINES = [
    b'{"key":"k1","response":{"candidates":[{"index":0}],"responseId":"r1"}}',
    b'{"key":"k2","error":{"code":3,"message":"Invalid argument"}}',
]


def batch(**fields: object) -> dict[str, object]:
    return {
        "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
        "model": "models/gemini-2.5-flash",
        "displayName": "demo",
        "inputConfig": {"fileName": "files/frh6ua11nk3o"},
        "createTime": "2025-12-10T18:27:01.407650525Z",
        "batchStats": {"requestCount": "3", "successfulRequestCount": "2", "failedRequestCount": 1},
        "state": "BATCH_STATE_PENDING",
        "name": JOB,
        **fields,
    }


def encoded(value: object, *, pretty: bool = False) -> bytes:
    body = msgspec.json.encode(value)
    return msgspec.json.format(body, indent=2) if pretty else body


def operation(top: dict[str, object] | None = None, **fields: object) -> bytes:
    return encoded({"name": JOB, "metadata": batch(**fields), **(top or {})})


@pytest.mark.parametrize("flat", [False, True])
def test_the_fields_of_a_job(flat: bool) -> None:
    """An operation and the bare batch resource are read alike, int64 as string or number."""
    status = status_of(encoded(batch()) if flat else operation())
    assert (status.job, status.display_name, status.input_file) == (JOB, "demo", "files/frh6ua11nk3o")
    assert (status.rows, status.rows_ok, status.rows_failed) == (3, 2, 1)
    assert status.created_at_ms == 1_765_391_221_407
    assert (status.state, status.raw_state, status.has_output) == (JobState.RUNNING, "BATCH_STATE_PENDING", False)
    assert not status.begun


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("prefix", ["BATCH_STATE_", "JOB_STATE_"])
@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("UNSPECIFIED", JobState.RUNNING),
        ("PENDING", JobState.RUNNING),
        ("RUNNING", JobState.RUNNING),
        ("PAUSED", JobState.RUNNING),
        ("SUCCEEDED", JobState.SUCCEEDED),
        ("FAILED", JobState.FAILED),
        ("CANCELLED", JobState.CANCELLED),
        ("EXPIRED", JobState.EXPIRED),
    ],
)
def test_states(prefix: str, name: str, state: JobState, flat: bool) -> None:
    """Both prefixes are known; an unknown state is still running. The bare batch has no ``done``."""
    top: dict[str, object] = {"done": True} if state.terminal else {}
    body = encoded(batch(state=prefix + name)) if flat else operation(top, state=prefix + name)
    assert status_of(body).state is state


@pytest.mark.parametrize(
    ("top", "state"),
    [
        ({"done": False}, JobState.RUNNING),
        ({"done": True, "error": {"code": 13, "message": "Internal error."}}, JobState.FAILED),
        ({"done": True, "response": {"responsesFile": "files/batch-1"}}, JobState.SUCCEEDED),
        ({"done": True}, JobState.RUNNING),
        ({"error": {"code": 13}}, JobState.RUNNING),
    ],
)
@pytest.mark.parametrize("unknown", ["BATCH_STATE_PARTIALLY_SUCCEEDED", "", None])
def test_an_unknown_state_that_is_done(unknown: object, top: dict[str, object], state: JobState) -> None:
    """Where the state says nothing, done decides, and then error or response; without either no end is told."""
    assert status_of(operation(top, state=unknown)).state is state


@pytest.mark.parametrize(
    ("top", "said"),
    [
        ({"done": True}, "RUNNING"),
        ({"done": True}, "PENDING"),
        ({"done": True, "error": {"code": 13}}, "RUNNING"),
        ({"done": True, "response": {"responsesFile": "files/batch-1"}}, "PENDING"),
        ({"done": False}, "SUCCEEDED"),
        ({"done": False}, "FAILED"),
        ({}, "FAILED"),
        ({}, "EXPIRED"),
        ({}, "CANCELLED"),
    ],
)
def test_a_look_that_contradicts_itself_shows_no_end(top: dict[str, object], said: str) -> None:
    """A job is over where state and done agree; half of it is a look that came too early, or from elsewhere."""
    assert status_of(operation(top, state=f"BATCH_STATE_{said}")).state is JobState.RUNNING


def test_a_success_is_believed_without_done() -> None:
    """It costs only time if it is wrong: nothing is bought again before its results are read."""
    assert status_of(operation(state="BATCH_STATE_SUCCEEDED")).state is JobState.SUCCEEDED


@pytest.mark.parametrize(
    "body",
    [
        operation(output={"responsesFile": "files/batch-1"}),
        operation({"response": {"responsesFile": "files/batch-1"}, "done": True}),
        operation({"dest": {"fileName": "files/batch-1"}}),
        operation(dest={"file_name": "files/batch-1"}),
        encoded(batch(output={"responsesFile": "files/batch-1"})),
    ],
)
def test_where_the_output_file_may_stand(body: bytes) -> None:
    """The result file is found in metadata, response and dest."""
    status = status_of(body)
    assert (status.output_file, status.inline, status.has_output) == ("files/batch-1", False, True)


@pytest.mark.parametrize("pretty", [False, True])
@pytest.mark.parametrize("name", ["inlinedResponses", "inlinedEmbedContentResponses"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("place", ["metadata", "response", "flat"])
def test_inline_rows_become_lines(name: str, nested: bool, place: str, pretty: bool) -> None:
    """Inline output, nested or flat, wherever it stands, has the shape of a result file's lines, one line each."""
    output: dict[str, Any] = {name: {"inlinedResponses": ROWS} if nested else ROWS}
    places: dict[str, dict[str, Any]] = {
        "metadata": {"name": JOB, "metadata": batch(output=output)},
        "response": {"name": JOB, "metadata": batch(), "response": output},
        "flat": batch(output=output),
    }
    body = encoded(places[place], pretty=pretty)
    assert inline_rows(body) == LINES
    status = status_of(body)
    assert (status.inline, status.has_output, status.output_file) == (True, True, "")
    assert b"Invalid argument" not in status.raw
    assert b"displayName" in status.raw


def test_inline_rows_of_unknown_shape_are_passed_on() -> None:
    """A key at the top counts, a missing key stays missing, a status string is kept, and no row is dropped."""
    rows: list[Any] = [{"key": "k", "status": "Bad Request"}, {"response": {}}, 17]
    body = operation(output={"inlinedResponses": {"inlinedResponses": rows}})
    assert inline_rows(body) == [b'{"key":"k","status":"Bad Request"}', b'{"response":{}}', b"17"]


def test_no_inline_rows_is_not_an_empty_list_of_rows() -> None:
    """An operation without rows inside says so; one with an empty list has output."""
    assert inline_rows(operation()) is None
    assert inline_rows(operation(output={"inlinedResponses": {"inlinedResponses": []}})) == []


def test_a_success_without_output() -> None:
    """SUCCEEDED with neither file nor rows is a success that has nothing to download."""
    status = status_of(operation({"done": True}, state="BATCH_STATE_SUCCEEDED"))
    assert (status.state, status.has_output) == (JobState.SUCCEEDED, False)


def test_why_a_job_failed() -> None:
    """The code and the cleaned message of the operation's error."""
    top: dict[str, object] = {"done": True, "error": {"code": 8, "message": "out\nof quota"}}
    status = status_of(operation(top, state="BATCH_STATE_FAILED"))
    assert (status.state, status.error_code, status.error_message) == (JobState.FAILED, 8, "out of quota")


def test_the_record_is_cut() -> None:
    """The raw operation is kept up to 64 KiB."""
    assert len(status_of(operation(description="x" * 100_000)).raw) == RAW_BYTES_MAX


def test_fields_of_the_wrong_type_count_as_absent() -> None:
    """A job that was paid for stays visible although some fields make no sense."""
    status = status_of(operation(displayName=7, batchStats="many", createTime="soon", output=[1], inputConfig=None))
    assert (status.job, status.display_name, status.rows, status.created_at_ms) == (JOB, "", 0, 0)


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("2026-07-25T00:00:00Z", 1_784_937_600_000),
        ("2026-07-25T00:00:00.5Z", 1_784_937_600_500),
        ("2026-07-25T00:00:00.123Z", 1_784_937_600_123),
        ("2026-07-25T00:00:00.123456Z", 1_784_937_600_123),
        ("2026-07-25T00:00:00.999999999Z", 1_784_937_600_999),
        ("2026-07-25T02:00:00+02:00", 1_784_937_600_000),
        ("2026-13-25T00:00:00Z", 0),
        ("yesterday", 0),
        ("", 0),
    ],
)
def test_timestamps(text: str, expected_ms: int) -> None:
    """Any number of fraction digits, any offset; what is no time is 0."""
    assert epoch_ms(text) == expected_ms


def test_pages() -> None:
    """A page gives its jobs and the next token; an empty list is an empty object."""
    jobs, token = page_of(b'{"operations": [' + operation() + b"," + encoded(batch()) + b'], "nextPageToken": "t2"}')
    assert ([job.job for job in jobs], token) == ([JOB, JOB], "t2")
    assert page_of(b"{}") == ([], "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"operations": {}}',
        b'{"operations": [{}]}',
        b'{"operations": [1]}',
        b'{"error": {"code": 503, "status": "UNAVAILABLE"}}',
        b'{"operations": [], "error": {}}',
        b'{"status": "ok"}',
        b'{"batches": []}',
        b'{"unreachable": ["eu"]}',
        b'{"operations": [], "unreachable": 1}',
        b'{"operations": [], "nextPageToken": 7}',
        b'{"operations": [], "nextPageToken": null}',
    ],
)
def test_a_page_that_cannot_be_read_is_no_empty_page(body: bytes) -> None:
    """Half a list would look like a job that does not exist."""
    with pytest.raises(ValueError, match=r"."):
        page_of(body)


def test_pages_without_entries() -> None:
    """A page may be empty and lead on; that it reached everything may be said, too."""
    assert page_of(b'{"nextPageToken": "t2"}') == ([], "t2")
    assert page_of(b'{"operations": [], "unreachable": []}') == ([], "")


@pytest.mark.parametrize("body", [b"<html>", b'{"files": [{}]}', b'{"files": [1]}', b'{"operations": []}'])
def test_a_page_of_files_that_cannot_be_read(body: bytes) -> None:
    """What names no file is no page of files."""
    with pytest.raises(ValueError, match=r"."):
        files_of(body)


def test_an_operation_that_names_two_jobs() -> None:
    """It belongs to neither."""
    with pytest.raises(ValueError, match="two"):
        status_of(encoded({"name": "batches/other", "metadata": batch()}))


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"[]", b'{"name": 3}', b"\xff"])
def test_a_body_that_is_no_job(body: bytes) -> None:
    """What names no job is refused."""
    with pytest.raises(ValueError, match=r"no "):
        status_of(body)
