"""The server forgets the queue, or is another one: workers that remember stop buying, and a person says what next."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue.errors import ConfigError
from gemqueue.policy.reconciling import Standing
from gemqueue.states import Cause, Step
from gemqueue_workers.settings import make_kit
from gemqueue_workers.worker.lookout import Lookout
from gemqueue_workers.worker.reconciler import Reconciler
from gemqueue_workers.worker.recovery import Recovery
from tests.cli.run.test_other_stores import ROWS, Place
from tests.cli.run_world import rows_of
from tests.stages.reconcile.past import Past, all_answered_once, goes_on
from tests.stages.reconcile.test_command import command
from tests.valkey_server import ValkeyServer
from tests.worlds.stages import ACCOUNT, open_stages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from tests.emulator_process import EmulatorProcess
    from tests.worlds.stages import Stages

PROD = "service.test.prod"
"""An account that is none of an emulator's, so far as the queue knows."""


@pytest.fixture
async def prod(lossy: Past, queue_name: str, emulator: EmulatorProcess) -> AsyncGenerator[Stages]:
    async with open_stages(lossy.server.url, queue_name, emulator, account=PROD) as stages:
        await stages.store.greet(PROD)
        yield stages


async def flush(stages: Stages) -> None:
    """FLUSHALL."""
    await stages.store.redis.flushall()


async def swap(stages: Stages) -> None:
    """Another database of the server answers."""
    await stages.store.redis.swapdb(0, 1)


async def jobs(stages: Stages) -> int:
    """That were created, by the emulator's ledger."""
    return len(stages.emulator.ledger()["jobs"])


async def home_of(stages: Stages) -> str:
    """The home that the stages' process remembers."""
    return stages.store.known(stages.account).home


@pytest.mark.parametrize("lose", [flush, swap])
@pytest.mark.parametrize("beats", [True, False])
async def test_nothing_is_bought_on_a_server_that_has_forgotten(prod: Stages, lose: Any, *, beats: bool) -> None:
    """The same prompts come again, and no job is created, whether a heartbeat or a claim is the first to notice."""
    await prod.submit("one", "two")
    await prod.submitted()
    home = await home_of(prod)
    await lose(prod)
    await prod.submit("one", "two")
    prod.clock.advance(1)
    if beats:
        assert not await prod.store.beat("w", "pack", PROD)
    assert not await prod.step(Step.PACK)
    held = await prod.store.pause(PROD)
    assert (held.cause, f"gemqueue admin reconcile --home {home}" in held.text) == (Cause.FORGOTTEN, True)
    assert held.since_ms == prod.clock.now_ms()
    await prod.store.beat("w", "pack", PROD)
    assert prod.store.known(PROD).forgot == held.text
    assert (await jobs(prod), await prod.count("forgotten")) == (1, 1)


async def test_who_comes_later_is_held_too(prod: Stages, lossy: Past, emulator: EmulatorProcess) -> None:
    """What one worker has told the server holds for one that remembers nothing, because it was started afterwards."""
    await flush(prod)
    await prod.store.beat("w", "pack", PROD)
    fresh = beside(prod, lossy, emulator)
    try:
        await fresh.store.greet(PROD)
        await fresh.submit("one")
        fresh.clock.advance(1)
        assert not await fresh.step(Step.PACK)
        assert fresh.store.known(PROD).forgot
    finally:
        await fresh.aclose()


def beside(stages: Stages, lossy: Past, emulator: EmulatorProcess) -> Stages:
    """Another process's, which remembers nothing."""
    return type(stages)(lossy.server.url, stages.settings.queue, emulator, account=stages.account)


async def test_a_home_that_was_there_before_holds_as_well(prod: Stages, lossy: Past, emulator: EmulatorProcess) -> None:
    """A worker without a memory begins first on the emptied server: one that remembers holds the account still."""
    home = await home_of(prod)
    await flush(prod)
    fresh = beside(prod, lossy, emulator)
    try:
        await fresh.store.greet(PROD)
        assert not fresh.store.known(PROD).forgot
        await prod.store.beat("w", "pack", PROD)
        assert (await prod.store.server(PROD)).forgot == home
        assert await home_of(prod) == home != await home_of(fresh)
    finally:
        await fresh.aclose()


async def test_the_right_server_is_known_again(prod: Stages) -> None:
    """The database that the worker remembers comes back: it goes on there at once, and adopts nothing twice."""
    await prod.submit("one")
    await prod.submitted()
    await swap(prod)
    await prod.store.beat("w", "pack", PROD)
    assert prod.store.known(PROD).forgot
    await swap(prod)
    assert not await prod.store.beat("w", "pack", PROD)
    assert not prod.store.known(PROD).forgot
    await prod.drain()
    assert (await prod.count("answered"), prod.emulator.ledger()["rows_bought"]) == (1, 1)


