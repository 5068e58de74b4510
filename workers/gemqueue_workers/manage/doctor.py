"""``gemqueue doctor``: what would go wrong, said before it does."""

from __future__ import annotations

import datetime as dt
import os
import time
from typing import TYPE_CHECKING, Final

import msgspec
from rich.text import Text

from gemqueue.accounts import api_key_from_env, lane_account, webhook_secrets_from_env
from gemqueue.config import load_settings, unknown_env
from gemqueue.connections.tls import untold_weakness
from gemqueue.errors import GemqueueError
from gemqueue.policy.quota import Resource
from gemqueue.setting_values import DeleteFiles
from gemqueue.states import Cause
from gemqueue_workers.manage.beliefs.checks import believing, unknown
from gemqueue_workers.manage.webhook_checks import listening
from gemqueue_workers.manage.working import troubled, unserved
from gemqueue_workers.model_notes import of_answers, of_later_prices, of_model, versions_of
from gemqueue_workers.prices import DATED
from gemqueue_workers.run.connection import connected
from gemqueue_workers.screen import duration, left_out, plain
from gemqueue_workers.server_notes import server_notes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rich.console import Console

    from gemqueue.config import Settings
    from gemqueue.store.runs import RunStore

_SKEW_S_MAX: Final = 2.0
_PRICES_DAYS_MAX: Final = 180
_UNNAMED: Final = " (of the key: with GEMQUEUE_ACCOUNT a new key strands nothing)"
_OLDER: Final = (
    "the account has jobs of home {0} from before this server knew it: another queue's, or this one's, if the server "
    "was emptied or replaced: `gemqueue admin reconcile --home {0}` (with --go-on, this is said no more)"
)
_HELD: Final = {Cause.SERVER: "warning", Cause.FORGOTTEN: "failed"}
_STYLE: Final = {"ok": "green", "warning": "yellow", "failed": "bold red"}


class Finding(msgspec.Struct, frozen=True):
    """One look: ok, warning or failed, and what to do."""

    what: str
    state: str
    said: str


async def examine(*, emulate: bool | None) -> list[Finding]:
    """Look at settings, account, webhooks, server, workers, models and prices; never raises for what it finds."""
    findings: list[Finding] = []
    unknown = unknown_env(dict(os.environ))
    if unknown:
        said = f"{', '.join(unknown)}: no setting is called so, and nothing reads them"
        findings.append(Finding("variables", "warning", said))
    try:
        settings = load_settings(emulate=emulate)
        findings.append(Finding("settings", "ok", "they fit together"))
        account, named = lane_account(settings, api_key_from_env()), settings.account or settings.pool
        findings.append(Finding("account", "ok", account + ("" if named or settings.emulate else _UNNAMED)))
        findings += [Finding("webhooks", *heard) async for heard in listening(settings, webhook_secrets_from_env())]
        if settings.redis_url.startswith("rediss"):
            weak = untold_weakness(settings.redis_url)
            findings.append(Finding("tls", "warning" if weak else "ok", weak or "the server must be who the URL says"))
        async with connected(settings, with_worker=False, look=True) as link:
            async for check in server_notes(link.store, settings, f"gq:{settings.queue}:doctor"):
                findings.append(Finding(*check))  # what was found stays where a later look fails
            async for finding in _queue(link.store, settings):
                findings.append(finding)
            findings += await _models(link.store)
            if warning := await link.store.key_warning(account):
                findings.append(Finding("names", "warning", warning))
    except GemqueueError as error:
        findings.append(Finding("start", "failed", str(error)))
    days = (dt.datetime.now(tz=dt.UTC).date() - dt.date.fromisoformat(DATED)).days
    state = "ok" if days <= _PRICES_DAYS_MAX else "warning"
    findings.append(Finding("prices", state, f"the table is {days} days old"))
    return findings


