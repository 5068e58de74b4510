"""The tables of ``gemqueue status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich import box
from rich.table import Table
from rich.text import Text

from gemqueue_workers.screen import duration, held, plain

if TYPE_CHECKING:
    from gemqueue_workers.manage.status_records import BatchStatus, LaneStatus

_BATCHES_SHOWN_MAX: Final = 40


def lanes_table(lanes: list[LaneStatus]) -> Table:
    """What waits to be packed, by lane."""
    table = _table("Waiting to be packed", "lane", "prompts", "oldest", held=any(lane.held_reason for lane in lanes))
    for lane in lanes:
        oldest = duration(lane.oldest_age_s) if lane.oldest_age_s is not None else ""
        cells = [
            plain(lane.lane),
            Text(f"{lane.pending:,}"),
            Text(oldest),
            plain(held(lane.held_reason, lane.held_age_s)),
        ]
        table.add_row(*cells[: len(table.columns)])
    return table


def turnaround_table(lanes: list[LaneStatus]) -> Table:
    """How long jobs take, by lane and size."""
    table = _table("How long jobs take", "lane", "prompts", "jobs", "half", "9 of 10", "99 of 100", held=False)
    for lane in lanes:
        for one in lane.turnaround:
            times = [duration(seconds) for seconds in (one.p50_s, one.p90_s, one.p99_s)]
            table.add_row(plain(lane.lane), one.prompts, f"{one.jobs:,}", *times)
    return table


def costs_table(lanes: list[LaneStatus]) -> Table:
    """What each lane cost and saved."""
    table = _table("Cost by lane, by the price list", "lane", "answers", "USD", "saved USD", held=False)
    for lane in lanes:
        money = ["no price" if usd is None else f"{usd:,.4f}" for usd in (lane.cost.usd, lane.cost.saved_usd)]
        table.add_row(plain(lane.lane), f"{lane.cost.answers:,}", *money)
    return table


def batches_table(batches: list[BatchStatus]) -> Table:
    """The open batches, the oldest of many."""
    shown = batches[:_BATCHES_SHOWN_MAX]
    title = "Open batches" if shown == batches else f"Open batches, the oldest {len(shown)} of {len(batches):,}"
    table = _table(title, "batch", "settled", "age", "state", "job", held=any(batch.held_reason for batch in shown))
    for batch in shown:
        done = f"{batch.settled:,} / {batch.prompts:,}"
        cells = [Text(batch.id), Text(done), Text(duration(batch.age_s)), Text(_progress(batch)), plain(batch.job)]
        table.add_row(*[*cells, plain(held(batch.held_reason, batch.held_age_s))][: len(table.columns)])
    return table


def _progress(batch: BatchStatus) -> str:
    left = f", about {duration(batch.eta_s)} left" if batch.eta_s is not None else ""
    return f"{batch.state}{', slow' if batch.slow else ''}{left}"


def _table(title: str, first: str, *columns: str, held: bool) -> Table:
    """A table whose second and third columns are numbers, with a last one for what is held up."""
    table = Table(first, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number < 2 else "left")
    if held:
        table.add_column("held", style="yellow")
    return table
