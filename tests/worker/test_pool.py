"""A pool of accounts: its prompts go where there is room, and each is bought by one account, once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from gemqueue.accounts import account_id, lane_account
from gemqueue.client.queue import Queue
from gemqueue.config import Settings, load_settings
from gemqueue.errors import ConfigError
from gemqueue.policy.holds import hold_of
from gemqueue.policy.pools import OpenBatch, Room, why_left
from gemqueue.policy.quota import Ledger, Limits, Reservation
from gemqueue.records import NOT_HELD, Batch, Hold, Lane, Sign
from gemqueue.states import BatchState, Cause, Kind, Step
from gemqueue_workers.manage.status import read_status
from gemqueue_workers.stages.loop import run_step
from gemqueue_workers.stages.packer import Packer
from tests.cli.command import gemqueue
from tests.worker.test_accounts import Hand, held, submit_to
from tests.worlds.processes import MODEL, Processes, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.valkey_server import ValkeyServer

POOL = "emulated.pool.shared"
LANE = str(Lane(POOL, MODEL, Kind.GENERATE))
PACKED: dict[str, Any] = {"batch_prompts_max": 5, "linger_s": 0.0}


async def batches_of(world: Processes, account: str) -> list[Batch]:
    """The account's open batches."""
    found = [await world.store.batch(id_) for id_ in await world.store.open_batches()]
    return [batch for batch in found if batch is not None and batch.lane.account == account]


async def answered_by(world: Processes, account: str) -> int:
    """How many prompts the account has answered."""
    return (await world.store.spent(Lane(account, MODEL, Kind.GENERATE))).answers


async def work_until_answered(world: Processes, hands: list[Hand], keys: set[str]) -> None:
    """Let the hands work in turn until these prompts have their outcomes."""

    async def answered() -> bool:
        for hand in hands:
            await hand.work()
        return set(await world.outcomes()) >= keys

    await until(answered, what="answers")


