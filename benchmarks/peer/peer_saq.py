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


async def produce(count):
    """Enqueue all, hold every result."""
    await queue.connect()
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
