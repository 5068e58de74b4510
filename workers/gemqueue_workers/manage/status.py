"""``gemqueue status``: what waits, what is under way, who works, and what has been counted so far.

A status is a look, not a snapshot: it is read in several calls while the queue goes on, so its sums need not agree.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from rich.text import Text

from gemqueue.config import load_settings
from gemqueue.policy.believed import batch_waits
from gemqueue.policy.holds import hold_of, waits_for
from gemqueue.policy.job_names import batch_of
from gemqueue.policy.tenants import why_lane_waits
from gemqueue.policy.workers import why_nobody
from gemqueue.records import Hold, Lane
from gemqueue.states import STEP_OF, BatchState, Step
from gemqueue_workers.manage.health import worker_status
from gemqueue_workers.manage.link import looked_at
from gemqueue_workers.manage.status_records import BatchStatus, LaneStatus, Status, Turnaround, UnknownJob
from gemqueue_workers.manage.status_tables import batches_table, costs_table, lanes_table, turnaround_table
from gemqueue_workers.manage.working import workers_table
from gemqueue_workers.model_notes import of_answers, of_model, rerouted_of, versions_of
from gemqueue_workers.prices import cost_of
from gemqueue_workers.screen import left_out, plain, since
from gemqueue_workers.stages.contents import BatchContents

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

    from gemqueue.config import Settings
    from gemqueue.language.gemini.usage import Charge, Spent
    from gemqueue.policy.tenants import Over
    from gemqueue.records import Batch, LaneState
    from gemqueue.store.store import Store


_UNKNOWN_SHOWN_MAX: Final = 5
_PERCENTILES: Final = ("p50", "p90", "p99")
COUNTS: Final = (
    "accepted", "answered", "failed", "cancelled", "requeued", "returned", "created", "adopted", "fenced",
    "quarantined", "bought_twice", "lost_answers", "lost_prompts", "diverted",
    "rescued", "late", "interactive_in_doubt",
    "account_refused", "inputs_missed", "rerouted", "spend_refused",
    "unknown_jobs", "bought_again", "concluded_by_age", "clock_back",
)  # fmt: skip
"""These are in every status, 0 where nothing was counted."""
INPUT_NEEDED: Final = (
    'a job failed because its input file was deleted; files are kept to the end: delete_files = "ended"'
)


async def status(*, emulate: bool | None = None) -> Status:
    """The status of the queue that the environment names. Raises GemqueueError."""
    return await read_status(load_settings(emulate=emulate))


async def read_status(settings: Settings) -> Status:
    """The queue's status. Without a URL: that of the embedded server, empty where its data folder was never used.

    Raises StoreUnavailable.
    """
    async with looked_at(settings) as store:
        if store is None:
            return Status(queue=settings.queue, counts=dict.fromkeys(COUNTS, 0))
        return await _read(store)


async def _read(store: Store) -> Status:
    settings = store.settings
    workers = await store.workers()
    now_ms = await store.server_now_ms()
    batches = [batch for batch in await store.open_records() if batch.state is not BatchState.CLOSED]
    nobody = partial(why_nobody, workers, settings=settings)
    lanes = await store.lanes()
    places = {(one.lane, "") for one in lanes} | {(one.lane, one.pool) for one in batches}
    served = {account for worker in workers for account in worker.accounts}
    accounts = sorted(served.union(*(waits_for(*place) for place in places)))
    paused = await store.pauses(accounts)
    overs = await store.passed_over(lane.lane for lane in lanes)
    return Status(
        queue=settings.queue,
        lanes=[
            _lane(
                lane,
                _why(lane, batches, paused, overs.get(lane.lane, []), nobody(lane.lane.account, Step.PACK)),
                now_ms,
                await store.charges(lane.lane),
                sum(over.prompts for over in overs.get(lane.lane, ())),
                turnaround=await _turnaround(store, lane.lane),
            )
            for lane in lanes
        ],
        batches=[
            await _batch(store, batch, now_ms, paused, nobody(batch.lane.account, STEP_OF[batch.state] or Step.PACK))
            for batch in batches
        ],
        workers=len(workers),
        working=[worker_status(worker, now_ms, settings) for worker in workers],
        counts=dict.fromkeys(COUNTS, 0) | await store.counts(),
        input_needed=list(await store.input_needed(accounts)),
        unknown_jobs=await read_unknown(store, accounts, now_ms),
        paused={account: hold.text for account, hold in paused.items() if hold.text},
        unreadable=dict(store.unreadable.found),  # the last: what all else has met
    )


def _why(lane: LaneState, batches: list[Batch], paused: dict[str, Hold], overs: list[Over], nobody: str) -> Hold:
    if nobody and (lane.prompts or overs):
        return Hold(text=nobody)
    pause = paused[lane.lane.account]
    of_batches = (hold_of(one.held_cause, one.held_reason, one.held_since) for one in batches if one.lane == lane.lane)
    own = hold_of("", lane.held_reason, 0) if lane.prompts and lane.held_reason else why_lane_waits(overs)
    return pause if pause.text else next((hold for hold in of_batches if hold.text), own)


def _lane(
    lane: LaneState, held: Hold, now_ms: int, spent: dict[Charge, Spent], over: int, *, turnaround: list[Turnaround]
) -> LaneStatus:
    named = lane.lane
    versions = versions_of(spent)
    return LaneStatus(
        lane=str(lane.lane),
        pending=lane.prompts + over,
        oldest_age_s=_age_s(lane.oldest, now_ms) if lane.oldest else None,
        held_reason=held.text,
        held_cause=held.cause,
        held_age_s=_age_s(held.since_ms, now_ms) if held.text and held.since_ms else None,
        cost=cost_of(named.model, spent, named.service),
        turnaround=turnaround,
        answered_by=versions,
        rerouted=rerouted_of(named.model, versions),
        warnings=[*of_model(named.model), *of_answers(named.model, versions)],
    )


async def read_unknown(store: Store, accounts: Iterable[str], now_ms: int) -> list[UnknownJob]:
    """The accounts' jobs that are counted as unknown, the first first."""
    return [
        UnknownJob(
            job=one.job,
            account=account,
            batch=batch_of(one.token),
            state=one.state,
            age_s=_age_s(one.first_at, now_ms),
        )
        for account in accounts
        for one in await store.unknown_jobs(account)
        if one.counted
    ]


