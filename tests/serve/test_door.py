"""The HTTP door as a process: what it takes and refuses, and that nobody can hurt it."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gemqueue.config import Settings
from gemqueue.records import Hold
from gemqueue.store.store import Store
from tests.cli.command import gemqueue, processes_with
from tests.serve.door import SECRET, Door, event, signed
from tests.valkey_server import ValkeyServer
from tests.worlds.bench import bench
from tests.worlds.processes import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis.asyncio import Redis

QUEUE = "door"
READ_S = 2.0
CONNECTIONS_MAX = 40
BODY = event("batches/abc")
MEGABYTE = b"x" * 1_000_000
QUIET = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("door")


@pytest.fixture(scope="module")
def env(valkey: ValkeyServer) -> dict[str, str]:
    """What a server of this module needs."""
    return {
        "GEMQUEUE_REDIS_URL": valkey.url,
        "GEMQUEUE_QUEUE": QUEUE,
        "GEMQUEUE_WEBHOOK_SECRETS": SECRET,
        "GEMQUEUE_WEBHOOK_READ_S": str(READ_S),
        "GEMQUEUE_SERVE_CONNECTIONS_MAX": str(CONNECTIONS_MAX),
    }


@pytest.fixture(scope="module")
def door(folder: Path, env: dict[str, str]) -> Iterator[Door]:
    """One for the module."""
    with Door(folder, env) as started:
        yield started
        assert started.stop() == 0
        assert "Traceback" not in started.log
        assert SECRET not in started.log


async def counts(valkey: ValkeyServer) -> dict[str, int]:
    store = Store(valkey.url, Settings(queue=QUEUE))
    try:
        return await store.counts()
    finally:
        await store.aclose()


def raw(door: Door, data: bytes, *, wait_s: float = 60.0) -> bytes:
    """What a connection gets for these bytes, until the server closes it."""
    with socket.create_connection(door.address, timeout=wait_s) as connection:
        connection.sendall(data)
        received = b""
        with suppress(ConnectionResetError):
            while piece := connection.recv(65_536):
                received += piece
        return received


def test_a_genuine_event_is_taken_and_a_second_one_too(door: Door) -> None:
    """204 for an event, and again for the same one, so that the provider stops sending it; for a ping as well."""
    headers = signed(BODY)
    assert [door.post(BODY, headers), door.post(BODY, headers)] == [204, 204]
    ping = event("h1", "webhook.ping")
    assert door.post(ping, signed(ping)) == 204


async def test_what_is_wrong_is_a_4xx_and_a_counter(door: Door, valkey: ValkeyServer) -> None:
    """Each kind of failure has its status and raises its own counter and the sum."""
    now = int(time.time())
    garbage = b"{"
    wrong: list[tuple[bytes, dict[str, str], int, str]] = [
        (BODY, {}, 400, "headers"),
        (BODY, signed(BODY) | {"webhook-id": "a.b"}, 400, "headers"),
        (BODY, signed(BODY, seconds=now - 310), 401, "time"),
        (BODY, signed(BODY, seconds=now + 310), 401, "time"),
        (BODY + b" ", signed(BODY), 401, "signature"),
        (BODY, signed(BODY) | {"webhook-id": "msg_other"}, 401, "signature"),
        (BODY, signed(BODY, secret="whsec_" + "A" * 44), 401, "signature"),
        (BODY, signed(BODY) | {"webhook-signature": "v9,AAAA"}, 401, "signature"),
        (BODY, signed(BODY) | {"webhook-signature": "v1a," + "A" * 86 + "=="}, 401, "signature"),
        (garbage, signed(garbage), 400, "body"),
        (b" " * 70_000, signed(b" " * 70_000), 413, "size"),
    ]
    before = await counts(valkey)
    assert [door.post(body, headers) for body, headers, _, _ in wrong] == [status for _, _, status, _ in wrong]

    async def counted() -> bool:
        now_counts = await counts(valkey)
        return now_counts.get("events_refused", 0) - before.get("events_refused", 0) == len(wrong)

    await until(counted, what="refusals in the store")
    after = await counts(valkey)
    for reason in ("headers", "time", "signature", "body", "size"):
        name = f"events_refused_{reason}"
        assert after[name] - before.get(name, 0) == sum(each == reason for *_, each in wrong) or reason == "signature"


def test_other_methods_and_paths_are_refused(door: Door) -> None:
    """A hook is posted; nothing else is there."""
    assert door.http.get("/webhook").status_code == 405
    assert door.http.post("/", content=b"x").status_code == 405
    assert door.http.get("/webhooks").status_code == 404


async def test_several_servers_hear_an_event_once(
    door: Door, folder: Path, env: dict[str, str], valkey: ValkeyServer
) -> None:
    """Which server a delivery comes to makes no difference: what one has heard, the other knows."""
    with Door(folder, env, name="second") as second:
        before = await counts(valkey)
        headers = signed(BODY)
        assert [door.post(BODY, headers), second.post(BODY, headers)] == [204, 204]
        after = await counts(valkey)
    assert after["events"] - before.get("events", 0) == 1
    assert after["events_doubled"] - before.get("events_doubled", 0) == 1


def test_bodies_of_ten_megabytes_do_not_hurt(door: Door) -> None:
    """Announced or not, they are refused before they are read; memory stays where it was, and others are served."""
    door.post(BODY, signed(BODY))
    before_mb = door.rss_mb
    head = b"POST /webhook HTTP/1.1\r\nhost: h\r\nwebhook-id: x\r\n"
    for _ in range(10):
        for request in (
            head + b"content-length: 10000000\r\n\r\n" + MEGABYTE * 10,
            head + b"transfer-encoding: chunked\r\n\r\n" + b"f4240\r\n" + MEGABYTE + b"\r\n",
        ):
            try:
                assert raw(door, request).startswith(b"HTTP/1.1 413")
            except (ConnectionResetError, BrokenPipeError):
                continue  # closed while the bytes were still coming
        assert door.post(BODY, signed(BODY)) == 204
    assert door.rss_mb - before_mb < 15


def test_slow_senders_do_not_hurt(door: Door) -> None:
    """Headers or bodies that drip in hold nobody up; they end within their time, and the connections are free again."""
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(door.address, timeout=60)) for _ in range(CONNECTIONS_MAX // 2)
        ]
        head = b"POST /webhook HTTP/1.1\r\nhost: h\r\n"
        for number, connection in enumerate(slow):
            connection.sendall(head if number % 2 else head + b"content-length: 100\r\n\r\nx")
        started = time.monotonic()
        assert door.post(BODY, signed(BODY)) == 204
        ends = [_dripped(connection) for connection in slow]
        assert time.monotonic() - started < len(slow) * READ_S, "one after the other"
    assert all(not end or end.startswith(b"HTTP/1.1 408") for end in ends)
    assert sum(end.startswith(b"HTTP/1.1 408") for end in ends) >= len(ends) // 4


def _dripped(connection: socket.socket) -> bytes:
    """Send a byte now and then until the server ends it, within a minute; what it said."""
    connection.settimeout(0.05)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            connection.sendall(b"x")
            return connection.recv(65_536)
        except TimeoutError:
            continue
        except OSError:
            return b""
    raise AssertionError("it may drip for ever")


def test_a_second_request_may_not_drip_either(door: Door) -> None:
    """A kept connection has the same time for its next headers."""
    with socket.create_connection(door.address, timeout=60) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: h\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /he")
        _dripped(connection)


def test_many_connections_do_not_hurt(door: Door) -> None:
    """Above the limit requests get 503; far above it connections are dropped; then all is as before."""
    with ExitStack() as stack:
        for _ in range(3 * CONNECTIONS_MAX):
            stack.enter_context(socket.create_connection(door.address, timeout=60))
        answer = raw(door, b"GET /health HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        assert answer[:12] in {b"", b"HTTP/1.1 503"}

    deadline = time.monotonic() + 60
    while door.http.get("/health").status_code != 200:
        assert time.monotonic() < deadline


@QUIET
@given(
    st.dictionaries(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "content-type", "authorization"]),
        st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=80),
    ),
    st.binary(max_size=300),
)
def test_garbage_is_refused(door: Door, headers: dict[str, str], body: bytes) -> None:
    """Whatever comes is a 4xx; nothing is taken, and the server lives."""
    assert 400 <= door.post(body, headers) < 500


@QUIET
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"POST /webhook HTTP/1.1\r\n", b"POST /webhook HTTP/1.1\r\nhost: h\r\n"]),
)
def test_what_is_no_http_is_refused(door: Door, noise: bytes, head: bytes) -> None:
    """Bytes that are no request get 400 or nothing, never 500."""
    assert raw(door, head + noise + b"\r\n\r\n\x00\r\n")[:12] in {
        b"",
        b"HTTP/1.1 400",
        b"HTTP/1.1 404",
        b"HTTP/1.1 405",
        b"HTTP/1.1 413",
    }


def test_huge_headers_are_refused(door: Door) -> None:
    """A megabyte of headers is cut off."""
    answer = b""
    with suppress(ConnectionResetError, BrokenPipeError):
        answer = raw(door, b"POST /webhook HTTP/1.1\r\n" + b"x: " + b"y" * 1_000_000)
    assert answer[:12] in {b"", b"HTTP/1.1 400", b"HTTP/1.1 431"}


def test_health_says_what_is_there(door: Door) -> None:
    """Live, ready, and how many work."""
    assert door.http.get("/health/live").json() == {"live": True}
    assert door.http.get("/health").json() == {"live": True, "ready": True, "store": "answers", "workers": 0}


def test_a_store_that_is_away_is_said_and_survived(folder: Path, env: dict[str, str]) -> None:
    """Events get 503, so that they come again; health and page say why; when it is back, all is as before."""
    with ValkeyServer() as server, Door(folder, env | {"GEMQUEUE_REDIS_URL": server.url}, name="alone") as door:
        assert door.post(BODY, signed(BODY)) == 204
        server.kill()
        headers = signed(BODY)
        assert door.post(BODY, headers) == 503
        assert door.post(BODY, {}) == 400
        assert door.http.get("/health/live").status_code == 200
        assert (door.http.get("/health").status_code, door.http.get("/health").json()["ready"]) == (503, False)
        page = door.http.get("/")
        assert (page.status_code, "does not answer" in page.text) == (503, True)
        server.start()
        assert door.post(BODY, headers) == 204
        deadline = time.monotonic() + 60
        while door.http.get("/").status_code != 200:
            assert time.monotonic() < deadline
        assert door.stop() == 0


async def test_the_page_shows_the_queue_and_escapes_it(door: Door, valkey: ValkeyServer) -> None:
    """Batches and their reasons are there; markup in a reason is text; nothing is loaded, and no frame may hold it."""
    async with bench(valkey.url, QUEUE) as made:
        await made.enqueue()
        claim = await made.submitting()
        await made.store.reopen(
            claim, f"token-{claim.fence}", delay_s=0, hold=Hold(text='quota <script>alert("1")</script>')
        )

        async def shown() -> bool:
            return claim.id in door.http.get("/").text

        await until(shown, what="the batch on the page")
    page = door.http.get("/")
    assert "<script" not in page.text
    assert "quota &lt;script&gt;alert(&quot;1&quot;)" in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert not any(word in page.text for word in ("src=", "href=", "url("))


def test_metrics_are_prometheus_text(door: Door) -> None:
    """What ``gemqueue admin metrics`` prints, webhooks included."""
    reply = door.http.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert f'gemqueue_events_total{{queue="{QUEUE}"}}' in reply.text


def test_the_tolerance_is_counted_on_the_one_clock(folder: Path, env: dict[str, str]) -> None:
    """Under the test clock an event is held against the virtual time: what is of now is a day old."""
    clock = folder / "clock"
    clock.write_text("86400")
    with Door(folder, env | {"GEMQUEUE_TEST_CLOCK": f"file://{clock}"}, name="clock") as door:
        assert door.post(BODY, signed(BODY)) == 401
        assert door.post(BODY, signed(BODY, seconds=int(time.time()) + 86_400)) == 204


async def test_a_defect_is_logged_and_the_event_comes_again(folder: Path, env: dict[str, str], redis: Redis) -> None:
    """A key of the wrong type in the store: 500, the place in the log, and nothing else is hurt."""
    await cast("Any", redis).hset("{gq:broken:00}:job:batches/abc", "of the wrong", "type")
    await redis.expire("{gq:broken:00}:job:batches/abc", 60)
    with Door(folder, env | {"GEMQUEUE_QUEUE": "broken"}, name="broken") as door:
        assert door.post(BODY, signed(BODY)) == 500
        assert door.post(BODY, {}) == 400
        assert door.stop() == 0
        assert "request.failed" in door.log
        assert "WRONGTYPE" in door.log


def test_it_serves_the_embedded_server(folder: Path) -> None:
    """Without a URL it is the embedded server that is shown, emulated or not, and stopped again."""
    data = tempfile.mkdtemp(prefix="gqd-", dir="/tmp")
    try:
        with Door(folder, {"GEMQUEUE_DATA_DIR": data, "GEMQUEUE_EMULATE": "1"}, name="embedded") as door:
            assert door.http.get("/health").json()["ready"]
            assert "no worker runs" in door.http.get("/").text
            assert door.stop() == 0
        assert processes_with(data) == []
    finally:
        shutil.rmtree(data, ignore_errors=True)


def test_webhook_only_shows_nothing_of_the_queue(folder: Path, env: dict[str, str]) -> None:
    """On a port that the world can reach there are events and health, and nothing else."""
    with Door(folder, env, "--webhook-only", name="public") as door:
        assert door.post(BODY, signed(BODY)) == 204
        assert door.http.get("/health").status_code == 200
        assert [door.http.get(path).status_code for path in ("/", "/metrics", "/docs")] == [404] * 3


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_server_may_die_around_an_event(
    when: str, folder: Path, env: dict[str, str], valkey: ValkeyServer
) -> None:
    """Killed before or after it is heard, without an answer: it comes again, and is heard once."""
    door = Door(folder, env | {"GEMQUEUE_CRASH_AT": f"serve.announce:{when}:1"}, name=f"dies-{when}").start()
    before, headers = await counts(valkey), signed(BODY)
    with pytest.raises(httpx.HTTPError):
        door.post(BODY, headers)
    assert door.process.wait(20) == 137
    with Door(folder, env, name=f"lives-{when}") as again:
        assert again.post(BODY, headers) == 204
    after = await counts(valkey)
    doubled = after.get("events_doubled", 0) - before.get("events_doubled", 0)
    assert (after["events"] - before.get("events", 0), doubled) == (1, int(when == "after"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"GEMQUEUE_WEBHOOK_SECRETS": f"{SECRET} hunter2"}, "number 2 is no signing secret"),
        ({"GEMQUEUE_WEBHOOK_URL": "http://example.com/webhook"}, "webhook_url must be https"),
        ({"GEMQUEUE_WEBHOOK_URL": "https://user:hunter2@example.com/"}, "webhook_url must be https"),
        ({"GEMQUEUE_WEBHOOK_JWKS_URL": "http://example.com/keys"}, "webhook_jwks_url"),
        ({"GEMQUEUE_WEBHOOK_TOLERANCE_S": "0"}, "webhook_tolerance_s must be"),
    ],
)
def test_settings_that_cannot_be_right(env: dict[str, str], changed: dict[str, str], said: str) -> None:
    """It does not start, exits with 2, and says which setting; never a secret."""
    ended = gemqueue("serve", "--port", "0", **env | changed)
    assert (ended.returncode, said in ended.stderr) == (2, True)
    assert "hunter2" not in ended.stderr + ended.stdout


def test_a_port_that_is_taken_is_said(door: Door, env: dict[str, str]) -> None:
    """Exit 2, one line."""
    ended = gemqueue("serve", "--port", str(door.address[1]), **env)
    assert (ended.returncode, "cannot be listened on" in ended.stderr) == (2, True)


def test_secrets_are_not_shown_by_config(env: dict[str, str]) -> None:
    """``gemqueue config`` says how many there are."""
    ended = gemqueue("config", "--json", **env)
    assert "1 set (hidden)" in ended.stdout
    assert SECRET not in ended.stdout
