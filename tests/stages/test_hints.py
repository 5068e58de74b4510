"""Arq's jobs as hints: written together, started together, and none where a step goes on by itself."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from arq.constants import in_progress_key_prefix
from arq.worker import func

from gemqueue.states import BatchState, Step
from gemqueue.store.scripts import ServerRefuses
from gemqueue.store.store import Store
from gemqueue_workers.settings import ROLES
from gemqueue_workers.stages.loop import run_steps
from gemqueue_workers.worker.arq_client import make_arq_client
from gemqueue_workers.worker.arq_worker import PromptWorker
from gemqueue_workers.worker.sweeper import Sweeper
from tests.worlds.processes import until
from tests.worlds.stages import ACCOUNT, Stages, open_stages, start_emulator

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tests.valkey_server import ValkeyServer


@asynccontextmanager
async def ended_job(url: str, queue: str, folder: Path) -> AsyncGenerator[tuple[Stages, str]]:
    """Stages with one batch, whose job has ended and is due for a look."""
    emulator = start_emulator(folder)
    try:
        async with open_stages(url, queue, emulator) as stages:
            await stages.submit("one", "two")
            batch = await stages.submitted()
            stages.jobs_end()
            yield stages, batch
    finally:
        emulator.kill()


async def test_a_batch_is_resolved_by_the_step_that_sees_its_job_end(
    valkey: ValkeyServer, queue_name: str, tmp_path: Path
) -> None:
    """Tracking goes on to resolving by itself, under a claim of its own, and looks at the job only once."""
    async with ended_job(valkey.url, queue_name, tmp_path) as (stages, batch):
        before = len(stages.emulator.requests())
        assert await run_steps(stages.kit, stages.handlers, Step.TRACK, batch, lambda: True)
        record = await stages.store.batch(batch)
        assert record is not None
        assert (record.state, record.fence) == (BatchState.CLOSED, 3)
        asked = [each["point"] for each in stages.emulator.requests()[before:]]
        assert asked == ["get", "download"]


async def test_a_worker_that_stops_begins_no_further_step(
    valkey: ValkeyServer, queue_name: str, tmp_path: Path
) -> None:
    """Told to end, or without the role, a worker leaves the next step in the due index."""
    async with ended_job(valkey.url, queue_name, tmp_path) as (stages, batch):
        assert await run_steps(stages.kit, stages.handlers, Step.TRACK, batch, lambda: False)
        assert [member for member, _ in await stages.store.overdue(ACCOUNT, ROLES)] == [f"resolve {batch}"]
        assert not await run_steps(stages.kit, stages.handlers, Step.TRACK, batch, lambda: True)
        assert await run_steps(stages.kit, stages.handlers, Step.RESOLVE, batch, lambda: True)
        assert not await stages.store.open_batches()


async def test_a_step_that_waits_is_hinted_at_once_a_sweep_time(
    valkey: ValkeyServer, queue_name: str, tmp_path: Path
) -> None:
    """The sweeps in between write nothing; jobs that arq has lost are back after ``sweep_s``."""
    async with ended_job(valkey.url, queue_name, tmp_path) as (stages, _):
        name = f"{queue_name}:arq"
        pool: Any = make_arq_client(valkey.url, name)
        sweeper = Sweeper(stages.kit, pool, name, ROLES, _nothing)
        await sweeper.sweep()
        assert await pool.zcard(name) == 1
        await pool.delete(name)
        await sweeper.sweep()
        assert await pool.zcard(name) == 0
        stages.clock.advance(stages.settings.sweep_s)
        await sweeper.sweep()
        assert await pool.zcard(name) == 1
        await pool.delete(name)
        await pool.connection_pool.disconnect()


async def test_a_pools_lane_that_cannot_be_read_stops_no_sweep(
    valkey: ValkeyServer, queue_name: str, tmp_path: Path
) -> None:
    """The lane of a newer version stays due, and what is due beside it gets its job."""
    async with ended_job(valkey.url, queue_name, tmp_path) as (stages, _):
        name, lane = f"{queue_name}:arq", "emulated.pool.shared/m/paint/batch"
        pool: Any = make_arq_client(valkey.url, name)
        kit = msgspec.structs.replace(stages.kit, pool="emulated.pool.shared")
        await stages.store.redis.zadd(stages.store.key("due", kit.pool), {f"pack {lane}": 1})
        await Sweeper(kit, pool, name, ROLES, _nothing).sweep()
        assert await pool.zcard(name) == 1
        assert [member for member, _ in await stages.store.overdue(kit.pool, ROLES)] == [f"pack {lane}"]
        await pool.delete(name)
        await pool.connection_pool.disconnect()


async def test_the_first_sweep_shows_that_arq_cannot_work(
    valkey: ValkeyServer, queue_name: str, tmp_path: Path
) -> None:
    """A user without arq's keys fails a sweep that finds nothing due, with the line that is missing, and then not."""
    async with ended_job(valkey.url, queue_name, tmp_path) as (stages, _):
        user, admin = f"u{queue_name}", stages.store.redis
        await admin.execute_command("ACL", "SETUSER", user, "on", ">pw", "~{gq:*", "~gq:*", "&*", "+@all")
        url = valkey.url.replace("unix://", f"unix://{user}:pw@")
        store, name = Store(url, stages.settings, stages.clock), f"gq:{queue_name}:arq"
        pool: Any = make_arq_client(url, name)
        sweeper = Sweeper(msgspec.structs.replace(stages.kit, store=store), pool, name, (Step.RESCUE,), _nothing)
        missing = f"a worker needs: ACL SETUSER {user} ~arq:job:gq:{queue_name}:* "
        with pytest.raises(ServerRefuses, match=re.escape(missing)):
            await sweeper.sweep()
        await admin.execute_command("ACL", "SETUSER", user, "~arq:*")
        await sweeper.sweep()
        await admin.execute_command("ACL", "DELUSER", user)
        await store.aclose()
        await pool.connection_pool.disconnect()


