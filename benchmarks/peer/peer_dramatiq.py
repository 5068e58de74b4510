"""dramatiq: one no-op job per prompt."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from peer import ANSWER, main, payloads, threaded

URL = f"unix://{os.environ['PEER_SOCKET']}"
broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True, queue_name="bench", actor_name="answer")
def answer(payload):
    """No work."""
    return ANSWER


def produce(count):
    """Enqueue all, hold every result."""
    messages = threaded(answer.send, payloads(count))
    return threaded(lambda message: message.get_result(block=True, timeout=600_000), messages)


if __name__ == "__main__":
    main(produce)
