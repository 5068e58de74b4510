"""Rows that fail, each in its own way, each to its typed outcome."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from gemqueue.states import Kind
from gemqueue_adapters.emulator.process import EmulatorProcess
from tests.worlds.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.valkey_server import ValkeyServer

ROWS: dict[str, str | None] = {
    "plain": None,
    "[[fault:invalid]]": "invalid",
    "[[fault:internal]]": "provider",
    "[[fault:internal:1]]": None,
    "[[fault:missing]]": "missing",
    "[[fault:missing:2]]": None,
    "[[fault:doubled]]": None,
    "[[fault:foreign]]": "missing",
    "[[fault:malformed]]": "missing",
    "[[fault:malformed:1]]": None,
    "[[fault:blocked]]": "blocked",
    "[[fault:recitation]]": "blocked",
    "[[fault:safety]]": "blocked",
    "[[fault:empty]]": "empty",
    "[[fault:max_tokens_empty]]": "empty",
    "[[fault:unavailable:3]]": None,
}


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Generator[EmulatorProcess]:
    """One for all: it is emptied for each test, and starting one costs as much as a worker."""
    process = EmulatorProcess(tmp_path_factory.mktemp("emulator"), job_s=0.2)
    process.start()
    yield process
    process.kill()


@pytest.fixture
async def world(tmp_path: Path, valkey: ValkeyServer, queue_name: str, emulator: EmulatorProcess) -> Processes:
    """A world that the test enters."""
    return Processes(tmp_path, valkey, queue_name, lent=emulator)


async def test_each_kind_of_row_ends_in_its_typed_outcome(world: Processes) -> None:
    """Every fault of a row leads to one outcome, alone; the others in the file are answered; nothing hangs or leaks."""
    async with world:
        world.start_worker()
        texts = [f"{n} {marker}" for n in range(3) for marker in ROWS]
        keys = await world.submit(texts, segment_prompts=20)
        await world.drained()
        found = await world.judge()
        for key, text in zip(keys, texts, strict=True):
            expected = ROWS[text.partition(" ")[2]]
            failure = found[key].get("failure")
            assert (failure["kind"] if failure else None) == expected, text
        counts = await world.store.counts()
        assert counts["quarantined"] > 0
        assert counts["answered"] + counts["failed"] == len(texts)


async def test_bytes_that_are_no_utf8_are_an_answer(world: Processes) -> None:
    """What was billed is delivered as far as it can be read, with the row's bytes beside; nothing is bought again."""
    async with world:
        world.start_worker()
        (key,) = await world.submit(["[[fault:not_utf8]]"])
        await world.drained()
        outcome = (await world.outcomes())[key]
        assert "\ufffd" in outcome["response"]["candidates"][0]["content"]["parts"][0]["text"]
        assert b"\xff\xfe" in base64.b64decode(outcome["row_base64"])
        assert world.emulator.ledger()["rows_bought"] <= 1


async def test_max_tokens_with_text_is_an_answer(world: Processes) -> None:
    """An answer that was cut off is still an answer."""
    async with world:
        world.start_worker()
        (key,) = await world.submit(["[[fault:max_tokens]]"])
        await world.drained()
        assert (await world.outcomes())[key]["response"]["candidates"][0]["finishReason"] == "MAX_TOKENS"


async def test_embeddings_come_back_by_key(world: Processes) -> None:
    """Embedding prompts travel the same way and each gets the vector of its own text."""
    async with world:
        world.start_worker()
        await world.submit([f"text {n}" for n in range(50)], kind=Kind.EMBED)
        await world.drained()
        found = await world.judge()
        assert all(len(outcome["response"]["embedding"]["values"]) > 0 for outcome in found.values())


@pytest.mark.parametrize("do", ["expired", "failed", "cancelled"])
async def test_a_job_that_comes_to_nothing_is_requeued_free_of_charge(world: Processes, do: str) -> None:
    """An EXPIRED, FAILED or CANCELLED job's prompts are bought in a new job and answered."""
    async with world:
        world.emulator.faults([{"on": "job", "do": do, "nth": [1]}])
        world.start_worker()
        await world.submit([f"prompt {n}" for n in range(40)], segment_prompts=10)
        await world.drained()
        found = await world.judge()
        assert all("response" in outcome for outcome in found.values())
        assert (await world.store.counts())["returned"] == 40


async def test_jobs_that_always_fail_end_in_typed_failures(world: Processes) -> None:
    """After ``requeues_max`` jobs that came to nothing the prompts fail as expired, and stay replayable."""
    async with world:
        world.emulator.faults([{"on": "job", "do": "failed"}])
        world.start_worker()
        await world.submit(["one", "two"])
        await world.drained()
        found = await world.judge()
        assert [outcome["failure"]["kind"] for outcome in found.values()] == ["expired", "expired"]
        assert await world.store.redis.xlen(world.store.key("dead")) == 2


