"""Dead letters: bounded, counted, shown, submitted again once, forgotten."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from gemqueue import NameConflict, Queue
from gemqueue.effects import CRASH_EXIT_CODE
from gemqueue.errors import ConfigError, QueueFull
from gemqueue.language.outcomes import Failed
from gemqueue.states import Step
from gemqueue.store.runs import RunStore
from tests.cli.command import gemqueue
from tests.worlds.bench import LANE, Bench, bench, landing
from tests.worlds.stages import ACCOUNT, MODEL, Stages

pytestmark = pytest.mark.usefixtures("no_leaks")

BODY = msgspec.json.encode({"key": "00a.0", "request": {"text": list(range(2_000))}}).decode()


def command(stages: Stages, *arguments: str, **env: str) -> Any:
    """``gemqueue admin dead`` on these stages' queue: its JSON, or where it fails its exit code and what it said."""
    given = {"GEMQUEUE_REDIS_URL": stages.settings.redis_url, "GEMQUEUE_QUEUE": stages.settings.queue}
    given |= {"GEMQUEUE_EMULATE": "1", "GEMQUEUE_LINGER_S": "0.001"}
    ended = gemqueue("admin", "dead", *arguments, **given, **env)
    return msgspec.json.decode(ended.stdout) if ended.returncode == 0 else (ended.returncode, ended.stderr)


async def dead(stages: Stages, *texts: str) -> None:
    """These prompts' jobs expire until they are given up."""
    stages.emulator.faults([{"on": "job", "do": "expired"}])
    await stages.submit(*texts)
    await stages.drain()
    stages.emulator.faults([])


async def test_dead_letters_are_shown_replayed_and_answered(stages: Stages) -> None:
    """Each keeps its request; replayed it has a new key and is answered; the old key keeps its failure."""
    await dead(stages, "one", "two", "three")
    listed = command(stages, "list", "--json")
    assert [letter["key"] for letter in listed] == stages.keys
    assert {letter["kind"] for letter in listed} == {"expired"}
    shown = command(stages, "show", stages.keys[1])
    assert msgspec.json.decode(shown["body"])["request"]["contents"][0]["parts"] == [{"text": "two"}]
    (first,) = command(stages, "replay", listed[0]["id"], "--json")
    assert first["old"] == stages.keys[0]
    rest = command(stages, "replay", "--all", "--json")
    assert [each["old"] for each in rest] == stages.keys[1:]
    assert command(stages, "list", "--json") == []
    before = stages.emulator.ledger()["rows_bought"]
    stages.clock.advance(60)
    await stages.drain()
    assert stages.emulator.ledger()["rows_bought"] == before + 3
    counts = await stages.store.counts()
    assert (counts["replayed"], counts["accepted"], counts["answered"], counts["failed"]) == (3, 6, 3, 3)
    assert counts["dead_bytes"] == 0


