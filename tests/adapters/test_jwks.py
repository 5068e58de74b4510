"""The published keys: from one address, bounded in size and time, and asked for at a bounded rate."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from gemqueue.errors import ConfigError
from gemqueue_adapters.jwks import AGAIN_S, KEEP_S, KeySource
from tests.adapters.test_webhooks import JWKS, KEYS
from tests.adapters.wire import HANG_UP, Seen, error, wire
from tests.worlds.bench import HandClock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.adapters.wire import Wire

GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(JWKS), JWKS)


@asynccontextmanager
async def source(served: Wire, clock: HandClock, *, emulate: bool = False) -> AsyncGenerator[KeySource]:
    """Keys from a server."""
    made = KeySource(base_url=f"{served.base_url}/prefix", url="", emulate=emulate, clock=clock)
    try:
        yield made
    finally:
        await made.aclose()


async def test_they_are_fetched_once_an_hour() -> None:
    """The first look fetches from the well-known place of the origin, without a key; the next an hour later."""
    clock = HandClock()
    async with wire(lambda _: GOOD) as served, source(served, clock) as keys:
        for _ in range(3):
            assert await keys.keys() == KEYS
        assert [seen.target for seen in served.seen] == ["/.well-known/jwks.json"]
        assert "x-goog-api-key" not in served.seen[0].headers
        clock.advance(KEEP_S)
        assert await keys.keys() == KEYS
        assert keys.fetches == 2


async def test_unknown_keys_ask_at_most_once_a_minute() -> None:
    """A thousand forged deliveries are one request; after a minute there may be another."""
    clock = HandClock()
    async with wire(lambda _: GOOD) as served, source(served, clock) as keys:
        await keys.keys()
        clock.advance(AGAIN_S)
        assert [await keys.refresh() for _ in range(1000)].count(True) == 1
        clock.advance(AGAIN_S - 1)
        assert not await keys.refresh()
        assert len(served.seen) == 2


@pytest.mark.parametrize(("answer", "known"), [(GOOD, 1), (HANG_UP, 0)])
async def test_many_who_wait_are_one_request(answer: bytes, known: int) -> None:
    """Deliveries that come during a fetch wait for its answer, good or bad, and do not ask for themselves."""
    async with wire(lambda _: answer) as served, source(served, HandClock()) as keys:
        found = await asyncio.gather(*(keys.keys() for _ in range(50)))
        assert {len(each.ed25519) for each in found} == {known}
        assert len(served.seen) == 1


@pytest.mark.parametrize(
    "answer",
    [
        HANG_UP,
        error(500, "INTERNAL"),
        b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + b" " * 100_000,
        b"HTTP/1.1 200 OK\r\nx-gemini-emulator: 1\r\ncontent-length: %d\r\n\r\n%b" % (len(JWKS), JWKS),
    ],
    ids=["hangs up", "500", "redirect", "garbage", "too large", "an emulator"],
)
async def test_what_is_known_stays_in_use(answer: bytes) -> None:
    """A fetch that fails says why, follows nowhere, and changes nothing; without any there are no keys."""
    clock = HandClock()
    async with wire(lambda _: answer) as served, source(served, clock) as keys:
        assert (await keys.keys()).ed25519 == ()
        assert keys.error
        served.handler = lambda _: GOOD
        clock.advance(AGAIN_S)
        assert await keys.keys() == KEYS
        served.handler = lambda _: answer
        clock.advance(KEEP_S)
        assert await keys.keys() == KEYS
        assert {seen.target for seen in served.seen} == {"/.well-known/jwks.json"}


async def test_an_emulators_keys_need_its_mark() -> None:
    """Told to emulate, a real service's keys are refused, and the reverse (above)."""
    async with wire(lambda _: GOOD) as served, source(served, HandClock(), emulate=True) as keys:
        assert (await keys.keys()).ed25519 == ()
        assert "emulator" in keys.error


async def test_another_address_can_be_set() -> None:
    """``webhook_jwks_url`` is asked instead, and nothing else."""

    def handler(seen: Seen) -> bytes:
        assert seen.target == "/keys"
        return GOOD

    async with wire(handler) as served:
        keys = KeySource(base_url="https://x.example", url=f"{served.base_url}/keys", emulate=False, clock=HandClock())
        assert await keys.keys() == KEYS
        await keys.aclose()


@pytest.mark.parametrize("url", ["http://example.com/keys", "ftp://x/keys", "https://u:p@x/keys", "keys"])
def test_addresses_that_are_refused(url: str) -> None:
    """Keys over plain HTTP could be anybody's."""
    with pytest.raises(ConfigError, match="webhook_jwks_url"):
        KeySource(base_url="https://x.example", url=url, emulate=False, clock=HandClock())
