"""The invariants (reference, queues.md section 3), held against a world that has come to rest."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.setting_values import DeleteFiles
from gemqueue.store import codec
from tests.leaks import leftovers
from tests.proofs.simulation.again import dropped, given_up, judge_again, refused, times_again, was_given_up_for_a_lie
from tests.proofs.simulation.client import Client, Direct
from tests.proofs.simulation.lines import REFUSED, answer_to
from tests.proofs.simulation.scenes import FAILOVER, POOL

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from tests.proofs.simulation.clients import Prompt
    from tests.proofs.simulation.world import SimulatedWorld

_PREFIX = b"{gq:sim:00}:"


def judge(world: SimulatedWorld) -> list[str]:
    """Every promise that this seed broke, in words."""
    return [*world.violations, *world.cloud.violations, *world.replays.violations, *_found(world)]


def _found(world: SimulatedWorld) -> Generator[str]:
    yield from (f"unhandled: {problem}" for problem in world.scheduler.unhandled)
    prompts = [prompt for journal in world.journals for prompt in journal]
    if not world.drained():
        yield from _unfinished(world, prompts)
        return
    data = world.server.memory.data
    outcomes: dict[str, dict[str, Any]] = {}
    for name, blobs in data.items():
        if name.startswith(_PREFIX + b"outcomes:"):
            for line in (line for blob in blobs for line in codec.expand(blob).split(b"\n") if line):
                outcome = msgspec.json.decode(line)
                if outcome["key"] in outcomes:
                    yield f"I3 two outcomes for {outcome['key']}"
                outcomes[outcome["key"]] = outcome
    yield from _of_prompts(world, prompts, outcomes)
    yield from _of_accounts(world, outcomes)
    yield from _of_purchases(world, counts_of(world))
    yield from judge_again(world, counts_of(world), forgets=FAILOVER in world.scenes)
    yield from _of_costs(world, counts_of(world))
    yield from _of_budget(world)
    yield from _of_files(world)
    yield from _of_keys(world)


def _unfinished(world: SimulatedWorld, prompts: list[Prompt]) -> Generator[str]:
    open_batches = list(world.server.memory.data.get(_PREFIX + b"batches", ()))
    waiting = [prompt.key or prompt.text for prompt in prompts if not prompt.finished]
    yield f"I10 not done: batches {open_batches}, applications wait for {waiting}"


def _of_prompts(world: SimulatedWorld, prompts: list[Prompt], outcomes: dict[str, dict[str, Any]]) -> Generator[str]:
    texts: dict[str, set[str]] = {}
    for job in world.cloud.jobs.values():
        for key, text in job.keys.items():
            texts.setdefault(text, set()).add(key)
    for key, text in world.cloud.calls.texts.items():
        texts.setdefault(text, set()).add(key)
    for prompt in prompts:
        if prompt.key and prompt.key not in outcomes:
            yield f"I1 lost: {prompt.key} ({prompt.text})"
        keys = [key for key in texts.get(prompt.text, ()) if not world.replays.made(key)]
        if len(keys) > 1:
            yield f"I5 twice in the queue: {prompt.text} as {sorted(keys)}"
        told = set(prompt.outcomes)
        if FAILOVER in world.scenes:  # a failure that was told and lost may become an answer
            told = {(kind, text) for kind, text in told if kind == "answered"}
        if len(told) > 1:
            yield f"I3 told differently: {prompt.key}: {prompt.outcomes}"
        for kind, text in prompt.outcomes:
            yield from _of_outcome(world, prompt, kind, text)


def _of_outcome(world: SimulatedWorld, prompt: Prompt, kind: str, text: str) -> Generator[str]:
    if kind == "answered":
        if text != answer_to(prompt.text):
            yield f"I4 wrong answer: {prompt.key} ({prompt.text}) got {text!r}"
        if REFUSED in prompt.text:
            yield f"I4 answered though it was refused: {prompt.key}"
        return
    if kind == "invalid" and REFUSED not in prompt.text and not refused(world, prompt.key):
        yield f"I4 failed as invalid, and is not: {prompt.key}: {text}"
    job = dropped(world, prompt.key) if kind != "cancelled" and FAILOVER not in world.scenes else ""
    if job and prompt.key not in world.rescued:
        yield f"I1 failed though {job} answered it: {prompt.key} {kind}: {text}"
    faults = world.faults
    harmless = not faults.rows.total and not faults.jobs.total and not faults.files.total and not world.has_lies
    expected = kind == "cancelled" and prompt.cancel
    if harmless and not expected and REFUSED not in prompt.text:
        yield f"I1 failed though the provider answered every row: {prompt.key} {kind}: {text}"


def _of_accounts(world: SimulatedWorld, outcomes: dict[str, dict[str, Any]]) -> Generator[str]:
    data, counts = world.server.memory.data, counts_of(world)
    if counts.get("accepted", 0) != len(outcomes):
        yield f"I7 {counts.get('accepted', 0)} accepted, {len(outcomes)} outcomes"
    answered = sum("response" in outcome for outcome in outcomes.values())
    if counts.get("answered", 0) != answered:
        yield f"I7 {counts.get('answered', 0)} counted as answered, {answered} are"
    if counts.get("bought_twice", 0) and not world.cloud.overlaps and not was_given_up_for_a_lie(world):
        yield f"I2 bought twice: {counts['bought_twice']} by its own count"
    kept = sum(int(meta.get(b"outcome_bytes", 0)) for name, meta in data.items() if b":segmeta:" in name)
    kept += sum(int(fields[fields.index(b"size") + 1]) for _, fields in data.get(_PREFIX + b"dead", ()))
    if counts.get("live_bytes", 0) != kept:
        yield f"I7 live_bytes is {counts.get('live_bytes', 0)}, what is kept is {kept}"


def counts_of(world: SimulatedWorld) -> dict[str, int]:
    """The queue's own counters."""
    fields = world.server.memory.data.get(_PREFIX + b"counts", {})
    return {name.decode(): int(value) for name, value in fields.items()}


