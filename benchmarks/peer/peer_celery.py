"""celery: one no-op job per prompt."""

import os

from celery import Celery, group
from peer import ANSWER, main, payloads

SOCKET = os.environ["PEER_SOCKET"]
app = Celery("peer_celery", broker=f"redis+socket://{SOCKET}", backend=f"redis+socket://{SOCKET}")
app.conf.update(
    worker_prefetch_multiplier=64,  # for short tasks, says its guide to optimising
    worker_disable_rate_limits=True,
    broker_pool_limit=50,
    broker_connection_retry_on_startup=True,
)


@app.task(name="answer")
def answer(payload):
    """No work."""
    return ANSWER


def produce(count):
    """Enqueue all, hold every result."""
    return group(answer.s(payload) for payload in payloads(count)).apply_async().get(timeout=600)


if __name__ == "__main__":
    main(produce)
