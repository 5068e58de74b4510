"""The registered webhooks, managed at the emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.errors import Rejected
from gemqueue_adapters.hooks import Hooks
from gemqueue_adapters.http import Http
from gemqueue_adapters.webhooks import EVENTS, is_secret
from tests.emulator_process import EmulatorProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

URI = "http://127.0.0.1:9/webhook"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("hooks") / "data", job_s=0) as started:
        yield started


@pytest.fixture(params=["v1", "v1beta"])
async def hooks(running: EmulatorProcess, request: pytest.FixtureRequest) -> AsyncIterator[Hooks]:
    running.reset()
    made = Hooks(Http(base_url=running.url, api_key="k", emulate=True, timeout_s=10), api_version=request.param)
    yield made
    await made.aclose()


async def test_the_life_of_a_hook(hooks: Hooks) -> None:
    """Registered, listed without its secret, rotated with a day's grace and at once, pinged, deleted."""
    made = await hooks.register(uri=URI, name="mine", events=EVENTS)
    assert is_secret(made.new_signing_secret)
    (listed,) = await hooks.list()
    assert (listed.id, listed.uri, listed.state, listed.new_signing_secret) == (made.id, URI, "enabled", "")
    assert is_secret(await hooks.rotate(made.id, at_once=False))
    assert len((await hooks.list())[0].signing_secrets) == 2
    assert is_secret(await hooks.rotate(made.id, at_once=True))
    assert len((await hooks.list())[0].signing_secrets) == 1
    await hooks.ping(made.id)
    await hooks.delete(made.id)
    assert await hooks.list() == []
    with pytest.raises(Rejected):
        await hooks.ping(made.id)


async def test_more_than_a_page(hooks: Hooks) -> None:
    """The list is read to its end."""
    for number in range(102):
        await hooks.register(uri=URI, name=f"n{number}", events=EVENTS[:1])
    assert len({hook.id for hook in await hooks.list()}) == 102


@pytest.mark.parametrize("hook", ["", "../batches/x", "a/b", "a?b", "a:ping"])
async def test_ids_that_are_none_go_nowhere(hooks: Hooks, hook: str) -> None:
    """What is no id is refused before any request."""
    with pytest.raises(Rejected):
        await hooks.delete(hook)
