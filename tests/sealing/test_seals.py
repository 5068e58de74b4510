"""A sealed queue at work: beside what is not sealed, without its key, with changed values, while keys change."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue import NameConflict, Queue
from gemqueue.errors import ConfigError, SealError
from gemqueue.language.outcomes import Failed
from gemqueue.policy.beliefs import RECORD_VERSION
from gemqueue.records import Note
from gemqueue.states import Cause, Step
from gemqueue.store import calls, codec
from gemqueue.store.groups import Wrapped
from gemqueue.store.seals.ring import Seals
from gemqueue_workers.seal import keys as command
from tests.worlds.sealed import Holder
from tests.worlds.stages import ACCOUNT, MODEL, Stages

if TYPE_CHECKING:
    from gemqueue.records import Batch
    from gemqueue.store.base import StoreBase

pytestmark = pytest.mark.usefixtures("no_leaks")


def plain(stages: Stages) -> Any:
    """The settings of a producer that seals nothing."""
    return msgspec.structs.replace(stages.settings, seal=False)


def connect(stages: Stages, holder: Holder) -> Any:
    """A queue of a producer with the keys."""
    return Queue.connect(settings=plain(stages), seal=True, seal_wrapper=holder.wrapper)


async def unseal(stages: Stages) -> None:
    """As if the queue had not been sealed yet."""
    await stages.store.redis.delete(stages.store.key("seal", "+names"))


def begun_anew(stages: Stages, holder: Holder) -> None:
    """As a process that has just begun, which knows no keys yet."""
    stages.store.seals = Seals(lambda: stages.store.scripts, stages.store.key, stages.settings)
    holder.give(stages.store)


async def record(stages: Stages, batch: str) -> Batch:
    """The batch's record."""
    found = await stages.store.batch(batch)
    assert found is not None
    return found


async def test_what_was_there_before_goes_on(stages: Stages, holder: Holder) -> None:
    """Prompts, names and answers from before the seal are answered, found, joined, and conflict as ever."""
    await unseal(stages)
    async with Queue.connect(settings=plain(stages)) as queue:
        before = await queue.submit("one", model=MODEL, name="doc-1")
        key = before.key
    async with connect(stages, holder) as queue:
        assert (await queue.submit("one", model=MODEL, name="doc-1")).key == key
        new = await queue.submit("two", model=MODEL, name="doc-2")
        assert (await queue.submit("two", model=MODEL, name="doc-2")).key == new.key
        for name in ("doc-1", "doc-2"):
            with pytest.raises(NameConflict, match="with another body"):
                await queue.submit("three", model=MODEL, name=name)
        await stages.drain()
        assert "one" in (await queue.future(key)).text
        assert "two" in (await queue.future(new.key)).text
        found = await queue.lookup("doc-2")
        assert found is not None
        assert found.key == new.key
    assert stages.emulator.ledger()["rows_bought"] == 2


async def test_who_seals_nothing_cannot_submit_names(stages: Stages, holder: Holder) -> None:
    """A producer without a seal is refused when it connects, and by the script if it was connected before."""
    await unseal(stages)
    async with Queue.connect(settings=plain(stages)) as queue:
        begun_anew(stages, holder)
        await stages.store.seals.begin()
        outcomes = await queue.map([{"contents": "one", "name": "doc-1"}, "two"], model=MODEL, tenant="a")
        assert isinstance(outcomes[0], Failed)
        assert "this queue is sealed, and this process is not: set seal = true" in outcomes[0].failure.message
    with pytest.raises(SealError, match="this queue is sealed"):
        await Queue.connect(settings=plain(stages))


@pytest.mark.parametrize("letters", [[], ["b"]])
async def test_a_worker_without_the_key_loses_nothing(stages: Stages, letters: list[str]) -> None:
    """Without a key, or with another one, a worker holds the batch and says why; one with the key goes on."""
    await stages.submit("one", "two")
    batch = await stages.sealed()
    other = Stages(stages.settings.redis_url, stages.settings.queue, stages.emulator, seal=bool(letters))
    if letters:
        Holder(*letters).give(other.store)
    other.clock.advance(5)
    try:
        assert await other.step(Step.SUBMIT, batch)
    finally:
        await other.aclose()
    held = await record(stages, batch)
    assert held.held_cause == Cause.SEAL
    said = "is wrapped by" if letters else "this queue is sealed, and this process is not"
    assert held.held_reason.startswith("seal: ")
    assert said in held.held_reason
    stages.jobs_end()
    await stages.drain()
    assert await stages.count("answered") == 2


