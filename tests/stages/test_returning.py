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
    from tests.worlds.stages import Shop

POOL = "emulated.pool.shared"
EFFECTS = [effect for effect in Effect if effect.startswith("return.")]


def command(made: Shop, batch: str, **env: str) -> tuple[int, Any]:
    """``gemqueue admin return`` on this shop, at its time and without a key."""
    given = {"GEMQUEUE_REDIS_URL": made.settings.redis_url, "GEMQUEUE_QUEUE": made.settings.queue}
    given |= {
        "GEMQUEUE_LINGER_S": "0.001",
        "GEMQUEUE_POOL": "shared",
        "GEMQUEUE_EMULATE": "1",
    }
    with made.ticking() as clock:
        ended = gemqueue("admin", "return", batch, "--json", GEMQUEUE_TEST_CLOCK=clock, **given, **env)
    return ended.returncode, msgspec.json.decode(ended.stdout) if ended.returncode == 0 else ended.stderr


async def answered_once(made: Shop) -> None:
    """Everything is answered, and was bought once."""
    made.clock.advance(60)
    await made.drain()
    assert await made.count("answered") == len(made.keys)
    ledger = made.emulator.ledger()
    assert (ledger["rows_bought"], ledger["bought_twice"]) == (len(made.keys), [])


async def test_a_batch_goes_back_to_its_pool(made: Shop) -> None:
    """Its segments wait in the pool's lane at once and uncharged, however many; who held it can begin nothing."""
    made.join(POOL)
    segment, *_ = [await made.submit("one") for _ in range(130)]
    made.clock.advance(1)
    batch = await made.sealed()
    taken = await made.store.claim(Step.SUBMIT, batch, ACCOUNT)
    assert taken is not None
    with pytest.raises(ConfigError, match="a worker holds it"):
        await give_back(made.store, batch)
    made.clock.advance(made.settings.lease_s + 1)
    assert command(made, batch) == (0, {"batch": batch, "pool": POOL, "prompts": 130})
    with pytest.raises(StaleFence):
        await made.store.begin(taken[0], "token", "files/f")
    lane = await made.store.lane(Lane.parse(made.lane))
    assert (lane.prompts, await made.store.open_batches(), await made.count("returned")) == (130, [], 130)
    (meta,) = await made.store.segment_metas([segment])
    assert meta is not None
    assert (meta.requeues, meta.batch) == (0, "")
    assert (await give_back(made.store, batch)).prompts == 0
    await answered_once(made)


async def test_what_may_be_at_the_provider_stays(made: Shop) -> None:
    """Not of a pool, begun once, submitted, held after a change of the server, unknown: it stays, and why is said."""
    made.join(POOL)
    await made.store.greet(ACCOUNT)
    await made.store.join_pool(POOL, ACCOUNT)
    await made.submit("two")
    submitted = await made.submitted()
    await made.submit("three")
    begun = await made.sealed()
    taken = await made.store.claim(Step.SUBMIT, begun, ACCOUNT)
    assert taken is not None
    claim = await made.store.begin(taken[0], "token", "files/f")
    await made.store.reopen(claim, "token", delay_s=0.0)
    await made.submit("four")
    waits = await made.sealed()
    made.join("")
    await made.submit("one")
    own = await made.sealed()
    server = made.store.key("server", ACCOUNT)
    known = await made.store.redis.hget(server, "run_id")
    await made.store.redis.hset(server, "run_id", "another")
    for batch, why in (
        (own, "did not come from a pool"),
        (submitted, "it is submitted"),
        (begun, "a job was begun"),
        (waits, "reconciling"),
        ("00bunknown", "not known"),
    ):
        with pytest.raises(ConfigError, match=why):
            await give_back(made.store, batch)
    code, said = command(made, begun)
    assert (code, "a job was begun" in said) == (2, True)
    await made.store.redis.hset(server, "run_id", known)
    await made.store.redis.hdel(server, "held_reason", "noticed", "noticed_at")
    await answered_once(made)


async def test_what_was_settled_meanwhile_does_not_go_back(made: Shop) -> None:
    """A prompt that was cancelled in the batch is not bought by whoever has its segment next."""
    made.join(POOL)
    segment = await made.submit("one", "two")
    batch = await made.sealed()
    cancelled = made.keys.pop(0)
    assert await made.store.cancel(segment, 0, codec.compress(cancelled_line(cancelled))) == "sealed"
    assert (await give_back(made.store, batch)).prompts == 1
    await answered_once(made)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("effect", EFFECTS)
async def test_a_return_that_dies_is_done_by_the_next(made: Shop, effect: str, when: str) -> None:
    """The command dies at each effect; asked again, or by a worker's resolver, everything is in the pool, once."""
    made.join(POOL)
    await made.submit("one", "two")
    batch = await made.sealed()
    assert command(made, batch, GEMQUEUE_CRASH_AT=f"{effect}:{when}:1")[0] == CRASH_EXIT_CODE
    made.clock.advance(made.settings.lease_s + 1)
    if when == "before":
        assert command(made, batch)[0] == 0
        assert await made.store.open_batches() == []
    await answered_once(made)
