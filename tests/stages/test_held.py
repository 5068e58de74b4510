"""Why something waits, and since when: the same words wherever somebody asks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.client.looks import look_of
from gemqueue.states import Step
from gemqueue_workers.screen import held
from gemqueue_workers.worker.recovery import HELD
from tests.cli.command import gemqueue
from tests.worlds.stages import ACCOUNT

if TYPE_CHECKING:
    from tests.worlds.stages import Shop


def command(made: Shop, *arguments: str) -> str:
    """What a command prints on this shop, at its time."""
    env = {"GEMQUEUE_REDIS_URL": made.settings.redis_url, "GEMQUEUE_QUEUE": made.settings.queue}
    env |= {"GEMQUEUE_EMULATE": "1", "GOOGLE_GEMINI_BASE_URL": made.emulator.url, "TZ": "UTC"}
    with made.ticking() as clock:
        ended = gemqueue(*arguments, GEMQUEUE_TEST_CLOCK=clock, **env)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def asked(made: Shop, *arguments: str) -> Any:
    """The same as JSON."""
    return msgspec.json.decode(command(made, *arguments, "--json"))


async def all_say(made: Shop, segment: str, batch: str, reason: str, since_ms: int) -> None:
    """Status, batches, show of batch and prompt, and the future agree in words and time."""
    where = {
        "status": asked(made, "status")["batches"][0],
        "batches": asked(made, "admin", "batches")[0],
        "show batch": asked(made, "show", batch),
        "show prompt": asked(made, "show", f"{segment}.0"),
    }
    age_s = (made.clock.now_ms() - since_ms) / 1000
    for name, found in where.items():
        assert found["held_reason"] == reason, name
        assert abs(found["held_age_s"] - age_s) < 30, name
    lane = asked(made, "status")["lanes"][0]
    assert (lane["held_reason"], abs(lane["held_age_s"] - age_s) < 30) == (reason, True)
    look = look_of(await made.store.place(segment, 0), None, made.clock.now_ms())
    assert (look.held_reason, look.held_since) == (reason, datetime.fromtimestamp(since_ms / 1000, UTC))
    for words in (("status",), ("admin", "batches"), ("show", batch)):
        assert "since" in command(made, *words), words
    assert held(reason, None) == reason
    assert held("", 5.0) == ""


async def test_a_batch_that_waits_for_quota(made: Shop) -> None:
    """Refused for quota, and again with other words: held since the first refusal, and everybody says why."""
    made.emulator.faults([{"on": "create", "do": "429", "nth": [1]}, {"on": "upload_start", "do": "429", "nth": [2]}])
    segment = await made.submit("one")
    batch = await made.submitted()
    since_ms = made.clock.now_ms()
    made.clock.advance(400)
    made.emulator.advance(400)
    assert await made.step(Step.SUBMIT, batch)
    record = await made.store.batch(batch)
    assert record is not None
    assert record.held_reason.startswith("quota (upload)")
    await all_say(made, segment, batch, record.held_reason, since_ms)
    await made.drain()


async def test_a_batch_that_waits_for_the_comparison(made: Shop) -> None:
    """Sealed before a change of the server: the pause is the reason, also where one looks at the batch."""
    await made.store.greet(ACCOUNT)
    segment = await made.submit("one")
    batch = await made.sealed()
    server = made.store.key("server", ACCOUNT)
    known = await made.store.redis.hget(server, "run_id")
    await made.store.redis.hset(server, "run_id", "another")
    assert await made.store.beat("w", "pack", ACCOUNT)
    since_ms = made.clock.now_ms()
    made.clock.advance(300)
    await all_say(made, segment, batch, HELD, since_ms)
    await made.store.redis.hset(server, "run_id", known)
    await made.store.redis.hdel(server, "held_reason", "noticed", "noticed_at")
    await made.drain()


def test_a_reason_that_is_a_sentence() -> None:
    """The provider's full stop does not stand before the comma."""
    assert held("quota: You are over it.", 5).startswith("quota: You are over it, since ")
