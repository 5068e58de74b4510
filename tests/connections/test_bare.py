"""The bare socket of a probe: it reaches what redis-py reaches by the same URL, and says the same of what it cannot."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, cast

import pytest
from redis import Redis

from gemqueue.connections.bare import BareConnection
from gemqueue.errors import ConfigError, StoreUnavailable
from tests.valkey_server import ValkeyServer
from tests.worlds.failing_over import free_port

if TYPE_CHECKING:
    from collections.abc import Generator

PASSWORD, ENCODED = "p@ss:w/rd#?%", "p%40ss%3Aw%2Frd%23%3F%25"


@pytest.fixture(scope="module")
def guarded() -> Generator[ValkeyServer]:
    """A server on a port and a socket, with a password and a user who may read database 3 alone."""
    with ValkeyServer(port=free_port()) as server:
        client: Any = cast("Any", Redis)(port=server.port)
        client.execute_command("ACL", "SETUSER", "ann", "on", f">{PASSWORD}", "~*", "+@all")
        client.execute_command("CONFIG", "SET", "requirepass", PASSWORD)
        yield server


@pytest.mark.parametrize("login", [f":{ENCODED}", f"ann:{ENCODED}", f"default:{ENCODED}"])
def test_logins_and_databases(guarded: ValkeyServer, login: str) -> None:
    """Password, user, port, socket and database are read as redis-py reads them, special characters included."""
    for n, url in enumerate(
        [
            f"redis://{login}@127.0.0.1:{guarded.port}/3",
            f"redis://{login}@localhost:{guarded.port}?db=3",
            f"unix://{login}@{guarded.socket_path}?db=3",
        ]
    ):
        word = f"{login}{n}"
        with cast("Any", Redis).from_url(url) as client:
            client.set("word", word)
        with BareConnection(url, 5.0) as bare:
            assert bare.run(["GET", "word"], ["GET", "none"], ["STRLEN", "word"]) == [word.encode(), None, len(word)]
            (keys, refused) = bare.run(["KEYS", "*"], ["HGET", "word", "x"])
            assert (keys, "WRONGTYPE" in str(refused)) == ([b"word"], True)


def test_what_it_cannot_reach_is_said(guarded: ValkeyServer) -> None:
    """A wrong password, no password, no server, a server that breaks off: the sentences of the store, no password."""
    for url in (f"redis://:wr0ng@127.0.0.1:{guarded.port}", f"redis://nobody:wr0ng@127.0.0.1:{guarded.port}"):
        with pytest.raises(ConfigError, match="refuses the login") as refused, BareConnection(url, 5.0):
            pass
        assert "wr0ng" not in str(refused.value)
    for url in (f"redis://127.0.0.1:{free_port()}", "unix:///nowhere.sock", "redis://127.0.0.1:99999"):
        with pytest.raises(StoreUnavailable, match=r"does not answer .*check redis_url"), BareConnection(url, 5.0):
            pass
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}"
        with BareConnection(url, 5.0) as bare:
            listener.accept()[0].close()
            with pytest.raises(StoreUnavailable, match="Connection closed by server"):
                bare.run(["PING"])


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("redis://h:1/0", True),
        ("unix:///s.sock?db=1", True),
        ("redis://h:1?protocol=3", False),
        ("rediss://h", False),
        ("redis+sentinel://h/s", False),
        ("redis+cluster://h", False),
        ("", False),
    ],
)
def test_which_urls_it_takes(url: str, taken: bool) -> None:
    """TLS, sentinels, a cluster, other parameters and the embedded server are left to the store's own pool."""
    assert BareConnection.takes(url) is taken
