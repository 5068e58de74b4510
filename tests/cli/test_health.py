"""``gemqueue health`` and ``arq --check``: what a probe believes, and what it says where it cannot see."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue.config import Settings
from gemqueue.records import Sign
from gemqueue.store.store import Store
from gemqueue_workers.settings import ROLES, worker_queue
from tests.cli.command import END_S_MAX, environment, gemqueue
from tests.cli.run_world import RunWorld
from tests.tls_server import Signer, Terminator
from tests.worlds.failing_over import Pair, free_port
from tests.worlds.processes import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from tests.valkey_server import ValkeyServer

ACCOUNT = "emulated.local"
EVERY = "pack+submit+track+resolve+rescue"


@pytest.fixture
async def store(redis_url: str, queue_name: str) -> AsyncGenerator[Store]:
    """The store of the test's queue."""
    store = Store(redis_url, Settings(queue=queue_name, redis_url=redis_url, emulate=True))
    yield store
    await store.aclose()


@pytest.fixture
def beat(store: Store) -> Callable[..., Awaitable[None]]:
    """A worker's heartbeat, whose last good sweep was so many seconds ago; None where none was."""

    async def beat(worker: str, swept_s: float | None = 0.0, roles: str = EVERY, **said: Any) -> None:
        swept_at = 0 if swept_s is None else await store.server_now_ms() - int(swept_s * 1000)
        plain: dict[str, Any] = {"accounts": (ACCOUNT,), "host": "far", "pid": 7, "last_good_sweep_at": swept_at}
        sign = Sign(**(plain | said))
        await store.beat(worker, roles, ACCOUNT, sign)

    return beat


async def asked(store: Store, *arguments: str, url: str = "", **env: str) -> tuple[int, str]:
    """The exit code, and what was printed."""
    env = {
        "GEMQUEUE_REDIS_URL": url or store.url,
        "GEMQUEUE_QUEUE": store.settings.queue,
        "GEMQUEUE_EMULATE": "1",
    } | env
    ended = await asyncio.to_thread(gemqueue, "health", *arguments, **env)
    assert "Traceback" not in ended.stderr
    return ended.returncode, ended.stdout + ended.stderr


async def test_what_is_healthy(store: Store, beat: Callable[..., Awaitable[None]]) -> None:
    """0 where every role is worked on, 1 with the reason where one is not, by worker, by role and by age."""
    assert await asked(store) == (1, f"no worker of {ACCOUNT} has the role pack\n")
    await beat("a", 0.0, "pack+submit")
    assert await asked(store) == (1, f"no worker of {ACCOUNT} has the role track\n")
    assert (await asked(store, "--role", "pack", "--role", "submit"))[0] == 0
    await beat("b", 0.0, "track+resolve+rescue", host=socket.gethostname())
    code, said = await asked(store)
    assert (code, said.startswith("2 workers, the last sweep ")) == (0, True)
    code, said = await asked(store, "--worker", "here")
    assert (code, said.startswith(f"worker b (pid 7 on {socket.gethostname()}), the last sweep ")) == (0, True)
    assert (await asked(store, "--worker", "a"))[0] == 0
    assert await asked(store, "--worker", "c") == (1, "no worker c\n")
    await beat("b", 20.0, "track+resolve+rescue", host="elsewhere")
    assert (await asked(store))[0] == 0
    code, said = await asked(store, "--swept-within", "10")
    assert (code, "worker b (pid 7 on elsewhere) has swept nothing since" in said) == (1, True)
    assert await asked(store, "--worker", "here") == (1, f"no worker on {socket.gethostname()}\n")


async def test_a_worker_whose_sweeps_fail_is_not_healthy(store: Store, beat: Callable[..., Awaitable[None]]) -> None:
    """It beats, and what it waits for is the reason, for people and as JSON."""
    await beat("w", None, waiting_for="server: no permissions")
    reason = "worker w (pid 7 on far) never swept, waiting for server: no permissions"
    assert await asked(store) == (1, f"{reason}\n")
    code, printed = await asked(store, "--json")
    found = msgspec.json.decode(printed)
    assert (code, found["healthy"], found["said"], found["account"]) == (1, False, reason, ACCOUNT)
    (worker,) = found["workers"]
    assert (worker["id"], worker["stuck"], worker["sweep_age_s"], worker["pid"]) == ("w", True, None, 7)


