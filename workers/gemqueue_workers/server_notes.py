"""What ``gemqueue doctor`` says of the server: yes, no, or *cannot see*, which is a warning that says where to look.

Nothing is called good that was not seen: what a server does not tell is tried, and what cannot be tried is said.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from gemqueue.accounts import api_key_from_env
from gemqueue.connections.cluster import needs_cluster_url
from gemqueue.errors import GemqueueError
from gemqueue.policy.rights import Side
from gemqueue.policy.servers import REPLICA
from gemqueue.store.operations import writes_through
from gemqueue.store.scripts import NotReplicated
from gemqueue.urls import url_parts
from gemqueue_workers.inspection import Inspection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from gemqueue.config import Settings
    from gemqueue.store.base import StoreBase
    from gemqueue_workers.inspection import Seen

_VERSION_MIN: Final = (6, 2)
_SLOW_S: Final = 0.05
_RISKS: Final = {
    "always": "a power cut during a rewrite of its log loses what was acknowledged (no-appendfsync-on-rewrite yes)",
    "everysec": "kill -9 or a power cut may lose up to two seconds of what was acknowledged (appendfsync everysec)",
    "no": "a power cut loses what the kernel had not written yet, half a minute of it or more (appendfsync no)",
}
_NO_LOG: Final = "a restart loses what was acknowledged since its last snapshot (appendonly no)"
_UNSEEN: Final = "cannot see"
_CONSOLE: Final = "in its configuration, or in the provider's console"
_UNTOLD: Final = f"{_UNSEEN} whether it writes a log: look for appendonly and appendfsync {_CONSOLE}"
_UNTOLD_PACE: Final = f"{_UNSEEN} how often its log reaches the disk: look for appendfsync {_CONSOLE}"
_SCRIPTS: Final = "it runs them, and keeps what they write"
_STEPS: Final = "arq's transaction goes through"
_WAY_OUT: Final = (
    "with appendfsync always nothing is lost, and a thousand prompts are one write; "
    'or durability = "replicated", with two replicas'
)


class Check(NamedTuple):
    """What was looked at; ok, warning or failed; and what to do."""

    what: str
    state: str
    said: str


async def server_notes(store: StoreBase, settings: Settings, queue_name: str) -> AsyncGenerator[Check]:
    """Everything that can be seen of the server from here. Raises StoreUnavailable where it is away."""
    before = time.monotonic()
    await store.ping()
    took_s = time.monotonic() - before
    yield Check("server", "ok" if took_s < _SLOW_S else "warning", f"answers in {took_s * 1000:.1f} ms")
    inspection = Inspection(store)
    seen = await inspection.seen()
    yield version(seen)
    tried = [check async for check in _tried(inspection, seen, queue_name)]
    yield role(seen, is_written=Check("scripts", "ok", _SCRIPTS) in tried)
    yield cluster(seen, store.url, is_whole=Check("steps", "ok", _STEPS) in tried)
    for check in tried:
        yield check
    yield written(seen.config, "replicated" if store.replicated else "local")
    yield eviction(seen.config)
    yield await _replication(store, settings)
    yield memory(seen, settings)
    yield restarts(seen)


async def _tried(inspection: Inspection, seen: Seen, queue_name: str) -> AsyncGenerator[Check]:
    """Whether it takes writes, runs scripts and lets arq work, by doing it once on scratch keys."""
    try:
        await inspection.try_script()
        yield Check("scripts", "ok", _SCRIPTS)
    except GemqueueError as error:
        yield Check("scripts", "failed", str(error))
        return
    lacks = {side: await inspection.missing(side) for side in Side}
    yield rights(inspection, lacks)
    if lacks[Side.WORKER] or (seen.mode == "cluster" and "+cluster" in url_parts(inspection.url).scheme):
        return
    try:
        await inspection.try_jobs(queue_name)
        yield Check("steps", "ok", _STEPS)
    except GemqueueError as error:
        yield Check("steps", "failed", str(error))


def rights(inspection: Inspection, lacks: Mapping[Side, list[str]]) -> Check:
    """What its user may do; a program without an API key only submits, and needs no worker's rights."""
    if lacks[Side.PRODUCER]:
        return Check("rights", "failed", inspection.why(Side.PRODUCER, lacks[Side.PRODUCER]))
    if not lacks[Side.WORKER]:
        return Check("rights", "ok", "a producer's, and a worker's")
    state = "warning" if api_key_from_env() else "ok"
    return Check(
        "rights", state, f"a producer's alone: it {inspection.why(Side.WORKER, lacks[Side.WORKER], short=True)}"
    )


def version(seen: Seen) -> Check:
    """Whether it is new enough."""
    if not seen.version:
        return Check("version", "warning", f"{_UNSEEN} its version: it must be Redis 6.2 or newer, or Valkey")
    numbers = tuple(int(part) for part in seen.version.split(".")[:2] if part.isdecimal())
    return Check("version", "ok" if numbers >= _VERSION_MIN else "failed", f"{seen.version} (6.2 or newer)")