async def test_two_accounts_share_a_pool(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """A producer without a key names the pool; two accounts with room for two jobs each answer it, each prompt once."""
    async with Processes(tmp_path, valkey, queue_name, PACKED | {"pool": "shared", "open_jobs_max": 2}) as world:
        for account in ("a", "b"):
            world.start_worker(GEMQUEUE_ACCOUNT=account)
        most = dict.fromkeys(("emulated.a", "emulated.b"), 0)

        async def both_here() -> bool:
            return len(await world.store.workers()) == 2

        await until(both_here, what="workers")
        async with Queue.connect(settings=world.settings) as queue:
            assert queue.account == POOL
            futures = [await queue.submit(f"prompt {n}", model=MODEL) for n in range(60)]

            async def settled() -> bool:
                for account in most:
                    most[account] = max(most[account], (await world.store.ledger(account)).jobs)
                return all(future.done() for future in futures)

            await until(settled, what="answers")
            assert all([(await future).emulated for future in futures])
        await world.drained()
        shares = [await answered_by(world, account) for account in most]
        assert sum(shares) == 60
        assert min(shares) >= 10
        assert set(most.values()) <= {1, 2}
        ledger = world.emulator.ledger()
        assert (ledger["rows_bought"], ledger["bought_twice"]) == (60, [])


async def test_a_wrong_key_binds_one_batch_and_leaves_the_rest(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """One account's key is refused: an alarm says so, nothing fails, and the other answers all that is not bound."""
    async with (
        Processes(tmp_path, valkey, queue_name, PACKED) as world,
        Hand(world, "emulated.a", "invalid-key", POOL) as wrong,
        Hand(world, "emulated.b", "good-key", POOL) as right,
        Hand(world, "emulated.a", "new-key", POOL) as mended,
    ):
        keys = [key for _ in range(6) for key in await submit_to(world, POOL, 5)]
        await held(world, wrong, "account (upload")
        (bound,) = await batches_of(world, "emulated.a")
        assert (bound.prompts, bound.pool) == (5, POOL)
        stuck = {f"{segment}.{n}" for segment in await world.store.manifest(bound.id) for n in range(5)}
        await work_until_answered(world, [wrong, right], set(keys) - stuck)
        assert [batch.id for batch in await batches_of(world, "emulated.a")] == [bound.id]
        assert set(await world.outcomes()) == set(keys) - stuck
        counts = await world.store.counts()
        assert (counts["answered"], counts.get("failed", 0)) == (25, 0)
        assert counts["account_refused"] >= 1
        assert "account (upload" in await world.store.held_reason(POOL)
        status = await read_status(world.settings)
        reasons = {lane.lane.partition("/")[0]: lane.held_reason for lane in status.lanes}
        assert reasons["emulated.a"].startswith("account (upload")
        await work_until_answered(world, [mended, right], set(keys))
        ledger = world.emulator.ledger()
        assert (ledger["rows_bought"], ledger["bought_twice"]) == (30, [])


async def test_a_full_account_leaves_the_pool_to_one_with_room(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """Who has no room for one more job packs nothing and says why; who has takes the lane."""
    async with (
        Processes(tmp_path, valkey, queue_name, PACKED, job_s=3600) as world,
        Hand(world, "emulated.a", "key-a", POOL, open_jobs_max=1) as full,
        Hand(world, "emulated.b", "key-b", POOL, open_jobs_max=1) as free,
    ):
        await submit_to(world, POOL, 5)
        await full.until_batch(BatchState.SUBMITTED)
        await submit_to(world, POOL, 5)
        reason = "emulated.a: open jobs: 1 of 1 in use"

        async def left() -> bool:
            await full.work()
            return (await world.store.lane(Lane.parse(LANE))).held_reason == reason

        await until(left, what="left to others")
        assert await world.store.held_reason(POOL) == reason
        status = await read_status(world.settings)
        assert {lane.held_reason for lane in status.lanes if lane.lane == LANE} <= {reason, "no worker"}
        assert len(await batches_of(world, "emulated.a")) == 1

        async def taken() -> bool:
            await full.work()
            await free.work()
            return [one.state for one in await batches_of(world, "emulated.b")] == [BatchState.SUBMITTED]

        await until(taken, what="the other account's job")
        assert len(await batches_of(world, "emulated.a")) == 1
        assert (await world.store.lane(Lane.parse(LANE))).held_reason == ""


async def test_what_comes_back_goes_to_the_pool(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """Segments of a failed job and rows that must be asked again wait in the pool's lane, where another has them."""
    async with (
        Processes(tmp_path, valkey, queue_name, PACKED) as world,
        Hand(world, "emulated.a", "key-a", POOL) as first,
        Hand(world, "emulated.b", "key-b", POOL) as second,
    ):
        world.emulator.faults([{"on": "job", "do": "failed", "nth": [1]}])
        keys = await submit_to(world, POOL, 5)

        async def back() -> bool:
            await first.work()
            return (await world.store.counts()).get("returned", 0) == 5

        await until(back, what="given back")
        world.emulator.faults([{"on": "row", "do": "internal", "nth": [1]}])

        async def retried() -> bool:
            await second.work()
            return (await world.store.counts()).get("requeued", 0) == 1

        await until(retried, what="a retry")
        await work_until_answered(world, [first], set(keys))
        shares = [await answered_by(world, account) for account in ("emulated.a", "emulated.b")]
        assert shares == [1, 4]
        assert (await world.store.counts()).get("failed", 0) == 0


async def test_a_batch_begun_by_one_account_may_be_sealed_by_another(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """The packer of one account dies in the middle of a pool's lane: the batch is its successor's account's."""
    async with (
        Processes(tmp_path, valkey, queue_name, PACKED | {"batch_prompts_max": 1000}) as world,
        Hand(world, "emulated.a", "key-a", POOL) as dies,
        Hand(world, "emulated.b", "key-b", POOL) as lives,
    ):
        keys = [key for _ in range(501) for key in await submit_to(world, POOL, 1)]
        taken = await dies.kit.store.claim(Step.PACK, LANE, POOL)
        assert taken is not None
        own = str(Lane("emulated.a", MODEL, Kind.GENERATE))
        assert (await dies.kit.store.pack(taken[0], "00bbatch", {}, Lane.parse(own)))[:2] == ("packing", 500)
        await work_until_answered(world, [lives], set(keys))
        assert await answered_by(world, "emulated.b") == 501
        assert world.emulator.ledger()["bought_twice"] == []


async def test_a_pool_waits_for_each_of_its_accounts_after_a_change_of_the_server(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """What one account may have bought and forgotten is not packed or submitted by another, until that is compared."""
    async with (
        Processes(tmp_path, valkey, queue_name, PACKED, job_s=3600) as world,
        Hand(world, "emulated.a", "key-a", POOL) as changed,
        Hand(world, "emulated.b", "key-b", POOL) as same,
    ):
        store = world.store
        for hand in (changed, same):
            await store.greet(hand.account)
            await store.join_pool(POOL, hand.account)
        await submit_to(world, POOL, 5)
        await until(lambda: run_step(same.kit, Packer(same.kit), LANE), what="packed")
        (sealed,) = await batches_of(world, "emulated.b")
        server = store.key("server", "emulated.a")
        known = (await store.redis.hget(server, "run_id")).decode()
        await store.redis.hset(server, "run_id", "another")
        await submit_to(world, POOL, 5)
        await submit_to(world, "emulated.b", 1)
        assert await store.claim(Step.PACK, LANE, POOL) is None
        assert await store.claim(Step.SUBMIT, sealed.id, "emulated.b") is None
        assert await store.claim(Step.PACK, LANE.replace(POOL, "emulated.b"), "emulated.b") is not None
        why = "emulated.a: reconciling after a server restart"
        assert await store.held_reason(POOL) == why
        await store.beat("somebody", "pack", "emulated.b", Sign(accounts=("emulated.b", POOL)))
        status = await read_status(world.settings)
        reasons = {lane.lane: lane.held_reason for lane in status.lanes}
        assert reasons[LANE] == why
        assert "reconciling" not in reasons[LANE.replace(POOL, "emulated.b")]
        assert [batch.held_reason for batch in status.batches if batch.id == sealed.id] == [why]
        (packed,) = await store.manifest(sealed.id)
        waiting = [packed, *await store.waiting_segments(Lane.parse(LANE))]
        assert [(await store.place(one, 0)).held_reason for one in waiting] == [why, why]
        await store.redis.zadd(store.key("pool", POOL), {"emulated.a": 1})
        assert await store.pause(POOL) == NOT_HELD
        await store.join_pool(POOL, "emulated.a")
        await store.redis.hset(server, "run_id", known)
        await store.redis.hdel(server, "held_reason")

        async def claimed() -> bool:
            return await store.claim(Step.SUBMIT, sealed.id, "emulated.b") is not None

        await until(claimed, what="no longer held")


@pytest.mark.parametrize(
    ("batches", "jobs", "tokens", "expected"),
    [
        ([], 0, 10, ""),
        ([], 3, 10, "a: open jobs: 3 of 3 in use"),
        ([], 2, 91, "a: enqueued tokens: 20 of 100 in use"),
        ([("sealed", "")], 0, 10, "a: its first job is on its way"),
        ([("submitted", ""), ("sealed", "")], 1, 10, ""),
        ([("submitted", ""), ("sealed", "")], 2, 10, "a: open jobs: 3 of 3 in use"),
        ([("submitted", "account (poll): 403")], 1, 10, "a: account (poll): 403"),
        ([("submitted", "poll: 503")], 1, 10, ""),
        ([("submitted", ""), ("sealed", "upload: 503")], 1, 10, "a: upload: 503"),
    ],
)
def test_who_may_pack(batches: list[tuple[str, str]], jobs: int, tokens: int, expected: str) -> None:
    """A held batch of its own, no job yet, no room: the lane is left to others. Cooled-off entries are room."""
    seen = [
        OpenBatch(
            id=f"s{n}", lane=Lane.parse(f"a/{MODEL}/generate/batch"), state=BatchState(state), hold=hold_of("", why, 0)
        )
        for n, (state, why) in enumerate(batches)
    ]
    entries = [Reservation(f"r{n}", MODEL, 10, 0) for n in range(jobs)]
    ledger = Ledger((*entries, Reservation("cooled", MODEL, 1000, 99)), {})
    room = Room(account="a", batches=seen, ledger=ledger, now_ms=100)
    assert why_left(room, MODEL, tokens, Limits(3, 100)) == expected


def test_what_waits_for_another_models_tokens_is_no_hindrance() -> None:
    """One model's quota is not another's: the account goes on with the pool's others, and its jobs count."""
    lane = f"a/{MODEL}/generate/batch"
    held = OpenBatch(
        id="s",
        lane=Lane.parse(lane),
        state=BatchState.SEALED,
        hold=Hold(Cause.QUOTA, "quota (create): 429"),
        held_for=f"tokens/{MODEL}",
    )
    room = Room(account="a", batches=[held], ledger=Ledger((), {}), now_ms=100)
    assert why_left(room, MODEL, 10, Limits(3, 100)) == "a: quota (create): 429"
    assert why_left(room, "another", 10, Limits(3, 100)) == ""
    assert why_left(room, "another", 10, Limits(1, 100)) == "a: open jobs: 1 of 1 in use"


def test_an_account_without_room_for_files_leaves_the_lane() -> None:
    """What its open batches store counts until the file is deleted; what is alone goes, however large."""
    lane, limits = f"a/{MODEL}/generate/batch", Limits(9, 100, stored_bytes_max=1_000)
    jobs = [
        OpenBatch(id=f"s{n}", lane=Lane.parse(lane), state=BatchState.SUBMITTED, raw_bytes=600, input_file=file)
        for n, file in enumerate(("files/f", ""))
    ]
    full, empty = (Room(account="a", batches=some, ledger=Ledger((), {}), now_ms=1) for some in (jobs, jobs[1:]))
    said = "a: bytes of stored input files (stored_bytes_max): 600 of 1,000 in use"
    assert (why_left(full, MODEL, 10, limits, 400), why_left(full, MODEL, 10, limits, 401)) == ("", said)
    assert why_left(empty, MODEL, 10, limits, 5_000) == ""


async def test_a_purge_needs_the_key_of_each_account(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """A run that two accounts answered goes with the keys of both, one after the other, and not before."""
    async with Processes(tmp_path, valkey, queue_name, PACKED | {"pool": "shared"}) as world:
        rows, out = tmp_path / "in.txt", tmp_path / "out.jsonl"
        words = ("run", str(rows), "-o", str(out), "-m", MODEL, "--name", "shared", "--quiet")
        for account in ("a", "b"):
            worker = world.start_worker(GEMQUEUE_ACCOUNT=account)
            with rows.open("a") as file:
                file.write(f"one prompt for {account}\n")
            ended = await asyncio.to_thread(gemqueue, *words, **world.env())
            assert ended.returncode == 0, ended.stderr
            await world.drained()
            worker.stop()
        keys = [world.env(GEMQUEUE_ACCOUNT=account) for account in ("a", "b")]
        ended = await asyncio.to_thread(gemqueue, "admin", "purge", "--run", "shared", **keys[0])
        assert (ended.returncode, "emulated.b" in ended.stderr) == (2, True), ended.stderr
        assert (await asyncio.to_thread(gemqueue, "show", "shared", "--json", **keys[0])).returncode == 0
        ended = await asyncio.to_thread(gemqueue, "admin", "purge", "--run", "shared", "--json", **keys[1])
        assert (ended.returncode, '"jobs":1' in ended.stdout) == (0, True), ended.stderr
        assert (await asyncio.to_thread(gemqueue, "show", "shared", **keys[0])).returncode == 2


def test_a_pool_is_no_account() -> None:
    """Its id needs no key, real and emulated ones never meet, and no account may be called like one."""
    real, emulated = Settings(pool="shared"), Settings(pool="shared", emulate=True)
    assert (lane_account(real, ""), lane_account(emulated, "")) == ("pool.shared", POOL)
    assert account_id(emulated, "") == "emulated.local"
    refused: list[dict[str, Any]] = [
        {"account": "pool.shared"},
        {"pool": "a.b"},
        {"pool": "shared", "deadline_policy": "flex"},
    ]
    for given in refused:
        with pytest.raises(ConfigError, match="pool"):
            load_settings(env={}, **given)
