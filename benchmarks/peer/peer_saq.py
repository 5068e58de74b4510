"""saq: one no-op job per prompt."""

import asyncio
import os

from peer import ANSWER, bounded, main, payloads
from redis.asyncio import Redis
from saq import Status
from saq.queue.redis import RedisQueue

WINDOW = 500
queue = RedisQueue(Redis.from_url(f"unix://{os.environ['PEER_SOCKET']}"))


async def answer(_ctx, *, payload):
    """No work."""
    return ANSWER


settings = {"queue": queue, "functions": [answer], "concurrency": 50}


async def worker_ready():
    """Wait for the worker's first sweep, which gives up jobs that are already under way when it comes."""
    swept = "saq:default:sweep"  # there for a minute, so that only the warm-up waits
    if not await queue.redis.exists(swept):
        while not await queue.redis.exists(swept):
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)


async def produce(count):
    """Enqueue all, hold every result."""
    await queue.connect()
    await worker_ready()
    jobs = await bounded(lambda payload: queue.enqueue("answer", payload=payload, timeout=600), payloads(count))
    left, answers = [job.key for job in jobs], {}
    while left:
        first = left[:WINDOW]  # jobs are done in about the order in which they came
        for job in await queue.jobs(first):
            if job is not None and job.status == Status.COMPLETE:
                answers[job.key] = job.result
        left = [key for key in first if key not in answers] + left[WINDOW:]
        if len(left) and left[0] == first[0]:
            await asyncio.sleep(0.05)
    return [answers[job.key] for job in jobs]


if __name__ == "__main__":
    main(produce)
