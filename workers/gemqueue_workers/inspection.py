"""What can be seen of a server: its own words, the rights of its user, and whether it does what the queue asks of it.

What is tried leaves nothing: scratch keys have a TTL of a second, and calls that show a right are queued and dropped.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import msgspec

from gemqueue.connections.replies import said_by
from gemqueue.policy.rights import Side, multi_rights, rights_of, why_missing
from gemqueue.policy.servers import cleaned, refusal
from gemqueue.store.scripts import ServerError, ServerRefuses, translated
from gemqueue.urls import names_cluster, safe_url, url_parts

if TYPE_CHECKING:
    from gemqueue.store.base import StoreBase

_SCRATCH_MS: Final = 1000
_SCRIPT: Final = "redis.call('SET', KEYS[1], ARGV[1], 'PX', 1000) return redis.call('GET', KEYS[1])"


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of itself; what it does not say is empty, and ``None`` where that is a word of its own."""

    info: dict[str, Any] = {}
    config: dict[str, str] = {}
    version: str = ""
    role: str = ""
    """``master`` or ``slave``."""
    mode: str = ""
    """``standalone`` or ``cluster``."""


class Inspection:
    """Looks at the server of a store. Raises StoreUnavailable where it is away."""

    def __init__(self, store: StoreBase) -> None:
        self._store = store
        self.url = store.url

    async def seen(self) -> Seen:
        """What ``INFO`` and ``CONFIG`` tell, and what ``HELLO`` tells where ``INFO`` is refused."""
        info = await self._store.server_info()
        hello = {} if info else await self._hello()
        return Seen(
            info=info,
            config=await self._store.server_config(),
            version=str(info.get("valkey_version") or info.get("redis_version") or hello.get("version", "")),
            role=str(info.get("role") or hello.get("role", "")).replace("replica", "slave"),
            mode=_mode(info) or hello.get("mode", ""),
        )

    async def _hello(self) -> dict[str, str]:
        try:
            raw: Any = await self._store.redis.execute_command("HELLO")
        except ServerError:
            return {}
        flat: list[Any] = raw if not hasattr(raw, "items") else [part for pair in raw.items() for part in pair]
        said: dict[bytes, Any] = dict(zip(flat[::2], flat[1::2], strict=False))
        return {name.decode(): value.decode() for name, value in said.items() if isinstance(value, bytes)}

    async def try_script(self) -> None:
        """Run a script that writes and reads a scratch key. Raises ServerRefuses."""
        token = secrets.token_hex(6)
        with translated(self.url):
            key = self._store.key("scratch", token)
            reply: bytes = await self._store.redis.eval(_SCRIPT, 1, key, token)
        if reply != token.encode():
            raise ServerRefuses(f"Redis at {safe_url(self.url)} runs a script and does not keep what it wrote")

    async def try_jobs(self, queue_name: str) -> None:
        """What arq does with a job, in its transaction: watch it, write it, queue it, and end it. Raises ServerRefuses.

        A worker whose user lacks a right gets a sentence that names all that it lacks.
        """
        if missing := await self.missing(Side.WORKER):
            raise ServerRefuses(self.why(Side.WORKER, missing))
        job = f"{queue_name}:scratch:{secrets.token_hex(6)}"
        keys = [f"arq:{place}:{job}" for place in ("job", "in-progress", "retry", "result")]
        scratch = f"{queue_name}:scratch"
        with translated(self.url):
            async with self._store.redis.pipeline(transaction=True) as pipe:
                await pipe.watch(keys[0])
                pipe.multi()
                pipe.psetex(keys[0], _SCRATCH_MS, b"")
                pipe.zadd(scratch, {job: 1})
                pipe.pexpire(scratch, _SCRATCH_MS)
                pipe.delete(*keys)
                pipe.zrem(scratch, job)
                pipe.zrem("arq:abort", job)
                await pipe.execute()

    async def missing(self, side: Side) -> list[str]:
        """The rights that a side lacks, as an ACL line names them; empty where nothing is refused."""
        settings = self._store.settings
        kind = {"replicated": self._store.replicated, "by_arq": not names_cluster(self.url)}
        rights = rights_of(side, settings.queue, self._store.prefix, **kind)
        rights.sort(key=lambda right: right.call[0] != "watch")  # nobody may watch once MULTI was said
        calls = [right.call for right in rights]
        start = sum(call[0] == "watch" for call in calls)
        replies = await self._replies([*calls[:start], ("multi",), *calls[start:], ("discard",)])
        if is_refusal(replies.pop(start)):
            return multi_rights()
        refused = [(right, reply) for right, reply in zip(rights, replies, strict=False) if is_refusal(reply)]
        return list(dict.fromkeys(right.lacking(cleaned(said_by(reply))) for right, reply in refused))

    async def _replies(self, calls: list[tuple[str, ...]]) -> list[Any]:
        pipe: Any = self._store.redis.pipeline(transaction=False)
        pipe.response_callbacks = {}  # they would read "QUEUED" as each command's own reply
        for call in calls:
            pipe.execute_command(*call)
        with translated(self.url):
            replies: list[Any] = await pipe.execute(raise_on_error=False)
        return replies

    def why(self, side: Side, missing: list[str], *, short: bool = False) -> str:
        """The sentence that says so; ``short`` without its subject."""
        user = unquote(url_parts(self.url).login.partition(":")[0])
        said = why_missing(side, missing, user)
        return said if short else f"Redis at {safe_url(self.url)} {said}"


def is_refusal(reply: Any) -> bool:
    """Whether a reply says that a right or a command is missing."""
    return isinstance(reply, ServerError) and bool(refusal(cleaned(said_by(reply))))


def _mode(info: dict[str, Any]) -> str:
    if "cluster_enabled" in info:
        return "cluster" if int(info["cluster_enabled"]) else "standalone"
    return str(info.get("redis_mode", ""))
