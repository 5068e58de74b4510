"""``gemqueue admin return``: what an account cannot submit goes back to its pool, never what may be at the provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue.effects import CRASH_EXIT_CODE, Effect
from gemqueue.errors import ConfigError, StaleFence
from gemqueue.language.lines import cancelled_line
from gemqueue.records import Lane
from gemqueue.states import Step
from gemqueue.store import codec
from gemqueue_workers.manage.give_back import give_back
from tests.cli.command import gemqueue
from tests.worlds.stages import ACCOUNT

if TYPE_CHECKING:
    from tests.worlds.stages import Stages

POOL = "emulated.pool.shared"
EFFECTS = [effect for effect in Effect if effect.startswith("return.")]


def command(stages: Stages, batch: str, **env: str) -> tuple[int, Any]:
    """``gemqueue admin return`` on these stages' queue, at their time and without a key."""
    given = {"GEMQUEUE_REDIS_URL": stages.settings.redis_url, "GEMQUEUE_QUEUE": stages.settings.queue}
    given |= {
        "GEMQUEUE_LINGER_S": "0.001",
        "GEMQUEUE_POOL": "shared",
        "GEMQUEUE_EMULATE": "1",
    }
    with stages.ticking() as clock:
        ended = gemqueue("admin", "return", batch, "--json", GEMQUEUE_TEST_CLOCK=clock, **given, **env)
    return ended.returncode, msgspec.json.decode(ended.stdout) if ended.returncode == 0 else ended.stderr


async def answered_once(stages: Stages) -> None:
    """Everything is answered, and was bought once."""
    stages.clock.advance(60)
    await stages.drain()
    assert await stages.count("answered") == len(stages.keys)
    ledger = stages.emulator.ledger()
    assert (ledger["rows_bought"], ledger["bought_twice"]) == (len(stages.keys), [])


async def test_a_batch_goes_back_to_its_pool(stages: Stages) -> None:
    """Its segments wait in the pool's lane at once and uncharged, however many; who held it can begin nothing."""
    stages.join(POOL)
    segment, *_ = [await stages.submit("one") for _ in range(130)]
    stages.clock.advance(1)
    batch = await stages.sealed()
    taken = await stages.store.claim(Step.SUBMIT, batch, ACCOUNT)
    assert taken is not None
    with pytest.raises(ConfigError, match="a worker holds it"):
        await give_back(stages.store, batch)
    stages.clock.advance(stages.settings.lease_s + 1)
    assert command(stages, batch) == (0, {"batch": batch, "pool": POOL, "prompts": 130})
    with pytest.raises(StaleFence):
        await stages.store.begin(taken[0], "token", "files/f")
    lane = await stages.store.lane(Lane.parse(stages.lane))
    assert (lane.prompts, await stages.store.open_batches(), await stages.count("returned")) == (130, [], 130)
    (meta,) = await stages.store.segment_metas([segment])
    assert meta is not None
    assert (meta.requeues, meta.batch) == (0, "")
    assert (await give_back(stages.store, batch)).prompts == 0
    await answered_once(stages)


async def test_what_may_be_at_the_provider_stays(stages: Stages) -> None:
    """Not of a pool, begun once, submitted, held after a change of the server, unknown: it stays, and why is said."""
    stages.join(POOL)
    await stages.store.greet(ACCOUNT)
    await stages.store.join_pool(POOL, ACCOUNT)
    await stages.submit("two")
    submitted = await stages.submitted()
    await stages.submit("three")
    begun = await stages.sealed()
    taken = await stages.store.claim(Step.SUBMIT, begun, ACCOUNT)
    assert taken is not None
    claim = await stages.store.begin(taken[0], "token", "files/f")
    await stages.store.reopen(claim, "token", delay_s=0.0)
    await stages.submit("four")
    waits = await stages.sealed()
    stages.join("")
    await stages.submit("one")
    own = await stages.sealed()
    server = stages.store.key("server", ACCOUNT)
    known = await stages.store.redis.hget(server, "run_id")
    await stages.store.redis.hset(server, "run_id", "another")
    for batch, why in (
        (own, "did not come from a pool"),
        (submitted, "it is submitted"),
        (begun, "a job was begun"),
        (waits, "reconciling"),
        ("00bunknown", "not known"),
    ):
        with pytest.raises(ConfigError, match=why):
            await give_back(stages.store, batch)
    code, said = command(stages, begun)
    assert (code, "a job was begun" in said) == (2, True)
    await stages.store.redis.hset(server, "run_id", known)
    await stages.store.redis.hdel(server, "held_reason", "noticed", "noticed_at")
    await answered_once(stages)


async def test_what_was_settled_meanwhile_does_not_go_back(stages: Stages) -> None:
    """A prompt that was cancelled in the batch is not bought by whoever has its segment next."""
    stages.join(POOL)
    segment = await stages.submit("one", "two")
    batch = await stages.sealed()
    cancelled = stages.keys.pop(0)
    assert await stages.store.cancel(segment, 0, codec.compress(cancelled_line(cancelled))) == "sealed"
    assert (await give_back(stages.store, batch)).prompts == 1
    await answered_once(stages)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("effect", EFFECTS)
async def test_a_return_that_dies_is_done_by_the_next(stages: Stages, effect: str, when: str) -> None:
    """The command dies at each effect; asked again, or by a worker's resolver, everything is in the pool, once."""
    stages.join(POOL)
    await stages.submit("one", "two")
    batch = await stages.sealed()
    assert command(stages, batch, GEMQUEUE_CRASH_AT=f"{effect}:{when}:1")[0] == CRASH_EXIT_CODE
    stages.clock.advance(stages.settings.lease_s + 1)
    if when == "before":
        assert command(stages, batch)[0] == 0
        assert await stages.store.open_batches() == []
    await answered_once(stages)
