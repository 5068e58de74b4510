"""Worker processes find a job of ours that no record knows, by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.policy.job_names import job_token
from gemqueue.states import Kind
from gemqueue_adapters.gemini import GeminiProvider
from tests.worlds.processes import MODEL, Processes, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tests.valkey_server import ValkeyServer

ROW = b'{"key":"k","request":{"contents":[{"parts":[{"text":"x"}]}]}}\n'


async def created(world: Processes, home: str) -> str:
    """A job of a batch that no record knows, under this home's name."""

    async def row() -> AsyncGenerator[bytes]:
        yield ROW

    token = job_token(home, "00b" + "a" * 20, 7)
    provider = GeminiProvider(
        api_key="emulated-local", account="emulated.local", base_url=world.emulator.url, emulate=True
    )
    try:
        file = await provider.upload(row(), size_bytes=len(ROW), name=token.rpartition("-")[0])
        return await provider.create(model=MODEL, kind=Kind.GENERATE, file=file, token=token)
    finally:
        await provider.aclose()


async def test_workers_look_by_themselves(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """While one batch is open two workers find the unknown job, count it once, compare it, and let it run."""
    async with Processes(tmp_path, valkey, queue_name, job_s=3600.0) as world:
        for _ in range(2):
            world.start_worker()
        await world.submit(["one"])

        async def begun() -> bool:
            return (await world.store.counts()).get("created", 0) == 1

        await until(begun, what="a job")
        job = await created(world, (await world.store.server("emulated.local")).home)

        async def compared() -> bool:
            noted = await world.store.unknown_jobs("emulated.local")
            return [(one.job, one.counted, one.compared) for one in noted] == [(job, True, "running")]

        await until(compared, what="seen, counted and compared")
        assert (await world.store.counts())["unknown_jobs"] == 1
        assert [each["path"] for each in world.emulator.requests() if each["path"].endswith(":cancel")] == []
        assert await world.store.held_reason("emulated.local") == ""