async def test_a_producer_with_another_key_is_refused(stages: Stages) -> None:
    """It learns at once whose key is wrapped by which, and what it has."""
    with pytest.raises(SealError, match=r"the key of \+names is wrapped by \w{8}, and the test's file holds \w{8}"):
        await Queue.connect(settings=plain(stages), seal=True, seal_wrapper=Holder("b").wrapper)


async def test_an_older_version_leaves_it_alone(stages: Stages) -> None:
    """The lane and each batch are of a layout that is newer to it, also after a belief, a refusal, a division."""
    stages.emulator.faults([{"on": "create", "do": "400", "message": "line", "nth": [1]}])
    for text in ("one", "two"):
        await stages.submit(text)
    batch = await stages.sealed()
    lane = await stages.store.redis.hget(stages.store.key("lane", stages.lane), "v")
    await stages.step(Step.SUBMIT, batch)
    stages.jobs_end()
    await stages.step(Step.SUBMIT, batch)
    stages.jobs_end()
    await stages.step(Step.TRACK, batch)
    assert lane == b"4"
    layouts = {(await record(stages, id_)).v for id_ in await stages.store.open_batches()}
    assert layouts == {4}
    await stages.submit("three")
    other = await stages.submitted()
    taken = await stages.store.claim(Step.TRACK, other, ACCOUNT, held=True)
    assert taken is not None
    await stages.store.release(taken[0], 0, Note(v=RECORD_VERSION))
    assert (await record(stages, other)).v == 4
    await stages.drain()
    assert {(await record(stages, batch)).v} == {4}


async def test_moved_and_cut_values_do_not_open(stages: Stages, holder: Holder) -> None:
    """Bodies that changed places, and one that was cut, stay sealed; an answer in another's place is not given."""
    first, second = await stages.submit("one"), await stages.submit("two")
    keys = [stages.store.key("segment", id_) for id_ in (first, second)]
    bodies = await stages.store.redis.mget(keys)
    await stages.store.redis.mset(dict(zip(keys, reversed(bodies), strict=True)))
    assert await stages.store.bodies([first, second]) == bodies[::-1]
    await stages.store.redis.set(keys[0], bodies[0][:-1])
    (cut,) = await stages.store.bodies([first])
    assert cut is not None
    with pytest.raises(ValueError, match="sealed"):
        codec.expand(cut)
    await stages.store.redis.mset(dict(zip(keys, bodies, strict=True)))
    await stages.drain()
    lists = [stages.store.key("outcomes", id_) for id_ in (first, second)]
    (stolen,) = await stages.store.redis.lrange(lists[1], 0, -1)
    await stages.store.redis.lset(lists[0], 0, stolen)
    async with connect(stages, holder) as queue:
        assert "two" in (await queue.future(f"{second}.0")).text
        outcome = await queue.future(f"{first}.0").outcome()
        assert isinstance(outcome, Failed)
        assert "cannot be read" in outcome.failure.message


async def test_keys_rotate_under_load(stages: Stages, holder: Holder) -> None:
    """While prompts come and are answered the keys change three times, and nothing is lost or left behind."""
    link: Any = Linked(stages.store)
    async with connect(stages, holder) as queue:
        texts = [f"prompt {n}" for n in range(300)]
        futures = [await queue.submit(text, model=MODEL, tenant=f"t{n % 3}") for n, text in enumerate(texts[:100])]
        for at, letter in ((100, "b"), (200, "c")):
            batch = await stages.submitted()
            new = [queue.submit(text, model=MODEL, tenant=f"t{n % 3}") for n, text in enumerate(texts[at : at + 100])]
            holder.letters.insert(0, letter)
            found, *more = await asyncio.gather(command.rotate(link), *new)
            futures += more
            stages.jobs_end()
            await stages.step(Step.TRACK, batch)
            assert {id_ for each in found.tenants for id_ in each.wrapped_by} == {found.wrapping[0]}
            assert set(found.unused) == set(found.wrapping[1:])
        del holder.letters[1:]
        begun_anew(stages, holder)
        await stages.drain()
        answers = [(await future).text for future in futures]
    assert [text in answer for text, answer in zip(texts, answers, strict=True)] == [True] * 300
    generations = await stages.store.seals.generations("t0")
    assert generations.newest == 3


