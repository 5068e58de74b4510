"""What ``gemqueue serve`` refuses before a route is looked for, and that a probe is answered whatever others do."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from gemqueue_workers.serve.guard import is_loopback
from tests.serve.door import Door

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.valkey_server import ValkeyServer

CONNECTIONS_MAX = 20


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, valkey: ValkeyServer) -> Iterator[Door]:
    """A server on all addresses of this host, with one name allowed."""
    env = {
        "GEMQUEUE_REDIS_URL": valkey.url,
        "GEMQUEUE_QUEUE": "guard",
        "GEMQUEUE_SERVE_CONNECTIONS_MAX": str(CONNECTIONS_MAX),
    }
    arguments = ("--host", "0.0.0.0", "--allow-host", "queue.example.com")  # noqa: S104 - it warns, which is shown here
    with Door(tmp_path_factory.mktemp("guard"), env, *arguments) as made:
        yield made


def test_strange_names_get_no_page(door: Door) -> None:
    """Page and metrics are for addresses, this host's names and those allowed; a probe and webhooks for all."""
    own = ("127.0.0.1:8400", "[::1]", "10.0.0.1", "localhost", socket.gethostname(), "queue.example.com:8400")
    for path in ("/", "/metrics"):
        assert {door.http.get(path, headers={"host": host}).status_code for host in own} == {200}
        for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "[::1", ""):
            refused = door.http.get(path, headers={"host": host})
            assert refused.status_code in {400, 421}
            assert "gemqueue_" not in refused.text
    assert "--allow-host NAME" in door.http.get("/", headers={"host": "evil.example"}).text
    for path in ("/health", "/health/live"):
        assert door.http.get(path, headers={"host": "evil.example"}).status_code == 200


def test_a_request_of_two_lengths_ends_the_connection(door: Door) -> None:
    """Content-Length with Transfer-Encoding is refused, and what follows it is no second request."""
    head = b"POST /webhook HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    with socket.create_connection(door.address, timeout=60) as connection:
        connection.sendall(head + b"GET /health/live HTTP/1.1\r\nhost: h\r\n\r\n")
        said = b""
        while piece := connection.recv(65_536):
            said += piece
    assert said.startswith(b"HTTP/1.1 400")
    assert said.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("times", [1, 3])
def test_a_probe_is_answered_among_many(door: Door, times: int) -> None:
    """At the limit of connections, and far above it, ``/health/live`` answers, and nothing else does."""
    with ExitStack() as stack:
        for _ in range(times * CONNECTIONS_MAX):
            connection = stack.enter_context(socket.create_connection(door.address, timeout=60))
            connection.sendall(b"GET /health HTTP/1.1\r\nhost")
        for path, status in ((b"/health/live", b"200"), (b"/health", b"503")):
            with socket.create_connection(door.address, timeout=60) as probe:
                probe.sendall(b"GET %s HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n" % path)
                assert probe.recv(65_536).startswith(b"HTTP/1.1 " + status)


def test_an_open_page_is_warned_of(door: Door) -> None:
    """At the start, with what to do about it; not where only this host can reach it."""
    assert "serve.open" in door.log
    assert "--webhook-only" in door.log
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "::", "h")] == [  # noqa: S104
        True,
        True,
        True,
        False,
        False,
        False,
    ]