async def test_nothing_is_replayed_twice(stages: Stages) -> None:
    """The same letters by several at once, and again: one of them gets them, the others are told."""
    await dead(stages, "one", "two")
    letters = [letter async for letter in stages.store.dead_letters()]
    done = await asyncio.gather(*(stages.store.replay(letters) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(each, list) for each in done) == 1
    assert sum(isinstance(each, ConfigError) for each in done) == 4
    assert await stages.count("accepted") == 4
    await stages.drain()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_replay_that_dies_is_done_or_not(stages: Stages, when: str) -> None:
    """A command that dies at the effect has replayed all of it or nothing, and run again it buys nothing twice."""
    await dead(stages, "one", "two")
    assert command(stages, "replay", "--all", GEMQUEUE_CRASH_AT=f"produce.replay:{when}:1")[0] == CRASH_EXIT_CODE
    assert len(command(stages, "list", "--json")) == (2 if when == "before" else 0)
    command(stages, "replay", "--all", "--json")
    assert await stages.count("accepted") == 4
    stages.clock.advance(60)
    await stages.drain()
    assert await stages.count("answered") == 2


async def test_a_name_leads_to_the_replayed_prompt(stages: Stages) -> None:
    """Whoever asks by name gets the new prompt; whoever has the old key keeps the failure."""
    stages.emulator.faults([{"on": "job", "do": "expired"}])
    async with Queue.connect(settings=stages.settings) as queue:
        old = await queue.submit("one", model=MODEL, name="doc-1")
        await queue.submit("two", model=MODEL, name="doc-2")
        stages.clock.advance(60)
        await stages.drain()
        assert isinstance(await old.outcome(10), Failed)
        ((_, new),) = [(each["old"], each["new"]) for each in command(stages, "replay", old.key, "--json")]
        found = await queue.lookup("doc-1")
        assert found is not None
        assert found.key == new
        other = await queue.lookup("doc-2")
        assert other is not None
        assert other.key != new
        again = await queue.submit("one", model=MODEL, name="doc-1")
        assert again.key == new
        row: dict[str, object] = {"contents": "one", "name": "doc-1", "config": {}}
        asked = queue.map([row], model=MODEL, config={"top_k": 1})
        (other_question,) = await asyncio.wait_for(asked, 60)
        assert isinstance(other_question, Failed)
        assert isinstance(other_question.error, NameConflict)
        await found.cancel()


async def test_dead_letters_are_purged(stages: Stages) -> None:
    """By key, by kind, all; unknown words and neither-nor are refused."""
    await dead(stages, "one", "two", "three")
    assert command(stages, "purge", stages.keys[0], "--json") == {"purged": 1}
    assert command(stages, "purge", "--all", "--kind", "missing", "--json") == {"purged": 0}
    assert command(stages, "purge", "--all", "--json") == {"purged": 2}
    assert await stages.count("dead_bytes") == 0
    code, said = command(stages, "purge", stages.keys[0])
    assert code == 2
    assert "no dead letter" in said
    assert "either" in command(stages, "replay")[1]


async def _bury(here: Bench, count: int, body_bytes: int) -> None:
    segment = await here.enqueue(count)
    claim = await here.ended()
    line = '{"key":"00a.0","request":{"text":"%s"}}'
    body = line % ("x" * (body_bytes - len(line) + 2))
    dead = [(f"{segment}.{n}", LANE, "provider", "why", body) for n in range(count)]
    await here.store.settle(claim, [landing(segment, range(count), failed=count)], dead)
    await here.close(claim)


async def test_dead_letters_are_bounded_and_counted(redis_url: str, queue_name: str) -> None:
    """By bytes: the oldest go. What is there counts against the memory limit, and a purge gives all of it back."""
    async with bench(redis_url, queue_name, dead_bytes_max=10_000) as here:
        for _ in range(4):
            await _bury(here, 3, 1_000)
        counts = await here.store.counts()
        letters = [letter async for letter in here.store.dead_letters()]
        assert counts["dead_bytes"] == sum(letter.size for letter in letters) <= 10_000
        assert len(letters) == 7
        before = await here.live_bytes()
        assert before > counts["dead_bytes"]
        assert await here.store.purge_dead([letter.id for letter in letters]) == 7
        counts = await here.store.counts()
        assert (counts["dead_bytes"], before - counts["live_bytes"]) == (0, sum(letter.size for letter in letters))


async def test_a_replay_forgets_what_has_expired_before_it_says_full(redis_url: str, queue_name: str) -> None:
    """On an idle queue the outcomes of hundreds of segments are over: there is room, and the letters go again."""
    async with bench(redis_url, queue_name, memory_bytes_max=20_000, dead_bytes_max=10_000) as here:
        segments = [await here.enqueue(1) for _ in range(250)]
        claim = await here.ended()
        await here.store.settle(claim, [landing(segment, [0], b"x" * 75) for segment in segments])
        await here.close(claim)
        await _bury(here, 1, 100)
        letters = [letter async for letter in here.store.dead_letters()]
        assert await here.live_bytes() > 18_000
        letters = [msgspec.structs.replace(one, body=BODY) for one in letters]
        with pytest.raises(QueueFull):
            await here.store.replay(letters)
        here.advance(here.settings.keep_outcome_s + 1)
        (key,) = await here.store.replay(letters)
        assert await here.store.cancel(key.partition(".")[0], 0, b"cancelled") == "pending"


async def test_a_purge_of_prompts_gives_their_letters_back(redis_url: str, queue_name: str) -> None:
    """Letters that go with their prompts stop counting against both limits; those of others stay."""
    async with bench(redis_url, queue_name) as here:
        await _bury(here, 3, 1_000)
        letters = [letter async for letter in here.store.dead_letters()]
        before, gone = await here.live_bytes(), {letter.key for letter in letters[1:]}
        store = RunStore(redis_url, here.settings, here.clock)
        await store.purge_streams(gone.__contains__, ())
        await store.aclose()
        counts = await here.store.counts()
        assert [letter.key async for letter in here.store.dead_letters()] == [letters[0].key]
        assert counts["dead_bytes"] == letters[0].size
        assert before - counts["live_bytes"] == letters[1].size + letters[2].size


async def test_letters_of_an_older_version_can_go(redis_url: str, queue_name: str) -> None:
    """One that 0.1.0 wrote was never counted: it is read, and purged, and the counters stay right."""
    async with bench(redis_url, queue_name) as here:
        old = {"key": "00a.0", "lane": LANE, "kind": "missing", "message": "m", "body": '{"key":"00a.0","request":{}}'}
        await here.store.redis.xadd(here.store.key("dead"), old)
        (letter,) = [letter async for letter in here.store.dead_letters()]
        assert (letter.key, letter.tenant, letter.size) == ("00a.0", "default", 0)
        assert await here.store.purge_dead([letter.id, letter.id]) == 1
        assert (await here.store.counts()).get("dead_bytes", 0) == 0


async def test_rows_of_runs_are_left_to_retry(stages: Stages) -> None:
    """A row of a run belongs to its OUT: asked for by name it is refused with the way out, and --all passes it over."""
    await dead(stages, "one")
    (letter,) = [letter async for letter in stages.store.dead_letters()]
    await stages.store.purge_dead([letter.id])
    fields = {**msgspec.structs.asdict(letter), "run": "nightly"}
    await stages.store.redis.xadd(
        stages.store.key("dead"), {k: v for k, v in fields.items() if k not in {"id", "size"}}
    )
    code, said = command(stages, "replay", letter.key)
    assert code == 2
    assert "gemqueue admin retry --run nightly" in said
    assert command(stages, "replay", "--all", "--json") == []
    assert ACCOUNT in letter.lane
    await stages.step(Step.PACK)
