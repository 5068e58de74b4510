"""What the stages conclude of a provider that contradicts itself, how slowly, and that each wait has an end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gemqueue.states import BatchState, Cause, Step

if TYPE_CHECKING:
    from gemqueue.records import Batch
    from tests.worlds.stages import Stages


async def _ended(stages: Stages, *texts: str) -> str:
    """A batch whose job has ended, as far as the provider says."""
    await stages.submit(*texts)
    batch = await stages.submitted()
    stages.jobs_end()
    assert await stages.step(Step.TRACK, batch)
    return batch


async def _record(stages: Stages, batch: str) -> Batch:
    record = await stages.store.batch(batch)
    assert record is not None
    return record


async def _bought_once(stages: Stages, prompts: int) -> None:
    stages.emulator.lies([])
    await stages.drain()
    ledger = stages.emulator.ledger()
    assert (ledger["rows_bought"], ledger["bought_again"]) == (prompts, 0)
    assert await stages.count("answered") == prompts
    assert await stages.count("bought_again") == 0


@pytest.mark.parametrize(
    "lie",
    [
        {"route": "get", "kind": "back"},
        {"route": "get", "kind": "no_output_yet"},
        {"route": "get", "kind": "failed"},
        {"route": "get", "kind": "failed", "how": "CANCELLED"},
        {"route": "get", "kind": "denied"},
        {"route": "get", "kind": "html", "status": 404},
        {"route": "get", "kind": "foreign", "status": 200},
        {"route": "download", "kind": "denied"},
        {"route": "download", "kind": "html", "status": 404},
        {"route": "download", "kind": "html", "status": 200},
        {"route": "download", "kind": "foreign", "status": 404, "how": "own_words"},
        {"route": "download", "kind": "short"},
        {"route": "download", "kind": "blank"},
    ],
    ids=lambda lie: "-".join(map(str, lie.values())),
)
async def test_a_lie_of_some_seconds_buys_nothing(stages: Stages, lie: dict[str, Any]) -> None:
    """Whatever is said of a job at its end and for half a minute after it costs time, and no row is bought again."""
    await stages.submit(*map(str, range(6)))
    batch = await stages.submitted()
    stages.jobs_end()
    stages.emulator.lies([lie | {"for_s": 30}])
    for step in (Step.TRACK, Step.RESOLVE, Step.RESOLVE, Step.RESOLVE):
        await stages.step(step, batch)
        stages.clock.advance(10)
    assert (await _record(stages, batch)).job != ""
    assert len(stages.emulator.ledger()["jobs"]) == 1
    await _bought_once(stages, 6)


async def test_rows_that_came_are_delivered_while_others_are_awaited(stages: Stages) -> None:
    """Half a file is settled at once; the rest is waited for, with the reason, and comes."""
    await stages.submit(*map(str, range(6)))
    batch = await stages.submitted()
    stages.jobs_end()
    stages.emulator.lies([{"route": "download", "kind": "short"}])
    await stages.step(Step.TRACK, batch)
    assert await stages.step(Step.RESOLVE, batch)
    record = await _record(stages, batch)
    assert 0 < await stages.count("answered") < 6
    assert (record.seen_n, record.seen_what[:12], record.held_cause) == (1, "rows_missing", Cause.DOUBT)
    await _bought_once(stages, 6)


async def test_an_honest_failure_is_believed_at_the_second_look(stages: Stages) -> None:
    """A job that failed goes back a minute after it was seen to have failed, and costs no counter of doubt."""
    stages.emulator.faults([{"on": "job", "do": "failed", "nth": [1]}])
    batch = await _ended(stages, "one", "two")
    stages.clock.advance(59)
    assert not await stages.step(Step.RESOLVE, batch)
    stages.clock.advance(2)
    assert await stages.step(Step.RESOLVE, batch)
    assert (await _record(stages, batch)).state is BatchState.CLOSED
    await stages.drain()
    assert (await stages.count("returned"), await stages.count("answered")) == (2, 2)
    assert await stages.count("bought_again") == 0


async def test_a_row_that_the_service_counts_as_missing_is_asked_again_in_minutes(stages: Stages) -> None:
    """Two whole readings five minutes apart, with counters that agree, are enough; that is counted."""
    batch = await _ended(stages, "one", "[[fault:missing]]", "three")
    assert await stages.step(Step.RESOLVE, batch)
    record = await _record(stages, batch)
    assert (record.seen_what.split()[:2], record.seen_n) == (["rows_missing", "counted"], 1)
    stages.clock.advance(301)
    assert await stages.step(Step.RESOLVE, batch)
    assert (await _record(stages, batch)).state is BatchState.CLOSED
    assert (await stages.count("requeued"), await stages.count("bought_again")) == (1, 1)
    await stages.drain()


async def test_results_that_are_gone_are_given_up_after_hours(stages: Stages) -> None:
    """Twelve denials over six hours, by a key that sees the job, and not one sooner: then the batch is bought again."""
    batch = await _ended(stages, "one", "two")
    await stages.provider.delete_file((await _record(stages, batch)).output_file)
    began_ms, looks = stages.clock.now_ms(), 0
    stages.emulator.lies([{"route": "download", "kind": "denied"}])
    while (await _record(stages, batch)).state is BatchState.ENDED:
        looks += await stages.step(Step.RESOLVE, batch)
        stages.clock.advance(30)
    took_h = (stages.clock.now_ms() - began_ms) / 3_600_000
    assert 6 <= took_h < 6.2
    assert looks >= 12
    stages.emulator.lies([])
    await stages.drain()
    assert (await stages.count("bought_again"), await stages.count("answered")) == (2, 2)


@pytest.mark.parametrize("lie", [{"kind": "back"}, {"kind": "html", "status": 500}], ids=["runs", "unread"])
async def test_a_job_that_never_ends_is_given_up(stages: Stages, lie: dict[str, Any]) -> None:
    """One that runs, or cannot be read, for a hundred hours has outlived its results: its prompts go back, counted."""
    await stages.submit("one")
    batch = await stages.submitted()
    stages.emulator.lies([{"route": "get"} | lie])
    stages.jobs_end()
    stages.clock.advance(100 * 3600)
    for _ in range(8):
        await stages.step(Step.TRACK, batch)
        await stages.step(Step.RESOLVE, batch)
        stages.clock.advance(301)
    assert (await _record(stages, batch)).state is BatchState.CLOSED
    assert (await stages.count("concluded_by_age"), await stages.count("bought_again")) == (2, 1)


async def test_a_file_that_never_becomes_usable_is_given_up(stages: Stages) -> None:
    """Each try is deleted; after hours of them the prompts go back, and nothing was bought."""
    stages.emulator.lies([{"route": "upload", "kind": "upload_failed"}])
    await stages.submit("one")
    batch = await stages.submitted()
    assert (await _record(stages, batch)).seen_what == "file_unusable"
    while (await _record(stages, batch)).state is BatchState.SEALED:
        stages.clock.advance(600)
        await stages.step(Step.SUBMIT, batch)
    assert stages.emulator.ledger()["jobs"] == []
    assert [page async for page in stages.provider.files() if page] == []
    stages.emulator.lies([])
    await stages.drain()
    assert (await stages.count("answered"), await stages.count("created")) == (1, 1)


async def test_a_person_who_knows_better_ends_a_wait(stages: Stages) -> None:
    """What a person says is gone is concluded at the look that confirms it."""
    batch = await _ended(stages, "one")
    stages.emulator.lies([{"route": "download", "kind": "denied"}])
    assert await stages.step(Step.RESOLVE, batch)
    taken = await stages.store.claim(Step.RESOLVE, batch, stages.provider.account, held=True)
    assert taken is not None
    seen = await _record(stages, batch)
    await stages.store.decide(taken[0], f"gone results_gone {seen.seen_first_at}")
    assert await stages.step(Step.RESOLVE, batch)
    assert (await _record(stages, batch)).state is BatchState.CLOSED
    stages.emulator.lies([])
    await stages.drain()


async def test_a_refused_create_fails_nobody_at_once(stages: Stages) -> None:
    """A refusal for good is asked once more a minute later; a provider that took it back answers all."""
    stages.emulator.lies([{"route": "create", "kind": "foreign", "status": 400, "how": "own_words", "times": 1}])
    await stages.submit("one")
    batch = await stages.submitted()
    record = await _record(stages, batch)
    assert (record.state, record.seen_what, record.held_cause) == (BatchState.SEALED, "refused", Cause.DOUBT)
    stages.clock.advance(61)
    await stages.step(Step.SUBMIT, batch)
    await _bought_once(stages, 1)
