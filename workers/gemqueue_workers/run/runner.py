"""One run from its start, or from where it stopped, to its end or the next stop.

In order: OUT is locked and read; the run is taken over in the store, which fences off whoever had it; what it has
bought is read from its list; IN is read once to plan, and refused before anything is bought; OUT.gemqueue notes that it
begins, and on which store; then IN is read again and bought, while outcomes are written as they land. Every one of
these may be interrupted anywhere and is made again.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import msgspec

from gemqueue.accounts import api_key_from_env, lane_account
from gemqueue.errors import ConfigError, SubmitError
from gemqueue.language.gemini.configs import ConfigMode
from gemqueue.store.runs import RunEntry, RunRecord, pack_entry, unpack_entry
from gemqueue_workers.model_notes import of_model
from gemqueue_workers.run.collecting import Collector
from gemqueue_workers.run.connection import connected
from gemqueue_workers.run.differences import Differences
from gemqueue_workers.run.index import VERSION, Index
from gemqueue_workers.run.options import deadline_at_now
from gemqueue_workers.run.planning import BEGUN, survey
from gemqueue_workers.run.progress import Outcome
from gemqueue_workers.run.source.reading import read_rows
from gemqueue_workers.run.source.rows import BadLine
from gemqueue_workers.run.stores import known_by, note_in, noted_in, way_out
from gemqueue_workers.run.submitting import RowEncoder, Submitter
from gemqueue_workers.run.writing import OutFile, Tally, is_plain, note_written, sort_by_input
from gemqueue_workers.screen import counted

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from gemqueue.config import Settings
    from gemqueue_workers.run.connection import Link
    from gemqueue_workers.run.options import RunOptions
    from gemqueue_workers.run.planning import Plan
    from gemqueue_workers.run.progress import Progress

_ENTRIES_A_LOOK: Final = 32
_ROWS_A_BREATH: Final = 1000


class Place:
    """The files of a run, open and locked."""

    def __init__(self, options: RunOptions, account: str, stack: ExitStack) -> None:
        self.answers = OutFile(options.out)
        stack.callback(self.answers.close)
        self.failures = self.answers
        if options.failed:
            self.failures = OutFile(options.failed)
            stack.callback(self.failures.close)
        self.index = Index(index_path(options))
        stack.callback(self.index.close)
        self._ours = {
            "version": str(VERSION),
            "run": options.name,
            "account": account,
            "settings": options.settings(),
        }
        self.config_mode = options.config_mode
        self._check(options)
        stack.callback(self._leave_nothing, options)
        self.tally = Tally()
        for file in {self.answers, self.failures}:
            note_written(file, self.index, self.tally)

    def _check(self, options: RunOptions) -> None:
        """OUT belongs to one run of one account. Raises ConfigError when that is another one."""
        bound = self.bound = bool(self.index.get("run"))
        if not bound and not self.answers.empty and not self.answers.stdout:
            raise ConfigError(
                f"{options.out} is there and is no run's output ({options.out}.gemqueue is not): "
                "choose another -o, or move it away"
            )
        theirs = {name: self.index.get(name) for name in self._ours}
        for name in ("version", "account", "settings", "run") if bound else ():
            if theirs[name] != self._ours[name]:
                raise ConfigError(_other_run(options.out, name, self._ours, theirs))
        if bound:
            begun = self.index.get("config_mode") or ConfigMode.REPLACE  # 0.2.0 knew one and wrote none
            if self.config_mode not in {"", begun}:
                raise ConfigError(
                    f"{options.out} was begun with --config-mode {begun}, and now it is {self.config_mode}: "
                    "leave it out to go on, or choose another -o"
                )
            self.config_mode = begun

    def bind(self, config_mode: str) -> None:
        """From now on OUT is this run's, which began with this mode."""
        for name, value in (self._ours | {"config_mode": config_mode}).items():
            self.index.set(name, value)

    def _leave_nothing(self, options: RunOptions) -> None:
        """A run that was refused before it began leaves no files behind."""
        path = index_path(options)
        if path is not None and not self.index.get("run"):
            path.unlink(missing_ok=True)
            if self.answers.empty:
                self.answers.remove()


def index_path(options: RunOptions) -> Path | None:
    """The index of OUT; None where OUT is a pipe or a device."""
    return Path(f"{options.out}.gemqueue") if is_plain(options.out) else None


