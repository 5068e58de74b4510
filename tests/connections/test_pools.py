"""What a URL says, for the store's connections and for arq's."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import pytest
from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import SentinelManagedConnection

from gemqueue import Queue
from gemqueue.connections.pools import SentinelPool, make_pool
from gemqueue.connections.tls import weakness
from gemqueue.errors import ConfigError, StoreUnavailable
from gemqueue.urls import safe_url
from gemqueue_workers.worker.arq_client import make_arq_client
from tests.cli.command import gemqueue


def sentinels(url: str) -> tuple[Any, list[dict[str, Any]]]:
    """The pool of a Sentinel URL, and how each sentinel is reached."""
    pool: Any = make_pool(url)
    assert isinstance(pool, SentinelPool)
    asked: list[Any] = cast("Any", pool).sentinel_manager.sentinels
    return pool, [each.connection_pool.connection_kwargs for each in asked]


def test_a_sentinel_url_names_sentinels_service_and_database() -> None:
    """Several sentinels, a default port, IPv6, a service, and a database in the path or in the query."""
    pool, reached = sentinels("redis+sentinel://one:26380,two,[::1]:26381/orders/3")
    assert [(each["host"], each["port"]) for each in reached] == [("one", 26380), ("two", 26379), ("::1", 26381)]
    assert (pool.service_name, pool.connection_kwargs["db"]) == ("orders", 3)
    assert sentinels("redis+sentinel://one/orders?db=4")[0].connection_kwargs["db"] == 4


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("[::1]", [("::1", 26379)]),
        ("[::1]:1", [("::1", 1)]),
        ("[::1]:1,[::2]:2,[::3]", [("::1", 1), ("::2", 2), ("::3", 26379)]),
        ("one:1,[2001:DB8::1]:2,two", [("one", 1), ("2001:db8::1", 2), ("two", 26379)]),
        ("[::ffff:192.0.2.1]:1,192.0.2.2:2", [("::ffff:192.0.2.1", 1), ("192.0.2.2", 2)]),
        ("[fe80::1%25eth0]:1,[fe80::2%Eth.1]", [("fe80::1%eth0", 1), ("fe80::2%Eth.1", 26379)]),
        ("One:,two_2:65535", [("one", 26379), ("two_2", 65535)]),
    ],
)
@pytest.mark.parametrize("login", ["", "user:p%40s%5Bs@", ":p@"])
@pytest.mark.parametrize(("scheme", "tls"), [("redis+sentinel", False), ("rediss+sentinel", True)])
def test_sentinels_may_be_addresses_in_brackets(
    scheme: str, tls: bool, login: str, hosts: str, expected: list[tuple[str, int]]
) -> None:
    """IPv6 addresses stand alone, beside each other and beside names, with and without ports, zones and a login."""
    url = f"{scheme}://{login}{hosts}/orders/3{'?ssl_check_hostname=false' if tls else ''}"
    pool, reached = sentinels(url)
    assert [(each["host"], each["port"]) for each in reached] == expected
    assert (pool.service_name, pool.connection_kwargs["db"]) == ("orders", 3)
    password = {"": None, ":p@": "p"}.get(login, "p@s[s")
    assert pool.connection_kwargs.get("password") == password
    assert weakness(url).startswith(f"TLS to {scheme}://{hosts}/orders/3 " if tls else "")


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis+sentinel://user:secret@[::1:1,two/orders", "redis+sentinel://[::1:1,two/orders"),
        ("redis+sentinel://user:secret@one,::1]:1/orders", "redis+sentinel://one,::1]:1/orders"),
        ("redis+sentinel://user:secret@[[::1]]:1/orders", "redis+sentinel://[[::1]]:1/orders"),
        ("redis+sentinel://user:secret@[::1][::2]/orders", "redis+sentinel://[::1][::2]/orders"),
        ("redis+sentinel://user:secret@[]:1/orders", "redis+sentinel://[]:1/orders"),
        ("redis+sentinel://user:secret@[1.2.3.4]:1/orders", "redis+sentinel://[1.2.3.4]:1/orders"),
        ("redis+sentinel://user:secret@one,two[::1]:1/orders", "redis+sentinel://one,***/orders"),
        ("redis+sentinel://user:secret@[::1]two:1/orders", "redis+sentinel://***/orders"),
        ("redis+sentinel://user:secret@[two]:1/orders", "redis+sentinel://***/orders"),
        ("redis+sentinel://user:secret@[::1]:port/orders", "redis+sentinel://[::1]:***/orders"),
        ("redis+sentinel://user:secret@[::1]:65536/orders", "redis+sentinel://[::1]:65536/orders"),
        ("redis+sentinel://user:secret@::1/orders", "redis+sentinel://:***/orders"),
        ("rediss+sentinel://user:secret@[::1,[::2]/o?ssl_cert_reqs=none", "rediss+sentinel://[::1,[::2]/o"),
        ("redis://user:secret@[::1:1/0", "redis://[::1:1/0"),
        ("redis://user:secret@[::1]two:1/0", "redis://***/0"),
        ("redis://user:secret@one,[::1]:1/0", "redis://one,[::1]:1/0"),
        ("rediss://user:secret@[::1][::2]/0", "rediss://[::1][::2]/0"),
        ("redis://user:s[ecret]@one/0", "redis://one/0"),
        ("redis://user:secret", "redis://user:***"),
    ],
)
def test_brackets_that_do_not_fit_are_refused_by_every_python(url: str, named: str) -> None:
    """The error names the URL without its password, and says how such a URL is written."""
    for make in (make_pool, partial(make_arq_client, queue_name="q")):
        with pytest.raises(ConfigError) as caught:
            make(url)
        assert str(caught.value).startswith(
            f"redis_url / GEMQUEUE_REDIS_URL ({named}) cannot be read: write it as redis:"
        )
        assert "ecret" not in str(caught.value)
        assert caught.value.__suppress_context__


def test_doctor_takes_sentinels_in_brackets() -> None:
    """What a URL leaves unchecked is said of such a URL too, and what cannot be read is no defect of ours."""
    for hosts, said in (("one:1,[::1]:1", "does not check the server's name"), ("one,[::1", "cannot be read")):
        url = f"rediss+sentinel://user:secret@{hosts}/orders?ssl_check_hostname=false"
        ended = gemqueue("doctor", GEMQUEUE_REDIS_URL=url, GEMQUEUE_EMULATE="1")
        assert said in ended.stdout
        assert "defect" not in ended.stdout + ended.stderr
        assert "secret" not in ended.stdout + ended.stderr


def test_a_sentinel_url_keeps_the_two_logins_apart() -> None:
    """User and password are the server's; the sentinels have their own, from the query, or none."""
    pool, reached = sentinels("redis+sentinel://user:p%40ss@one/orders?sentinel_username=s&sentinel_password=t%2Fu")
    assert (pool.connection_kwargs["username"], pool.connection_kwargs["password"]) == ("user", "p@ss")
    assert (reached[0]["username"], reached[0]["password"]) == ("s", "t/u")
    assert "sentinel_password" not in pool.connection_kwargs
    _, plain = sentinels("redis+sentinel://user:pass@one/orders")
    assert plain[0].get("password") is None


