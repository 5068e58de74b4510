"""Each way in which TLS does not come about has a sentence of its own, for the store, for arq and at a sentinel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from gemqueue import Settings, StoreUnavailable
from gemqueue.connections.links import TlsError, client_name
from gemqueue.connections.pools import make_pool
from gemqueue.errors import ConfigError
from gemqueue.store.scripts import translated
from gemqueue.store.store import Store
from gemqueue_workers.worker.arq_client import make_arq_client
from tests.connections.test_tls import SERVICE, real_sentinel
from tests.tls_server import Signer, Terminator
from tests.valkey_server import ValkeyServer
from tests.worlds.failing_over import free_port

if TYPE_CHECKING:
    from pathlib import Path

SETTING = "redis_url / GEMQUEUE_REDIS_URL"


class Fault(NamedTuple):
    """What a server shows, what the query says, and what is said of it."""

    words: str
    query: str = "?ssl_ca_certs={ca}"
    names: str = "localhost"
    days: int = 1
    asks: bool = False
    tls: bool = True
    scheme: str = "rediss"


FAULTS = {
    "another signer": Fault(
        "nobody who is trusted here has signed the server's certificate: add ssl_ca_certs=/ca.pem", ""
    ),
    "another name": Fault("the server's certificate is not for 'localhost': use a name that it is for", names="else"),
    "over": Fault("the server's certificate has expired: renew it there", days=-1),
    "no signer's file": Fault(
        "ssl_ca_certs=/nowhere/ca.pem cannot be read (No such file or directory): correct the path",
        "?ssl_ca_certs=/nowhere/ca.pem",
    ),
    "no signer in it": Fault(
        "ssl_ca_certs={text} holds no certificate in PEM form: name the file that does", "?ssl_ca_certs={text}"
    ),
    "no certificate's file": Fault(
        "ssl_certfile=/nowhere/c.pem cannot be read (No such file or directory)",
        "?ssl_ca_certs={ca}&ssl_certfile=/nowhere/c.pem",
    ),
    "no key's file": Fault(
        "ssl_keyfile={folder} cannot be read (Is a directory)",
        "?ssl_ca_certs={ca}&ssl_certfile={own}&ssl_keyfile={folder}",
    ),
    "no key in it": Fault(
        "ssl_keyfile={ca} holds no private key in PEM form", "?ssl_ca_certs={ca}&ssl_certfile={own}&ssl_keyfile={ca}"
    ),
    "another's key": Fault(
        "the key in ssl_keyfile is not that of the certificate in ssl_certfile",
        "?ssl_ca_certs={ca}&ssl_certfile={own}&ssl_keyfile={other}",
    ),
    "asked for a certificate": Fault(
        "asks for a certificate of ours: add ssl_certfile=/certificate.pem&ssl_keyfile=/key.pem", asks=True
    ),
    "a certificate that is not trusted": Fault(
        "does not trust the certificate in ssl_certfile={stranger}: name another",
        "?ssl_ca_certs={ca}&ssl_certfile={stranger}",
        asks=True,
    ),
    "plain to TLS": Fault(
        "the server speaks TLS there, and is asked without: write rediss:// (or rediss+sentinel://)", "", scheme="redis"
    ),
    "TLS to plain": Fault(
        "the server speaks no TLS there: name its TLS port, or write redis:// instead of rediss://", tls=False
    ),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A signer, a certificate of ours and another one's, a file that is none, a folder."""
    folder = tmp_path_factory.mktemp("files")
    signer = Signer(folder / "signer")
    (folder / "text").write_text("no certificate")
    own, other = signer.certificate("own"), signer.certificate("other")
    stranger = Signer(folder / "stranger").certificate("own")
    return {
        "stranger": stranger,
        "signer": signer,
        "ca": signer.ca,
        "own": own,
        "other": other,
        "text": folder / "text",
        "folder": folder,
    }


@pytest.fixture(scope="module")
def plain() -> Any:
    """A server without TLS, at a port."""
    with ValkeyServer(port=free_port()) as server:
        yield server


def certificate(fault: Fault, files: dict[str, Any]) -> Path:
    """What the server shows."""
    made: Path = files["signer"].certificate(*fault.names.split(), days=fault.days)
    return made


async def said_by_store(url: str) -> str:
    """Why the store does not reach it."""
    store = Store(url, Settings(redis_url=url, emulate=True))
    try:
        with pytest.raises(StoreUnavailable) as caught:
            await store.ping()
    finally:
        await store.aclose()
    return str(caught.value)


