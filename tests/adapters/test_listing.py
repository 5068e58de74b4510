"""Lists that are cut anywhere and lie: either every job is listed, or nothing is concluded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue.errors import Transient
from gemqueue_adapters.listing import Entry, Walk, pages

if TYPE_CHECKING:
    from collections.abc import Sequence

SINCE_MS = 50

Page = tuple[list[Entry], str]


def read(body: bytes) -> Page:
    entries, token = msgspec.json.decode(body, type=tuple[list[tuple[str, int]], str])
    return [Entry(*entry) for entry in entries], token


async def listed(book: dict[str, Page], since_ms: int = SINCE_MS) -> tuple[list[str], int]:
    """What is listed of a list that answers each token with a page, and how many pages were read."""
    asked: list[str] = []

    async def ask(token: str) -> bytes:
        asked.append(token)
        return msgspec.json.encode(book[token])

    found = [entry.name async for page in pages("find", ask, read, lambda entry: entry, since_ms) for entry in page]
    return found, len(asked)


def cut(entries: Sequence[Entry], sizes: Sequence[int]) -> dict[str, Page]:
    """The entries in pages of these sizes, and one with the rest."""
    book: dict[str, Page] = {}
    start, token = 0, ""
    for number, size in enumerate(sizes):
        book[token] = (list(entries[start : start + size]), f"t{number}")
        start, token = start + size, f"t{number}"
    book[token] = (list(entries[start:]), "")
    return book


times = st.lists(st.integers(0, 100), max_size=12)
cuts = st.lists(st.integers(0, 4), max_size=6)


@given(times, cuts)
async def test_a_list_in_any_order_is_read_whole(created: list[int], sizes: list[int]) -> None:
    """Oldest first, unordered, without times, cut anywhere, with empty pages: nothing that counts is overlooked.

    A list may only be left early once all that it has shown fell from newer to older, and a whole page is too old.
    """
    entries = [Entry(f"batches/{number}", at) for number, at in enumerate(created)]
    book = cut(entries, sizes)
    found, read_pages = await listed(book)
    assert found == [entry.name for entry in entries][: len(found)]
    if read_pages < len(book):
        seen = [entry.created_at_ms for entry in entries[: len(found)]]
        assert seen == sorted(seen, reverse=True)
        assert len(set(seen)) > 1
        assert 0 < seen[-1] < SINCE_MS


@given(times, cuts, st.sampled_from([1, -1]))
async def test_a_list_in_order_never_hides_a_young_job(created: list[int], sizes: list[int], way: int) -> None:
    """Newest first as documented, or oldest first as a changed service might: every young job is listed."""
    in_order = sorted(created, key=lambda at: way * at)
    entries = [Entry(f"batches/{number}", at) for number, at in enumerate(in_order) if at]
    found, _ = await listed(cut(entries, sizes))
    assert {entry.name for entry in entries if entry.created_at_ms >= SINCE_MS} <= set(found)


@given(times, cuts, st.data())
async def test_a_list_whose_tokens_lie_is_no_list(created: list[int], sizes: list[int], data: st.DataObject) -> None:
    """A token that leads back, to itself or to a page that was read, never makes a whole list of half a one."""
    entries = [Entry(f"batches/{number}", at) for number, at in enumerate(created)]
    book = cut(entries, sizes)
    tokens = sorted(book)
    lying = data.draw(st.sampled_from(tokens))
    book[lying] = (book[lying][0], data.draw(st.sampled_from([token for token in tokens if token] or ["t0"])))
    book.setdefault("t0", ([], ""))
    reached, token = {lying}, book[lying][1]
    while token and token not in reached:
        reached.add(token)
        token = book[token][1]
    try:
        found, _ = await listed(book, since_ms=0)
    except Transient:
        return
    assert not token, "a circle was taken for an end"
    assert len(set(found)) == len(found)


async def test_an_empty_page_with_a_token_is_not_the_end() -> None:
    """The protocol calls it legal (section 6): the jobs stand behind it."""
    book: dict[str, Page] = {"": ([], "a"), "a": ([], "b"), "b": ([Entry("batches/1", 99)], "")}
    assert await listed(book) == (["batches/1"], 3)


async def test_a_list_may_be_empty() -> None:
    """One blank page is legal; whether it is believed is decided elsewhere."""
    assert await listed({"": ([], "")}) == ([], 1)


async def test_a_repeated_page_is_no_list() -> None:
    """A page that shows only what was shown before comes from a cache: what should stand there is not known."""
    page = [Entry("batches/2", 99), Entry("batches/1", 98)]
    with pytest.raises(Transient, match="repeats"):
        await listed({"": (page, "a"), "a": (page, "")})


async def test_a_job_that_moves_down_while_the_list_is_read() -> None:
    """New jobs push others to the next page, which then shows some of them again: no reason to refuse it."""
    first, second = [Entry("batches/3", 99), Entry("batches/2", 98)], [Entry("batches/2", 98), Entry("batches/1", 97)]
    found, _ = await listed({"": (first, "a"), "a": (second, "")})
    assert set(found) == {"batches/3", "batches/2", "batches/1"}


def test_a_list_in_order_is_left_at_the_first_old_page() -> None:
    """In the ordinary case nothing is read that is too old to matter."""
    walk = Walk(SINCE_MS)
    assert walk.after([Entry("batches/3", 99), Entry("batches/2", 60)], "a") == "a"
    assert walk.after([Entry("batches/1", 49), Entry("batches/0", 48)], "b") == ""


@pytest.mark.parametrize("first", [[0, 99], [60, 99], [99, 0], [49, 49]])
def test_a_list_that_has_not_shown_its_order_is_read_on(first: list[int]) -> None:
    """Times that rise, are missing or do not differ prove no order."""
    walk = Walk(SINCE_MS)
    walk.after([Entry(f"batches/{number}", at) for number, at in enumerate(first)], "a")
    assert walk.after([Entry("batches/9", 49)], "b") == "b"
