"""What ``gemqueue doctor`` says of webhooks."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import msgspec
import pytest

from gemqueue.config import Settings
from gemqueue.store.store import Store
from gemqueue_workers.manage.webhook_checks import Heard, listening
from tests.cli.command import gemqueue
from tests.serve.door import SECRET, Door
from tests.worlds.failing_over import free_port

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = {"base_url": "http://127.0.0.1:9"}
LISTENER = "https://jobs.example.com/webhook"


async def heard(hidden: list[str] | None = None, **settings: str) -> list[Heard]:
    """What is said of these settings on an emulated account, and these secrets."""
    made = Settings(emulate=True, redis_url="redis://x", **{**PLAIN, **settings})  # type: ignore[arg-type]
    return [each async for each in listening(made, hidden or [])]


async def test_without_webhooks_nothing_is_wrong() -> None:
    """Who sets nothing polls, and a registered hook needs its secret alone."""
    assert await heard() == [Heard("ok", "none: jobs are polled")]
    ((state, said),) = await heard([SECRET])
    assert (state, "registered" in said) == ("ok", True)


async def test_malformed_secrets_are_numbered_and_not_shown() -> None:
    """What `gemqueue serve` would not start with is a failure that names the place, never the secret."""
    found = await heard([SECRET, "whsec_hush", "hush"])
    assert [each.state for each in found] == ["failed", "ok"]
    assert "number 2, 3 is no signing secret" in found[0].said
    assert "hush" not in found[0].said
    found = await heard([SECRET] * 17)
    assert ("warning", "only the first 16 of 17" in found[0].said) == (found[0].state, True)


@pytest.mark.parametrize(
    ("jwks", "state", "words"),
    [
        ("http://keys.example.com/jwks", "failed", "must be https"),
        ("https://me@keys.example.com/jwks", "failed", "without user"),
        ("https://keys.example.com/jwks", "warning", "not the provider's host"),
    ],
)
async def test_where_the_keys_come_from(jwks: str, state: str, words: str) -> None:
    """An address of keys that `gemqueue serve` refuses is a failure, one of a foreign host a warning."""
    found = await heard(webhook_jwks_url=jwks)
    assert (found[0].state, words in found[0].said) == (state, True)


async def test_who_listens_at_the_address(tmp_path: Path, redis_url: str, queue_name: str) -> None:
    """A running `gemqueue serve` is ok; nobody, another path and what the provider cannot reach are warnings."""
    env = {"GEMQUEUE_REDIS_URL": redis_url, "GEMQUEUE_QUEUE": queue_name, "GEMQUEUE_EMULATE": "1"}
    door = Door(tmp_path, {**env, "GOOGLE_GEMINI_BASE_URL": PLAIN["base_url"]}).start()
    try:
        ((state, said),) = await heard(webhook_url=f"{door.url}/webhook")
        assert (state, "answers" in said) == ("ok", True)
        ((state, said),) = await heard(webhook_url=f"{door.url}/hook")
        assert (state, "HTTP 404" in said) == ("warning", True)
    finally:
        door.stop()
    ((state, said),) = await heard(webhook_url=f"http://127.0.0.1:{free_port()}/webhook")
    assert (state, "is gemqueue serve running" in said) == ("warning", True)
    real = Settings(redis_url="redis://x", webhook_url="http://127.0.0.1:8400/webhook")
    assert [each.state async for each in listening(real, [])] == ["warning"]


async def test_the_command_says_it(redis_url: str) -> None:
    """The findings stand in the command's JSON; a bad scheme is refused by the settings; refused events are told."""
    queue = f"t{secrets.token_hex(6)}"
    env = {"GEMQUEUE_REDIS_URL": redis_url, "GEMQUEUE_QUEUE": queue, "GEMQUEUE_EMULATE": "1"}
    env |= {"GOOGLE_GEMINI_BASE_URL": PLAIN["base_url"], "GEMQUEUE_WEBHOOK_SECRETS": "hush"}
    store = Store(redis_url, Settings(queue=queue, redis_url=redis_url, emulate=True))
    await store.add_counts({"events_refused": 3})
    await store.redis.expire(store.key("counts"), 60)
    await store.aclose()
    ended = gemqueue("doctor", "--json", **env)
    said = [each for each in msgspec.json.decode(ended.stdout) if each["what"] == "webhooks"]
    assert [each["state"] for each in said] == ["failed", "ok", "warning"]
    assert "3 deliveries were refused" in said[2]["said"]
    assert "hush" not in ended.stdout
    ended = gemqueue("doctor", "--json", **(env | {"GEMQUEUE_WEBHOOK_URL": LISTENER.replace("https", "http")}))
    assert [
        each["said"]
        for each in msgspec.json.decode(ended.stdout)
        if each["state"] == "failed" and "webhook_url must be https" in each["said"]
    ]
