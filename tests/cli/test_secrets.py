"""No secret is printed, wherever it was given: settings, variables, parts of URLs; in words, JSON, logs and pages."""

from __future__ import annotations

import asyncio
import io
import logging
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from rich.console import Console

from gemqueue import GemqueueError, Queue, Settings
from gemqueue.accounts import lane_account
from gemqueue.config import OTHER_ENVS, check_settings, data_dir, load_settings
from gemqueue.store.store import Store
from gemqueue_adapters.jwks import KeySource
from gemqueue_workers.manage.config import effective, show_config
from gemqueue_workers.settings import make_kit, make_provider
from tests.adapters.wire import wire
from tests.cli.command import gemqueue, start
from tests.serve.door import Door
from tests.valkey_server import ValkeyServer
from tests.worlds.failing_over import free_port
from tests.worlds.processes import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.adapters.wire import Seen, Wire

SECRET = "S3cretHunter2"  # noqa: S105 - nobody's
URLS = [
    f"redis://user:{SECRET}@127.0.0.1:1/0",
    f"redis+sentinel://127.0.0.1:1/orders?sentinel_username={SECRET}1&sentinel_password={SECRET}",
    f"http://{SECRET}:{SECRET}@127.0.0.1:1",
    f"https://{SECRET}/x@127.0.0.1:1",
    f"https://127.0.0.1:1/hooks/{SECRET}",
    f"https://127.0.0.1:1/webhook?key={SECRET}",
    f"https://127.0.0.1:1/webhook?{SECRET}",
    f"https://127.0.0.1:1/webhook#{SECRET}",
    f"unix://:{SECRET}@/nowhere.sock?password={SECRET}",
    f"redis://127.0.0.1:1/{SECRET}",
    f"ftp://user:{SECRET}@127.0.0.1:1",
]
NAMES = [f"AIza-{SECRET}", f"whsec_{SECRET}=", f"{SECRET}@127.0.0.1:1", f"password={SECRET}"]
"""Secrets in the place of a name; a folder or a file may be called so."""
PATHS = {"data_dir", "CONFIG", "MODELS"}
TEXTS = [field for field in Settings.__struct_fields__ if isinstance(getattr(Settings(), field), str)]


def values(name: str) -> list[str]:
    """What is put into this setting or variable, secret each."""
    return URLS if name in PATHS else URLS + NAMES


def leaks(said: Iterable[str], *more: str) -> list[str]:
    """The lines that hold a secret."""
    return [line for text in said for line in text.splitlines() if any(word in line for word in (SECRET, *more))]


def said_of(settings: Settings) -> Iterator[str]:
    """All that this process says of settings by itself: reprs, what they make, and why that fails."""
    yield from (repr(settings), str(settings), f"{[settings]}")
    try:
        check_settings(settings)
    except GemqueueError as error:
        yield str(error)
        return
    for make in (
        lambda: Store(settings.redis_url, settings),
        lambda: make_kit(settings),
        lambda: make_provider(settings, f"AIza-{SECRET}"),
        lambda: lane_account(settings, f"AIza-{SECRET}"),
        lambda: data_dir(settings),
        lambda: KeySource(base_url=settings.base_url, url=settings.webhook_jwks_url, emulate=False, clock=_NO_CLOCK),
    ):
        try:
            made: Any = make()
        except GemqueueError as error:
            yield str(error)
        else:
            yield repr(made)


_NO_CLOCK: Any = None


