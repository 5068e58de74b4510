"""The ways in which a server may be had: each gives the URLs of a producer, of a worker and of whoever looks."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.tls_server import Signer, Terminator
from tests.valkey_server import ValkeyServer
from tests.worlds.cluster import Cluster
from tests.worlds.failing_over import Pair, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager

QUEUE = "default"
_RIGHTS = Path(__file__).parents[3] / "docs" / "servers.md"
_PASSWORD = "only-here"  # noqa: S105 - of a server that ends with its cell
_ALL_RIGHTS = "on >PASSWORD resetchannels ~{gq:default:* ~gq:* ~arq:* &{gq:default:* +@all -@dangerous +info"
"""Where the document has no lines of its own."""
REFUSED = ("CONFIG", "INFO", "CLIENT", "WAIT", "DBSIZE")
IDLE_S = 1
_TLS = "ssl_ca_certs={ca}&ssl_certfile={own}&ssl_keyfile={own}"


class Place(NamedTuple):
    """Where a queue is; ``server`` is the one that a cell may fill or ask, if there is one."""

    producer: str
    worker: str
    server: ValkeyServer | None = None


@asynccontextmanager
async def plain(binary: str, *extra: str) -> AsyncGenerator[Place]:
    """One server."""
    server = ValkeyServer(port=free_port(), binary=binary, extra=extra)
    await asyncio.to_thread(server.start)
    try:
        yield Place(server.url, server.url, server)
    finally:
        await asyncio.to_thread(server.remove)


@asynccontextmanager
async def acl(binary: str, _: Path) -> AsyncGenerator[Place]:
    """A user for producers and one for workers, with the rights of docs/servers.md and no others."""
    async with plain(binary) as place:
        assert place.server is not None
        for role in ("producer", "worker"):
            await ask(place.server, *rights(role).split())
        at = place.producer.removeprefix("redis://")
        producer, worker = (f"redis://gemqueue-{role}:{_PASSWORD}@{at}" for role in ("producer", "worker"))
        yield Place(producer, worker)


@asynccontextmanager
async def tls(binary: str, folder: Path) -> AsyncGenerator[Place]:
    """A signer of one's own, and a client that shows a certificate; its name is checked."""
    signer = Signer(folder / "signer")
    async with plain(binary) as place:
        assert place.server is not None
        to = place.server.socket_path
        async with Terminator(signer.certificate("localhost"), to, signer.ca) as door:
            query = _TLS.format(ca=signer.ca, own=signer.certificate("client.internal"))
            url = f"rediss://localhost:{door.port}/0?{query}"
            yield Place(url, url)


@asynccontextmanager
async def sentinel(binary: str, _: Path) -> AsyncGenerator[Place]:
    """A master and its replica, as a sentinel names them."""
    async with Pair(binary) as pair:
        yield Place(pair.url, pair.url)


@asynccontextmanager
async def cluster(binary: str, _: Path) -> AsyncGenerator[Place]:
    """Three masters and their replicas."""
    async with Cluster(binary=binary) as made:
        yield Place(made.url, made.url)


@asynccontextmanager
async def renamed(binary: str, _: Path) -> AsyncGenerator[Place]:
    """A server that refuses what managed ones do."""
    words = [word for name in REFUSED for word in ("--rename-command", name, "")]
    async with plain(binary, *words) as place:
        yield place._replace(server=None)


@asynccontextmanager
async def full(binary: str, _: Path) -> AsyncGenerator[Place]:
    """A server that a cell fills."""
    async with plain(binary) as place:
        yield place


@asynccontextmanager
async def idle(binary: str, _: Path) -> AsyncGenerator[Place]:
    """A server that cuts connections which say nothing for a second."""
    async with plain(binary, "--timeout", str(IDLE_S)) as place:
        yield place._replace(server=None)


@asynccontextmanager
async def one(binary: str, _: Path) -> AsyncGenerator[Place]:
    """Nothing special."""
    async with plain(binary) as place:
        yield place._replace(server=None)


MODES: dict[str, Callable[[str, Path], AbstractAsyncContextManager[Place]]] = {
    "plain": one,
    "ACL, least rights": acl,
    "TLS, own CA, client certificate": tls,
    "Sentinel": sentinel,
    "Cluster, one slot": cluster,
    f"without {', '.join(REFUSED)}": renamed,
    "full memory": full,
    f"idle cuts after {IDLE_S} s": idle,
}


def rights(role: str) -> str:
    """The ACL SETUSER line of a role."""
    text = _RIGHTS.read_text(encoding="utf-8") if _RIGHTS.exists() else ""
    found = re.search(rf"^ACL SETUSER gemqueue-{role} .*$", text, re.MULTILINE)
    line = found[0] if found else f"ACL SETUSER gemqueue-{role} {_ALL_RIGHTS}"
    return line.replace("PASSWORD", _PASSWORD)


async def ask(server: ValkeyServer, *words: str) -> None:
    """One command, by the server's own socket, where nobody logs in."""
    await Cluster.ask(server, *words)