class Linked:
    """What commands have of a connection."""

    def __init__(self, store: StoreBase) -> None:
        self.store: Any = store
        self.account = ACCOUNT


async def test_a_destroyed_key_is_not_wrapped_back(stages: Stages) -> None:
    """Who wraps a tenant's key while it is destroyed writes nothing, and what was sealed with it stays closed."""
    await stages.submit("one")
    seals = stages.store.seals
    before = await seals.generations("default")
    await seals.shred("default")
    call = calls.Rewrap("default", "", [Wrapped(1, before.wrapped[1], b"late")])
    assert await stages.store.scripts.run(call) == [b"ok", 0]
    assert await seals.bring_back("default", before) == 0
    assert (await seals.generations("default")).wrapped == {}
    (body,) = await stages.store.bodies([stages.keys[0].partition(".")[0]])
    assert body is not None
    with pytest.raises(ValueError, match="its key was destroyed"):
        codec.expand(body)


class Kms:
    """A key management service as its users would have it: async, counted, and down when the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down = False

    async def wrap(self, key: bytes, tenant: str) -> bytes:
        """Not what a service would do, but as long as it is asked for the right tenant it can undo it."""
        return tenant.encode() + bytes(255 - each for each in key)

    async def unwrap(self, wrapped: bytes, tenant: str) -> bytes:
        """The key again."""
        self.asked.append(tenant)
        if self.down:
            raise ConnectionError("the service does not answer")
        return bytes(255 - each for each in wrapped.removeprefix(tenant.encode()))


async def test_a_service_that_wraps_is_asked_once(stages: Stages) -> None:
    """Each process asks for each key once; while the service is down, prompts are refused or held with its words."""
    await unseal(stages)
    kms, own = Kms(), Kms()
    begun_anew(stages, Holder("a"))
    stages.store.seals.given = own
    async with Queue.connect(settings=plain(stages), seal=True, seal_wrapper=kms) as queue:
        futures = [await queue.submit(f"prompt {n}", model=MODEL, tenant=f"t{n % 2}") for n in range(8)]
        own.down = True
        batch = await stages.sealed()
        await stages.step(Step.SUBMIT, batch)
        held = await record(stages, batch)
        assert (held.held_cause, held.tries) == (Cause.SEAL, 1)
        assert "cannot be had: ConnectionError: the service does not answer" in held.held_reason
        own.down, kms.down = False, True
        with pytest.raises(SealError, match="the key of t2 cannot be had: ConnectionError"):
            await queue.submit("new tenant", model=MODEL, tenant="t2")
        kms.down = False
        stages.jobs_end()
        await stages.drain()
        assert ["prompt" in (await future).text for future in futures] == [True] * 8
    assert sorted(kms.asked) == ["+names", "t0", "t1", "t2"]
    assert {*own.asked} >= {"t0", "t1"}
    assert len(own.asked) <= 5


async def test_an_export_brings_lost_keys_back(stages: Stages, holder: Holder) -> None:
    """A server that lost a tenant's keys says so, holds what it cannot open, and goes on once they are imported."""
    link: Any = Linked(stages.store)
    await stages.submit("one")
    batch = await stages.sealed()
    exported = msgspec.json.encode(await command.export(link))
    await stages.store.redis.delete(stages.store.key("seal", "default"))
    begun_anew(stages, holder)
    await stages.step(Step.SUBMIT, batch)
    assert "gemqueue admin seal import" in (await record(stages, batch)).held_reason
    assert await command.bring_back(link, exported) == 1
    assert await command.bring_back(link, exported) == 0
    with pytest.raises(ConfigError, match="no export"):
        await command.bring_back(link, b"{}")
    await stages.drain()
    assert await stages.count("answered") == 1