@pytest.mark.parametrize("name", TEXTS)
async def test_no_setting_is_printed(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A secret in any text setting, by keyword or by variable, reaches no repr, error, log or list of settings."""
    monkeypatch.setenv("GOOGLE_API_KEY", f"AIza-{SECRET}")
    said: list[str] = []
    with caplog.at_level(logging.DEBUG):
        for value in values(name):
            given: dict[str, Any] = {name: value}
            said += said_of(Settings(**given))
            monkeypatch.setenv(f"GEMQUEUE_{name.upper()}", value)
            for make in (effective, load_settings, partial(load_settings, env={}, **given)):
                try:
                    made = make()
                except GemqueueError as error:
                    said.append(str(error))
                    continue
                said.append(repr(made))
                if isinstance(made, list):
                    show_config(Console(file=(shown := io.StringIO()), width=500), made)
                    said.append(shown.getvalue())
    assert leaks([*said, caplog.text]) == []


@pytest.mark.parametrize("name", [name for name in Settings.__struct_fields__ if name not in TEXTS])
def test_no_value_of_the_wrong_type_is_printed(name: str) -> None:
    """A text where a number or a flag belongs is refused, with the setting's name alone."""
    wrong: list[dict[str, Any]] = [{"env": {f"GEMQUEUE_{name.upper()}": SECRET}}]
    wrong += [{"env": {}, name: value} for value in (SECRET, [SECRET])]
    for given in wrong:
        with pytest.raises(GemqueueError, match=f"{name} must be") as caught:
            load_settings(**given)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", TEXTS)
def test_no_text_of_the_wrong_type_is_printed(name: str) -> None:
    """Nor is what a list or a table holds, where a text belongs."""
    wrong: list[Any] = [[SECRET], {"password": SECRET}, SECRET.encode()]
    for value in wrong:
        with pytest.raises(GemqueueError, match=f"{name} must be") as caught:
            load_settings(env={}, **{name: value})
        assert SECRET not in str(caught.value)


OTHERS = sorted({name.removeprefix("GEMQUEUE_") for name in OTHER_ENVS} - {"DEBUG"})


@pytest.mark.parametrize("name", OTHERS)
def test_no_variable_is_printed(name: str) -> None:
    """A secret in any variable that is no setting is in nothing that a command prints, with ``--debug`` either."""
    for value in [f"redis://user:{SECRET}@h:1/0", *([] if name in PATHS else [f"whsec_{SECRET}"])]:
        last = ("status",) if name.startswith("SEAL_") else ("serve", "--port", "0")  # which waits for its server
        for words in (("--debug", "config"), ("doctor", "--json"), last):
            env = {f"GEMQUEUE_{name}": value, "GEMQUEUE_REDIS_URL": "redis://127.0.0.1:1", "GEMQUEUE_EMULATE": "1"}
            env |= {"GEMQUEUE_REDIS_URL": ""} if name == "REDIS_URL_FILE" else {}
            ended = gemqueue(*words, **env, GOOGLE_GEMINI_BASE_URL="http://127.0.0.1:1")
            assert leaks([ended.stdout, ended.stderr]) == []


PROXIES = [
    f"http://user:{SECRET}@127.0.0.1:1",
    f"http://us er:{SECRET}#x@127.0.0.1:1",
    f"http://user:{SECRET}/x@127.0.0.1:1",
    f"ftp://user:{SECRET}@127.0.0.1:1",
    f"socks5://user:{SECRET}@127.0.0.1:1",
    f"{SECRET}@127.0.0.1:99999",
]


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize("url", PROXIES)
def test_no_proxy_is_printed(variable: str, url: str, redis_url: str, queue_name: str) -> None:
    """A proxy that cannot be used is refused in a sentence; none shows its password, with ``--debug`` either."""
    env = {"GEMQUEUE_REDIS_URL": redis_url, "GEMQUEUE_QUEUE": queue_name, "GOOGLE_API_KEY": f"AIza-{SECRET}"}
    said = ""
    for words in (("--debug", "webhooks", "list"), ("doctor",), ("webhooks", "list")):
        ended = gemqueue(*words, **env, **{variable: url}, GEMQUEUE_WEBHOOK_URL="https://127.0.0.1:1/webhook")
        said += ended.stdout + ended.stderr
    assert leaks([said]) == []
    assert "defect" not in said


async def test_nothing_that_runs_prints_one(queue_name: str, tmp_path: Path) -> None:
    """Worker, server and commands that use secrets at a real server and a service that repeats the key: all of it."""

    def answer(seen: Seen) -> bytes:
        key = seen.headers.get("x-goog-api-key", "")
        body = msgspec.json.encode({"error": {"code": 400, "message": f"bad key {key}", "status": "INVALID_ARGUMENT"}})
        return b"HTTP/1.1 400 Bad\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)

    hook = "whsec_UzNjcmV0SHVudGVyMlMzY3JldEh1bnRlcjI="
    with ValkeyServer(port=free_port(), extra=("--requirepass", SECRET)) as server:
        env = {
            "GEMQUEUE_REDIS_URL": f"redis://:{SECRET}@127.0.0.1:{server.port}/0",
            "GEMQUEUE_QUEUE": queue_name,
            "GEMQUEUE_WEBHOOK_SECRETS": hook,
            "GOOGLE_API_KEY": f"AIza-{SECRET}",
        }
        async with wire(answer) as service:
            env["GOOGLE_GEMINI_BASE_URL"] = service.base_url
            said = await asyncio.to_thread(_told, env, tmp_path)
            async with asyncio.timeout(60), Queue.connect(env["GEMQUEUE_REDIS_URL"], **_as_settings(env)) as queue:
                said.append(repr(queue))
                await queue.submit("p", model="gemini-3.8-flash")
                for words in (("work", "-v"), ("work", "-v", "--log-json")):
                    said += await _worked(words, env, service)
    assert leaks(said, hook) == []
    assert "HTTP 400" in "".join(said)


def _as_settings(env: dict[str, str]) -> dict[str, Any]:
    return {"queue": env["GEMQUEUE_QUEUE"], "base_url": env["GOOGLE_GEMINI_BASE_URL"], "account": "a"}


def _told(env: dict[str, str], folder: Path) -> list[str]:
    """What commands, their refusals and a server's pages say."""
    said: list[str] = []
    away = env | {"GEMQUEUE_REDIS_URL": f"redis://:{SECRET}@127.0.0.1:1/0"}
    wrong = env | {"GEMQUEUE_REDIS_URL": env["GEMQUEUE_REDIS_URL"].replace(SECRET, SECRET * 2)}
    for words in (("config",), ("config", "--json"), ("doctor",), ("status", "--json"), ("admin", "metrics")):
        for each in (env,) if words[0] == "config" else (env, away, wrong):
            ended = gemqueue("--debug", *words, **each)
            said.append(ended.stdout + ended.stderr)
    with Door(folder, env, "--log-json") as door:
        said += [door.http.get(path).text for path in ("/", "/metrics", "/health", "/health/live", "/none")]
        said.append(str(door.post(b"{}", {"webhook-signature": f"v1,{SECRET}", "webhook-id": "m"})))
    return [*said, door.log]


async def _worked(words: tuple[str, ...], env: dict[str, str], service: Wire) -> list[str]:
    """A worker's log until it has asked the service twice."""
    before = len(service.seen)

    async def asked() -> bool:
        return len(service.seen) > before + 1

    with start(*words, **(env | {"GEMQUEUE_ACCOUNT": "a", "GEMQUEUE_LINGER_S": "0"})) as process:
        try:
            await until(asked, 60, "two calls of the service")
        finally:
            process.send_signal(signal.SIGTERM)
            out, err = await asyncio.to_thread(process.communicate)
    return [out, err]