@pytest.mark.parametrize("do", ["inline_output", "job_state", "flat", "half"])
async def test_every_shape_of_a_job_is_understood(world: Processes, do: str) -> None:
    """Inline output, the other state spelling, the bare resource and a half-done job end in answers all the same."""
    async with world:
        world.emulator.faults([{"on": "job", "do": do, "nth": [1]}])
        world.start_worker()
        await world.submit([f"prompt {n}" for n in range(20)])
        await world.drained()
        found = await world.judge()
        assert all("response" in outcome for outcome in found.values())


async def test_a_line_that_the_provider_refuses_fails_alone(world: Processes) -> None:
    """A create refused for a named line isolates that line; it fails as invalid, the others are answered."""
    async with world:
        world.start_worker()
        texts = [f"prompt {n}" for n in range(30)]
        texts[17] = "[[fault:refuse_line]]"
        keys = await world.submit(texts, segment_prompts=10)
        await world.drained()
        found = await world.judge()
        assert found[keys[17]]["failure"]["kind"] == "invalid"
        assert sum("response" in outcome for outcome in found.values()) == 29


async def test_any_number_of_refused_lines_fail_alone(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """More refused lines than ``refusals_max`` cost a create each and not the good prompts of their batch."""
    async with Processes(tmp_path, valkey, queue_name, {"refusals_max": 2}) as world:
        world.start_worker()
        texts = [f"prompt {n}{' [[fault:refuse_line]]' if n % 4 == 0 else ''}" for n in range(20)]
        keys = await world.submit(texts)
        await world.drained()
        found = await world.judge()
        refused = [found[key].get("failure", {}).get("kind") for key in keys]
        assert refused == ["invalid" if n % 4 == 0 else None for n in range(20)]


async def test_a_refusal_that_names_no_line_is_bisected(world: Processes) -> None:
    """A create refused without a line named is halved until the culprit stands alone."""
    async with world:
        world.start_worker()
        texts = [f"prompt {n}" for n in range(30)]
        texts[3] = "[[fault:refuse_file]]"
        keys = await world.submit(texts, segment_prompts=10)
        await world.drained()
        found = await world.judge()
        assert found[keys[3]]["failure"]["kind"] == "invalid"
        assert sum("response" in outcome for outcome in found.values()) == 29


async def test_an_unknown_model_fails_its_prompts_with_the_providers_words(world: Processes) -> None:
    """The provider's 404 for the model becomes the failure of each prompt."""
    async with world:
        world.start_worker()
        await world.submit(["one", "two"], model="gemini-0.1-nonsense")
        await world.drained()
        found = await world.judge()
        assert {outcome["failure"]["kind"] for outcome in found.values()} == {"invalid"}
        assert all("gemini-0.1-nonsense" in outcome["failure"]["message"] for outcome in found.values())


@pytest.mark.parametrize(
    "faults",
    [
        [{"on": "create", "do": "429", "nth": [1, 2]}],
        [{"on": "upload_start", "do": "429", "nth": [1]}],
        [{"on": "upload", "do": "lost_after", "nth": [1]}],
        [{"on": "get", "do": "503", "nth": [1, 3]}],
        [{"on": "download", "do": "cut", "at_bytes": 700, "nth": [1]}],
        [{"on": "download", "do": "truncated", "at_bytes": 700, "nth": [1]}],
        [{"on": "upload", "do": "processing", "seconds": 1.0, "nth": [1]}],
        [{"on": "delete_file", "do": "500", "nth": [1]}],
        [{"on": "download", "do": "404", "times": 3}],
        [{"on": "get", "do": "404", "nth": [2, 3, 4]}],
    ],
    ids=lambda faults: f"{faults[0]['on']}-{faults[0]['do']}",
)
async def test_calls_that_fail_for_a_while_only_delay(world: Processes, faults: list[dict[str, object]]) -> None:
    """Quota, lost replies, 5xx, cut downloads and slow files delay a batch and change nothing else."""
    async with world:
        world.emulator.faults(faults)
        world.start_worker()
        await world.submit([f"prompt {n}" for n in range(20)])
        await world.drained()
        found = await world.judge()
        assert all("response" in outcome for outcome in found.values())


@pytest.mark.parametrize("do", ["lost_before", "lost_after", "delayed", "500", "503"])
async def test_a_create_in_doubt_buys_once(world: Processes, do: str) -> None:
    """Whatever became of a create whose reply was lost, its prompts are answered and bought once."""
    async with world:
        world.emulator.faults([{"on": "create", "do": do, "seconds": 0.5, "nth": [1]}])
        world.start_worker()
        await world.submit([f"prompt {n}" for n in range(20)])
        await world.drained()
        await world.judge()
        counts = await world.store.counts()
        assert counts.get("created", 0) + counts.get("adopted", 0) == 1
        assert counts["fenced"] == 1
