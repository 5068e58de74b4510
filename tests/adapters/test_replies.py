"""Replies with 200: whether they answer the call that was made."""

from __future__ import annotations

import pytest

from gemqueue_adapters.replies import check_done, created_job, one_line, uploaded_file

MINE = "gq-mine"


def test_an_answer_is_put_on_one_line() -> None:
    """White space between the parts goes, that inside strings stays."""
    assert one_line(b'{\n "candidates": "x\\n y",\n "b": [1, 2]\n}') == b'{"candidates":"x\\n y","b":[1,2]}'


@pytest.mark.parametrize("body", [b"", b"[1]", b"null", b"{}", b'{"error": {}}', b'{"status": "ok"}', b"\xff"])
def test_what_is_no_answer(body: bytes) -> None:
    """An object without anything that an answer has is another service's."""
    with pytest.raises(ValueError, match=r"^it "):
        one_line(body)


def test_what_a_create_need_not_repeat() -> None:
    """A job's name is enough; what else is said must be what was sent."""
    assert created_job(b'{"name": "batches/b1"}', token=MINE, file="files/f") == "batches/b1"
    with pytest.raises(ValueError, match="another"):
        created_job(b'{"name": "batches/b1", "displayName": "u"}', token=MINE, file="files/f")


@pytest.mark.parametrize(
    ("body", "state"),
    [
        (b'{"file": {"name": "files/f", "state": "ACTIVE", "displayName": "n", "sizeBytes": "3"}}', "ACTIVE"),
        (b'{"name": "files/f", "state": "PROCESSING"}', "PROCESSING"),
        (b'{"name": "files/f", "state": "ACTIVE", "displayName": "n", "sizeBytes": 2}', "FAILED"),
    ],
)
def test_a_file_that_was_uploaded(body: bytes, state: str) -> None:
    """It carries our display name, or says nothing of it; ours of another size is of no use."""
    assert uploaded_file(body, name="n", size_bytes=3).state == state


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"file": 1}',
        b'{"name": "batches/b"}',
        b'{"name": "files/f", "displayName": "other"}',
        b'{"name": "files/f", "sizeBytes": "2"}',
    ],
)
def test_a_file_of_somebody_else(body: bytes) -> None:
    """Another display name, or a size of a file that does not say whose it is."""
    with pytest.raises(ValueError, match=r"."):
        uploaded_file(body, name="n", size_bytes=3)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'{"error": {"code": 404}}'])
def test_a_deletion_is_answered_by_an_object(body: bytes) -> None:
    """An empty body, a page or an error with 200 has deleted nothing."""
    check_done(b"{}\n")
    with pytest.raises(ValueError, match=r"^it "):
        check_done(body)
