"""``gemqueue admin reconcile``: what is open at the provider, held against what we know of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from gemqueue.accounts import api_key_from_env, pool_id
from gemqueue.clock import clock_from_env
from gemqueue.policy.reconciling import Standing
from gemqueue_workers.screen import counted, plain
from gemqueue_workers.settings import make_provider
from gemqueue_workers.stages.loop import Kit
from gemqueue_workers.worker.reconciler import Finding, Reconciler
from gemqueue_workers.worker.recovery import LOOK_BACK_S, resume, since_ms

if TYPE_CHECKING:
    from rich.console import Console

    from gemqueue.store.operations import Stray
    from gemqueue_workers.run.connection import Link

SCHEMA: Final = 1
_KEPT_SHOWN_MAX: Final = 20
COUNTS: Final = ("created", "adopted", "rebuilt", "quarantined", "bought_twice", "lost_answers", "unknown_jobs")

_WORDS: Final = {
    Standing.KNOWN: "its batch has it",
    Standing.WAITING: "its batch waits for it: --apply adopts it",
    Standing.LOST: "the record of its batch is lost: --apply makes it again from the results",
    Standing.RUNNING: "the record of its batch is lost: which prompts it holds shows when it ends",
    Standing.TWICE: "its batch has another job: bought twice",
    Standing.ORPHANED: "nobody here waits for what it holds",
    Standing.OVER: "over, nothing to do",
}


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """So many rows of a batch's results that belong to nobody, for one reason, among the newest thousand kept."""

    batch: str
    reason: str
    rows: int


class Report(msgspec.Struct, kw_only=True):
    """One comparison. ``held_reason`` says why packing and submitting wait, or is empty."""

    schema: int = SCHEMA
    account: str
    applied: bool
    jobs: list[Finding]
    foreign_jobs: int
    batches_without_job: list[str]
    stray_files: list[str]
    held_reason: str
    counts: dict[str, int]
    quarantined: list[Kept] = []


async def reconcile(link: Link, *, apply: bool, orphans: bool, go_on: bool, since_s: float = LOOK_BACK_S) -> Report:
    """Compare, and do what is allowed. Raises GemqueueError."""
    store = link.store
    provider = make_provider(store.settings, api_key_from_env())
    kit = Kit(
        store=store, provider=provider, settings=store.settings, clock=clock_from_env(), pool=pool_id(store.settings)
    )
    try:
        server = await store.server(provider.account)
        reconciler = Reconciler(kit, server.home, apply=apply)
        now_ms = await store.server_now_ms()
        survey_from_ms = now_ms - int(since_s * 1000)
        survey = await reconciler.survey(
            min(survey_from_ms, since_ms(server, kit)) if server.noticed else survey_from_ms
        )
        survey.stray_files = await reconciler.stray_files()
        if orphans:
            await reconciler.clean_up(survey)
        settled = now_ms >= server.noticed_at + store.settings.settle_s * 1000
        if server.noticed and (go_on or (apply and settled)):
            survey_now = msgspec.structs.replace(survey, findings=[]) if go_on else survey
            await resume(kit, server, survey_now)
        counts = await store.counts()
        return Report(
            account=provider.account,
            applied=apply,
            jobs=survey.findings,
            foreign_jobs=survey.foreign,
            batches_without_job=survey.missing,
            stray_files=survey.stray_files,
            held_reason=(await store.server(provider.account)).held_reason,
            counts={name: counts.get(name, 0) for name in COUNTS},
            quarantined=_kept(await store.quarantined()),
        )
    finally:
        await provider.aclose()


def _kept(strays: list[Stray]) -> list[Kept]:
    rows = Counter((stray.batch, stray.reason) for stray in strays)
    return [Kept(batch=batch, reason=reason, rows=n) for (batch, reason), n in rows.items()]


def show_report(console: Console, report: Report) -> None:
    """Print it for a person."""
    jobs = [finding for finding in report.jobs if finding.standing is not Standing.OVER]
    if jobs:
        table = Table("job", "state", "batch", "rows", "what it is", title_justify="left", box=box.SIMPLE_HEAD)
        for finding in jobs:
            what = finding.done or _WORDS[finding.standing]
            cells = (finding.job, finding.state, finding.batch, f"{finding.rows:,}", what)
            table.add_row(*map(plain, cells))
        console.print(table)
    over = len(report.jobs) - len(jobs)
    ours = counted(len(report.jobs), "job is", "jobs are")
    console.print(f"{ours} ours, {over:,} of them over; {report.foreign_jobs:,} are not ours")
    for batch in report.batches_without_job:
        console.print(Text(f"The provider does not know the job of batch {batch}", "yellow"))
    if report.stray_files:
        console.print(f"{len(report.stray_files):,} input files that nobody needs: --orphans deletes them")
    for kept in report.quarantined[:_KEPT_SHOWN_MAX]:
        rows = counted(kept.rows, "row", "rows")
        console.print(plain(f"Quarantined: {rows} of batch {kept.batch}, {kept.reason}: `gemqueue show {kept.batch}`"))
    console.print("Counted: " + ", ".join(f"{name} {n:,}" for name, n in report.counts.items()))
    if report.held_reason:
        console.print(Text(f"Packing and submitting are held: {report.held_reason}", "yellow"))
    if not report.applied:
        console.print("Nothing was changed: this was a look (--apply adopts and rebuilds)")
