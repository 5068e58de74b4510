"""Another model answers than was asked: counted, said once for each lane, billed at its price, and nothing is held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gemqueue.config import Settings
from gemqueue.language.gemini.usage import Charge, Spent, Usage
from gemqueue.records import Batch, Lane
from gemqueue.states import BatchState, Kind
from gemqueue.store.store import Store
from gemqueue_adapters.gemini import GeminiProvider
from gemqueue_workers.manage.status import read_status
from gemqueue_workers.stages.loop import Kit
from gemqueue_workers.stages.spending import Spending
from tests.worlds.processes import MODEL, Processes

if TYPE_CHECKING:
    from pathlib import Path

    from gemqueue_workers.manage.status_records import Status
    from tests.valkey_server import ValkeyServer

OTHER = "gemini-3.6-flash"
LANE = str(Lane("emulated.local", MODEL, Kind.GENERATE))
REROUTED: dict[str, Any] = {"reroute": f"{MODEL}={OTHER}"}
SMALL: dict[str, Any] = {"batch_prompts_max": 10, "first_prompts_max": 10}


async def seen(world: Processes) -> Status:
    """The status, once every prompt is answered."""
    await world.drained()
    counts = await world.store.counts()
    assert counts["answered"] == counts["accepted"]
    return await read_status(world.settings)


def warnings(world: Processes) -> int:
    """How often the workers' log speaks of a reroute."""
    return (world.folder / "workers.log").read_text().count("model.rerouted")


