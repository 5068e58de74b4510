"""taskiq over Redis streams: one no-op job per prompt."""

import os

from peer import ANSWER, bounded, main, payloads
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
    tasks = await bounded(answer.kiq, payloads(count))
    results = await bounded(lambda task: task.wait_result(check_interval=0.1, timeout=600), tasks)
    await broker.shutdown()
    return [result.return_value for result in results]


if __name__ == "__main__":
    main(produce)
