"""Workers of 0.2.0 beside a provider that is not believed: they conclude at their first look, and must not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.policy.beliefs import RECORD_VERSION
from gemqueue.states import BatchState
from tests.worlds.processes import Processes, until

if TYPE_CHECKING:
    from pathlib import Path

    from gemqueue.records import Batch
    from tests.valkey_server import ValkeyServer


async def test_a_batch_under_a_belief_is_left_to_new_workers(
    valkey: ValkeyServer, queue_name: str, tmp_path: Path, old_path: str
) -> None:
    """A job said to have failed is looked at again by a new worker alone, which reads its results."""
    if not old_path:
        return
    async with Processes(tmp_path, valkey, queue_name, settings={"belief_s": 3600.0}, job_s=1.0) as world:
        world.emulator.lies([{"route": "get", "kind": "failed"}])
        new = world.start_worker()
        await world.submit([f"prompt {n}" for n in range(12)])

        async def believing() -> list[Batch]:
            found = [await world.store.batch(id_) for id_ in await world.store.open_batches()]
            return [batch for batch in found if batch is not None and batch.seen_n]

        async def is_believing() -> bool:
            return await believing() != []

        await until(is_believing, what="a job that is said to have failed")
        new.kill()
        old = world.start_worker(PYTHONPATH=old_path)

        async def left_alone() -> bool:
            return "of a newer gemqueue" in (tmp_path / "workers.log").read_text()

        await until(left_alone, what="the old worker has met the batch")
        (record,) = await believing()
        assert (record.state, record.v, record.seen_what) == (BatchState.ENDED, RECORD_VERSION, "no_output failed")
        world.emulator.lies([])
        world.start_worker()
        await world.drained()
        await world.judge()
        assert old.alive
        counts = await world.store.counts()
        assert (counts["answered"], counts["created"], counts.get("returned", 0)) == (12, 1, 0)
