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
from gemqueue.policy.job_names import checked_home
from gemqueue.policy.reconciling import Standing
from gemqueue_workers.run.orphans import Orphan, orphan_words, read_orphans
from gemqueue_workers.screen import counted, plain
from gemqueue_workers.settings import make_provider
from gemqueue_workers.stages.loop import Kit
from gemqueue_workers.worker.reconciler import Finding, Reconciler
from gemqueue_workers.worker.recovery import LOOK_BACK_S, resume, since_ms

if TYPE_CHECKING:
    from rich.console import Console

    from gemqueue.store.operations import Server, Stray
    from gemqueue_workers.run.connection import Link
    from gemqueue_workers.worker.reconciler import Survey

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
    """One comparison. ``held_reason`` says why packing and submitting wait, or is empty.

    ``home`` is whose jobs were compared, not this server's where it is an ``other_home``; ``homes`` how many jobs of
    the account are named for other ones. ``orphans`` are the jobs that nobody here waits for.
    """

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
    home: str = ""
    other_home: bool = False
    homes: dict[str, int] = {}
    orphans: list[Orphan] = []


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asks for: see the command's options. ``home`` is another one than this server's, or empty."""

    apply: bool = False
    orphans: bool = False
    go_on: bool = False
    since_s: float = LOOK_BACK_S
    home: str = ""
    answers: str = ""


async def reconcile(link: Link, wish: Wish) -> Report:
    """Compare, and do what is allowed. Raises GemqueueError."""
    store = link.store
    provider = make_provider(store.settings, api_key_from_env())
    kit = Kit(
        store=store, provider=provider, settings=store.settings, clock=clock_from_env(), pool=pool_id(store.settings)
    )
    try:
        server = await store.server(provider.account)
        home = checked_home(wish.home) if wish.home else server.home
        reconciler = Reconciler(kit, home, apply=wish.apply)
        now_ms = await store.server_now_ms()
        since = now_ms - int(wish.since_s * 1000)
        survey = await reconciler.survey(min(since, since_ms(server, kit)) if server.noticed else since)
        survey.stray_files = await reconciler.stray_files()
        asked = home != server.home or wish.answers
        orphans = await read_orphans(provider, survey.findings, wish.answers) if asked else []
        if wish.orphans:
            await reconciler.clean_up(survey)
        await _end_pause(kit, server, survey, wish)
        counts = await store.counts()
        return Report(
            account=provider.account,
            applied=wish.apply,
            jobs=survey.findings,
            foreign_jobs=survey.foreign,
            batches_without_job=survey.missing,
            stray_files=survey.stray_files,
            held_reason=(await store.pause(provider.account)).text,
            counts={name: counts.get(name, 0) for name in COUNTS},
            quarantined=_kept(await store.quarantined()),
            home=home,
            other_home=home != server.home,
            homes=survey.homes,
            orphans=orphans,
        )
    finally:
        await provider.aclose()


async def _end_pause(kit: Kit, server: Server, survey: Survey, wish: Wish) -> None:
    """End what holds packing and submitting, where the comparison leaves no question open, or a person says so."""
    account, settle_ms = kit.provider.account, kit.settings.settle_s * 1000
    now_ms = await kit.store.server_now_ms()
    if wish.home and wish.home != server.home:
        settled = now_ms >= server.forgot_at + settle_ms
        if wish.go_on or (wish.apply and settled and not survey.open_questions()):
            await kit.store.rehome(account, wish.home)
    elif server.noticed and (wish.go_on or (wish.apply and now_ms >= server.noticed_at + settle_ms)):
        survey_now = msgspec.structs.replace(survey, findings=[]) if wish.go_on else survey
        await resume(kit, server, survey_now)


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
    whose = f"of home {report.home}" if report.other_home else "ours"
    console.print(f"{ours} {whose}, {over:,} of them over; {report.foreign_jobs:,} are not {whose}")
    for home, n in report.homes.items():
        those = counted(n, "job is", "jobs are")
        console.print(plain(f"{those} of home {home}, another queue's or this one's before it was lost: --home {home}"))
    for words in orphan_words(report.orphans):
        console.print(plain(words))
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
