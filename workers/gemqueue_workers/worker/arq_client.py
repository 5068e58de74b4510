"""arq's own connection: on the same kind of pool as the store's, so that sentinels, TLS files and ``?db=`` count.

A sweep's jobs are written together, in one round trip. ``ArqRedis.enqueue_job`` takes three for each, to tell its
caller whether the job was there before, which nobody here needs to know: a hint may be doubled.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, cast

import arq.worker
import msgspec
from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.constants import job_key_prefix
from arq.jobs import serialize_job
from arq.utils import timestamp_ms
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gemqueue.connections.pools import make_pool
from gemqueue.errors import GemqueueError
from gemqueue.store.scripts import translated
from gemqueue_workers.inspection import Inspection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gemqueue.store.base import StoreBase

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


_MARKS_MISSED: Final = 3
_GREETING: Final[dict[str, Any]] = {"INFO": {}, "DBSIZE": "?"}
"""What arq asks of a server when its worker starts, only to log it, and what it logs where that is refused."""


class _ArqPipeline(Pipeline):
    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        asked = [str(args[0]) for args, _ in cast("Any", self).command_stack]
        if not asked or not _GREETING.keys() >= set(asked):
            return await super().execute(raise_on_error)
        replies: list[Any] = await super().execute(raise_on_error=False)
        return [
            _GREETING[name] if isinstance(said, ResponseError) else said
            for name, said in zip(asked, replies, strict=True)
        ]


class ArqClient(ArqRedis):
    """arq's client, whose worker outlives a full server, and one that tells nothing of itself."""

    async def psetex(self, name: Any, time_ms: Any, value: Any) -> Any:
        """Arq writes its health mark by this alone, and would end when the server refuses it for want of memory.

        The mark stays while three are late: arq writes the next one just when this one would go.
        """
        try:
            return await super().psetex(name, _MARKS_MISSED * time_ms, value)
        except OutOfMemoryError:
            return False

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Any:
        """As redis-py's; what arq asks at its start may be refused."""
        pool: Any = self.connection_pool
        made: Any = _ArqPipeline
        return made(pool, cast("Any", self).response_callbacks, transaction, shard_hint)

    async def try_out(self, store: StoreBase, queue_name: str) -> None:
        """Whether the server lets arq work. Raises ServerRefuses with the way out, StoreUnavailable."""
        await Inspection(store).try_jobs(queue_name)

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


def make_arq_client(url: str, queue_name: str, name: str = "") -> ArqClient:
    """The client of one arq queue; arq's ``RedisSettings`` would drop the URL's query, and with sentinels the timeouts.

    Raises ConfigError when the URL cannot be read.
    """
    return _client(
        url,
        queue_name,
        client_name=name,
        retry=Retry(ExponentialBackoff(cap=2.0, base=0.05), 8),
        retry_on_timeout=True,
        retry_on_error=[OSError, RedisConnectionError, RedisTimeoutError],
    )


def _client(url: str, queue_name: str, **options: Any) -> ArqClient:
    return ArqClient(
        make_pool(url, **options),
        job_serializer=write_job,
        job_deserializer=read_job,
        default_queue_name=queue_name,
        expires_extra_ms=EXPIRES_MS,
    )


@dataclasses.dataclass
class UrlSettings(RedisSettings):
    """What ``arq --check`` takes from a settings class, with the URL itself."""

    url: str = dataclasses.field(default="", repr=False)


def check_settings(url: str) -> UrlSettings:
    """Have ``arq --check`` ask the server of the URL.

    It makes a pool of ``RedisSettings``, which have no place for a certificate's name or a sentinel's login, and says
    in a traceback what it cannot reach. So its pool is made here.
    """
    cast("Any", arq.worker).create_pool = _create_pool
    return UrlSettings(url=url)


async def _create_pool(settings: RedisSettings | None = None, **options: Any) -> ArqRedis:
    if not isinstance(settings, UrlSettings):
        return await create_pool(settings, **options)
    try:
        client = _client(settings.url, "")
        with translated(settings.url):
            await cast("Any", client).ping()
    except GemqueueError as error:
        raise SystemExit(f"gemqueue: {error}") from None
    return client
