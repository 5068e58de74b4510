"""One line at a time: the synchronous call that an interactive lane makes, and what its failures mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from gemqueue.errors import Ambiguous, ProviderError, Rejected, Transient
from gemqueue.states import Kind
from gemqueue_adapters.interactive import interactive_request
from tests.adapters.subjects import connect, gemini_line
from tests.emulator_process import EmulatorProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from gemqueue_adapters.gemini import GeminiProvider

LINE = gemini_line(Kind.GENERATE, "k")
MODEL = "gemini-3.8-flash"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """One emulator for the module."""
    with EmulatorProcess(tmp_path_factory.mktemp("interactive") / "data", job_s=0) as started:
        yield started


@pytest.fixture
async def provider(server: EmulatorProcess) -> AsyncIterator[GeminiProvider]:
    """An adapter of its own for the test."""
    server.reset()
    made = connect(server)
    yield made
    await made.aclose()


async def ask(provider: GeminiProvider, service: str = "flex", line: bytes = LINE, timeout_s: float = 10.0) -> bytes:
    """The answer to one line."""
    return await provider.answer(line, model=MODEL, kind=Kind.GENERATE, service=service, timeout_s=timeout_s)


async def test_flex_costs_half(server: EmulatorProcess, provider: GeminiProvider) -> None:
    """Flex is asked for in the request and billed at half; a tier that the caller wrote decides nothing."""
    half = await ask(provider)
    flex_usd = server.ledger()["interactive"]["usd"]
    own = msgspec.json.encode({"key": "k", "request": msgspec.json.decode(LINE)["request"] | {"serviceTier": "flex"}})
    await ask(provider, "standard", own)
    assert server.ledger()["interactive"]["usd"] == pytest.approx(3 * flex_usd, rel=0.1)
    assert b"\n" not in half
    assert "candidates" in msgspec.json.decode(half)


async def test_an_embedding_is_asked_for_by_its_own_call(provider: GeminiProvider) -> None:
    """EmbedContent answers with what a batch has under response."""
    line = gemini_line(Kind.EMBED, "k")
    model = "gemini-embedding-001"
    reply = await provider.answer(line, model=model, kind=Kind.EMBED, service="standard", timeout_s=10.0)
    assert msgspec.json.decode(reply)["embedding"]["values"]


@pytest.mark.parametrize(
    ("deed", "error", "code"),
    [
        ("503", Transient, 503),
        ("500", Transient, 500),
        ("429", Transient, 429),
        ("400", Rejected, 400),
        ("404", Rejected, 404),
        ("lost_before", Ambiguous, 0),
        ("lost_after", Ambiguous, 0),
        ("cut", Ambiguous, 0),
    ],
)
async def test_what_a_failed_call_may_have_bought(
    server: EmulatorProcess, provider: GeminiProvider, deed: str, error: type[ProviderError], code: int
) -> None:
    """An error reply was not billed and is no doubt; a reply that does not come, or not whole, is one."""
    await ask(provider)  # the probe is over
    server.faults([{"on": "generate", "do": deed, "times": 1}])
    with pytest.raises(error) as failed:
        await ask(provider)
    assert (failed.value.call, failed.value.code) == ("answer", code)


async def test_a_call_that_takes_too_long_is_in_doubt(server: EmulatorProcess, provider: GeminiProvider) -> None:
    """The call ends at its own time limit, and may have been paid for."""
    await ask(provider)
    server.faults([{"on": "generate", "do": "slow", "bytes_per_s": 1}])
    with pytest.raises(Ambiguous):
        await ask(provider, timeout_s=0.3)


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b'{"key":"k","request":[]}', b"\xff"])
def test_a_line_without_a_request_is_an_error(line: bytes) -> None:
    """What is no input line is never sent."""
    with pytest.raises(ValueError, match=r".*"):
        interactive_request(line, Kind.GENERATE, "flex")