def test_tls_holds_for_sentinels_and_servers() -> None:
    """rediss+sentinel:// means TLS everywhere, with the URL's own files."""
    pool, reached = sentinels("rediss+sentinel://one/orders?ssl_ca_certs=/ca.pem")
    assert issubclass(pool.connection_class, SentinelManagedConnection)
    assert issubclass(pool.connection_class, SSLConnection)
    assert pool.connection_kwargs["ssl_check_hostname"] is reached[0]["ssl_check_hostname"] is True
    assert pool.connection_kwargs["ssl_ca_certs"] == reached[0]["ssl_ca_certs"] == "/ca.pem"


@pytest.mark.parametrize(
    ("url", "kind", "expected"),
    [
        ("redis://one:1/2", None, {"host": "one", "port": 1, "db": 2}),
        ("redis://one?db=5", None, {"host": "one", "db": 5}),
        ("rediss://u:p@one/1?ssl_ca_certs=/ca.pem", SSLConnection, {"ssl_ca_certs": "/ca.pem", "db": 1}),
        ("unix:///a.sock?db=7", None, {"path": "/a.sock", "db": 7}),
        ("redis://u:p@[fe80::1%25eth0]:1/2", None, {"host": "fe80::1%eth0", "port": 1, "db": 2, "password": "p"}),
        ("redis://one?socket_timeout=3", None, {"socket_timeout": 3.0}),
    ],
)
def test_arq_is_reached_as_the_store_is(url: str, kind: type | None, expected: dict[str, object]) -> None:
    """Database, TLS files and timeouts of the URL hold for arq's connection too."""
    for pool in (make_pool(url), make_arq_client(url, "q").connection_pool):
        found: Any = pool
        assert {name: found.connection_kwargs.get(name) for name in expected} == expected
        assert kind is None or issubclass(found.connection_class, kind)


@pytest.mark.parametrize("url", ["redis://one", "rediss://one", "unix:///one.sock", "redis+sentinel://one/orders"])
def test_every_redis_py_is_asked_for_the_same(url: str) -> None:
    """No release of redis-py repeats a call by itself, a claim above all, or speaks RESP3, to servers and sentinels."""
    pool: Any = make_pool(url)
    sentinels = [
        sentinel.connection_pool for sentinel in getattr(getattr(pool, "sentinel_manager", None), "sentinels", ())
    ]
    for each in (pool, *sentinels):
        made = each.make_connection()
        assert made.protocol == 2
        assert made.retry._retries == 0


@pytest.mark.parametrize(
    "url",
    [
        "http://one:secret@two/0",
        "redis+sentinel://user:secret@one",
        "redis+sentinel://user:secret@/orders",
        "redis+sentinel://user:secret@one:port/orders",
        "redis+sentinel://user:secret@one,,two/orders",
        "redis://user:secret@one:port",
        "redis://user:secret@one?no_such_option=1",
        "redis+sentinel://user:secret@one/orders?no_such_option=1",
        "redis://user:secret@one?db=secret",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    """The error names the setting and the forms that there are, and no part of the password."""
    with pytest.raises(ConfigError, match=r"GEMQUEUE_REDIS_URL \(.*\) cannot be read: .* redis\+sentinel://") as caught:
        make_pool(url)
    assert "secret" not in str(caught.value)


def test_a_shown_sentinel_url_has_no_password() -> None:
    """Messages name sentinels and service, and neither login nor query."""
    url = "redis+sentinel://user:secret@one:1,two:2/orders/0?sentinel_password=secret"
    assert safe_url(url) == "redis+sentinel://one:1,two:2/orders/0"


async def test_sentinels_that_know_no_master_are_said_plainly() -> None:
    """Without a sentinel that answers, connecting fails with the service's name and no password, within seconds."""
    url = "redis+sentinel://user:secret@127.0.0.1:1,127.0.0.1:2/orders?sentinel_password=secret"
    with pytest.raises(StoreUnavailable, match="no sentinel that answers knows a live master 'orders'") as caught:
        await Queue.connect(url, emulate=True)
    assert "secret" not in str(caught.value)