async def _queue(store: RunStore, settings: Settings) -> AsyncGenerator[Finding]:
    skew_s = abs(await store.server_now_ms() / 1000 - time.time())
    yield Finding("clock", "ok" if skew_s < _SKEW_S_MAX else "warning", f"{skew_s:.2f} s from the server's")
    if (back := await store.clock_back(lane_account(settings, api_key_from_env()))) is not None:
        ago = duration(max(0.0, (await store.server_now_ms() - back.back_at) / 1000))
        said = f"the server's went back by {duration(back.back_ms / 1000)}, {ago} ago; what was due came forward"
        yield Finding("clock", "warning", said)
    workers = await store.workers()
    yield Finding("workers", *unserved(workers, settings, lane_account(settings, api_key_from_env())))
    for said in troubled(workers, settings):
        yield Finding("workers", "warning", said)
    held = await store.pause(lane_account(settings, api_key_from_env()))
    yield Finding("held", _HELD.get(held.cause, "ok"), held.text or "packing and submitting go on")
    for home in await _older(store, lane_account(settings, api_key_from_env())):
        yield Finding("home", "warning", _OLDER.format(home))
    yield await _spend(store, settings)
    counts = await store.counts()
    twice = counts.get("bought_twice", 0)
    if (refused := counts.get("events_refused", 0)) and not counts.get("events", 0):
        said = f"{refused} deliveries were refused, and none was taken: the log of gemqueue serve says why"
        yield Finding("webhooks", "warning", f"{said} (events.refused)")
    yield await _inputs(store, settings, counts.get("inputs_missed", 0))
    yield Finding("bought twice", "failed" if twice else "ok", f"{twice} prompts")
    async for state, words in believing(store, settings, counts):
        yield Finding("beliefs", state, words)
    async for state, words in unknown(store, await store.server_now_ms()):
        yield Finding("unknown jobs", state, words)
    await store.open_records()
    broken = left_out(store.unreadable.found)
    for said in broken:
        yield Finding("records", "warning", said)
    if not broken:
        yield Finding("records", "ok", "all that were looked at can be read")


async def _older(store: RunStore, account: str) -> list[str]:
    """Homes of jobs from before this server knew the account, to which nobody has seen."""
    server = await store.server(account)
    return [home for home in (server.older_homes or "").split() if home not in server.past_homes.split()]


async def _spend(store: RunStore, settings: Settings) -> Finding:
    """Whether the account is refused for lack of money."""
    lesson = (await store.ledger(lane_account(settings, api_key_from_env()))).corrections.get(Resource.SPEND)
    if lesson is None:
        return Finding("spend", "ok", "nothing was refused for lack of money since the last create")
    left_s = max(0.0, (lesson.held_until - await store.server_now_ms()) / 1000)
    said = f"no job is created for lack of money: {lesson.why.rstrip('.')}; raise the cap or pay; it is tried again"
    return Finding("spend", "failed", f"{said} in {duration(left_s)}")


async def _models(store: RunStore) -> list[Finding]:
    """The models that the queue was asked for: which end, have no price, or let another one answer."""
    said: dict[Finding, None] = {}
    for lane in await store.lanes():
        model = lane.lane.model
        notes = [*of_model(model), *of_answers(model, versions_of(await store.charges(lane.lane)))]
        said |= dict.fromkeys(Finding("models", "warning", note) for note in notes)
        said |= dict.fromkeys(Finding("models", "ok", note) for note in of_later_prices(model))
    return list(said) or [Finding("models", "ok", "none that was asked for ends, has no price, or is another's")]


async def _inputs(store: RunStore, settings: Settings, missed: int) -> Finding:
    """When input files are deleted, and what the account has taught of that."""
    account = lane_account(settings, api_key_from_env())
    early = settings.delete_files == DeleteFiles.RUNNING
    said = f'delete_files = "{settings.delete_files}"'
    if early:
        said += (
            ": that a running job survives it rests on one report (gemqueue doctor --live asks); else each fails once"
        )
    if missed:
        said += f"; {missed} jobs failed because their input file was gone, and were replaced (inputs_missed)"
    if at_ms := (await store.input_needed([account])).get(account, 0):
        since = dt.datetime.fromtimestamp(at_ms / 1000, tz=dt.UTC)
        said += f"; {account} needs them to the end, since {since:%Y-%m-%d %H:%M} UTC, and they are kept"
    return Finding("input files", "warning" if early or missed else "ok", said)


def show_findings(console: Console, findings: list[Finding]) -> None:
    """For a person."""
    for finding in findings:
        text = Text.assemble((f"{finding.state:<8}", _STYLE[finding.state]), f"{finding.what:<13}", plain(finding.said))
        console.print(text, soft_wrap=True)
