"""``gemqueue doctor --live``: the short form of ``gemqueue prove``, for the price of one prompt.

A-refused: a create that names a deleted input file is refused. A-survives: a job that was accepted goes on when its
input file is deleted afterwards. Nothing here touches the queue, and what was made is deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.config import load_settings
from gemqueue.errors import GemqueueError
from gemqueue.language.checks import check_kind, check_model
from gemqueue.states import Kind
from gemqueue_workers.manage.doctor import Finding
from gemqueue_workers.prove import judges, verdicts
from gemqueue_workers.prove.clean import clean
from gemqueue_workers.prove.creating import ensure_created
from gemqueue_workers.prove.following import follow
from gemqueue_workers.prove.lab import Limits
from gemqueue_workers.prove.opening import make_lab
from gemqueue_workers.prove.report import publishable
from gemqueue_workers.prove.state import Job, Journal, Step, new_state, now_ms
from gemqueue_workers.prove.trials import ACCEPTED, SHORT_FORM
from gemqueue_workers.prove.verdicts import Sight, Verdict
from gemqueue_workers.run.connection import connected

if TYPE_CHECKING:
    from gemqueue_workers.prove.lab import Lab

_STATES: Final = {Verdict.HELD: "ok", Verdict.FAILED: "failed", Verdict.NOT_SEEN: "warning"}
_BROKEN: Final = {
    "A-refused": ": a job in doubt could be bought twice",
    "A-survives": ': keep delete_files = "ended"; `gemqueue prove --live` tells more',
}


async def examine_live(model: str, *, emulate: bool | None, wait_s_max: float, job: str = "") -> list[Finding]:
    """Both assumptions, or with a ``job`` of an earlier try only how that one ended. Raises ConfigError."""
    settings = load_settings(emulate=emulate)
    check_kind(check_model(model), Kind.GENERATE)
    async with connected(settings, with_worker=False) as link:
        settings = msgspec.structs.replace(await link.provider_settings(), webhook_url="")
        limits = Limits(model=model, budget_usd=1.0, settle_s=settings.settle_s, wait_s=wait_s_max)
        lab = make_lab(settings, Journal(new_state({})), limits, say=lambda _: None)
        try:
            return await _examined(lab, job)
        except GemqueueError as error:
            return [Finding("live", "failed", f"the provider could not be asked: {error}")]
        finally:
            await lab.aclose()


async def _examined(lab: Lab, job: str) -> list[Finding]:
    if job:
        lab.state.jobs[ACCEPTED] = _taken_up(job)
    else:
        for trial in SHORT_FORM.values():
            await ensure_created(lab, trial)
    if await follow(lab, SHORT_FORM, wait_s=lab.limits.wait_s):
        await clean(lab, SHORT_FORM)
    sight = Sight(state=lab.state, model=lab.limits.model, settle_s=lab.limits.settle_s, live=True)
    refused = [] if job else [_finding("A-refused", judges.refused(sight))]
    return [*refused, _survives(sight)]


def _taken_up(job: str) -> Job:
    """A job that an earlier try left running, without its input."""
    made = Job(slot=ACCEPTED, token="", file="", rows=1, estimate_usd=0.0, step=Step.CREATED, job=job)
    made.created_ms, made.listed_s, made.gone_from, made.gone_to = now_ms(), 0.0, ACCEPTED, ACCEPTED
    return made


def _survives(sight: Sight) -> Finding:
    job = sight.state.jobs.get(ACCEPTED)
    if job is not None and job.open:
        said = f"{job.job} still runs; ask again later: gemqueue doctor --live --job {job.job}"
        return Finding("A-survives", "warning", said)
    return _finding("A-survives", judges.survives_accepted(sight))


def _finding(what: str, found: verdicts.Finding) -> Finding:
    state = _STATES[found.verdict]
    return Finding(what, state, publishable(found.said) + (_BROKEN[what] if state == "failed" else ""))
