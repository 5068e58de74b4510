"""Every public name as a caller's code sees it: mypy and pyright read this file in ``make lint``, and nothing runs it.

A change of a public type makes a line of it wrong, so that nobody changes one unawares. ``tests/typing/test_api.py``
holds it to be complete.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, assert_never, assert_type

from gemqueue import (
    Answer,
    ConfigError,
    Failed,
    Failure,
    FailureKind,
    Future,
    GemqueueError,
    Kind,
    Look,
    NameConflict,
    Outcome,
    OutcomeError,
    OutcomeExpired,
    PromptCancelled,
    PromptFailed,
    PromptInvalid,
    PromptState,
    PromptTooLarge,
    Queue,
    QueueFull,
    Settings,
    Stopped,
    StoreError,
    StoreUnavailable,
    SubmitError,
    load_settings,
)
from gemqueue_adapters.emulator import Options, run, serve
from gemqueue_adapters.emulator.process import EmulatorProcess

MODEL = "gemini-3.8-flash"


async def connecting(settings: Settings) -> None:
    """A queue is entered or awaited, and takes settings as one or by name."""
    async with Queue.connect() as entered:
        assert_type(entered, Queue)
    awaited = await Queue.connect("redis://localhost", queue="q", emulate=True, settings=settings, linger_s=1.0)
    assert_type(awaited, Queue)
    async with awaited as again:
        assert_type(again, Queue)
    assert_type(awaited.settings, Settings)
    assert_type(awaited.account, str)
    assert_type(await awaited.counts(), dict[str, int])
    assert_type(await awaited.open(), None)
    assert_type(await awaited.aclose(), None)


async def single_prompts(queue: Queue) -> None:
    """One prompt is a future, or its answer at once."""
    submitted = await queue.submit(
        "contents",
        model=MODEL,
        config={"temperature": 0},
        kind=Kind.GENERATE,
        name="name",
        tag=object(),
        priority=1,
        tenant="tenant",
        deadline=60.0,
    )
    assert_type(submitted, Future)
    assert_type(await queue.submit([{"text": "contents"}], model=MODEL, kind="embed"), Future)
    assert_type(await queue.generate("contents", model=MODEL, deadline=timedelta(hours=1)), Answer)
    assert_type(await queue.embed("text", model=MODEL, deadline=datetime.now(UTC)), Answer)
    assert_type(await queue.embed(["text", "text"], model=MODEL), list[Answer])
    assert_type(await queue.embed(("text", "text"), model=MODEL, priority=1, tenant="tenant"), list[Answer])
    assert_type(queue.future("key"), Future)
    assert_type(await queue.lookup("name"), Future | None)
    assert_type(await queue.cancel("key"), Stopped)


async def many_prompts(queue: Queue, endless: AsyncIterator[str]) -> None:
    """Many prompts are outcomes: in the rows' order, or as they land."""
    rows: list[object] = ["contents", {"contents": "contents", "name": "name", "tag": 1, "deadline": None}]
    outcomes = await queue.map(rows, model=MODEL, kind=Kind.EMBED, config=None, config_mode="replace", deadline=1)
    assert_type(outcomes, list[Outcome])
    assert_type(outcomes, list[Answer | Failed])
    assert_type(await queue.map((text for text in ("a", "b")), model=MODEL, priority=1, tenant="t"), list[Outcome])
    stream = queue.stream(endless, model=MODEL, kind="generate", config={}, priority=1, tenant="t", config_mode="merge")
    assert_type(stream, AsyncGenerator[Outcome])
    async for outcome in stream:
        assert_type(outcome.key, str)
        assert_type(outcome.name, str | None)
        assert_type(outcome.tag, object)
        assert_type(outcome.failure, Failure | None)
        if outcome.ok is True:
            assert_type(outcome, Answer)
        else:
            assert_type(outcome, Failed)


async def wrong_calls(queue: Queue) -> None:
    """What a type checker refuses: mypy says so, too, when one of these is no error any more."""
    await queue.submit("contents")  # type: ignore[call-arg]
    await queue.submit("contents", MODEL)  # type: ignore[call-arg]
    await queue.generate("contents", model=MODEL, kind="embed")  # type: ignore[call-arg]
    await queue.map(1, model=MODEL)  # type: ignore[arg-type]
    await queue.submit("contents", model=MODEL, deadline="tomorrow")  # type: ignore[arg-type]
    await queue.stream(["contents"], model=MODEL)  # type: ignore[misc]


async def futures(future: Future) -> None:
    """A future is awaited for the answer, asked for the outcome, and looked at."""
    assert_type(await future, Answer)
    assert_type(await future.result(), Answer)
    assert_type(await future.result(timeout_s=1.0), Answer)
    assert_type(await future.outcome(timeout_s=None), Outcome)
    assert_type(future.done(), bool)
    assert_type(future.key, str)
    assert_type(future.name, str | None)
    assert_type(future.tag, object)
    assert_type(future.state, PromptState)
    assert_type(future.batch, str | None)
    assert_type(future.lane, str | None)
    assert_type(future.eta, datetime | None)
    assert_type(future.held_reason, str | None)
    assert_type(future.held_since, datetime | None)
    assert_type(await future.cancel(), Stopped)
    assert_type(await future.look(), Look)