def _other_run(out: str, field: str, ours: dict[str, str], theirs: dict[str, str]) -> str:
    way_out = "choose another -o, or repeat the command that it came from"
    if field == "account":
        (host, _, own), (here, _, _) = theirs[field].rpartition("."), ours[field].rpartition(".")
        if host == here != "emulated":
            way_out += f"; another key of the same project goes on with GEMQUEUE_ACCOUNT={own}"
        return f"{out} belongs to the account {theirs[field]}, and this is {ours[field]}: {way_out}"
    if field == "settings":
        old, new = msgspec.json.decode(theirs[field]), msgspec.json.decode(ours[field])
        name = next(name for name in {**old, **new} if old.get(name) != new.get(name))
        return f"{out} was begun with {name} = {old.get(name)!r}, and now it is {new.get(name)!r}: {way_out}"
    return f"{out} belongs to the {field} {theirs[field]!r}, and this is {ours[field]!r}: {way_out}"


class Runner:
    """See the module's text."""

    def __init__(
        self,
        options: RunOptions,
        settings: Settings,
        on_bad: Callable[[BadLine], None],
        *,
        source: str = "",
        buy_again: bool = False,
    ) -> None:
        self.options = options
        self.settings = settings
        self._buy_again = buy_again
        self._source = source or options.source
        self._on_bad = on_bad
        self.account = lane_account(settings, api_key_from_env())
        self.encoder = RowEncoder(options, settings)
        warnings = of_model(self.encoder.model, config=options.config)
        self.report = Outcome(
            run=options.name,
            model=self.encoder.model,
            emulated=settings.emulate,
            out=options.out,
            warnings=warnings,
        )

    async def run(self, progress: Progress) -> Outcome:
        """Do it. Raises GemqueueError; when it is cancelled, what has landed is in OUT."""
        started = time.monotonic()
        with ExitStack() as stack:
            place = Place(self.options, self.account, stack)
            try:
                async with connected(self.settings, with_worker=True) as link:
                    await self._run(link, place, progress)
            finally:
                self.report.answered, self.report.failed = place.tally.answered, place.tally.failed
                self.report.seconds = round(time.monotonic() - started, 3)
            if self.options.order == "input" and not place.answers.stdout:
                sort_by_input(place.answers, place.index)
        return self.report

    async def _run(self, link: Link, place: Place, progress: Progress) -> None:
        files = (place.answers, place.failures)
        record = await take_over(link, self.options, [], place.config_mode)
        collector = Collector(
            link.store,
            place.index,
            files,
            place.tally,
            model=self.encoder.model,
            text=self.options.text,
            forgotten=partial(self._forgotten, link, place, record),
        )
        self._go_on_as_begun(record, progress)
        await load_entries(link, self.options.name, record, place.index, collector)
        compare = Differences(link.store, self.account, self.options.name, self.encoder)
        begin = partial(self._begin, link, place, record, progress)
        plan = await survey(self.options, self._source, place.index, self._on_bad, compare, begin=begin)
        run = (self.account, self.options.name, record)
        deadline_at = deadline_at_now(self.options.deadline, link.store.clock.now_ms())
        submitter = Submitter(link.store, run, self.encoder, collector, link.revive, deadline_at=deadline_at)
        report = self.report
        report.rows, report.resumed, report.bad_lines = plan.rows, plan.known, plan.bad
        report.duplicates = plan.dropped
        progress.begin(self.report, submitter, collector)
        try:
            async with progress.shown(link), both(submitter):
                submitted = asyncio.Event()
                async with asyncio.TaskGroup() as group:
                    group.create_task(collector.run(record.producer, submitted, link.revive))
                    await self._submit(submitter, place, plan)
                    submitted.set()
        except BaseExceptionGroup as group:
            raise _first(group) from None
        finally:
            report.submitted, report.left_out = submitter.submitted, collector.left_out
            progress.account(report)

    async def _begin(self, link: Link, place: Place, record: RunRecord, progress: Progress, plan: Plan) -> None:
        """OUT is this run's and this store's from now on, before anything is bought.

        Raises ConfigError when the store has forgotten what an earlier start bought, and would sell it again.
        """
        server = await link.store.server(self.account)
        here, noted = known_by(self.settings, link.store.url, record, server), noted_in(place.index)
        gone = noted.forgotten_by(here, self.settings.keep_outcome_s)
        again = await self._still_to_buy(self._source, plan) if gone and plan.begun else 0
        if again:
            rows = counted(again, "row that OUT lacks", "rows that OUT lacks")
            if not self._buy_again:
                raise ConfigError(
                    f"{self.options.out} was begun {gone}. {rows} may have been bought there, and would be bought "
                    f"again{way_out(noted.home, here.home)}. Repeat the command on the store that knows the run, or "
                    "say --buy-again"
                )
            progress.note(f"{self.options.out} was begun {gone}. --buy-again: {rows} may be paid for a second time.")
        if place.bound and not noted.store:
            progress.note(
                f"{self.options.out} is of a gemqueue that did not note its store. From now on that is {here.place}"
                + (f", and what was bought on another one is bought again: {plan.begun:,} rows." if plan.begun else ".")
            )
        self._refuse_unreadable(link, plan)
        self.report.bought_again = again
        if again:
            place.index.recall_sent(unpack_entry)
        else:
            place.index.forget_unsent()
        place.bind(record.config_mode)
        note_in(place.index, here)

    def _refuse_unreadable(self, link: Link, plan: Plan) -> None:
        """An entry that cannot be read may be of rows that look new. Raises ConfigError unless they may be paid for."""
        broken = [what for what in link.store.unreadable.found if what.startswith(f"run {self.options.name}: entry ")]
        if broken and plan.new and not self._buy_again:
            raise ConfigError(
                f"{broken[0]} cannot be read ({counted(len(broken), 'such entry', 'such entries')}): up to "
                f"{counted(plan.new, 'row', 'rows')} that would be bought may be in it, and bought already. Restore "
                "the entry, or say --buy-again"
            )

    async def _still_to_buy(self, path: str, plan: Plan) -> int:
        """How many rows that an earlier start was to buy would be bought now: those whose requests are valid."""
        found = 0
        for n, row in enumerate(read_rows(self.options, path)):
            if n % _ROWS_A_BREATH == 0:
                await asyncio.sleep(0)
            if isinstance(row, BadLine) or plan.what(row.line) != BEGUN:
                continue
            try:
                self.encoder.encode(row)
            except SubmitError:
                continue
            found += 1
        return found

    def _go_on_as_begun(self, record: RunRecord, progress: Progress) -> None:
        mode = self.encoder.config_mode = record.config_mode
        if mode == ConfigMode.REPLACE and self.options.config is not None and not self.options.config_mode:
            progress.note(
                f"Run {self.options.name} goes on as it began: a row's own config takes the place of --config "
                "(--config-mode replace). A new run lays it over --config."
            )

    async def _forgotten(self, link: Link, place: Place, record: RunRecord) -> str:
        """Why this command stops, where the server does not know the run any more; else empty."""
        now = await link.store.run_record(self.account, self.options.name)
        if now is not None and now.producer == record.producer:
            return ""
        here, noted = await link.store.server(self.account), noted_in(place.index)
        more = way_out(noted.home, here.home)
        return (
            f"the server has forgotten run {self.options.name!r} while its rows were under way: {noted.place} was "
            f"emptied, or is another one now. OUT has what had come{more}. Repeat the command: it says how to go on"
        )

    async def _submit(self, submitter: Submitter, place: Place, plan: Plan) -> None:
        if not plan.new:
            return
        for row in read_rows(self.options, self._source):
            if isinstance(row, BadLine) or not plan.wants(row.line):
                continue
            was = place.index.place_of(row.key) if self.report.bought_again else None
            bad = await (submitter.put_back(row, was) if was else submitter.put(row))
            if bad is not None:
                self.report.bad_lines += 1
                self.report.rows -= 1
                self._on_bad(bad)
        await submitter.finish()


