"""A worker is started again when its server fails it, whatever its jobs were at."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import pytest
from arq.worker import func
from redis.exceptions import RedisError

from gemqueue_workers.worker.arq_client import make_arq_client
from gemqueue_workers.worker.arq_worker import PromptWorker, run_once
from tests.worlds.processes import until

if TYPE_CHECKING:
    from tests.valkey_server import ValkeyServer


@pytest.mark.filterwarnings("ignore:Call to deprecated close")  # arq's
async def test_a_job_that_was_cancelled_does_not_end_the_process(valkey: ValkeyServer, queue_name: str) -> None:
    """When arq ends at an error of the server, a job that is cancelled for it does not hide that error."""

    async def step(_: dict[Any, Any], id_: str) -> None:
        """Never called: the job that counts stands in a call to the server."""

    name = f"{queue_name}:arq"
    worker = PromptWorker(
        0.1,
        120.0,
        functions=[func(cast("Any", step), name="pack")],
        queue_name=name,
        redis_pool=make_arq_client(valkey.url, name),
        handle_signals=False,
    )
    running = asyncio.create_task(run_once(worker))

    async def begun() -> bool:
        return "redis" in worker.ctx

    await until(begun, what="the worker has begun")
    worker.tasks["job"] = asyncio.create_task(asyncio.Event().wait())
    other: Any = make_arq_client(valkey.url, name)
    await other.set(name, "no queue")
    with pytest.raises(RedisError):
        await running
    await other.delete(name)
    await other.connection_pool.disconnect()