def looks(look: Look) -> None:
    """What one look saw."""
    assert_type(look.state, PromptState)
    assert_type(look.lane, str | None)
    assert_type(look.batch, str | None)
    assert_type(look.held_reason, str | None)
    assert_type(look.held_since, datetime | None)
    assert_type(look.eta, datetime | None)
    assert_type(Look(state=PromptState.PENDING), Look)


def answers(answer: Answer) -> None:
    """An answer, raw and in its views."""
    assert_type(answer.ok, Literal[True])
    assert_type(answer.failure, None)
    assert_type(answer.key, str)
    assert_type(answer.raw, bytes)
    assert_type(answer.name, str | None)
    assert_type(answer.tag, object)
    assert_type(answer.emulated, bool)
    assert_type(answer.service, str)
    assert_type(answer.decoded, dict[str, object])
    assert_type(answer.json(), dict[str, object])
    assert_type(answer.original, bytes)
    assert_type(answer.candidates, list[dict[str, object]])
    assert_type(answer.parts, list[dict[str, object]])
    assert_type(answer.text, str)
    assert_type(answer.thoughts, str)
    assert_type(answer.images, list[tuple[str, bytes]])
    assert_type(answer.function_calls, list[dict[str, object]])
    assert_type(answer.finish_reason, str)
    assert_type(answer.truncated, bool)
    assert_type(answer.usage_metadata, dict[str, object])
    assert_type(answer.model_version, str)
    assert_type(answer.values, list[float])
    assert_type(answer.parsed, object)
    assert_type(Answer("key", b"{}", "name", None, emulated=False, service="batch"), Answer)


def failures(failed: Failed, failure: Failure) -> None:
    """A failure, as ``map`` returns it and as it is told."""
    assert_type(failed.ok, Literal[False])
    assert_type(failed.key, str)
    assert_type(failed.name, str | None)
    assert_type(failed.tag, object)
    assert_type(failed.failure, Failure)
    assert_type(failed.error, GemqueueError)
    assert_type(Failed(failure, "name", object()), Failed)
    assert_type(failure.key, str)
    assert_type(failure.kind, FailureKind)
    assert_type(failure.message, str)
    assert_type(failure.code, int)
    assert_type(failure.attempts, int)
    assert_type(failure.name, str | None)
    assert_type(failure.raw, bytes)
    assert_type(failure.response, dict[str, object])
    assert_type(failure.usage, dict[str, object])
    assert_type(Failure(key="key", kind=FailureKind.EMPTY), Failure)


def errors(conflict: NameConflict, outcome: OutcomeError, failed: PromptFailed) -> None:
    """The tree of errors, and what some of them carry."""
    refused: list[SubmitError] = [conflict, PromptInvalid(), PromptTooLarge(), QueueFull()]
    ended: list[OutcomeError] = [failed, PromptCancelled("message"), OutcomeExpired("message", key="key", name=None)]
    stored: list[StoreError] = [StoreUnavailable()]
    every: list[GemqueueError] = [ConfigError(), outcome, *refused, *ended, *stored]
    assert_type(every, list[GemqueueError])
    assert_type(conflict.name, str)
    assert_type(conflict.key, str)
    assert_type(outcome.key, str)
    assert_type(outcome.name, str | None)
    assert_type(failed.failure, Failure)


def kinds(kind: Kind, failure: FailureKind) -> str:
    """The words of an enum are these and no others."""
    match kind:
        case Kind.GENERATE | Kind.EMBED:
            pass
        case _:
            assert_never(kind)
    match failure:
        case FailureKind.BLOCKED | FailureKind.EMPTY | FailureKind.INVALID | FailureKind.PROVIDER:
            return failure.value
        case FailureKind.MISSING | FailureKind.EXPIRED | FailureKind.CANCELLED | FailureKind.LOST:
            return failure
        case FailureKind.REFUSED | FailureKind.DOUBT:
            return failure
        case _:
            assert_never(failure)


def places(state: PromptState, stopped: Stopped) -> str:
    """The words of an enum are these and no others."""
    match state:
        case PromptState.UNKNOWN | PromptState.BUFFERED | PromptState.PENDING | PromptState.PACKING:
            pass
        case PromptState.SEALED | PromptState.SUBMITTING | PromptState.SUBMITTED | PromptState.ENDED:
            pass
        case PromptState.MOVED | PromptState.SETTLED:
            pass
        case _:
            assert_never(state)
    match stopped:
        case Stopped.PENDING | Stopped.PACKING | Stopped.SEALED | Stopped.SUBMITTING | Stopped.SUBMITTED:
            return stopped.value
        case Stopped.ENDED | Stopped.CLOSING | Stopped.CLOSED | Stopped.TOO_LATE:
            return stopped
        case _:
            assert_never(stopped)


