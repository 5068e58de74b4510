"""A Redis Cluster: what its URL says, and a queue that goes on while the node that has it changes."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, cast

import pytest
from redis.asyncio.connection import SSLConnection
from redis.crc import key_slot
from redis.exceptions import MovedError, OutOfMemoryError, ReadOnlyError, ResponseError

from gemqueue import ConfigError, Queue, StoreUnavailable
from gemqueue.config import Settings
from gemqueue.connections.cluster import Address, ClusterPool, SlotError, served
from gemqueue.connections.pools import make_pool
from gemqueue.connections.replies import code_of, itself
from gemqueue.store.store import Store
from gemqueue_workers.worker.arq_client import make_arq_client
from tests.cli.command import gemqueue
from tests.tls_server import Signer, Terminator
from tests.worlds.cluster import Cluster
from tests.worlds.load import under_load
from tests.worlds.processes import Processes, until

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.valkey_server import ValkeyServer

ASKED = Address("10.0.0.1", 6379)
SETTINGS = {"replicate_s": 0.3}


@pytest.fixture(scope="module")
def cluster() -> Generator[Cluster]:
    """Three masters and their replicas; a test that kills a node starts it again."""
    made = Cluster()
    asyncio.run(made.__aenter__())
    yield made
    asyncio.run(made.__aexit__(None, None, None))


def test_a_cluster_url_names_nodes() -> None:
    """Several nodes, a default port, IPv6, a login, TLS; the slot is that of the tag."""
    pool: Any = make_pool("redis+cluster://user:p%40ss@one:7000,two,[::1]:7001/", key="{gq:orders:00}")
    assert isinstance(pool, ClusterPool)
    found: Any = pool
    assert found._seeds == [("one", 7000), ("two", 6379), ("::1", 7001)]
    assert found._slot == key_slot(b"gq:orders:00")
    assert (found.connection_kwargs["username"], found.connection_kwargs["password"]) == ("user", "p@ss")
    secure: Any = make_pool("rediss+cluster://one/0?ssl_ca_certs=/ca.pem", key="k")
    assert issubclass(secure.connection_class, SSLConnection)
    assert (secure.connection_kwargs["ssl_ca_certs"], secure.connection_kwargs["ssl_check_hostname"]) == (
        "/ca.pem", True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+cluster://user:secret@one:1/3", "a Cluster has database 0 alone; leave the number out"),
        ("redis+cluster://user:secret@one:1?db=3", "a Cluster has database 0 alone; leave the number out"),
        ("redis+cluster://user:secret@one:port", r"cannot be read: .* redis\+cluster://"),
        ("redis+cluster://user:secret@one,,two", r"cannot be read: .* redis\+cluster://"),
        ("redis+cluster://user:secret@one?no_such_option=1", "cannot be read"),
    ],
)
def test_what_a_cluster_cannot_be_is_refused(url: str, said: str) -> None:
    """A database, and a URL that cannot be read, are refused with the setting's name and without the password."""
    with pytest.raises(ConfigError, match=said) as caught:
        make_pool(url, key="k")
    assert "GEMQUEUE_REDIS_URL" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_arq_is_refused_on_a_cluster() -> None:
    """Who starts workers by arq's own command is told which one works there."""
    with pytest.raises(ConfigError, match="arq cannot run on a Cluster; `gemqueue work` does without it"):
        make_arq_client("redis+cluster://one", "q")


@pytest.mark.parametrize(
    ("reply", "owner", "others"),
    [
        ([[0, 99, [b"a", 1, b"id"], [b"b", 2, b"id"]]], ("a", 1), [("b", 2)]),
        ([[0, 49, [b"a", 1]], [50, 50, [b"c", 3], [b"d", 4]]], ("c", 3), [("a", 1), ("d", 4)]),
        ([[50, 99, [b"a", 1]], [0, 49, [b"c", 3]]], ("a", 1), [("c", 3)]),
        ([[0, 99, [b"", 1, b"id"]]], ("10.0.0.1", 1), []),
        ([[0, 99, [b"?", 1, b"id"]]], ("10.0.0.1", 1), []),
        ([[0, 99, [None, 1, b"id", [b"ip", b"10.0.0.2"]]]], ("10.0.0.1", 1), []),
        ([[0, 99, [b"node.internal", 1, b"id", [b"ip", b"10.0.0.2"]]]], ("node.internal", 1), []),
        ([[0, 49, [b"a", 1]]], None, [("a", 1)]),
        ([], None, []),
    ],
)  # fmt: skip
def test_the_owner_is_read_from_a_nodes_answer(reply: Any, owner: Any, others: list[Any]) -> None:
    """Slot 50's: a name or an address, or where the node was asked that does not know its own; None if uncovered."""
    assert served(reply, 50, ASKED) == (owner, others)


