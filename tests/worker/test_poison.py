"""A batch at whose steps workers keep dying."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from tests.worlds.processes import Processes, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.valkey_server import ValkeyServer
    from tests.worlds.processes import WorkerProcess


async def test_a_batch_that_kills_workers_waits_and_is_tried_again(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """After crashes_max deaths the batch is held, with the reason in record and log; then it is tried, and ends."""
    async with Processes(tmp_path, valkey, queue_name, {"crashes_max": 2, "lease_s": 1.6}) as world:
        await world.submit(["one", "two"])
        for _ in range(2):
            doomed = world.start_worker(GEMQUEUE_CRASH_AT="submit.upload:before:1")
            await until(partial(_dead, doomed), what="dead")
        world.start_worker()
        reasons: set[str] = set()

        async def held_then_finished() -> bool:
            batches = [await world.store.batch(id_) for id_ in await world.store.open_batches()]
            reasons.update(batch.held_reason for batch in batches if batch is not None and batch.held_reason)
            return await world.finished()

        await until(held_then_finished, what="finished")
        assert [reason for reason in reasons if reason.startswith("crashes: 2 leases")] != []
        assert "step.kills_workers" in (world.folder / "workers.log").read_text()
        await world.drained()
        assert all("response" in outcome for outcome in (await world.judge()).values())


async def _dead(worker: WorkerProcess) -> bool:
    return not worker.alive