def settings() -> None:
    """Every setting has its type, and is given by name."""
    assert_type(load_settings(Path("gemqueue.toml"), {"GEMQUEUE_QUEUE": "q"}, linger_s=1.0, queue=None), Settings)
    s = Settings(queue="q", linger_s=1.0)
    for str_setting in (
        s.queue,
        s.redis_url,
        s.data_dir,
        s.durability,
        s.retry_rows,
        s.account,
        s.pool,
        s.base_url,
        s.api_version,
        s.schema_dialect,
        s.tier,
        s.slow_policy,
        s.seal_wrapper,
        s.tenant_weights,
        s.delete_files,
        s.webhook_url,
        s.webhook_jwks_url,
        s.deadline_policy,
    ):
        assert_type(str_setting, str)
    for bool_setting in (
        s.embedded,
        s.seal,
        s.emulate,
        s.delete_jobs,
        s.log_json,
    ):
        assert_type(bool_setting, bool)
    for float_setting in (
        s.replicate_s,
        s.call_timeout_s,
        s.create_timeout_s,
        s.flush_ms,
        s.submit_timeout_s,
        s.watchdog_s,
        s.server_gone_s,
        s.inbox_keep_s,
        s.keep_delivered_s,
        s.keep_outcome_s,
        s.linger_s,
        s.lease_s,
        s.settle_s,
        s.skew_s,
        s.backoff_first_s,
        s.backoff_max_s,
        s.quota_backoff_s,
        s.quota_cool_s,
        s.poll_first_s,
        s.poll_max_s,
        s.cancel_settle_s,
        s.belief_s,
        s.slow_after_s,
        s.retry_first_s,
        s.retry_max_s,
        s.webhook_tolerance_s,
        s.webhook_read_s,
        s.deadline_margin_s,
        s.flex_lead_s,
        s.standard_lead_s,
        s.interactive_timeout_s,
        s.sweep_s,
        s.drain_s,
        s.heartbeat_s,
    ):
        assert_type(float_setting, float)
    for int_setting in (
        s.prompt_bytes_max,
        s.segment_prompts_max,
        s.segment_bytes_max,
        s.flushes_max,
        s.buffer_bytes_max,
        s.memory_bytes_max,
        s.dead_bytes_max,
        s.window_prompts_max,
        s.batch_prompts_max,
        s.batch_bytes_max,
        s.batch_tokens_max,
        s.first_prompts_max,
        s.first_batches_max,
        s.refusals_max,
        s.open_jobs_max,
        s.model_jobs_max,
        s.enqueued_tokens_max,
        s.stored_bytes_max,
        s.attempts_max,
        s.requeues_max,
        s.resolve_buffer_bytes_max,
        s.webhook_bytes_max,
        s.serve_connections_max,
        s.interactive_prompts_max,
        s.interactive_calls_max,
        s.interactive_per_min_max,
        s.steps_max,
        s.crashes_max,
    ):
        assert_type(int_setting, int)


async def emulators(emulator: EmulatorProcess) -> None:
    """What the fixture ``gemini_emulator`` hands out, and an emulator in one's own process."""
    assert_type(emulator.url, str)
    assert_type(emulator.key, str)
    assert_type(emulator.pid, int)
    assert_type(emulator.data, Path)
    assert_type(emulator.advance(1.0), None)
    assert_type(emulator.now_ms(), int)
    assert_type(emulator.faults([{"at": "create"}]), None)
    assert_type(emulator.fault_hits(), list[int])
    assert_type(emulator.lies([{"route": "get", "kind": "back"}]), None)
    assert_type(emulator.lies_told(), list[int])
    assert_type(emulator.ledger(), dict[str, Any])
    assert_type(emulator.bought(), dict[str, list[str]])
    assert_type(emulator.rows("key"), list[dict[str, str]])
    assert_type(emulator.requests(), list[dict[str, Any]])
    assert_type(emulator.deliveries(), list[dict[str, Any]])
    assert_type(emulator.expect(MODEL, {}, kind="embed"), Any)
    assert_type(emulator.get("clock"), Any)
    assert_type(emulator.post("clock", {}), Any)
    assert_type(emulator.reset(), None)
    assert_type(emulator.start(), EmulatorProcess)
    assert_type(emulator.kill(), int)
    assert_type(emulator.stop(), int)
    with EmulatorProcess(Path("data"), env={}, job_s=0) as started:
        assert_type(started, EmulatorProcess)
    options = Options(port=0, tier="1", answers="echo", reroute=("asked=answering",), lies=("route=get kind=back",))
    assert_type(options.answering(MODEL), str)
    assert_type(await serve(options, stop=None), None)
    assert_type(run(options), None)
