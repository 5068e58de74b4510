"""Several accounts side by side, and wrong keys: nothing is concluded from what a wrong key does not see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import msgspec
from arq import Worker

from gemqueue.ids import new_producer_id, new_segment_id
from gemqueue.language.gemini.requests import generate_request
from gemqueue.language.lines import line
from gemqueue.records import Lane
from gemqueue.states import BatchState, Kind, Step
from gemqueue.store import codec
from gemqueue.store.producer import SegmentWrite
from gemqueue_adapters.gemini import GeminiProvider
from gemqueue_workers.manage.status import read_status
from gemqueue_workers.settings import ROLES, stop, worker_options, worker_queue
from gemqueue_workers.stages.loop import Kit, run_step
from gemqueue_workers.stages.packer import Packer
from gemqueue_workers.stages.pooling import read_room, why_left
from gemqueue_workers.stages.resolver import Resolver
from gemqueue_workers.stages.submitter import Submitter
from gemqueue_workers.stages.tracker import Tracker
from gemqueue_workers.worker.arq_client import make_arq_client
from gemqueue_workers.worker.sweeper import Sweeper
from tests.worlds.processes import MODEL, Processes, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.valkey_server import ValkeyServer

HANDLERS: dict[Step, Any] = {
    Step.PACK: Packer,
    Step.SUBMIT: Submitter,
    Step.TRACK: Tracker,
    Step.RESOLVE: Resolver,
}


class Hand:
    """A worker of one account and key, in this process: it takes a step when it is told to.

    With ``pool`` it takes from that pool, too; ``settings`` are its own beside the world's.
    """

    def __init__(self, world: Processes, account: str, key: str, pool: str = "", **settings: Any) -> None:
        provider = GeminiProvider(
            api_key=key, account=account, base_url=world.emulator.url, emulate=True, create_timeout_s=1.0
        )
        chosen = msgspec.structs.replace(world.settings, **settings)
        self.kit = Kit(store=world.store, provider=provider, settings=chosen, clock=world.store.clock, pool=pool)
        self.account = account

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kit.provider.aclose()

    async def work(self) -> None:
        """Take every step that is due; of the pool's, as a sweep does, only what the account has room for."""
        due = await self.kit.store.overdue(self.account, tuple(HANDLERS))
        if self.kit.pool:
            pooled = await self.kit.store.overdue(self.kit.pool, (Step.PACK,))
            room = await read_room(self.kit)
            due += [one for one in pooled if not await why_left(self.kit, Lane.parse(one[0].partition(" ")[2]), room)]
        for member, _ in due:
            step, _, id_ = member.partition(" ")
            await run_step(self.kit, HANDLERS[Step(step)](self.kit), id_)

    async def until_batch(self, state: BatchState) -> str:
        """Work until a batch is in this state; its id."""
        found: list[str] = []

        async def there() -> bool:
            await self.work()
            for id_ in await self.kit.store.open_batches():
                batch = await self.kit.store.batch(id_)
                if batch is not None and batch.state is state:
                    found.append(id_)
            return bool(found)

        await until(there, what=state)
        return found[0]


async def submit_to(world: Processes, account: str, count: int = 3) -> list[str]:
    """Prompts for an account; their keys."""
    id_ = new_segment_id()
    keys = [f"{id_}.{n}" for n in range(count)]
    for key in keys:
        world.requests[key] = (Kind.GENERATE, generate_request(f"{account} {key}"))
    body = b"".join(line(key, world.requests[key][1]) for key in keys)
    segment = SegmentWrite(
        id=id_, lane=str(Lane(account, MODEL, Kind.GENERATE)), producer=new_producer_id(), count=count,
        raw_bytes=len(body), tokens=len(body) // 4,
    )  # fmt: skip
    await world.store.enqueue(segment, codec.compress(body))
    return keys


async def held(world: Processes, hand: Hand, why: str) -> None:
    """Let the hand work until a batch of its account is held for this reason."""

    async def reason() -> bool:
        await hand.work()
        for id_ in await world.store.open_batches():
            batch = await world.store.batch(id_)
            if batch is not None and batch.lane.account == hand.account and why in batch.held_reason:
                return True
        return False

    await until(reason, what=f"held: {why}")


