"""arq's own connection: on the same kind of pool as the store's, so that sentinels, TLS files and ``?db=`` count.

A sweep's jobs are written together, in one round trip. ``ArqRedis.enqueue_job`` takes three for each, to tell its
caller whether the job was there before, which nobody here needs to know: a hint may be doubled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from arq.connections import ArqRedis
from arq.constants import job_key_prefix
from arq.jobs import serialize_job
from arq.utils import timestamp_ms
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gemqueue.connections.pools import make_pool

if TYPE_CHECKING:
    from collections.abc import Sequence

EXPIRES_MS = 8 * 24 * 3600 * 1000
_NO_JOB: dict[str, Any] = {"t": 1, "f": "unreadable", "a": (), "k": {}, "et": 0}
"""In the place of a job that cannot be read: arq says that there is no such function, and drops it."""


def read_job(raw: bytes) -> dict[str, Any]:
    """A job as arq stores it. What is none costs a line of the log, and no traceback."""
    try:
        job = msgspec.msgpack.decode(raw, type=dict[str, Any])
    except (ValueError, RecursionError):  # msgspec's errors are some of the former
        return _NO_JOB
    return job if _NO_JOB.keys() <= job.keys() else _NO_JOB


def write_job(job: object) -> bytes:
    """A job, or a result, for arq; an exception in it is written as its words."""
    return msgspec.msgpack.encode(job, enc_hook=repr)


class ArqClient(ArqRedis):
    """arq's client, whose worker outlives a full server."""

    async def psetex(self, *args: Any, **kwargs: Any) -> Any:
        """Arq writes its health mark by this alone, and would end when the server refuses it for want of memory."""
        try:
            return await super().psetex(*args, **kwargs)
        except OutOfMemoryError:
            return False

    async def enqueue_steps(self, steps: Sequence[tuple[str, str, str]], queue_name: str) -> None:
        """Write the jobs of steps (name, id, job id), all or none; one that is there already stays where it is.

        They run in this order: arq's scores are in ms, and members of one score would go by their names.

        Raises OutOfMemoryError when the server is full.
        """
        now_ms = timestamp_ms()
        async with self.pipeline(transaction=True) as pipe:
            for name, id_, job_id in steps:
                job = serialize_job(name, (id_,), {}, None, now_ms, serializer=self.job_serializer)
                pipe.psetex(job_key_prefix + job_id, EXPIRES_MS, job)
            scores = {job_id: now_ms - 1 + n / (len(steps) + 1) for n, (*_, job_id) in enumerate(steps)}
            pipe.zadd(queue_name, scores, nx=True)
            await pipe.execute()


def make_arq_client(url: str, queue_name: str) -> ArqClient:
    """The client of one arq queue; arq's ``RedisSettings`` would drop the URL's query, and with sentinels the timeouts.

    Raises ConfigError when the URL cannot be read.
    """
    pool = make_pool(
        url,
        retry=Retry(ExponentialBackoff(cap=2.0, base=0.05), 8),
        retry_on_timeout=True,
        retry_on_error=[OSError, RedisConnectionError, RedisTimeoutError],
    )
    return ArqClient(
        pool,
        job_serializer=write_job,
        job_deserializer=read_job,
        default_queue_name=queue_name,
        expires_extra_ms=EXPIRES_MS,
    )
