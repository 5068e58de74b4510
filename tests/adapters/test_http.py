"""The guards around every call: where the key may go and must not show, the emulator's mark, redirects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpcore
import pytest

from gemqueue.errors import ConfigError, ProviderError
from gemqueue.provider import JobStatus
from gemqueue.states import JobState, Kind
from gemqueue_adapters.gemini import GeminiProvider
from gemqueue_adapters.http import READ_BYTES
from tests.adapters.wire import HANG_UP, KEY, Seen, error, operation, provider, reply, wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gemqueue.provider import Provider

JOB = "batches/b1"
FILE = "files/in1"
MINE = "tok"
ENDED = JobStatus(job=JOB, state=JobState.SUCCEEDED, output_file="files/batch-b1")


async def caught(call: Awaitable[object]) -> BaseException:
    with pytest.raises(ProviderError) as info:
        await call
    return info.value


async def results(made: Provider) -> list[list[bytes]]:
    return [lines async for lines in made.results(ENDED)]


CALLS: dict[str, Callable[[Provider], Awaitable[object]]] = {
    "create": lambda made: made.create(model="m", kind=Kind.GENERATE, file=FILE, token=MINE),
    "find": lambda made: made.find(tokens=frozenset({MINE}), since_ms=0),
    "poll": lambda made: made.poll(JOB),
    "cancel": lambda made: made.cancel(JOB),
    "delete_file": lambda made: made.delete_file(FILE),
    "delete_job": lambda made: made.delete_job(JOB),
    "results": results,
}


@pytest.mark.parametrize(
    "base_url",
    [
        "https://generativelanguage.googleapis.com",
        "https://gateway.example/gemini/",
        "http://127.0.0.1:8080",
        "http://localhost:8080",
        "http://[::1]:8080",
    ],
)
async def test_where_the_key_may_go(base_url: str) -> None:
    """Https anywhere, http on loopback."""
    await GeminiProvider(api_key=KEY, account="a", base_url=base_url).aclose()


@pytest.mark.parametrize(
    "base_url",
    [
        "http://generativelanguage.googleapis.com",
        "http://10.0.0.1:8080",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "ftp://127.0.0.1",
        "https://user:pass@gateway.example",
        "https://gateway.example?key=1",
        "https://",
        "gateway.example",
        "",
        "http://[",
    ],
)
def test_where_the_key_must_not_go(base_url: str) -> None:
    """Plain http beyond loopback, and URLs that hold more than an origin and a prefix."""
    with pytest.raises(ConfigError):
        GeminiProvider(api_key=KEY, account="a", base_url=base_url)


def test_emulating_against_the_real_service() -> None:
    """--emulate with Google's host is refused before anything is sent."""
    with pytest.raises(ConfigError):
        GeminiProvider(api_key=KEY, account="a", emulate=True)


@pytest.mark.parametrize("api_key", ["", "with blank", "line\nend", "umlaut-\u00e4"])
def test_keys_that_cannot_be_keys(api_key: str) -> None:
    """A key that no header can carry is refused, without being printed."""
    with pytest.raises(ConfigError) as caught:
        GeminiProvider(api_key=api_key, account="a")
    assert not api_key or api_key not in str(caught.value)


@pytest.mark.parametrize("api_version", ["", "v1/../x", "beta", "v1?x"])
def test_versions_that_are_none(api_version: str) -> None:
    """The version is one path segment."""
    with pytest.raises(ConfigError):
        GeminiProvider(api_key=KEY, account="a", api_version=api_version)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("code", [200, 404, 500])
async def test_an_emulators_reply_is_refused_unread(call: str, code: int) -> None:
    """Without --emulate a marked reply is a ConfigError, whatever its status and the call."""
    answer = reply(operation(), code=code, headers=["x-gemini-emulator: 1"])
    async with wire(lambda _: answer) as served, provider(served) as made:
        with pytest.raises(ConfigError, match="is an emulator"):
            await CALLS[call](made)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("code", [200, 404, 500])
async def test_a_real_reply_is_refused_when_emulating(call: str, code: int) -> None:
    """With --emulate an unmarked reply is a ConfigError, and nothing was created before it was seen."""
    async with wire(lambda _: reply(operation(), code=code)) as served, provider(served, emulate=True) as made:
        with pytest.raises(ConfigError, match="mark"):
            await CALLS[call](made)
    assert served.count("POST", ":batchGenerateContent") == 0


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", CALLS)
async def test_a_redirect_is_an_error(call: str, code: int) -> None:
    """No redirect is followed, so the key cannot travel with it."""
    async with wire(lambda _: reply()) as other, wire(lambda _: reply()) as served, provider(served) as made:
        served.handler = lambda _: reply(code=code, headers=[f"location: {other.base_url}/"])
        with pytest.raises(ConfigError, match="redirect"):
            await CALLS[call](made)
    assert other.seen == []


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("answer", [error(400, "INVALID_ARGUMENT", f"bad key {KEY}"), HANG_UP, error(503)])
async def test_the_key_shows_nowhere(call: str, answer: bytes) -> None:
    """The key is in no message, repr or chained exception, though the provider says it, and in no URL."""

    def handle(seen: Seen) -> bytes:
        return reply({}) if seen.target.endswith("pageSize=1") else answer

    async with wire(handle) as served, provider(served) as made:
        raised = await caught(CALLS[call](made))
        assert KEY not in f"{made!r} {vars(made)!r} {vars(vars(made)['_http'])!r}"
    assert KEY not in f"{raised} {raised!r} {vars(raised)!r}"
    assert not [link for link in (raised.__cause__, raised.__context__) if hasattr(link, "request")]
    assert not [seen for seen in served.seen if KEY in seen.target]


async def test_downloads_are_read_by_the_quarter_megabyte() -> None:
    """The connections that httpcore makes ask for what a transport has ready, so that a read carries more rows."""
    async with wire(lambda _: reply(b"{}")) as served, provider(served):
        assert httpcore.AsyncHTTP11Connection.READ_NUM_BYTES >= READ_BYTES