async def test_a_rerouted_lane_is_counted_said_once_and_billed_as_what_answered(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """Several jobs make one warning in the log; every answer is counted, and costs what the ledger says that it did."""
    async with Processes(tmp_path, valkey, queue_name, SMALL, **REROUTED) as world:
        world.start_worker()
        await world.submit([f"prompt {n}" for n in range(40)], segment_prompts=10)
        status = await seen(world)
        await world.judge()
        assert len(world.emulator.ledger()["jobs"]) >= 2
        (lane,) = status.lanes
        assert (status.counts["rerouted"], lane.rerouted, lane.answered_by) == (40, 40, {OTHER: 40})
        assert warnings(world) == 1
        billed_usd = sum(job["usd"] for job in world.emulator.ledger()["jobs"])
        assert lane.cost.usd == pytest.approx(billed_usd, abs=1e-5)
        assert f"40 answers came from {OTHER}, and {MODEL} was asked" in lane.warnings[0]


async def test_one_row_in_the_middle_of_a_file_is_noticed(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """Every row is looked at: one of 300 that another model gave is counted, and the rest are not."""
    async with Processes(tmp_path, valkey, queue_name) as world:
        world.emulator.faults([{"on": "row", "do": "rerouted", "model": OTHER, "match": {"key_index": 150}}])
        world.start_worker()
        await world.submit([f"prompt {n}" for n in range(300)])
        (lane,) = (await seen(world)).lanes
        assert (lane.rerouted, lane.answered_by) == (1, {MODEL: 299, OTHER: 1})
        assert warnings(world) == 1


async def test_a_version_and_an_unknown_name_are_no_reroute(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """A version of the model goes without a word; a name that nobody knows is shown, and is not called rerouted."""
    async with Processes(tmp_path, valkey, queue_name) as world:
        names = [f"{MODEL}-001", "gemini-9|" + "x" * 100]
        world.emulator.faults(
            [
                {"on": "row", "do": "rerouted", "model": name, "match": {"key_index": index}}
                for index, name in enumerate(names)
            ]
        )
        world.start_worker()
        await world.submit(["one", "two", "three"])
        status = await seen(world)
        (lane,) = status.lanes
        assert status.counts["rerouted"] == lane.rerouted == warnings(world) == 0
        assert lane.answered_by[f"{MODEL}-001"] == lane.answered_by[MODEL] == 1
        (said,) = lane.warnings
        assert "gemini-9_xxx" in said
        assert "does not know" in said


async def test_interactive_calls_are_held_against_it_too(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """A prompt that Flex answers is looked at as a row is."""
    policy = {"deadline_policy": "flex", "interactive_per_min_max": 6000}
    async with Processes(tmp_path, valkey, queue_name, policy, **REROUTED) as world:
        world.start_worker()
        await world.submit(["one", "two", "three"], deadline_s=7200)
        status = await seen(world)
        await world.judge()
        (flex,) = [lane for lane in status.lanes if lane.lane.endswith("/flex")]
        assert (status.counts["rerouted"], flex.rerouted, warnings(world)) == (3, 3, 1)
        assert flex.cost.usd == pytest.approx(world.emulator.ledger()["interactive"]["usd"], abs=1e-5)


async def test_embeddings_name_no_model(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """What names no model is no reroute."""
    async with Processes(tmp_path, valkey, queue_name) as world:
        world.start_worker()
        await world.submit(["one", "two"], kind=Kind.EMBED)
        (lane,) = (await seen(world)).lanes
        assert (lane.rerouted, lane.answered_by, lane.cost.answers) == (0, {}, 2)


async def test_records_of_0_2_0_and_its_readers(redis_url: str, queue_name: str) -> None:
    """What 0.2.0 counted has no model, and is kept apart; it reads its own three fields, and finds no others there."""
    store = Store(redis_url, Settings(redis_url=redis_url, queue=queue_name))
    client: Any = store.redis
    try:
        old = {"answers": 5, "input_tokens": 50, "output_tokens": 500}
        await client.hset(store.key("spent", LANE), mapping=old)
        assert await store.charges(Lane.parse(LANE)) == {Charge(): Spent(5, 50, 500)}
        by = Charge(OTHER, "2027-01-01")
        spent = {by: Spent(2, 20, 200, 10), Charge(): Spent(1, 1, 0)}
        assert await store.add_spent(Lane.parse(LANE), spent, 2) == {OTHER, ""}
        assert await store.add_spent(Lane.parse(LANE), {by: Spent(1, 1, 1, 1)}, 1) == set()
        assert await store.charges(Lane.parse(LANE)) == {by: Spent(3, 21, 201, 11), Charge(): Spent(6, 51, 500)}
        assert await store.spent(Lane.parse(LANE)) == Spent(9, 72, 701)
        assert set(await client.hkeys(store.key("spent", LANE))) == {name.encode() for name in old}
        assert (await store.counts())["rerouted"] == 3
    finally:
        await store.aclose()


async def test_names_without_number_take_no_room_without_bound(redis_url: str, queue_name: str) -> None:
    """A provider that gives every answer another name fills a lane's record to its bound, and the sum stays right."""
    store = Store(redis_url, Settings(redis_url=redis_url, queue=queue_name))
    try:
        for start in range(0, 1200, 300):
            spent = {Charge(f"gemini-9-{n}"): Spent(1, 2, 3) for n in range(start, start + 300)}
            await store.add_spent(Lane.parse(LANE), spent)
        assert await store.add_spent(Lane.parse(LANE), {Charge("another"): Spent(1, 2, 3)}) == set()
        charges = await store.charges(Lane.parse(LANE))
        assert len(charges) <= 335
        assert sum(one.answers for one in charges.values()) == (await store.spent(Lane.parse(LANE))).answers == 1201
    finally:
        await store.aclose()


async def test_answers_that_are_charged_alike_are_added_up(redis_url: str, queue_name: str) -> None:
    """No modelVersion, one that is odd, and names that are the same once they are cleaned: no answer is left out."""
    settings = Settings(redis_url=redis_url, queue=queue_name)
    store = Store(redis_url, settings)
    provider = GeminiProvider(api_key="k", account="emulated.local", base_url="http://127.0.0.1:9", emulate=True)
    try:
        kit = Kit(store=store, provider=provider, settings=settings, clock=store.clock)
        spending = Spending(kit, Batch(id="b", v=1, state=BatchState.ENDED, lane=Lane.parse(LANE), fence=1))
        for version in (None, None, "", "a|b", "a_b"):
            spending.count(Usage(prompt_token_count=5), version)
        await spending.write()
        assert await store.charges(Lane.parse(LANE)) == {Charge(): Spent(3, 15), Charge("a_b"): Spent(2, 10)}
        assert (await store.spent(Lane.parse(LANE))).answers == 5
    finally:
        await provider.aclose()
        await store.aclose()
