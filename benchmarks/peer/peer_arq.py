"""arq: one no-op job per prompt."""

import asyncio
import os
from typing import ClassVar

from arq import create_pool
from arq.connections import RedisSettings
from peer import ANSWER, main, payloads

REDIS = RedisSettings(unix_socket_path=os.environ["PEER_SOCKET"])


async def answer(_ctx, _payload):
    """No work."""
    return ANSWER


class Settings:
    """The worker, with the poll and the concurrency that suit many small jobs."""

    functions: ClassVar = [answer]
    redis_settings = REDIS
    max_jobs = 200
    poll_delay = 0.01


async def produce(count):
    """Enqueue all, hold every result."""
    pool = await create_pool(REDIS)
    jobs = await asyncio.gather(*(pool.enqueue_job("answer", payload) for payload in payloads(count)))
    return await asyncio.gather(*(job.result(poll_delay=0.02) for job in jobs))


if __name__ == "__main__":
    main(produce)