async def _turnaround(store: Store, lane: Lane) -> list[Turnaround]:
    known = {} if lane.interactive else await store.turnarounds(lane.account, lane.model)
    return [
        Turnaround(prompts=prompts, jobs=one.jobs, **{f"{p}_s": round(getattr(one, f"{p}_s"), 1) for p in _PERCENTILES})
        for prompts, one in known.items()
    ]


async def _batch(store: Store, batch: Batch, now_ms: int, paused: dict[str, Hold], nobody: str) -> BatchStatus:
    contents = await BatchContents.load(store, batch.id)
    held = batch_waits(batch, paused, store.settings)
    held = held if held.text else Hold(text=nobody)
    return BatchStatus(
        id=batch.id,
        lane=str(batch.lane),
        state=str(batch.state),
        job=batch.job,
        prompts=batch.prompts,
        settled=max(0, batch.prompts - contents.open_prompts()),
        age_s=_age_s(batch.created_at, now_ms),
        held_reason=held.text,
        slow=batch.slow_at > 0,
        eta_s=await _eta_s(store, batch, now_ms),
        held_age_s=_age_s(held.since_ms, now_ms) if held.text and held.since_ms else None,
    )


async def _eta_s(store: Store, batch: Batch, now_ms: int) -> float | None:
    if batch.state is not BatchState.SUBMITTED:
        return None
    lane = batch.lane
    known = await store.turnaround(lane.account, lane.model, batch.prompts)
    return known.remaining_s(_age_s(batch.intent_at, now_ms)) if known is not None else None


def _age_s(since_ms: int, now_ms: int) -> float:
    return max(0, now_ms - since_ms) / 1000


def show_status(console: Console, status: Status) -> None:
    """Print it for a person."""
    counts = status.counts
    ended = counts["answered"] + counts["failed"] + counts["cancelled"]
    console.print(
        f"Queue [bold]{status.queue}[/]: {counts['accepted']:,} prompts accepted, {counts['answered']:,} answered, "
        f"{counts['failed']:,} failed, {max(0, counts['accepted'] - ended):,} under way; {_workers(status.workers)}"
    )
    for account, why in status.paused.items():
        console.print(Text.assemble(("Held: ", "bold red"), plain(f"{account}: {why}")), soft_wrap=True)
    lanes = waiting(status)
    if lanes:
        console.print(lanes_table(lanes))
    if (table := workers_table(status.working)) is not None:
        console.print(table)
    dear = [lane for lane in status.lanes if lane.cost.answers and Lane.parse(lane.lane).interactive]
    if dear:
        console.print(costs_table([lane for lane in status.lanes if lane.cost.answers]))
    if status.batches:
        console.print(batches_table(status.batches))
        known = [lane for lane in status.lanes if lane.turnaround]
        if known:
            console.print(turnaround_table(known))
    rest = ", ".join(f"{name} {n:,}" for name in COUNTS[3:] if (n := counts[name]))
    if rest:
        console.print(Text(f"Counted: {rest}"))
    for warning in _warnings(status):
        console.print(warning, soft_wrap=True)
    if counts["bought_twice"]:
        console.print("[bold red]Prompts were bought twice: this is a defect, please report it.[/]")


def _warnings(status: Status) -> Iterator[Text]:
    """What somebody should see to, most of it of the provider and of records."""
    said = [warning for lane in status.lanes for warning in lane.warnings]
    for warning in [*dict.fromkeys(said), *left_out(status.unreadable)]:
        yield Text.assemble(("Warning: ", "yellow"), plain(warning))
    for account in status.input_needed:
        yield Text(f"{account}: {INPUT_NEEDED}", style="yellow")
    for job in status.unknown_jobs[:_UNKNOWN_SHOWN_MAX]:
        yield Text(f"Warning: {unknown_words(job)}", style="yellow")


def unknown_words(job: UnknownJob) -> str:
    """What an unknown job is, and the way out."""
    return (
        f"job {job.job} ({job.state}) of batch {job.batch} is unknown to every record {since(job.age_s)}: "
        "it is paid for, and nobody here may be waiting for it (gemqueue admin reconcile)"
    )


def waiting(status: Status) -> list[LaneStatus]:
    """The lanes in which prompts wait, and those that are held up for a reason that no open batch shows."""
    shown = {(batch.lane, batch.held_reason) for batch in status.batches}
    return [
        one for one in status.lanes if one.pending or (one.held_reason and (one.lane, one.held_reason) not in shown)
    ]


def _workers(n: int) -> str:
    return f"{n} worker{'' if n == 1 else 's'}" if n else "[yellow]no worker runs[/] (start one: gemqueue work)"