async def test_a_wrong_key_stops_its_own_account_alone(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """Two accounts, one wrong key: log, counter and status say so, nothing fails, and the other account goes on."""
    async with (
        Processes(tmp_path, valkey, queue_name) as world,
        Hand(world, "emulated.b", "invalid-key") as wrong,
        Hand(world, "emulated.b", "good-key") as right,
    ):
        theirs = await submit_to(world, "emulated.b")
        await held(world, wrong, "account (upload")
        world.start_worker()
        ours = set(await submit_to(world, "emulated.local", 20))

        async def answered() -> bool:
            await wrong.work()
            return set(await world.outcomes()) >= ours

        await until(answered, what="the other account's answers")
        assert set(await world.outcomes()) == ours
        counts = await world.store.counts()
        assert (counts["answered"], counts.get("failed", 0)) == (20, 0)
        assert counts["account_refused"] >= 1
        status = await read_status(world.settings)
        reasons = {lane.lane.partition("/")[0]: lane.held_reason for lane in status.lanes}
        assert reasons["emulated.local"] == ""
        assert reasons["emulated.b"].startswith("account (upload")
        assert "key" in reasons["emulated.b"]
        assert "invalid-key" not in str(status)

        async def all_answered() -> bool:
            await right.work()
            return set(await world.outcomes()) >= {*ours, *theirs}

        await until(all_answered, what="the held account's answers")


async def test_a_key_of_another_project_concludes_nothing(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """A key that does not see the account's jobs neither fences, fails nor requeues; another of the project goes on."""
    async with (
        Processes(tmp_path, valkey, queue_name) as world,
        Hand(world, "emulated.b", "first@one") as right,
        Hand(world, "emulated.b", "other@two") as foreign,
        Hand(world, "emulated.b", "second@one") as rotated,
    ):
        keys = await submit_to(world, "emulated.b")
        batch = await right.until_batch(BatchState.SUBMITTED)
        await held(world, foreign, "another project")
        record = await world.store.batch(batch)
        assert record is not None
        assert record.state is BatchState.SUBMITTED
        assert await world.outcomes() == {}

        async def all_answered() -> bool:
            await rotated.work()
            return set(await world.outcomes()) == set(keys)

        await until(all_answered, what="answers by another key of the project")
        assert world.emulator.ledger()["bought_twice"] == []


async def test_a_key_of_another_project_makes_no_false_fence(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """A create in doubt is not proven dead by a key that sees neither its file nor its job; it is bought once."""
    async with (
        Processes(tmp_path, valkey, queue_name) as world,
        Hand(world, "emulated.b", "first@one") as right,
        Hand(world, "emulated.b", "other@two") as foreign,
    ):
        keys = await submit_to(world, "emulated.b")
        world.emulator.faults([{"on": "create", "do": "lost_after"}, {"on": "delete_file", "do": "503", "nth": [1]}])
        await right.until_batch(BatchState.SUBMITTING)
        world.emulator.faults([])
        await held(world, foreign, "another project")
        (id_,) = await world.store.open_batches()
        record = await world.store.batch(id_)
        assert record is not None
        assert (record.state, record.fenced_at) == (BatchState.SUBMITTING, 0)

        async def all_answered() -> bool:
            await right.work()
            await foreign.work()
            return set(await world.outcomes()) == set(keys)

        await until(all_answered, what="answers")
        counts = await world.store.counts()
        assert (counts["adopted"], counts.get("created", 0), counts.get("failed", 0)) == (1, 0, 0)
        assert world.emulator.ledger()["rows_bought"] == len(keys)


async def test_no_worker_takes_the_alarms_of_another_account(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """Accounts side by side on one queue: what one's sweeper has made jobs of waits for its own workers."""
    async with Processes(tmp_path, valkey, queue_name) as world:
        here = {"base_url": world.emulator.url, "linger_s": 0.0}
        mine, other, pooled = (
            msgspec.structs.replace(world.settings, account=account, pool=pool, **here)
            for account, pool in (("a", ""), ("b", ""), ("a", "shared"))
        )
        assert len({worker_queue(each, ROLES) for each in (mine, other, pooled)}) == 3
        await submit_to(world, "emulated.a")
        name = worker_queue(mine, ROLES)
        async with Hand(world, "emulated.a", "key-a") as hand:
            pool: Any = make_arq_client(valkey.url, name)
            sweeper = Sweeper(hand.kit, pool, name, ROLES, _nothing)

            async def jobs() -> bool:
                await sweeper.sweep()
                return bool(await pool.zcard(name))

            await until(jobs, what="the lane is due")
            for settings, left in ((other, 1), (mine, 0)):
                worker: Any = Worker(burst=True, handle_signals=False, **worker_options(settings, ROLES))
                await worker.async_run()
                await stop(worker.ctx)
                await worker.pool.connection_pool.disconnect()
                assert await pool.zcard(name) == left
            await pool.connection_pool.disconnect()


async def _nothing(_step: Step, _id: str) -> None:
    """What a full server's sweeper would run here."""