@pytest.mark.parametrize("lose", [flush, swap])
async def test_an_emulated_account_goes_on_by_itself(stages: Stages, lose: Any) -> None:
    """An emulator's answers cost nothing: the next heartbeat takes the new home over, and says which one it was."""
    home = await home_of(stages)
    await lose(stages)
    await stages.submit("one")
    assert not await stages.store.beat("w", "pack", ACCOUNT)
    known = stages.store.known(ACCOUNT)
    assert (known.was, known.forgot, known.home != home) == (home, "", True)
    await all_answered_once(stages)


async def test_an_empty_server_that_nobody_remembers_starts_as_ever(prod: Stages, lossy: Past) -> None:
    """A process without a memory on an empty server packs and buys at once."""
    await flush(prod)
    fresh = beside(prod, lossy, prod.emulator)
    try:
        await fresh.store.greet(PROD)
        await fresh.submit("one")
        await fresh.submitted()
        assert (await jobs(fresh), (await fresh.store.pause(PROD)).text) == (1, "")
    finally:
        await fresh.aclose()


async def test_a_copy_that_was_put_back_is_noticed(tmp_path: Path, emulator: EmulatorProcess) -> None:
    """On a server that writes through only the worker's memory says that it has gone back: it is compared."""
    with ValkeyServer() as server:
        past = Past(server, tmp_path)
        async with open_stages(server.url, "tcopy", emulator, account=PROD) as stages:
            await stages.store.greet(PROD)
            await stages.store.beat("w", "pack", PROD)
            await stages.submit("one", "two")
            past.save()
            stages.clock.advance(5)
            await stages.store.beat("w", "pack", PROD)
            await stages.submitted()
            await asyncio.to_thread(past.come_back)
            await stages.reconnect()
            assert (await stages.store.greet(PROD))[1]
            assert not await stages.step(Step.PACK)
            stages.jobs_end()
            assert not await goes_on(stages, Recovery(stages.kit))
            assert await stages.count("rebuilt") == 1
            await stages.drain()
            assert (await stages.count("answered"), stages.emulator.ledger()["rows_bought"]) == (2, 2)


async def test_no_fence_below_one_that_is_remembered(stages: Stages, lossy: Past) -> None:
    """A copy is put back that knows no floor, on a server whose clock is behind: no claim gets a fence again."""
    known = stages.store.known(ACCOUNT)
    await stages.submit("one")
    batch = await stages.sealed()
    lossy.save()
    known.fence = stages.clock.now_ms() + 3_600_000  # given when the clock was an hour ahead, and the floor was lost
    await asyncio.to_thread(lossy.come_back)
    await stages.reconnect()
    assert await stages.store.beat("w", "pack", ACCOUNT)
    taken = await stages.store.claim(Step.SUBMIT, batch, ACCOUNT, held=True)
    assert taken is not None
    assert taken[0].fence > stages.clock.now_ms() + 3_600_000


async def reconciled(stages: Stages, home: str) -> list[tuple[Standing, str]]:
    """What ``reconcile --home --apply`` does to the jobs: their standing, and what was done."""
    survey = await Reconciler(stages.kit, home, apply=True).survey(0)
    return [(finding.standing, finding.done) for finding in survey.findings]


async def test_prompts_that_come_again_under_their_keys_get_the_forgotten_job(prod: Stages) -> None:
    """The same segment is registered anew: the job of the old home is rebuilt for it, and nothing is bought again."""
    segment = await prod.submit("one", "two")
    await prod.submitted()
    home = await home_of(prod)
    await flush(prod)
    await prod.submit("one", "two", id_=segment)
    await prod.store.beat("w", "pack", PROD)
    assert await reconciled(prod, home) == [(Standing.RUNNING, "")]
    prod.jobs_end()
    assert await reconciled(prod, home) == [(Standing.KNOWN, "rebuilt with 1 segments")]
    assert await prod.store.rehome(PROD, home) == []
    assert not await prod.store.beat("w", "pack", PROD)
    assert (prod.store.known(PROD).was, (await prod.store.pause(PROD)).text) == (home, "")
    await prod.drain()
    assert (await prod.count("answered"), prod.emulator.ledger()["rows_bought"]) == (2, 2)
    survey = await Reconciler(prod.kit, await home_of(prod), apply=True).survey(0)
    assert (survey.homes, survey.missing) == ({home: 1}, [])


async def test_two_homes_are_seen_to_one_by_one(prod: Stages) -> None:
    """A server that forgets twice holds for both homes, until somebody has seen to each."""
    first = await home_of(prod)
    await flush(prod)
    await prod.store.beat("w", "pack", PROD)
    second = "0badcafe"
    prod.store.known(PROD).home = second
    await prod.store.beat("v", "pack", PROD)
    assert await prod.store.rehome(PROD, first) == [second]
    assert f"--home {second}`" in (await prod.store.pause(PROD)).text
    assert await prod.store.rehome(PROD, second) == []
    assert (await prod.store.pause(PROD)).text == ""


