"""arq's own connection: on the same kind of pool as the store's, so that sentinels, TLS files and ``?db=`` count."""

from __future__ import annotations

from typing import Any

import msgspec
from arq.connections import ArqRedis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gemqueue.connections import make_pool

EXPIRES_MS = 8 * 24 * 3600 * 1000


class Alarms(ArqRedis):
    """arq's client, whose worker outlives a full server."""

    async def psetex(self, *args: Any, **kwargs: Any) -> Any:
        """Arq writes its health mark by this alone, and would end when the server refuses it for want of memory."""
        try:
            return await super().psetex(*args, **kwargs)
        except OutOfMemoryError:
            return False


def alarms(url: str, queue_name: str) -> Alarms:
    """The client of one arq queue; arq's ``RedisSettings`` would drop the URL's query, and with sentinels the timeouts.

    Raises ConfigError when the URL cannot be read.
    """
    pool = make_pool(
        url,
        retry=Retry(ExponentialBackoff(cap=2.0, base=0.05), 8),
        retry_on_timeout=True,
        retry_on_error=[OSError, RedisConnectionError, RedisTimeoutError],
    )
    return Alarms(
        pool,
        job_serializer=msgspec.msgpack.encode,
        job_deserializer=msgspec.msgpack.decode,
        default_queue_name=queue_name,
        expires_extra_ms=EXPIRES_MS,
    )
