"""A Redis Cluster of three masters with a replica each, all real, on loopback; any node may be killed or asked."""

from __future__ import annotations

import asyncio
import random
import socket
from typing import TYPE_CHECKING, Any, Self, cast

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.valkey_server import ValkeyServer
from tests.worlds.processes import until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

SLOTS = 16_384
NODE_TIMEOUT_MS = 2000
_MASTERS = 3
_BUS = 10_000
_COMMON = (
    "--cluster-enabled",
    "yes",
    "--cluster-node-timeout",
    str(NODE_TIMEOUT_MS),
    "--repl-diskless-sync-delay",
    "0",
)


def free_pair() -> int:
    """A port that nobody listens on just now, nor on that of its bus."""
    while True:
        port = random.randint(20_000, 32_000 - 1)
        try:
            with socket.create_server(("127.0.0.1", port)), socket.create_server(("127.0.0.1", port + _BUS)):
                return port
        except OSError:
            continue


class Cluster:
    """Use as an async context manager. ``extra`` goes to the command line of each node."""

    def __init__(self, *extra: str, binary: str = "") -> None:
        self.nodes: list[ValkeyServer] = []
        self._ids: dict[int, str] = {}
        for _ in range(2 * _MASTERS):
            self.nodes.append(ValkeyServer(port=free_pair(), binary=binary, extra=(*_COMMON, *extra)))
        self.seeds = [node.port for node in self.nodes]

    @property
    def url(self) -> str:
        """As a user writes it: some of the nodes."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{port}' for port in self.seeds[1:3])}"

    async def __aenter__(self) -> Self:
        await asyncio.gather(*(asyncio.to_thread(node.start) for node in self.nodes))
        masters, replicas = self.nodes[:_MASTERS], self.nodes[_MASTERS:]
        bounds = [SLOTS * n // _MASTERS for n in range(_MASTERS + 1)]
        for n, node in enumerate(masters):
            slots = [str(slot) for slot in range(bounds[n], bounds[n + 1])]
            await self.ask(node, "CLUSTER", "ADDSLOTS", *slots)
        for node in self.nodes:
            for other in self.nodes:
                await self.ask(node, "CLUSTER", "MEET", "127.0.0.1", str(other.port), str(other.port + _BUS))
        await until(self._all_met, what="six nodes know each other")
        for node in self.nodes:
            self._ids[node.port] = (await self.ask(node, "CLUSTER", "MYID")).decode()
        for master, replica in zip(masters, replicas, strict=True):
            await self.ask(replica, "CLUSTER", "REPLICATE", self._ids[master.port])
        await until(self.is_whole, what="three replicas in step, all slots served")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            await asyncio.to_thread(node.remove)

    async def owner(self, key: str) -> ValkeyServer:
        """The node that says of itself that it serves the key's slot; asserts that one does within a minute."""
        found: list[ValkeyServer] = []

        async def known() -> bool:
            found[:] = [node for node in self.nodes if node.running and await self._serves(node, key)]
            return len(found) == 1

        await until(known, what=f"one owner of {key}")
        return found[0]

    async def replica_of(self, master: ValkeyServer) -> ValkeyServer:
        """The replica of a master."""
        lines = await self._lines(master)
        port = next(port_of(line) for line in lines if line[3] == self._ids[master.port])
        return self.nodes[self.seeds.index(port)]

    async def move(self, key: str, to: ValkeyServer, *, pause_s: float = 0.0) -> int:
        """Move the key's slot as ``valkey-cli`` does, keys in tens, with a pause between; how many keys there were."""
        slot, source = key_slot(key.encode()), await self.owner(key)
        await self.ask(to, "CLUSTER", "SETSLOT", str(slot), "IMPORTING", self._ids[source.port])
        await self.ask(source, "CLUSTER", "SETSLOT", str(slot), "MIGRATING", self._ids[to.port])
        moved = 0
        while keys := await self.ask(source, "CLUSTER", "GETKEYSINSLOT", str(slot), "10"):
            await self.ask(source, "MIGRATE", "127.0.0.1", str(to.port), "", "0", "5000", "KEYS", *keys)
            moved += len(keys)
            await asyncio.sleep(pause_s)
        for node in (to, source, *self.nodes):
            if node.running and await self.leads(node):
                await self.ask(node, "CLUSTER", "SETSLOT", str(slot), "NODE", self._ids[to.port])
        return moved

    @staticmethod
    async def ask(node: ValkeyServer, *words: Any) -> Any:
        """One command to one node, by its own socket."""
        client = cast("Any", Redis)(unix_socket_path=str(node.socket_path), socket_timeout=10.0)
        client.response_callbacks.clear()
        try:
            return await client.execute_command(*words)
        finally:
            await client.aclose()

    async def is_whole(self) -> bool:
        """Whether every node that runs serves all slots, and every replica is in step."""
        for node in self.nodes:
            if not node.running:
                continue
            info = (await self.ask(node, "CLUSTER", "INFO")).decode()
            if "cluster_state:ok" not in info or f"cluster_slots_ok:{SLOTS}" not in info:
                return False
            said = (await self.ask(node, "INFO", "replication")).decode()
            if "role:slave" in said and "master_link_status:up" not in said:
                return False
            if "role:master" in said and "connected_slaves:0" in said and all(each.running for each in self.nodes):
                return False
        return True

    async def _serves(self, node: ValkeyServer, key: str) -> bool:
        """Whether it takes commands of the key's slot now: asked by its own socket, it answers MOVED otherwise."""
        try:
            await self.ask(node, "EXISTS", key)
        except RedisError:
            return False
        except OSError:
            return False
        return await self.leads(node)

    async def masters(self) -> list[ValkeyServer]:
        """The three that lead just now."""
        return [node for node in self.nodes if await self.leads(node)]

    async def leads(self, node: ValkeyServer) -> bool:
        """Whether it is a master just now."""
        return b"role:master" in await self.ask(node, "INFO", "replication")

    async def announce(self, ports: Sequence[int]) -> None:
        """Have every node tell clients another port than its own, or its own; return when all nodes know."""
        self.seeds = list(ports) or [node.port for node in self.nodes]
        for n, node in enumerate(self.nodes):
            await self.ask(node, "CONFIG", "SET", "cluster-announce-port", str(ports[n]) if ports else "0")

        async def known() -> bool:
            found = [port_of(line) for node in self.nodes for line in await self._lines(node)]
            return set(found) == set(self.seeds)

        await until(known, what="the ports are known")

    async def _all_met(self) -> bool:
        return all([len(await self._lines(node)) == len(self.nodes) for node in self.nodes])

    async def _lines(self, node: ValkeyServer) -> list[list[str]]:
        """CLUSTER NODES, each line in its words, without handshakes."""
        lines = (await self.ask(node, "CLUSTER", "NODES")).decode().splitlines()
        return [line.split() for line in lines if "handshake" not in line]


def port_of(line: list[str]) -> int:
    """The port for clients in a line of CLUSTER NODES."""
    return int(line[1].rpartition("@")[0].rpartition(":")[2])
