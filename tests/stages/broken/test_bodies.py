"""A segment's body that is not what was written is lost, and only its own prompts with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import zstandard

from gemqueue.policy.packing import full_limits
from gemqueue.records import Lane
from gemqueue.states import Step
from gemqueue.store import codec
from tests.stages.test_metrics import failures, moved
from tests.stages.test_rescue import DAY_S, EARLIER_S
from tests.worlds.stages import LANE, Stages, open_stages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from tests.emulator_process import EmulatorProcess
    from tests.valkey_server import ValkeyServer

pytestmark = pytest.mark.usefixtures("no_leaks")

BOMB = zstandard.ZstdCompressor(level=19).compress(bytes(250_000_000))


def flipped(blob: bytes) -> bytes:
    """One bit of its middle is another."""
    at = len(blob) // 2
    return blob[:at] + bytes([blob[at] ^ 1]) + blob[at + 1 :]


def rewritten(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """A whole frame, of other text."""
    return lambda blob: codec.compress(change(codec.expand(blob)))


def nested(text: bytes) -> bytes:
    """The first line holds an array of 100,000 levels."""
    first, _, rest = text.partition(b"\n")
    return first[:-2] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}}\n" + rest


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "a bit flipped": flipped,
    "cut in half": lambda blob: blob[: len(blob) // 2],
    "more behind it": lambda blob: blob + b"x",
    "empty": lambda _: b"",
    "no zstd": lambda _: b"{}\n",
    "a bomb": lambda _: BOMB,
    "a line too few": rewritten(lambda text: text.partition(b"\n")[2]),
    "a line too many": rewritten(lambda text: text + text.partition(b"\n")[0] + b"\n"),
    "shorter": rewritten(lambda text: text.replace(b'"text":"one"', b'"text":""')),
    "of others": rewritten(lambda text: text.replace(b'{"key":"', b'{"key":"f')[:-2] + b"\n"),
    "no UTF-8": rewritten(lambda text: text.replace(b'"text":"one"', b'"text":"\xff\xff\xff"')),
    "no JSON": rewritten(lambda text: b"x" * len(text)),
    "nested": rewritten(nested),
}


@pytest.fixture
async def flex(valkey: ValkeyServer, queue_name: str, emulator: EmulatorProcess) -> AsyncGenerator[Stages]:
    """Stages whose prompts may go to Flex."""
    async with open_stages(valkey.url, queue_name, emulator, deadline_policy="flex") as made:
        yield made


async def damage(stages: Stages, segment: str, how: str) -> None:
    """Break the segment's body."""
    name = stages.store.key("segment", segment)
    await stages.store.redis.set(name, BROKEN[how](await stages.store.redis.get(name)), keepttl=True)


@pytest.mark.parametrize("how", BROKEN)
async def test_a_body_that_cannot_be_read_costs_its_own_prompts(stages: Stages, how: str) -> None:
    """Its prompts fail as lost, are counted and never bought; the others of the batch are answered by one job."""
    first = await stages.submit("three")
    lost = await stages.submit("one", "two")
    await stages.submit("four", "five")
    batch = await stages.sealed()
    await damage(stages, lost, how)
    assert await stages.step(Step.SUBMIT, batch)
    await stages.drain()
    found = await moved(stages)
    assert (found["lost_prompts"], found["failed"], found["answered"], found["created"]) == (2, 2, 3, 1)
    assert stages.emulator.ledger()["rows_bought"] == 3
    assert await failures(stages, lost) == ["lost", "lost"]
    assert await failures(stages, first) == []


async def test_many_of_them_are_found_at_once(stages: Stages) -> None:
    """Twenty broken bodies of thirty cost one look at all of them, and no more uploads than one."""
    segments = [await stages.submit(f"{number}") for number in range(30)]
    batch = await stages.sealed()
    for segment in segments[:20]:
        await damage(stages, segment, "a bit flipped")
    assert await stages.step(Step.SUBMIT, batch)
    assert await stages.step(Step.SUBMIT, batch)
    assert await stages.count("lost_prompts") == 20
    await stages.drain()
    assert (await stages.count("created"), stages.emulator.ledger()["rows_bought"]) == (1, 10)


@pytest.mark.parametrize("how", ["a bit flipped", "a line too few", "no zstd"])
async def test_what_breaks_while_its_job_runs_costs_only_retries(stages: Stages, how: str) -> None:
    """Answers count although the body is broken; a prompt that would have to be bought again fails as lost."""
    segment = await stages.submit("one", "[[fault:internal]]", "[[fault:invalid]]")
    await stages.submit("four", "[[fault:internal]]")
    await stages.submitted()
    await damage(stages, segment, how)
    await stages.drain()
    found = await moved(stages)
    assert found["lost_prompts"] == 1
    assert sorted(await failures(stages, segment)) == ["invalid", "lost"]


async def test_a_dead_letter_without_a_body_is_still_an_outcome(
    valkey: ValkeyServer, queue_name: str, emulator: EmulatorProcess
) -> None:
    """Prompts that fail for good have their outcome; only those whose bodies can be read are kept for a replay."""
    async with open_stages(valkey.url, queue_name, emulator, attempts_max=1) as stages:
        broken, whole = await stages.submit("[[fault:internal]]"), await stages.submit("[[fault:internal]]")
        await stages.submitted()
        await damage(stages, broken, "a bit flipped")
        await stages.drain()
        assert [await failures(stages, broken), await failures(stages, whole)] == [["provider"], ["provider"]]
        assert [letter.key async for letter in stages.store.dead_letters()] == [f"{whole}.0"]


async def test_an_interactive_batch_asks_for_the_others(flex: Stages) -> None:
    """Nothing is asked before all bodies were read; then only what is broken is lost."""
    flex.lane = str(Lane.parse(LANE).of("flex"))
    lost, whole = await flex.submit("one"), await flex.submit("two")
    batch = await flex.submitted()
    await damage(flex, lost, "a bit flipped")
    assert await flex.step(Step.RESOLVE, batch)
    assert await failures(flex, lost) == ["lost"]
    assert await failures(flex, whole) == []
    assert await flex.count("answered") == 1


async def test_the_rescuer_leaves_it_to_its_batch(flex: Stages) -> None:
    """A broken body cannot go to Flex; the rescue step goes on with the others, and the answer may come yet."""
    deadline_s = DAY_S + flex.settings.deadline_margin_s + EARLIER_S
    deadline_at = flex.clock.now_ms() + int(deadline_s * 1000)
    broken, _ = [await flex.submit(text, deadline_at=deadline_at) for text in ("one", "two")]
    assert await flex.step(Step.RESCUE, LANE)
    flex.clock.advance(full_limits(flex.settings)["review_ms"] / 1000)
    await flex.submitted()
    await damage(flex, broken, "a bit flipped")
    while not await flex.count("rescued"):
        flex.clock.advance(60)
        await flex.step(Step.RESCUE, LANE)
    assert await flex.store.waiting_prompts([Lane.parse(LANE).of("flex")]) == [1]
    await flex.drain()
    assert await flex.count("answered") == 2


async def test_a_bomb_is_refused_before_memory_is_taken() -> None:
    """8 KB that would be 250 MB are an error where a record says how much there is, and where none does."""
    for bytes_max in (1_000_000, None):
        with pytest.raises(ValueError, match="a zstd frame of 250000000 bytes where"):
            codec.expand(BOMB, bytes_max)
    assert codec.expand(codec.compress(b"abc"), 3) == b"abc"
    with pytest.raises(ValueError, match="where 2 are the most"):
        codec.expand(codec.compress(b"abc"), 2)
