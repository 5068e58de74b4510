"""Workers of 0.2.0 and of this version on the same input files: one deletes them early, the other keeps them.

0.2.0 is a commit of this repository; a clone without its history has nothing to stand beside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.states import BatchState
from tests.worlds.processes import Processes, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.valkey_server import ValkeyServer


async def test_old_and_new_workers_share_jobs_and_files(
    valkey: ValkeyServer, queue_name: str, tmp_path: Path, old_path: str
) -> None:
    """Either tracks and resolves what the other has submitted: each prompt is answered once, and no file is left."""
    if not old_path:
        return
    async with Processes(tmp_path, valkey, queue_name, job_s=0.5, storage_max_bytes=10**6) as world:
        await world.submit([f"prompt {n}" for n in range(40)], segment_prompts=4)
        old = world.start_worker(PYTHONPATH=old_path)

        async def created() -> bool:
            return (await world.store.counts()).get("created", 0) > 0

        await until(created, what="a job of the old worker's")
        new = world.start_worker(GEMQUEUE_STORED_BYTES_MAX="3000", GEMQUEUE_PROMPT_BYTES_MAX="3000")
        await world.submit([f"more {n} [[fault:internal:1]]" for n in range(40)], segment_prompts=4)
        await world.drained()
        await world.judge()
        assert (old.alive, new.alive) == (True, True)
        counts = await world.store.counts()
        assert (counts["answered"], counts.get("inputs_missed", 0), counts.get("unreserved", 0)) == (80, 0, 0)


async def test_a_batch_that_missed_its_input_is_left_to_new_workers(
    valkey: ValkeyServer, queue_name: str, tmp_path: Path, old_path: str
) -> None:
    """An old worker would delete the next file, too: it does not touch the batch, which is answered by the new one."""
    if not old_path:
        return
    async with Processes(tmp_path, valkey, queue_name, job_s=3.0) as world:
        world.emulator.faults([{"on": "job", "do": "needs_input_running"}])
        tracker = world.start_worker("track", GEMQUEUE_DELETE_FILES="running")
        old = world.start_worker("pack", "submit", "resolve", PYTHONPATH=old_path)
        await world.submit([f"prompt {n}" for n in range(12)])

        async def restarted() -> bool:
            return (await world.store.counts()).get("inputs_missed", 0) == 1

        await until(restarted, what="a job that missed its input")
        (id_,) = await world.store.open_batches()
        tracker.kill()

        async def left_alone() -> bool:
            return "of a newer gemqueue" in (tmp_path / "workers.log").read_text()

        await until(left_alone, what="the old worker has met the batch")
        record = await world.store.batch(id_)
        assert record is not None
        assert record.state is BatchState.SEALED
        world.start_worker(GEMQUEUE_DELETE_FILES="running")
        await world.drained()
        await world.judge()
        assert old.alive
        counts = await world.store.counts()
        assert (counts["answered"], counts["created"], counts.get("returned", 0)) == (12, 2, 0)
