"""``gemqueue belief``: what is believed of which batch, and a person's word on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue.client.queue import Queue
from gemqueue.effects import CRASH_EXIT_CODE, Effect
from gemqueue.errors import ConfigError, QueueFull
from gemqueue.policy.beliefs import RULES, Evidence, evidence_of
from gemqueue.policy.believed import belief_words, is_decided
from gemqueue.policy.unknown import Unknown, again_s
from gemqueue.states import Step
from gemqueue.store import metrics
from gemqueue_workers.manage.beliefs.belief import decide
from gemqueue_workers.manage.beliefs.checks import believing as believing_checks
from gemqueue_workers.manage.status_records import Status
from gemqueue_workers.serve.page import status_page
from tests.cli.command import gemqueue
from tests.worlds.stages import ACCOUNT, MODEL

if TYPE_CHECKING:
    from subprocess import CompletedProcess

    from gemqueue.records import Batch
    from tests.worlds.stages import Stages

EFFECTS = [effect for effect in Effect if effect.startswith("decide.")]


def command(stages: Stages, *words: str, **env: str) -> CompletedProcess[str]:
    """``gemqueue`` on these stages' queue, at their time and without a key."""
    given = {"GEMQUEUE_REDIS_URL": stages.settings.redis_url, "GEMQUEUE_QUEUE": stages.settings.queue}
    with stages.ticking() as clock:
        return gemqueue(*words, GEMQUEUE_TEST_CLOCK=clock, GEMQUEUE_EMULATE="1", **given, **env)


def asked(stages: Stages, *words: str) -> Any:
    """The JSON that a command prints."""
    ended = command(stages, *words, "--json")
    assert ended.returncode == 0, ended.stderr
    return msgspec.json.decode(ended.stdout)


async def record_of(stages: Stages, batch: str) -> Batch:
    """The batch's record, which is there."""
    record = await stages.store.batch(batch)
    assert record is not None
    return record


async def believing(stages: Stages, what: str = "job_unknown") -> str:
    """A batch that was looked at twice, each time with this to see; its next look is an hour away."""
    await stages.submit("one", "two")
    batch = await stages.submitted()
    stages.clock.advance(stages.settings.poll_max_s)
    taken = await stages.store.claim(Step.TRACK, batch, ACCOUNT)
    assert taken is not None
    now_ms = stages.clock.now_ms()
    await stages.store.release(taken[0], 3600.0, Evidence(what, 2, now_ms - 60_000, now_ms).note())
    return batch


async def test_show_says_what_is_believed_and_what_each_belief_takes(stages: Stages) -> None:
    """Every row of the table, and every batch under a belief with its looks, the next one, and its end."""
    batch = await believing(stages)
    found = asked(stages, "belief", "show")
    assert [row["belief"] for row in found["rules"]] == [str(belief) for belief in RULES]
    (one,) = found["batches"]
    assert (one["batch"], one["belief"], one["looks"], one["decided"]) == (batch, "job_unknown", 2, False)
    assert one["first_at"] < one["last_at"] < one["next_at"] < one["given_up_at"]
    said = command(stages, "belief", "show")
    assert said.stdout.startswith(f"the job of batch {batch} denied since ")
    assert f"\n  2 prompts, {(await record_of(stages, batch)).job}, submitted; 2 looks agree" in said.stdout
    for row in RULES.values():
        assert row.setting.split(",")[0] in said.stdout


async def test_a_person_says_that_it_is_gone(stages: Stages) -> None:
    """The look is due at once and knows that it is the last; the word is counted, and goes when the evidence does."""
    batch = await believing(stages)
    assert asked(stages, "belief", "decide", batch, "gone") == {
        "batch": batch, "belief": "job_unknown", "decision": "gone", "prompts": 2
    }  # fmt: skip
    record = await record_of(stages, batch)
    assert is_decided(record, evidence_of(record))
    assert (record.seen_n, record.lease_until, record.crashes, await stages.count("decided")) == (2, 0, 0, 1)
    assert [member for member, _ in await stages.store.overdue(ACCOUNT, (Step.TRACK,))] == [f"track {batch}"]
    (one,) = asked(stages, "belief", "show")["batches"]
    assert (one["decided"], "a person says that it is gone" in one["said"]) == (True, True)


