"""What can be seen of a server by asking and trying, and that trying leaves nothing."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import arq.constants
import pytest

from gemqueue.config import Settings
from gemqueue.policy.rights import Side, rights_of
from gemqueue.store.scripts import ServerRefuses
from gemqueue.store.store import Store
from gemqueue_workers.inspection import Inspection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from redis.asyncio import Redis

    from tests.valkey_server import ValkeyServer


@asynccontextmanager
async def seen_by(valkey: ValkeyServer, redis: Redis, queue: str, *rights: str) -> AsyncGenerator[Inspection]:
    """An inspection by a user with these rights."""
    called = cast("Any", redis)
    await called.execute_command("ACL", "SETUSER", queue, "on", ">pw", *rights)
    url = valkey.url.replace("unix://", f"unix://{queue}:pw@")
    store = Store(url, Settings(queue=queue, redis_url=url, durability="replicated"))
    try:
        yield Inspection(store)
    finally:
        await store.aclose()
        await called.execute_command("ACL", "DELUSER", queue)


async def test_trying_leaves_nothing(valkey: ValkeyServer, redis: Redis, queue_name: str) -> None:
    """Script and transaction go through, no right is missing, and what was written goes within a second."""
    async with seen_by(valkey, redis, queue_name, "~*", "&*", "+@all") as inspection:
        await inspection.try_script()
        await inspection.try_jobs(f"gq:{queue_name}:all")
        assert [await inspection.missing(side) for side in Side] == [[], []]
        called = cast("Any", redis)
        keys = {key for pattern in ("{gq:%s:*", "*gq:%s:*") for key in await called.keys(pattern % queue_name)}
        assert {0 <= await called.pttl(key) <= 1000 for key in keys} == {True}
        seen = await inspection.seen()
        assert (seen.role, seen.mode, seen.config["appendonly"]) == ("master", "standalone", "yes")
        assert seen.version.startswith(str((await called.info("server"))["valkey_version"]))


async def test_each_right_that_is_taken_away_is_named(valkey: ValkeyServer, redis: Redis, queue_name: str) -> None:
    """Every command and key pattern of the table is missed by its own name, and by the side that needs it."""
    prefix = f"{{gq:{queue_name}:00}}"
    for side in Side:
        rights = rights_of(side, queue_name, prefix, replicated=True, by_arq=True)
        names = dict.fromkeys(name for right in rights for name in (right.command, right.place))
        for taken in names:
            left = [*(name for name in names if name != taken), "+multi", "+exec", "+discard"]
            async with seen_by(valkey, redis, queue_name, "resetkeys", "nocommands", *left) as inspection:
                assert await inspection.missing(side) == [taken]


async def test_without_multi_nothing_else_is_seen(valkey: ValkeyServer, redis: Redis, queue_name: str) -> None:
    """The rights of a transaction come first, and are named as what is missing."""
    async with seen_by(valkey, redis, queue_name, "~*", "&*", "+@all", "-multi") as inspection:
        assert await inspection.missing(Side.WORKER) == ["+multi", "+exec", "+discard"]
        with pytest.raises(ServerRefuses, match=rf"a worker needs: ACL SETUSER {queue_name} \+multi \+exec \+discard$"):
            await inspection.try_jobs("gq:x:all")


def test_the_places_of_jobs_are_arqs() -> None:
    """The keys whose rights are looked at are those that arq uses."""
    names = {right.place for right in rights_of(Side.WORKER, "q", "{gq:q:00}", replicated=False, by_arq=True)}
    found = (arq.constants.job_key_prefix, arq.constants.in_progress_key_prefix, arq.constants.retry_key_prefix)
    assert {f"~{place}gq:q:*" for place in (*found, arq.constants.result_key_prefix)} < names
    assert f"~{arq.constants.abort_jobs_ss}" in names