async def said_by_arq(url: str) -> str:
    """Why arq's client does not."""
    client: Any = make_arq_client(url, "q")
    client.connection_pool.connection_kwargs["retry"] = None
    try:
        with pytest.raises(TlsError) as caught:
            await client.ping()
    finally:
        await client.aclose()
    return str(caught.value)


@pytest.mark.parametrize("name", FAULTS)
async def test_store_and_arq_have_a_sentence(name: str, files: dict[str, Any], plain: ValkeyServer) -> None:
    """It says what is wrong, what to do, and in which setting; it is no silence of the server's."""
    fault = FAULTS[name]
    clients = files["ca"] if fault.asks else None
    async with Terminator(certificate(fault, files), plain.socket_path, clients, strict=True) as server:
        port = server.port if fault.tls else plain.port
        url = f"{fault.scheme}://localhost:{port}/0{fault.query.format(**files)}"
        for said in (await said_by_store(url), await said_by_arq(url)):
            assert fault.words.format(**files) in said
            assert SETTING in said
            assert "does not answer" not in said


async def test_a_sentinel_has_the_same_sentences(files: dict[str, Any], plain: ValkeyServer) -> None:
    """Each of them, with the sentinel that it is about."""
    async with real_sentinel(plain.port) as sentinel:
        for fault in FAULTS.values():
            clients = files["ca"] if fault.asks else None
            async with Terminator(certificate(fault, files), sentinel, clients, strict=True) as server:
                port = server.port if fault.tls else sentinel
                url = f"{fault.scheme}+sentinel://localhost:{port}/{SERVICE}/0{fault.query.format(**files)}"
                said = await said_by_store(url)
                assert f"at the sentinel localhost:{port}, " in said
                assert fault.words.format(**files) in said


@pytest.mark.parametrize("word", ["MISCONF", "OOM", "READONLY"])
def test_the_command_is_not_in_it(word: str) -> None:
    """What redis-py puts before a pipeline's error, the command with a prompt's bytes, is in no message."""
    kind = {"OOM": OutOfMemoryError, "READONLY": ReadOnlyError}.get(word, ResponseError)
    with pytest.raises(StoreUnavailable) as caught, translated("redis://h"):
        raise kind(f"Command # 1 (SET key a prompt) of pipeline caused error: {word} it says why")
    assert "a prompt" not in str(caught.value)
    assert word == "READONLY" or str(caught.value).endswith(f": {word} it says why")


def test_a_key_needs_its_certificate(files: dict[str, Any]) -> None:
    """A key alone is refused before anything connects; a certificate alone has its key in the same file."""
    with pytest.raises(ConfigError, match="ssl_keyfile is nothing without its certificate: add ssl_certfile="):
        make_pool("rediss://one?ssl_keyfile=/key.pem")
    pool: Any = make_pool(f"rediss://one?ssl_certfile={files['own']}")
    assert pool.connection_kwargs["ssl_keyfile"] == str(files["own"])


async def test_a_replica_says_that_it_is_one() -> None:
    """A write to a read-only replica is refused as that, with the ways out."""
    with ValkeyServer(port=free_port(), extra=("--replicaof", "127.0.0.1 1")) as replica:
        store = Store(replica.url, Settings(redis_url=replica.url, emulate=True))
        try:
            with pytest.raises(StoreUnavailable, match="is a read-only replica: name its primary"):
                await store.greet("emulated.local")
        finally:
            await store.aclose()


async def test_connections_say_whose_they_are(redis_url: str, queue_name: str) -> None:
    """``CLIENT LIST`` shows queue, role, host and process of the store's connections, arq's and a named one's."""
    store = Store(redis_url, Settings(redis_url=redis_url, queue=queue_name, emulate=True), role="producer")
    arq: Any = make_arq_client(redis_url, "q", client_name(queue_name, "pack"))
    await arq.ping()
    names = {each["name"] for each in await store.redis.client_list()}
    assert {client_name(queue_name, "producer"), client_name(queue_name, "pack")} <= names
    await store.aclose()
    await arq.aclose()
    await arq.connection_pool.disconnect()


async def test_names_may_be_refused(queue_name: str) -> None:
    """A server without ``CLIENT`` serves all the same."""
    with ValkeyServer(extra=("--rename-command", "CLIENT", "")) as server:
        store = Store(server.url, Settings(redis_url=server.url, queue=queue_name, emulate=True))
        await store.ping()
        await store.aclose()


def test_a_name_is_one_word() -> None:
    """Whatever the host is called."""
    assert client_name("q", "producer").startswith("gemqueue:q:producer:")
    assert client_name("q", "a b\n").startswith("gemqueue:q:a_b_:")