async def test_a_person_says_that_it_is_to_be_waited_for(stages: Stages) -> None:
    """All evidence is dropped, also an earlier word; the next look, due at once, is the first."""
    batch = await believing(stages)
    assert (await decide(stages.store, batch, "gone")).decision == "gone"
    assert (await decide(stages.store, batch, "wait")).decision == "wait"
    record = await record_of(stages, batch)
    assert (evidence_of(record), record.decided, await stages.count("decided")) == (Evidence(), "", 2)
    assert asked(stages, "belief", "show")["batches"] == []
    assert await stages.step(Step.TRACK, batch)


async def test_there_must_be_something_to_decide(stages: Stages) -> None:
    """A batch that is unknown, under no belief, or held by a worker: refused with the reason, and nothing changes."""
    await stages.submit("three")
    other = await stages.submitted()
    batch = await believing(stages)
    stages.clock.advance(3600)
    taken = await stages.store.claim(Step.TRACK, batch, ACCOUNT)
    assert taken is not None
    for one, why in (("00bunknown", "not known"), (other, "under no belief, it is submitted"), (batch, "holds batch")):
        with pytest.raises(ConfigError, match=why):
            await decide(stages.store, one, "gone")
    ended = command(stages, "admin", "belief", "decide", other, "gone")
    assert (ended.returncode, "under no belief" in ended.stderr) == (2, True)
    assert await stages.count("decided") == 0


async def test_whoever_looks_is_told_what_is_believed(stages: Stages) -> None:
    """Status, show and doctor say it in the same words, once, though no step has left a reason in the record."""
    batch = await believing(stages)
    record = await record_of(stages, batch)
    words = belief_words(record, evidence_of(record), stages.settings)
    assert " since " in words
    (one,) = asked(stages, "status")["batches"]
    assert one["held_reason"] == words
    shown = asked(stages, "show", batch)
    assert (shown["believed"], shown["held_reason"], shown["held_cause"]) == (words, words, "doubt")
    text = command(stages, "status", COLUMNS="200").stdout
    assert text.count(" since ") == 1
    findings = msgspec.json.decode(command(stages, "doctor", "--json").stdout)
    assert {"what": "beliefs", "state": "ok", "said": words} in findings
    assert {"what": "unknown jobs", "state": "ok", "said": "none that no record knows"} in findings


async def test_doctor_warns_of_what_was_given_up(stages: Stages) -> None:
    """A belief_s of minutes at the real service, and each counter of what may be bought again, is a warning."""
    for name in ("bought_again", "concluded_by_age"):
        await stages.store.add_count(name, 7)
    await stages.submit("one")
    short = msgspec.structs.replace(stages.settings, belief_s=600.0, emulate=False)
    counts = await stages.store.counts()
    said = [each async for each in believing_checks(stages.store, short, counts)]
    assert [(state, words.partition(" ")[0]) for state, words in said] == [
        ("warning", "belief_s"),
        ("warning", "7"),
        ("warning", "7"),
        ("ok", "nothing"),
    ]
    quiet = [each async for each in believing_checks(stages.store, stages.settings, {})]
    assert quiet == [("ok", "nothing is being believed of any batch")]


async def test_an_unknown_job_is_shown(stages: Stages) -> None:
    """Status, its page and doctor name a job that was counted as unknown; one that was seen once is not shown."""
    await stages.submit("one")
    one = Unknown(job="batches/1", token=f"gq-c0ffee00-00b{'a' * 20}-7", state="running")
    await stages.store.note_unknown(ACCOUNT, [one])
    assert asked(stages, "status")["unknown_jobs"] == []
    stages.clock.advance(again_s(stages.settings))
    await stages.store.note_unknown(ACCOUNT, [one])
    found = asked(stages, "status")
    (job,) = found["unknown_jobs"]
    assert (job["job"], job["batch"], job["state"]) == ("batches/1", f"00b{'a' * 20}", "running")
    assert found["counts"]["unknown_jobs"] == 1
    assert "Warning: job batches/1 (running)" in command(stages, "status").stdout
    assert "job batches/1 (running)" in status_page(msgspec.convert(found, Status))
    findings = msgspec.json.decode(command(stages, "doctor", "--json").stdout)
    assert [each["state"] for each in findings if each["what"] == "unknown jobs"] == ["warning"]
    await stages.store.clear_unknown(ACCOUNT, {"batches/1": ""})
    assert asked(stages, "status")["unknown_jobs"] == []


