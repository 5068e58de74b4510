"""The Gemini adapter against the emulator in what only this dialect has: odd shapes, slow files, marks, deep lists."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue.errors import ConfigError
from gemqueue.states import JobState, Kind
from tests.adapters.subjects import connect, gemini_line
from tests.emulator_process import EmulatorProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from gemqueue.provider import JobStatus
    from gemqueue_adapters.gemini import GeminiProvider

KEYS = [f"key-{number}" for number in range(20)]
LINES = b"".join(gemini_line(Kind.GENERATE, key) for key in KEYS)
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("gemini") / "data", job_s=0) as started:
        yield started


@pytest.fixture
def server(running: EmulatorProcess) -> EmulatorProcess:
    running.reset()
    return running


@pytest.fixture(params=["v1", "v1beta"])
async def provider(server: EmulatorProcess, request: pytest.FixtureRequest) -> AsyncIterator[GeminiProvider]:
    made = connect(server, api_version=request.param)
    yield made
    await made.aclose()


async def upload(provider: GeminiProvider, content: bytes = LINES) -> str:
    async def pieces() -> AsyncIterator[bytes]:
        yield content

    return await provider.upload(pieces(), size_bytes=len(content), name="a batch")


async def create(provider: GeminiProvider, file: str, name: str = "a-name") -> str:
    return await provider.create(model="gemini-3.8-flash", kind=Kind.GENERATE, file=file, token=name)


async def ended(provider: GeminiProvider, job: str) -> JobStatus:
    async with asyncio.timeout(DEADLINE_S):
        while not (status := await provider.poll(job)).state.terminal:  # noqa: ASYNC110 - the server has no event
            await asyncio.sleep(0.01)
    return status


@pytest.mark.parametrize("shape", ["plain", "inline_output", "flat", "job_state"])
async def test_every_shape_of_a_job_gives_the_same_rows(
    server: EmulatorProcess, provider: GeminiProvider, shape: str
) -> None:
    """Results inside the operation, a bare resource, the other state prefix: the rows are the same lines."""
    server.faults([] if shape == "plain" else [{"on": "job", "do": shape}])
    status = await ended(provider, await create(provider, await upload(provider)))
    assert (status.state, status.display_name, status.inline) == (
        JobState.SUCCEEDED,
        "a-name",
        shape == "inline_output",
    )
    lines = [line async for lines in provider.results(status) for line in lines]
    assert not any(b"\n" in line for line in lines)
    rows: list[dict[str, Any]] = [msgspec.json.decode(line) for line in lines]
    assert sorted(row["key"] for row in rows) == sorted(KEYS)
    assert all(row["response"]["modelVersion"].startswith("emulator/") for row in rows)


async def test_a_file_that_is_still_processing_is_waited_for(server: EmulatorProcess, provider: GeminiProvider) -> None:
    """An upload returns when the file is ACTIVE, so that the create after it is accepted."""
    server.faults([{"on": "upload", "do": "processing", "seconds": 0.3}])
    assert await create(provider, await upload(provider))


async def test_a_job_that_expires(server: EmulatorProcess, provider: GeminiProvider) -> None:
    """EXPIRED is an end without output."""
    server.faults([{"on": "job", "do": "expired"}])
    job = await create(provider, await upload(provider))
    server.advance(49 * 3600)
    status = await ended(provider, job)
    assert (status.state, status.has_output) == (JobState.EXPIRED, False)


async def test_a_job_is_found_behind_a_hundred_others(provider: GeminiProvider) -> None:
    """Find pages the whole list."""
    file = await upload(provider)
    first = await create(provider, file, "the-first")
    for number in range(120):
        await create(provider, file, f"other-{number}")
    found = (await provider.find(tokens=frozenset({"the-first"}), since_ms=0)).newest
    assert found is not None
    assert found.job == first


async def test_real_prompts_never_reach_an_emulator(server: EmulatorProcess) -> None:
    """Without emulate the first harmless look ends everything: no upload was begun."""
    made = connect(server, emulate=False)
    with pytest.raises(ConfigError, match="emulator"):
        await upload(made)
    await made.aclose()
    assert [asked["method"] for asked in server.requests()] == ["GET"]
