"""No connection and no command prints a URL's secret."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import pytest

from gemqueue import GemqueueError, Queue, Settings
from gemqueue.connections.pools import make_pool
from gemqueue.urls import safe_url, shown_url
from gemqueue_workers.manage.config import effective
from gemqueue_workers.worker.arq_client import make_arq_client
from tests.cli.command import gemqueue

SECRET = "hunter2"  # noqa: S105 - nobody's
PLACES = [
    "redis://user:hunter2@127.0.0.1:1/0",
    "redis://:hunter2@127.0.0.1:1/0",
    "redis://hunter2@127.0.0.1:1/0",
    "redis://:hunter2#x@127.0.0.1:1/0",
    "redis://user:x#hunter2@127.0.0.1:1/0",
    "redis://user:x/hunter2@127.0.0.1:1/0",
    "redis://user:hunter2?x@127.0.0.1:1/0",
    "redis://user:x?hunter2@127.0.0.1:1/0",
    "redis://user:x?db=hunter2@127.0.0.1:1/0",
    "redis://user:1?password=x@hunter2@127.0.0.1:1/0",
    "redis://user:x@hunter2@127.0.0.1:1/0",
    "redis://127.0.0.1:1/0?password=hunter2",
    "redis://127.0.0.1:1/0?password=x%20hunter2&db=1",
    "redis://127.0.0.1:1/0?password=x@hunter2",
    "redis://127.0.0.1:1/0?p%61ssword=hunter2",
    "redis://127.0.0.1:1/0?token=hunter2",
    "redis://127.0.0.1:1/0?hunter2",
    "rediss://127.0.0.1:1/0?ssl_check_hostname=false&password=hunter2",
    "rediss://127.0.0.1:1/0?ssl_check_hostname=hunter2",
    "rediss://127.0.0.1:1/0?ssl_password=hunter2",
    "unix:///nowhere.sock?password=hunter2",
    "unix://:hunter2@/nowhere.sock",
    "redis+sentinel://user:hunter2@127.0.0.1:1,127.0.0.1:2/orders/0",
    "redis+sentinel://127.0.0.1:1/orders/0?sentinel_password=hunter2",
    "rediss+sentinel://127.0.0.1:1/orders?sentinel_username=hunter2&sentinel_password=hunter2",
    "redis+cluster://user:hunter2@127.0.0.1:1,127.0.0.1:2",
    "rediss+cluster://127.0.0.1:1/?password=hunter2",
    "redis+cluster://user:hunter2@127.0.0.1:1/7",
    "redis://127.0.0.1:1/0#hunter2",
    "redis://hunter2:@127.0.0.1:1/0",
    "hunter2",
    "hunter2://127.0.0.1:1/0",
]


@pytest.mark.parametrize("url", PLACES)
async def test_nothing_prints_it(
    url: str, queue_name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the two ways to show a URL, nor settings, pools, errors, logs and ``gemqueue config`` hold the secret."""
    monkeypatch.setenv("GEMQUEUE_REDIS_URL", url)
    settings = Settings(redis_url=url, queue=queue_name, emulate=True, base_url="http://u:hunter2@h/?key=hunter2")
    said = [shown_url(url), safe_url(url), repr(settings), str(settings), f"{[settings]}", repr(effective())]
    with caplog.at_level(logging.DEBUG):
        for make in (partial(make_pool, key="{gq:q:00}"), partial(make_arq_client, queue_name="q")):
            try:
                said.append(repr(make(url)))
            except GemqueueError as error:
                said.append(str(error))
        with pytest.raises(GemqueueError) as caught:
            async with asyncio.timeout(60):
                await Queue.connect(settings=settings)
    assert SECRET not in "\n".join((*said, str(caught.value), caplog.text))


@pytest.mark.parametrize(
    "words", [("config",), ("config", "--json"), ("doctor", "--json"), ("status",), ("admin", "metrics")]
)
def test_no_command_prints_it(words: tuple[str, ...]) -> None:
    """The commands that speak of settings and servers hide it too."""
    for url in (
        "redis://user:hunter2@127.0.0.1:1/0",
        f"rediss+sentinel://127.0.0.1:1/orders?sentinel_password={SECRET}",
    ):
        ended = gemqueue(*words, GEMQUEUE_REDIS_URL=url, GEMQUEUE_EMULATE="1")
        assert ended.returncode == (0 if words[0] == "config" else 2)
        assert "127.0.0.1:1" in ended.stdout + ended.stderr
        assert SECRET not in ended.stdout + ended.stderr