@asynccontextmanager
async def both(submitter: Submitter) -> AsyncGenerator[None]:
    """Stop the submitter's flights whatever happens."""
    try:
        yield
    finally:
        await submitter.stop()


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


async def take_over(link: Link, options: RunOptions, entries: list[bytes], config_mode: str) -> RunRecord:
    """The run is this process's from now on. Raises ConfigError when it was begun with other settings."""
    command = msgspec.json.encode(options).decode()
    return await link.store.open_run(
        link.account, options.name, options.settings(), command, entries, config_mode=config_mode
    )


async def load_entries(link: Link, name: str, record: RunRecord, index: Index, collector: Collector) -> None:
    """Tell index and collector what the run has bought, the last first: a later entry speaks for its rows."""
    for stop in range(record.entries, 0, -_ENTRIES_A_LOOK):
        start = max(0, stop - _ENTRIES_A_LOOK)
        for entry in reversed(await link.store.run_entries(link.account, name, start, stop)):
            blob = pack_entry(entry)
            missing = index.note_entry(entry, blob)
            if entry.segment and any(missing):
                collector.expect(entry.segment, missing, None, live=True)


def taken_back(keys: list[str]) -> bytes:
    """An entry that says: these rows are to be bought again."""
    return pack_entry(RunEntry("", keys))