def test_errors_are_known_by_their_word() -> None:
    """As redis-py 5 has them, in a pipeline too, and as redis-py 6 and later do, which take the word off."""
    bare = ResponseError("MOVED 50 10.0.0.1:1")
    piped = ResponseError("Command # 1 (GET k) of pipeline caused error: ('MOVED 50 10.0.0.1:1',)")
    typed = cast("Any", MovedError)("50 10.0.0.1:1")
    assert {code_of(error) for error in (bare, piped, typed)} == {"MOVED"}


@pytest.mark.parametrize(("word", "kind"), [("OOM", OutOfMemoryError), ("READONLY", ReadOnlyError)])
def test_what_redis_62_wraps_is_known(word: str, kind: type[Exception]) -> None:
    """Redis 6.2 puts its own words around what a script's command was refused with; it counts as what it is."""
    where = "Error running script (call to f_e74f07f2b4c0): @user_script:1: @user_script: 1: "
    error = ResponseError(f"{where}-{word} command not allowed when used memory > 'maxmemory'. ")
    assert code_of(error) == word
    assert type(itself(error)) is kind
    assert str(itself(error)) == "command not allowed when used memory > 'maxmemory'"
    other = ResponseError(f"{where}-WRONGTYPE of another kind")
    assert itself(other) is other


def test_only_what_was_sent_elsewhere_is_sent_again() -> None:
    """A call that the node has refused for its slot is tried a few times, and no other one, with any redis-py."""
    pool: Any = make_pool("redis+cluster://one", key="{gq:orders:00}")
    retry = pool.make_connection().retry
    assert retry._retries == 5
    assert set(retry._supported_errors) == {SlotError}


async def test_a_url_of_one_server_that_is_a_node_is_refused(cluster: Cluster, queue_name: str) -> None:
    """A node that has another slot is refused in a sentence that says how to write the Cluster's URL."""
    store = Store(cluster.url, Settings(queue=queue_name))
    owner = await cluster.owner(store.prefix)
    await store.aclose()
    other = next(node for node in cluster.nodes[:3] if node is not owner)
    with pytest.raises(ConfigError, match=r"is a node of a Cluster: name the Cluster .* redis\+cluster://"):
        async with Queue.connect(f"redis://127.0.0.1:{other.port}", queue=queue_name, emulate=True) as queue:
            await queue.submit("p", model="gemini-3.8-flash")


async def test_a_server_without_cluster_mode_is_refused(valkey: ValkeyServer, tmp_path: Path, queue_name: str) -> None:
    """A Cluster's URL that leads to one server says so, and how to write that one's."""
    async with Terminator(Signer(tmp_path).certificate("127.0.0.1"), valkey.socket_path) as plain:
        with pytest.raises(ConfigError, match=f"127.0.0.1:{plain.port} is no node of a Cluster: write redis://"):
            await Queue.connect(f"redis+cluster://127.0.0.1:{plain.port}", queue=queue_name, emulate=True)


async def test_a_queue_lives_on_a_cluster(cluster: Cluster, tmp_path: Path, queue_name: str) -> None:
    """Two workers, a dead seed in the URL: everything is answered once, replicated, and arq has no key."""
    cluster_url = cluster.url.replace("//", "//127.0.0.1:1,", 1)
    async with Processes(tmp_path, Named(cluster_url), queue_name, SETTINGS) as world:
        for _ in range(2):
            world.start_worker()
        await world.submit([f"prompt {n}" for n in range(200)], segment_prompts=20)
        await world.drained()
        await world.judge()
        assert world.store.replicated
        assert await world.store.redis.keys(f"gq:{queue_name}:*") == []
        env = {name: value for name, value in world.env().items() if name != "GEMQUEUE_DATA_DIR"}
        assert "2 in step" not in (said := gemqueue("doctor", **env).stdout)
        assert "1 in step, and one has confirmed a write" in said
        assert gemqueue("status", **env).returncode == 0