async def test_what_is_not_known_is_2(store: Store) -> None:
    """No server, a wrong password, no account: one line, exit 2, and nothing on standard output."""
    code, said = await asked(store, url=f"redis://127.0.0.1:{free_port()}")
    assert (code, "does not answer" in said) == (2, True)
    code, said = await asked(store, GEMQUEUE_EMULATE="0")
    assert (code, said.startswith("gemqueue: No API key")) == (2, True)
    code, said = await asked(store, "--swept-within", "0")
    assert (code, "--swept-within" in said) == (2, True)


async def test_by_tls_sentinel_and_socket(
    store: Store, beat: Callable[..., Awaitable[None]], valkey: ValkeyServer, tmp_path: Path
) -> None:
    """Each form of URL finds the same worker."""
    await beat("w")
    signer = Signer(tmp_path)
    async with Terminator(signer.certificate("localhost"), valkey.socket_path, signer.ca) as tls:
        own = signer.certificate("client")
        query = f"ssl_ca_certs={signer.ca}&ssl_certfile={own}&ssl_keyfile={own}"
        assert (await asked(store, url=f"rediss://localhost:{tls.port}/0?{query}"))[0] == 0
        code, said = await asked(store, url=f"rediss://127.0.0.1:{tls.port}/0?{query}")
        assert (code, "certificate is not for '127.0.0.1'" in said) == (2, True)
    async with Pair() as pair:
        there = Store(pair.url, store.settings)
        now_ms = await there.server_now_ms()
        sign = Sign(accounts=(ACCOUNT,), host="far", last_good_sweep_at=now_ms)
        await there.beat("w", EVERY, ACCOUNT, sign)
        await there.aclose()
        assert (await asked(store, url=pair.url))[0] == 0


def test_without_a_url_the_embedded_server_is_looked_at(tmp_path: Path) -> None:
    """Where none was ever started nobody works, and none is started by the look."""
    env = {"GEMQUEUE_DATA_DIR": str(tmp_path / "data"), "GEMQUEUE_EMULATE": "1"}
    ended = gemqueue("health", **env)
    assert (ended.returncode, ended.stdout) == (1, f"no worker of {ACCOUNT} has the role pack\n")
    assert not (tmp_path / "data").exists()


async def test_arqs_own_probe(valkey: ValkeyServer, queue_name: str, tmp_path: Path) -> None:
    """`arq --check` asks the URL of the settings, by TLS, too: 0 while a worker polls, 1 once it was killed."""
    signer = Signer(tmp_path)
    with RunWorld(tmp_path, valkey.url, queue_name) as world:
        command = [str(Path(sys.executable).parent / "arq"), "--check", "gemqueue_workers.settings.AllSettings"]

        def check(**env: str) -> tuple[int, str]:
            asked_env = environment(**(world.env | env))
            ended = subprocess.run(
                command, env=asked_env, capture_output=True, text=True, timeout=END_S_MAX, check=False
            )
            assert "Traceback" not in ended.stderr
            return ended.returncode, ended.stderr

        async def fails() -> bool:
            return (await asyncio.to_thread(check))[0] == 1

        async def works() -> bool:
            return (await asyncio.to_thread(check))[0] == 0

        await until(works, what="a mark")
        async with Terminator(signer.certificate("redis.internal"), valkey.socket_path) as tls:
            url = f"rediss://127.0.0.1:{tls.port}/0?ssl_ca_certs={signer.ca}"
            code, said = await asyncio.to_thread(check, GEMQUEUE_REDIS_URL=url)
            assert (code, "ssl_hostname=NAME" in said) == (1, True)
            named = f"{url}&ssl_hostname=redis.internal"
            assert (await asyncio.to_thread(check, GEMQUEUE_REDIS_URL=named))[0] == 0
        world.kill_worker()
        await until(fails, what="no mark")


def test_the_mark_of_arqs_probe_is_the_hosts(queue_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker of another host, account or combination of roles does not answer for this one."""
    monkeypatch.setenv("GEMQUEUE_EMULATE", "1")
    monkeypatch.setenv("GEMQUEUE_REDIS_URL", "redis://x")
    monkeypatch.setenv("GEMQUEUE_QUEUE", queue_name)
    from gemqueue_workers import settings  # noqa: PLC0415 - the classes are made when they are asked for

    queue = worker_queue(Settings(queue=queue_name, emulate=True), ROLES)
    found: Any = settings.AllSettings
    assert found.health_check_key == f"{queue}:health-check:{socket.gethostname()}"
    assert found.redis_settings.url == "redis://x"