async def test_the_command_lists_orphans_with_their_cost_and_saves_their_answers(
    stages: Stages, tmp_path: Path
) -> None:
    """Of a forgotten home it says what each job cost, and each answer that was paid for stands in the file."""
    await stages.submit("one", "two", "three")
    await stages.submitted()
    home = await home_of(stages)
    await flush(stages)
    file = tmp_path / "paid.jsonl"
    code, said = command(stages, "--home", home, "--apply")
    assert (code, [job["standing"] for job in said["jobs"]], said["orphans"][0]["usd"]) == (0, ["running"], None)
    stages.jobs_end()
    code, said = command(stages, "--home", home, "--apply", "--answers", str(file))
    (orphan,) = said["orphans"]
    assert (code, orphan["rows"], orphan["answers"], orphan["estimated"]) == (0, 3, 3, False)
    assert orphan["usd"] > 0
    rows = [msgspec.json.decode(line) for line in file.read_bytes().splitlines()]
    assert sorted(row["key"] for row in rows) == sorted(stages.keys)
    assert all("response" in row for row in rows)
    assert (await stages.store.server(ACCOUNT)).past_homes == home
    code, said = command(stages, "--home", home, "--answers", str(file))
    assert (code, "choose another file" in said["error"]) == (2, True)
    code, said = command(stages, "--home", "nowhere")
    assert (code, "'nowhere' is no home" in said["error"]) == (2, True)


async def test_a_run_goes_on_with_what_was_paid_for(stages: Stages, tmp_path: Path) -> None:
    """OUT.gemqueue knows the segments that were under way: sent again they are the same, and the job is theirs."""
    place, queue = Place(tmp_path, stages.settings.redis_url), stages.settings.queue
    await place.start(queue, until=ROWS)
    stages.clock.advance(300)  # its settings have a prompt linger
    await stages.submitted()
    home = await home_of(stages)
    await flush(stages)
    await place.refused(queue, rf"was emptied since.*gemqueue admin reconcile --home {home}")
    await place.start(queue, until=ROWS, buy_again=True)
    stages.jobs_end()
    assert await reconciled(stages, home) == [(Standing.KNOWN, "rebuilt with 3 segments")]
    await stages.store.beat("w", "pack", ACCOUNT)
    running = asyncio.create_task(place.command(queue))
    await stages.drain()
    await running
    assert sorted(rows_of(place.out)) == sorted(f"k{n}" for n in range(ROWS))
    assert (stages.emulator.ledger()["rows_bought"], await stages.count("answered")) == (ROWS, ROWS)


async def test_a_run_that_is_forgotten_under_way_stops(stages: Stages, tmp_path: Path) -> None:
    """The command ends with the reason, and writes no row of it as a failure: what was paid for can still be had."""
    place, queue = Place(tmp_path, stages.settings.redis_url), stages.settings.queue
    running = asyncio.create_task(place.command(queue))
    while await place.bought(queue) < ROWS:
        await asyncio.wait([running], timeout=0.02)
    home = await home_of(stages)
    await flush(stages)
    with pytest.raises(ConfigError, match=f"has forgotten run .*gemqueue admin reconcile --home {home}"):
        await asyncio.wait_for(running, 60)
    assert place.out.read_bytes() == b""


async def test_a_worker_that_remembers_nothing_looks_back_once(prod: Stages, lossy: Past) -> None:
    """On an emptied server a new worker notes, by one list call, that the account has jobs of an older home."""
    await prod.submit("one")
    await prod.submitted()
    home = await home_of(prod)
    await flush(prod)
    fresh = beside(prod, lossy, prod.emulator)
    try:
        fresh.clock.advance(60)
        await fresh.store.greet(PROD)
        before = len(prod.emulator.requests())
        for _ in range(2):
            await Lookout(fresh.kit).look_back()
        assert len(prod.emulator.requests()) - before == 1
        assert (await fresh.store.server(PROD)).older_homes == home
    finally:
        await fresh.aclose()


async def test_a_process_remembers_while_its_workers_come_and_go(stages: Stages) -> None:
    """A worker that is started again with its server, in the same process, knows what the one before it did."""
    settings = msgspec.structs.replace(stages.settings, base_url=stages.emulator.url)
    before, other = make_kit(settings), make_kit(msgspec.structs.replace(settings, queue="another"))
    await before.store.greet(ACCOUNT)
    after = make_kit(settings)
    assert after.store.known(ACCOUNT).home == await home_of(stages)
    assert other.store.known(ACCOUNT).home == ""
    for kit in (before, other, after):
        await kit.provider.aclose()
        await kit.store.aclose()