async def test_what_follows_a_running_step_is_not_hinted_at_until_that_ends(
    valkey: ValkeyServer, queue_name: str, tmp_path: Path
) -> None:
    """While a look runs here, its batch's resolving is left to it; when it ends without, a sweep is asked for."""
    async with ended_job(valkey.url, queue_name, tmp_path) as (stages, batch):
        name = f"{queue_name}:arq"
        pool: Any = make_arq_client(valkey.url, name)
        sweeper: Any = Sweeper(stages.kit, pool, name, ROLES, _nothing)
        with sweeper.under_way(Step.TRACK, batch):
            await stages.step(Step.TRACK, batch)
            await sweeper.sweep()
            assert await pool.zcard(name) == 0
            sweeper._wake.clear()
        assert sweeper._wake.is_set()
        await sweeper.sweep()
        assert await pool.zcard(name) == 1
        await pool.delete(name)
        await pool.connection_pool.disconnect()


async def test_jobs_of_one_sweep_run_in_its_order(valkey: ValkeyServer, queue_name: str) -> None:
    """What has been due for longest runs first, whatever the steps are called."""
    name = f"{queue_name}:arq"
    pool: Any = make_arq_client(valkey.url, name)
    steps = [("track", str(n), f"{name}:{99 - n}") for n in range(50)]
    await pool.enqueue_steps(steps, name)
    written = await pool.zrange(name, 0, -1, withscores=True)
    assert [job_id.decode() for job_id, _ in written] == [job_id for *_, job_id in steps]
    assert written[-1][1] - written[0][1] < 1
    for *_, job_id in steps:
        await pool.delete(f"arq:job:{job_id}")
    await pool.delete(name)
    await pool.connection_pool.disconnect()


async def test_jobs_start_together_and_each_once(valkey: ValkeyServer, queue_name: str) -> None:
    """Of two workers each job runs at one; neither takes more than its slots, nor what has ended meanwhile."""
    name = f"{queue_name}:arq"
    ran: list[str] = []
    gate = asyncio.Event()

    async def step(ctx: dict[Any, Any], id_: str) -> None:  # noqa: ARG001 - arq's own name
        ran.append(id_)
        await gate.wait()

    def worker() -> Any:
        return PromptWorker(
            1.0,
            120.0,
            functions=[func(cast("Any", step), name="pack", keep_result=0, timeout=5)],
            queue_name=name,
            redis_pool=make_arq_client(valkey.url, name),
            handle_signals=False,
            max_jobs=3,
            job_deserializer=make_arq_client(valkey.url, name).job_deserializer,
        )

    one, two = worker(), worker()
    steps = [("pack", str(n), f"{name}:{n}") for n in range(5)]
    await one.pool.enqueue_steps(steps, name)
    await one.pool.enqueue_steps(steps, name)
    ids = [job_id.encode() for *_, job_id in steps]
    for _ in range(2):
        await asyncio.gather(one.start_jobs(ids), two.start_jobs(ids))

    async def all_run() -> bool:
        return len(ran) == 5

    await until(all_run, what="all run")
    assert sorted(ran) == [str(n) for n in range(5)]
    assert max(one.job_counter, two.job_counter) == 3
    taken = await two.pool.keys(f"{in_progress_key_prefix}{name}:*")
    assert len(taken) == 5
    assert all([0 < await two.pool.ttl(key) <= 120 for key in taken])  # arq's own six hours would outlive a dead worker
    gate.set()
    await asyncio.gather(*one.tasks.values(), *two.tasks.values())
    await two.start_jobs([*ids, b"unheard-of"])
    assert (len(ran), two.job_counter, await two.pool.zcard(name)) == (5, 0, 0)
    assert not await two.pool.keys(f"{in_progress_key_prefix}*unheard-of")
    for each in (one, two):
        await each.pool.connection_pool.disconnect()


async def _nothing(_step: Step, _id: str) -> None:
    """What a full server's sweeper would run here."""
