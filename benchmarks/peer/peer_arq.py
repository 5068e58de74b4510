"""arq: one no-op job per prompt."""

import os
from typing import ClassVar

from arq import create_pool
from arq.connections import RedisSettings
from peer import ANSWER, bounded, main, payloads

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
    jobs = await bounded(lambda payload: pool.enqueue_job("answer", payload), payloads(count))
    return await bounded(lambda job: job.result(poll_delay=0.1), jobs)


if __name__ == "__main__":
    main(produce)
