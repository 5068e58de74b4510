"""rq: one no-op job per prompt."""

import os

from peer import ANSWER, main, payloads


def answer(payload):
    """No work."""
    return ANSWER


def produce(count):
    """Enqueue all, hold every result."""
    from redis import Redis
    from rq import Queue

    queue = Queue("bench", connection=Redis(unix_socket_path=os.environ["PEER_SOCKET"]))
    jobs = queue.enqueue_many([Queue.prepare_data("peer_rq.answer", (payload,)) for payload in payloads(count)])
    return [job.latest_result(timeout=600).return_value for job in jobs]


if __name__ == "__main__":
    main(produce)
