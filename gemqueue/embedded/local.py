"""The embedded default: a server of this user's own, a worker beside it, and where asked for the emulator.

Server, worker and emulator are processes of their own, shared by everybody who uses the same data folder and stopped
with the last of them (``embedded``). A worker is started only while no heartbeat is there of one's own account: several
accounts may share a folder, and each has a worker of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import msgspec

from gemqueue.accounts import account_id, api_key_from_env, pool_id
from gemqueue.config import CONFIG_ENV, Settings, data_dir
from gemqueue.embedded import server
from gemqueue.errors import ConfigError, GemqueueError
from gemqueue.extras import need
from gemqueue.policy.workers import serves_alone
from gemqueue.variables import API_KEY_ENVS, FILE, REDIS_URL_ENV

if TYPE_CHECKING:
    from pathlib import Path

    from gemqueue.store.producer import ProducerStore

_NOT_HANDED_ON = frozenset({"redis_url", "data_dir", "embedded"})
_HEALTH_S_MAX = 2.0
_PLAIN_NAME = re.compile(r"[a-z0-9-]{1,12}")


class _Ready(msgspec.Struct):
    url: str
    pid: int


class Local:
    """This process's hold on the embedded server and its companions; ``url`` is the server's."""

    def __init__(self, server: server.EmbeddedServer, settings: Settings, folder: Path) -> None:
        self.url = server.url
        self._server = server
        self._settings = settings
        self._folder = folder
        self._api_key = api_key_from_env()  # another Queue of this process may be opened under another key
        self._account = account_id(settings, self._api_key)
        self._busy = asyncio.Lock()

    @staticmethod
    async def acquire(settings: Settings, *, look: bool = False) -> Local:
        """Use the embedded server of ``data_dir``, or have a ``look`` at it. Raises ConfigError, StoreUnavailable."""
        if not settings.embedded:
            raise ConfigError(
                "No redis_url: set GEMQUEUE_REDIS_URL (GEMQUEUE_EMBEDDED=0 rules out the embedded server)"
            )
        if not settings.emulate and not api_key_from_env():
            raise ConfigError(
                "No API key for the worker that the embedded default starts: set GOOGLE_API_KEY or GEMINI_API_KEY, "
                "ask for the emulator with Queue.connect(emulate=True), or set GEMQUEUE_REDIS_URL and run a worker"
            )
        if settings.emulate and not settings.base_url and not look:
            need("emulator", "Emulation without an emulator's address (emulate=True, --emulate)")
        folder = data_dir(settings).resolve()
        return Local(await server.acquire(folder, look=look), settings, folder)

    async def ensure_worker(self, store: ProducerStore) -> None:
        """Have a worker of this account running with every role, and for an emulated account its emulator.

        Raises StoreUnavailable with the log.
        """

        async def heartbeat() -> bool:
            return serves_alone(await store.workers(), self._account, pool_id(self._settings))

        async with self._busy:
            if await heartbeat():
                return
            env = worker_env(self._settings, self.url, self._api_key)
            if self._settings.emulate and not self._settings.base_url:
                env["GOOGLE_GEMINI_BASE_URL"] = await self.ensure_emulator()
            argv = [sys.executable, "-m", "gemqueue", "work", "--companion"]
            name = companion_name(self._settings.queue, self._account, pool_id(self._settings))
            await self._server.ensure_process(name, argv, env, heartbeat)

    async def revive(self) -> None:
        """Start the server again if it died; says nothing when that fails, for whoever asks tries again."""
        async with self._busy:
            with suppress(GemqueueError):
                await self._server.revive()

    async def release(self) -> None:
        """Let go; the last one out stops everything."""
        await self._server.release()

    async def ensure_emulator(self) -> str:
        """Have the emulator of this folder running, with what it sold before; its address."""
        ready_file = self._folder / "emulator.json"
        argv = [
            sys.executable, "-m", "gemqueue", "emulate", "--port", "0", "--job-s", "0.5",
            "--data", str(self._folder / "emulator"), "--ready-file", str(ready_file),
        ]  # fmt: skip

        async def ready() -> bool:
            return await healthy_url(ready_file) is not None

        await self._server.ensure_process("emulator", argv, {}, ready)
        url = await healthy_url(ready_file)
        if url is None:
            raise ConfigError(f"The emulator went away as soon as it was ready; see {self._folder}/emulator.log")
        return url


async def healthy_url(ready_file: Path) -> str | None:
    """The address of the emulator that wrote the file, if that very process lives and answers."""
    try:
        ready = msgspec.json.decode(ready_file.read_bytes(), type=_Ready)  # noqa: ASYNC240 - a line, read while starting up
        os.kill(ready.pid, 0)
        async with httpx.AsyncClient(trust_env=False, timeout=_HEALTH_S_MAX) as client:
            response = await client.get(f"{ready.url}/_emulator/health")
    except (OSError, msgspec.MsgspecError, httpx.HTTPError):
        return None
    return ready.url if response.is_success else None


def companion_name(queue: str, account: str, pool: str = "") -> str:
    """What the worker of a queue and an account is called in its data folder: ``worker-default-1f2e3d4c``.

    0.2.0 called its own ``work`` and ``work-<queue>``, whatever the account; one that still runs has its own lock.
    """
    short = queue if _PLAIN_NAME.fullmatch(queue) else _digest(queue)[:12]
    return f"worker-{short}-{_digest(f'{account} {pool}')[:8]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def worker_env(settings: Settings, url: str, api_key: str = "") -> dict[str, str]:
    """The environment in which a worker has the very settings and key of this process, whatever else is set."""
    env = {CONFIG_ENV: "", "GEMQUEUE_REDIS_URL": url}
    for name, value in msgspec.structs.asdict(settings).items():
        if name not in _NOT_HANDED_ON:
            env[f"GEMQUEUE_{name.upper()}"] = str(value).lower() if isinstance(value, bool) else str(value)
    if api_key:
        env["GOOGLE_API_KEY"] = api_key
    return env | {name + FILE: "" for name in (REDIS_URL_ENV, *(API_KEY_ENVS if api_key else ()))}