def role(seen: Seen, *, is_written: bool) -> Check:
    """Whether it is who takes writes; ``is_written``: it has just taken one."""
    if seen.role == "slave":
        return Check("role", "failed", f"it {REPLICA}")
    if seen.role or is_written:
        return Check("role", "ok", "it takes writes itself")
    return Check("role", "warning", f"{_UNSEEN} whether it is a replica: name the primary")


def cluster(seen: Seen, url: str, *, is_whole: bool) -> Check:
    """Whether the URL names what it is: a cluster's node answers a plain URL, and refuses what touches two slots.

    ``is_whole``: a transaction over several slots went through.
    """
    scheme = url_parts(url).scheme
    if "+cluster" in scheme:
        return Check("cluster", "ok", "the URL says that it is one")
    if seen.mode == "cluster":
        return Check("cluster", "failed", needs_cluster_url(url))
    if seen.mode or is_whole:
        return Check("cluster", "ok", "it is none")
    return Check("cluster", "warning", f"{_UNSEEN} whether it is one: redis+cluster:// would have to name it")


def written(config: Mapping[str, str], durability: str) -> Check:
    """What a server of this configuration may lose of what it acknowledged, and the way out."""
    if writes_through(config):
        return Check("log", "ok", "it writes through: what is acknowledged is on its disk")
    risk = _RISKS.get(config.get("appendfsync", ""), _UNTOLD_PACE)
    if config.get("appendonly") != "yes":
        risk = _NO_LOG if "appendonly" in config else _UNTOLD
    if durability == "replicated":
        return Check("log", "ok", f"a replica has what is acknowledged; if it comes back before that leads: {risk}")
    return Check("log", "warning", f"{risk}; {_WAY_OUT}")


def eviction(config: Mapping[str, str]) -> Check:
    """Whether it throws keys away when it is full."""
    limit, policy = config.get("maxmemory", ""), config.get("maxmemory-policy", "")
    if policy == "noeviction" or limit == "0":
        return Check("eviction", "ok", f"none ({f'maxmemory-policy {policy}' if policy else 'maxmemory 0'})")
    if not policy:
        said = f"{_UNSEEN} whether it evicts keys when it is full: maxmemory-policy must be noeviction {_CONSOLE}"
        return Check("eviction", "warning", said)
    what = "answers, names and records of batches" if policy.startswith("volatile") else "prompts"
    said = f"it evicts keys when it is full, and {what} are lost (maxmemory-policy {policy}): set noeviction"
    return Check("eviction", "warning", said)


async def _replication(store: StoreBase, settings: Settings) -> Check:
    n = await store.replicas()
    found = f"{_UNSEEN} whether it has replicas" if n is None else f"{n} in step"
    if not store.replicated:
        loses = "; writes do not wait for them (durability): a failover may lose what was just acknowledged"
        more = loses if n or n is None else ""
        return Check("replicas", "warning" if n is None else "ok", found + more)
    try:
        await store.confirm()
    except NotReplicated:
        said = f"{found}: without one nothing is acknowledged or created ({_waits(settings)})"
        return Check("replicas", "failed", said)
    except GemqueueError as error:
        return Check("replicas", "failed", f"{_waits(settings)} cannot be here: {error}")
    return Check("replicas", "ok", f"{found}, and one has confirmed a write")


def _waits(settings: Settings) -> str:
    why = ", for the URL names sentinels or a Cluster" if settings.durability == "auto" else ""
    return f'durability = "{settings.durability}"{why}'


def memory(seen: Seen, settings: Settings) -> Check:
    """Whether the queue's own limit comes before the server's."""
    if "used_memory" not in seen.info:
        mb = settings.memory_bytes_max / 1e6
        said = f"{_UNSEEN} how much it has: memory_bytes_max ({mb:,.0f} MB) must be well below its maxmemory"
        return Check("memory", "warning", said)
    used, limit = int(seen.info["used_memory"]), int(seen.info.get("maxmemory", 0))
    tight = bool(limit) and settings.memory_bytes_max > 0.9 * limit
    said = f"{used / 1e6:,.0f} MB used of {f'{limit / 1e6:,.0f} MB' if limit else 'no limit'}"
    more = "; memory_bytes_max should be well below maxmemory" if tight else ""
    return Check("memory", "warning" if tight else "ok", said + more)


def restarts(seen: Seen) -> Check:
    """Whether a worker notices that the server is another one, which may have lost writes."""
    if seen.info.get("run_id"):
        return Check("restarts", "ok", "workers notice when another server answers, and compare the jobs")
    said = f"{_UNSEEN} when another server answers (INFO is refused): after a failover or a restart that may have lost"
    return Check("restarts", "warning", f"{said} writes run gemqueue admin reconcile")
