"""taskiq over Redis streams: one no-op job per prompt."""

import asyncio
import os

from peer import ANSWER, main, payloads
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

URL = f"unix://{os.environ['PEER_SOCKET']}"
broker = RedisStreamBroker(URL).with_result_backend(RedisAsyncResultBackend(URL, result_ex_time=600))


@broker.task(task_name="answer")
async def answer(payload):
    """No work."""
    return ANSWER


async def produce(count):
    """Enqueue all, hold every result."""
    await broker.startup()
    tasks = await asyncio.gather(*(answer.kiq(payload) for payload in payloads(count)))
    results = await asyncio.gather(*(task.wait_result(check_interval=0.02, timeout=600) for task in tasks))
    await broker.shutdown()
    return [result.return_value for result in results]


if __name__ == "__main__":
    main(produce)
