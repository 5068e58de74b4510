"""saq: one no-op job per prompt."""

import asyncio
import os

from peer import ANSWER, bounded, main, payloads
from redis.asyncio import Redis
from saq.queue.redis import RedisQueue

queue = RedisQueue(Redis.from_url(f"unix://{os.environ['PEER_SOCKET']}"))


async def answer(_ctx, *, payload):
    """No work."""
    return ANSWER


settings = {"queue": queue, "functions": [answer], "concurrency": 50}


async def produce(count):
    """Enqueue all, hold every result."""
    await queue.connect()
    jobs = await bounded(lambda payload: queue.enqueue("answer", payload=payload, timeout=600), payloads(count))
    keys = [job.key for job in jobs]
    answers = {}
    while len(answers) < count:
        left = [key for key in keys if key not in answers]
        for start in range(0, len(left), 500):
            for job in await queue.jobs(left[start : start + 500]):
                if job is not None and job.completed:
                    answers[job.key] = job.result
        await asyncio.sleep(0.1)
    return [answers[key] for key in keys]


if __name__ == "__main__":
    main(produce)