def _of_purchases(world: SimulatedWorld, counts: dict[str, int]) -> Generator[str]:
    """What was paid for more than once is what outran a batch, and calls in doubt, which are counted.

    After a call in doubt a prompt may be asked for once more, or go into a batch where the service refuses it for good.
    """
    calls = world.cloud.calls.paid
    jobs = Counter(key for job in world.cloud.jobs.values() if not job.gone for key in job.bought)
    known = times_again(world)
    for key, times in jobs.items():
        if times > 1 + len(world.rescued.get(key, ())) + max(known[key], given_up(world, key)):
            yield f"I2 bought {times} times by jobs: {key}"
    again = sum(len(paid) - 1 for paid in calls.values()) + len(calls.keys() & jobs.keys() - world.rescued.keys())
    lost = FAILOVER in world.scenes  # a call's answer that nobody had confirmed can be read nowhere
    if again > counts.get("interactive_in_doubt", 0) and not lost:
        yield f"I2 {again} calls bought again, {counts.get('interactive_in_doubt', 0)} counted as in doubt"


def _of_costs(world: SimulatedWorld, counts: dict[str, int]) -> Generator[str]:
    """The lanes' costs tell of what was answered, and of answers that came second and were paid for all the same.

    A crash or a lost reply may leave some of it out, or count it twice.
    """
    if world.faults.process.total or world.faults.store.total:
        return
    lanes = [fields for name, fields in world.server.memory.data.items() if name.startswith(_PREFIX + b"spent:")]
    spent = sum(int(fields.get(b"answers", 0)) for fields in lanes)
    paid = sum(len(job.bought) for job in world.cloud.jobs.values()) + sum(map(len, world.cloud.calls.paid.values()))
    if not counts.get("answered", 0) <= spent <= paid:
        yield f"I7 {counts.get('answered', 0)} answered, {paid} paid for, the lanes' costs tell of {spent}"


def _of_budget(world: SimulatedWorld) -> Generator[str]:
    for name, entries in world.server.memory.data.items():
        if name.startswith(_PREFIX + b"reserved:"):
            held = [batch.decode() for batch, entry in entries.items() if entry.split()[1] == b"0"]
            if held:
                yield f"I8 nothing is open, and quota is reserved for {held}"


def _of_files(world: SimulatedWorld) -> Generator[str]:
    """Where nobody died, and no call was lost or refused, no input file is left at the provider."""
    faults = world.faults
    disturbed = faults.process.total or faults.store.total or faults.provider.total or faults.replicas.total
    disturbed = disturbed or faults.counts["lies.accounts.mute"]
    if disturbed or {FAILOVER, POOL} & set(world.scenes) or world.settings.delete_files == DeleteFiles.NEVER:
        return
    results = {job.output for job in world.cloud.jobs.values()}
    for file in world.cloud.files.keys() - results:
        yield f"I11 nobody deletes {file}"


def _of_keys(world: SimulatedWorld) -> Generator[str]:
    client: Any = Client(Direct(world.server.memory))
    for key in _now(leftovers(client, "sim")):
        yield f"I9 left over: {key}"


def _now(work: Coroutine[Any, Any, list[str]]) -> list[str]:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as stop:
        found: list[str] = stop.value
        return found
    raise AssertionError("it waits")
