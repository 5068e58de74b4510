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
    from tests.worlds.stages import Stages


def command(stages: Stages, *arguments: str) -> str:
    """What a command prints on these stages' queue, at their time."""
    env = {"GEMQUEUE_REDIS_URL": stages.settings.redis_url, "GEMQUEUE_QUEUE": stages.settings.queue}
    env |= {"GEMQUEUE_EMULATE": "1", "GOOGLE_GEMINI_BASE_URL": stages.emulator.url, "TZ": "UTC"}
    with stages.ticking() as clock:
        ended = gemqueue(*arguments, GEMQUEUE_TEST_CLOCK=clock, **env)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def asked(stages: Stages, *arguments: str) -> Any:
    """The same as JSON."""
    return msgspec.json.decode(command(stages, *arguments, "--json"))


async def all_say(stages: Stages, segment: str, batch: str, reason: str, since_ms: int) -> None:
    """Status, batches, show of batch and prompt, and the future agree in words and time."""
    where = {
        "status": asked(stages, "status")["batches"][0],
        "batches": asked(stages, "admin", "batches")[0],
        "show batch": asked(stages, "show", batch),
        "show prompt": asked(stages, "show", f"{segment}.0"),
    }
    age_s = (stages.clock.now_ms() - since_ms) / 1000
    for name, found in where.items():
        assert found["held_reason"] == reason, name
        assert abs(found["held_age_s"] - age_s) < 30, name
    lane = asked(stages, "status")["lanes"][0]
    assert (lane["held_reason"], abs(lane["held_age_s"] - age_s) < 30) == (reason, True)
    look = look_of(await stages.store.place(segment, 0), None, stages.clock.now_ms())
    assert (look.held_reason, look.held_since) == (reason, datetime.fromtimestamp(since_ms / 1000, UTC))
    for words in (("status",), ("admin", "batches"), ("show", batch)):
        assert "since" in command(stages, *words), words
    assert held(reason, None) == reason
    assert held("", 5.0) == ""


async def test_a_batch_that_waits_for_quota(stages: Stages) -> None:
    """Refused for quota, and again with other words: held since the first refusal, and everybody says why."""
    stages.emulator.faults([{"on": "create", "do": "429", "nth": [1]}, {"on": "upload_start", "do": "429", "nth": [2]}])
    segment = await stages.submit("one")
    batch = await stages.submitted()
    since_ms = stages.clock.now_ms()
    stages.clock.advance(400)
    stages.emulator.advance(400)
    assert await stages.step(Step.SUBMIT, batch)
    record = await stages.store.batch(batch)
    assert record is not None
    assert record.held_reason.startswith("quota (upload)")
    await all_say(stages, segment, batch, record.held_reason, since_ms)
    await stages.drain()


async def test_a_batch_that_waits_for_the_comparison(stages: Stages) -> None:
    """Sealed before a change of the server: the pause is the reason, also where one looks at the batch."""
    await stages.store.greet(ACCOUNT)
    segment = await stages.submit("one")
    batch = await stages.sealed()
    server = stages.store.key("server", ACCOUNT)
    known = await stages.store.redis.hget(server, "run_id")
    await stages.store.redis.hset(server, "run_id", "another")
    assert await stages.store.beat("w", "pack", ACCOUNT)
    since_ms = stages.clock.now_ms()
    stages.clock.advance(300)
    await all_say(stages, segment, batch, HELD, since_ms)
    await stages.store.redis.hset(server, "run_id", known)
    await stages.store.redis.hdel(server, "held_reason", "noticed", "noticed_at")
    await stages.drain()


def test_a_reason_that_is_a_sentence() -> None:
    """The provider's full stop does not stand before the comma."""
    assert held("quota: You are over it.", 5).startswith("quota: You are over it, since ")