async def test_a_full_queue_says_what_beliefs_keep_in_it(stages: Stages) -> None:
    """A submit that is refused for lack of room names the batches whose prompts stay for a belief, in one look."""
    batch = await believing(stages)
    settings = msgspec.structs.replace(stages.settings, memory_bytes_max=1, submit_timeout_s=0.2)
    record = await record_of(stages, batch)
    words = belief_words(record, evidence_of(record), settings)
    async with Queue.connect(settings=settings) as queue:
        with pytest.raises(QueueFull, match="memory_bytes_max") as refused:
            await queue.submit("three", model=MODEL)
    assert f"(in it a batch with 0.0 MB of prompts before compression: {words}; gemqueue belief show)" in str(
        refused.value
    )


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("effect", EFFECTS)
async def test_a_decision_that_dies_is_made_by_the_next(stages: Stages, effect: Effect, when: str) -> None:
    """The command dies anywhere: at most a lease later the same command does it, and it is counted once or twice."""
    batch = await believing(stages)
    died = command(stages, "belief", "decide", batch, "gone", GEMQUEUE_CRASH_AT=f"{effect}:{when}:1")
    assert died.returncode == CRASH_EXIT_CODE
    stages.clock.advance(stages.settings.lease_s + 1)
    assert asked(stages, "belief", "decide", batch, "gone")["decision"] == "gone"
    record = await record_of(stages, batch)
    assert is_decided(record, evidence_of(record))
    assert await stages.count("decided") == 1 + ((effect, when) == (Effect.DECIDE_DECIDE, "after"))


async def test_results_that_are_gone_are_given_up_at_a_persons_word(stages: Stages) -> None:
    """They are denied and waited for, and a future says until when; after the word one more look gives them up."""
    await stages.submit("one", "two")
    batch = await stages.submitted()
    stages.jobs_end()
    await stages.step(Step.TRACK, batch)
    stages.emulator.faults([{"on": "download", "do": "404"}])
    await stages.step(Step.RESOLVE, batch)
    record = await record_of(stages, batch)
    assert (record.state, evidence_of(record).belief, record.held_cause) == ("ended", "results_gone", "doubt")
    assert record.held_reason.startswith(f"results of batch {batch} denied since ")
    assert (await stages.store.place(stages.keys[0].partition(".")[0], 0)).held_reason == record.held_reason
    stages.clock.advance(3600)
    await stages.step(Step.RESOLVE, batch)
    assert (await record_of(stages, batch)).state == "ended"
    assert (await decide(stages.store, batch, "gone")).belief == "results_gone"
    await stages.step(Step.RESOLVE, batch)
    assert (await record_of(stages, batch)).state == "closed"
    assert (await stages.count("bought_again"), await stages.count("decided")) == (2, 1)
    stages.emulator.faults([])
    await stages.drain()
    assert await stages.count("answered") == 2


async def test_a_persons_word_is_held_against_the_results(stages: Stages) -> None:
    """Rows that were missing are there when a person says that they are gone: the last look reads, and finds them."""
    await stages.submit(*(f"prompt {n}" for n in range(9)))
    batch = await stages.submitted()
    stages.jobs_end()
    await stages.step(Step.TRACK, batch)
    stages.emulator.lies([{"route": "download", "kind": "short"}])
    while (await record_of(stages, batch)).seen_n < 4:  # the fifth would not read, by itself
        await stages.step(Step.RESOLVE, batch)
        stages.clock.advance(3600)
    stages.emulator.lies([])
    assert (await decide(stages.store, batch, "gone")).belief == "rows_missing"
    await stages.step(Step.RESOLVE, batch)
    assert (await record_of(stages, batch)).state == "closed"
    assert (await stages.count("answered"), await stages.count("bought_again")) == (9, 0)


async def test_what_is_believed_is_measured(stages: Stages) -> None:
    """A gauge says how many batches are under which belief, 0 for the others."""
    await believing(stages)
    gauges = (await metrics.read(stages.store)).gauges
    found = {one.labels["what"]: one.value for one in gauges if one.name == "believing_batches"}
    assert found == {str(belief): float(belief == "job_unknown") for belief in RULES}
