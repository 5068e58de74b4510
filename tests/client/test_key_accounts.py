"""Names and runs belong to the account: where that is made of the API key, whoever gives a name is told so, once."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec
import pytest

from gemqueue import Queue
from gemqueue.accounts import account_id, made_of_key
from gemqueue.client import names
from gemqueue.config import Settings
from gemqueue.store.base import names_go_with_key
from gemqueue.store.runs import RunStore
from tests.cli.command import gemqueue, start

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

MODEL = "gemini-3.8-flash"
KEY = "AIza-of-nobody"
ACCOUNT = account_id(Settings(), KEY)


@pytest.fixture
async def store(redis_url: str, queue_name: str, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[RunStore]:
    """A queue of the real service, whose process has warned of nothing yet; what is left of it is deleted."""
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setattr(names, "warned", set[str]())
    store = RunStore(redis_url, Settings(queue=queue_name, redis_url=redis_url))
    yield store
    await store.redis.delete(*await store.redis.keys(f"{store.prefix}:*"))
    await store.aclose()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings of what goes with the key."""
    return [record.getMessage() for record in caplog.records if "made of the API key" in record.getMessage()]


async def test_a_name_on_an_account_of_a_key(store: RunStore, caplog: pytest.LogCaptureFixture) -> None:
    """The first name is warned of with the way out, and no later one; another process is warned when it connects."""
    caplog.set_level(logging.WARNING, "gemqueue")
    async with Queue.connect(settings=store.settings) as queue:
        await queue.submit("no name", model=MODEL)
        assert said(caplog) == []
        for name in ("one", "two"):
            await queue.submit("a name", model=MODEL, name=name)
        assert said(caplog) == [names_go_with_key(ACCOUNT)]
    async with Queue.connect(settings=store.settings):
        assert len(said(caplog)) == 1
    names.warned.clear()
    async with Queue.connect(settings=store.settings):
        assert len(said(caplog)) == 2


@pytest.mark.parametrize("more", [{"account": "production"}, {"emulate": True}, {"pool": "shared"}])
async def test_what_a_new_key_does_not_change(
    store: RunStore, caplog: pytest.LogCaptureFixture, more: dict[str, object]
) -> None:
    """An account with a name of its own, an emulated one and a pool outlive every key: nothing is said."""
    caplog.set_level(logging.WARNING, "gemqueue")
    settings = msgspec.structs.replace(store.settings, **more)
    for _ in range(2):
        async with Queue.connect(settings=settings) as queue:
            await queue.submit("a name", model=MODEL, name="one")
    assert said(caplog) == []


def test_the_way_out_keeps_what_is_there() -> None:
    """``account`` set as the warning says names the same account, with any key."""
    own = ACCOUNT.rpartition(".")[2]
    assert f"GEMQUEUE_ACCOUNT={own}" in names_go_with_key(ACCOUNT)
    assert account_id(Settings(account=own), "another key") == ACCOUNT
    assert made_of_key(Settings(), ACCOUNT)
    assert not made_of_key(Settings(account=own), ACCOUNT)
    assert KEY not in names_go_with_key(ACCOUNT)


async def test_doctor_and_workers(store: RunStore) -> None:
    """``doctor`` and ``work`` warn once the account has had a name or a run, and not before."""
    env = {"GEMQUEUE_REDIS_URL": store.url, "GEMQUEUE_QUEUE": store.settings.queue, "GEMINI_API_KEY": KEY}
    found = [finding["what"] for finding in msgspec.json.decode(gemqueue("doctor", "--json", **env).stdout)]
    assert "names" not in found
    await store.open_run(ACCOUNT, "nightly", "{}", "{}", [])
    findings = msgspec.json.decode(gemqueue("doctor", "--json", **env).stdout)
    assert {"what": "names", "state": "warning", "said": names_go_with_key(ACCOUNT)} in findings
    with start("work", "pack", "--log-json", **env) as worker:
        assert worker.stderr is not None
        lines: list[str] = []
        while "worker.started" not in (line := worker.stderr.readline()) and line:
            lines.append(line)
        worker.terminate()
        worker.communicate(timeout=60)
    assert any("account.of_key" in line and names_go_with_key(ACCOUNT)[:60] in line for line in lines), lines