async def test_the_owner_is_killed_under_load(cluster: Cluster, tmp_path: Path, queue_name: str) -> None:
    """After ``kill -9`` the replica leads: what was acknowledged is answered, and nothing is bought twice."""
    async with Processes(tmp_path, cluster, queue_name, SETTINGS) as world:
        for _ in range(2):
            world.start_worker()
        owner = await cluster.owner(world.store.prefix)
        async with under_load(world) as load:
            owner.kill()
            assert await cluster.owner(world.store.prefix) is not owner
            owner.start()
        await world.drained()
        await world.judge()
        assert load.prompts > 100
        assert load.stalled_s < 30
    await until(cluster.is_whole, what="the cluster is whole again")


async def test_a_replica_is_made_master_under_load(cluster: Cluster, tmp_path: Path, queue_name: str) -> None:
    """CLUSTER FAILOVER: the old master answers MOVED, and who held connections to it leaves them."""
    async with Processes(tmp_path, cluster, queue_name, SETTINGS) as world:
        world.start_worker()
        owner = await cluster.owner(world.store.prefix)
        async with under_load(world) as load:
            heir = await cluster.replica_of(owner)
            await cluster.ask(heir, "CLUSTER", "FAILOVER")

            async def leads() -> bool:
                return await cluster.owner(world.store.prefix) is heir

            await until(leads, what="the replica leads")
        await world.drained()
        await world.judge()
        assert load.stalled_s < 10
    await until(cluster.is_whole, what="the cluster is whole again")


async def test_the_slot_is_moved_under_load(cluster: Cluster, tmp_path: Path, queue_name: str) -> None:
    """While the keys are in two places all waits; then it goes on where they are, and nothing is missing."""
    async with Processes(tmp_path, cluster, queue_name, SETTINGS) as world:
        world.start_worker()
        owner = await cluster.owner(world.store.prefix)
        to = next(node for node in await cluster.masters() if node is not owner)
        async with under_load(world) as load:
            assert await cluster.move(world.store.prefix, to, pause_s=0.02) > 20
            assert await cluster.owner(world.store.prefix) is to
        await world.drained()
        await world.judge()
        assert load.stalled_s < 30


async def test_tls_and_a_user_of_its_own(cluster: Cluster, tmp_path: Path, queue_name: str) -> None:
    """Every node is reached by TLS, under a login, with its certificate checked; another signer is refused."""
    signer = Signer(tmp_path / "signer")
    async with AsyncExitStack() as stack:
        doors = [
            await stack.enter_async_context(Terminator(signer.certificate("127.0.0.1"), node.socket_path))
            for node in cluster.nodes
        ]
        await cluster.announce([door.port for door in doors])
        for node in cluster.nodes:
            await cluster.ask(node, "ACL", "SETUSER", "gq", "on", ">pw", "~{gq:*", "&{gq:*", "+@all", "-@admin")
        hosts = f"127.0.0.1:{doors[0].port},127.0.0.1:{doors[1].port}"
        url = f"rediss+cluster://gq:pw@{hosts}?ssl_ca_certs={signer.ca}"
        async with Queue.connect(url, queue=queue_name, emulate=True) as queue:
            await queue.submit("p", model="gemini-3.8-flash")
            assert (await queue.counts())["accepted"] == 1
        assert sum(door.encrypted for door in doors) > 2
        with pytest.raises(StoreUnavailable, match=r"at the Cluster's node .*nobody who is trusted here"):
            await Queue.connect(f"rediss+cluster://gq:pw@{hosts}", queue=queue_name, emulate=True)
        with pytest.raises(ConfigError, match="refuses the login"):
            await Queue.connect(url.replace("gq:pw", "gq:wrong"), queue=queue_name, emulate=True)
        await cluster.announce([])


async def test_other_slots_may_be_gone(cluster: Cluster, queue_name: str) -> None:
    """With another master and its replica dead, a Cluster that need not cover all slots serves the queue's.

    It comes last: the nodes stay dead.
    """
    store = Store(cluster.url, Settings(queue=queue_name, redis_url=cluster.url))
    owner = await cluster.owner(store.prefix)
    other = next(node for node in await cluster.masters() if node is not owner)
    dead = (other, await cluster.replica_of(other))
    for node in dead:
        node.kill()

    async def refuses() -> bool:
        try:
            await store.greet("emulated.local")
        except StoreUnavailable as error:
            return "CLUSTERDOWN" in str(error)
        return False

    await until(refuses, what="the Cluster says that it is down")
    for node in cluster.nodes:
        if node.running:
            await cluster.ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "no")

    async def greeted() -> bool:
        try:
            await store.greet("emulated.local")
        except StoreUnavailable:
            return False
        return True

    await until(greeted, what="the queue's slot is served")
    await store.aclose()


class Named:
    """A server by its URL."""

    def __init__(self, url: str) -> None:
        self.url = url
