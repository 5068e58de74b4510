"""Each trial's job is created once, whatever dies: intent, create, record; a create in doubt is fenced and looked for.

The intent holds the token and the exact file. A job whose create nobody knows about is looked for by its token; then
its file is deleted, after which the create can only be refused, and after ``settle_s`` it is looked for again. Only
when it is not there either, another job is begun, with another file and another token. The estimate of the first one
stays counted: the budget holds even if the provider's list lies.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

from gemqueue.errors import Ambiguous, Rejected, Transient
from gemqueue.states import Kind
from gemqueue_workers.prove import killed
from gemqueue_workers.prove.lab import SINCE_MS, Pauses, created_now, patiently
from gemqueue_workers.prove.state import Job, Step, now_ms
from gemqueue_workers.prove.trials import ACCEPTED

if TYPE_CHECKING:
    from gemqueue.provider import JobStatus
    from gemqueue_workers.prove.lab import Lab
    from gemqueue_workers.prove.trials import Trial

_FIRST_LOOK_S: Final = 2.0
_CREATES_MAX: Final = 3
_PRECONDITION: Final = 400
"""With it a create may be refused for its file as well as for its account."""


async def ensure_created(lab: Lab, trial: Trial) -> None:
    """Have the trial's job created, or know why it is not. Raises the provider's error where it cannot be asked."""
    for _ in range(_CREATES_MAX):
        job = lab.state.jobs.get(trial.slot)
        if job is not None and job.step is Step.INTENDED:
            await settle_doubt(lab, job)
        elif job is None or job.step in (Step.LATER, Step.DEAD):
            if (job is not None and job.killed) or not await _begin(lab, trial, job):
                return
        else:
            return


async def _begin(lab: Lab, trial: Trial, before: Job | None) -> bool:
    """A new intent and its create; whether there may be a job now."""
    estimate_usd = trial.estimate_usd(lab.limits.model) or 0.0
    if not lab.affords(estimate_usd):
        if trial.slot not in lab.state.over_budget:
            lab.state.over_budget.append(trial.slot)
            lab.journal.save()
        return False
    token = lab.state.token(trial.slot)
    file = await lab.upload(list(trial.lines()), token)
    if trial.delete == "first":
        await patiently(lambda: lab.provider.delete_file(file))
    if before is not None and before.step is Step.DEAD:
        lab.state.dead.append(before)
    job = Job(
        slot=trial.slot,
        token=token,
        file=file,
        rows=trial.rows,
        estimate_usd=estimate_usd,
        step=Step.INTENDED,
    )
    lab.state.jobs[trial.slot] = job
    lab.state.over_budget = [slot for slot in lab.state.over_budget if slot != trial.slot]
    lab.journal.save()
    try:
        await (_killed_create(lab, job) if trial.killed else _create(lab, trial, job))
    finally:
        lab.journal.save()
    if job.step is Step.CREATED:
        if trial.delete == ACCEPTED:
            await patiently(lambda: lab.provider.delete_file(file))
            job.gone_from = job.gone_to = ACCEPTED
        await lab.read_list()
    if job.step is Step.LATER and trial.delete != "first":
        await patiently(lambda: lab.provider.delete_file(file))  # the next try has another
    return job.step is not Step.LATER


async def _create(lab: Lab, trial: Trial, job: Job) -> None:
    """The create. Raises Rejected for a key that is refused: that says nothing of what is asked, and ends by hand."""
    model = lab.limits.model
    try:
        created_now(job, await lab.provider.create(model=model, kind=Kind.GENERATE, file=job.file, token=job.token))
    except Ambiguous as error:
        job.refusal = str(error)
    except Rejected as error:
        of_key = error.auth and not (trial.delete == "first" and error.code == _PRECONDITION)
        job.step, job.refusal, job.code = Step.LATER if of_key else Step.REFUSED, str(error), error.code
        if of_key:
            raise
    except Transient as error:
        job.step, job.refusal, job.code = Step.LATER, str(error), error.code


async def _killed_create(lab: Lab, job: Job) -> None:
    """The create, by a process that dies with the reply in its hands."""
    argv = (sys.executable, "-m", killed.__name__, lab.limits.model, job.file, job.token)
    child = await asyncio.create_subprocess_exec(*argv, env=lab.child_env, stdout=asyncio.subprocess.PIPE)
    said, _ = await child.communicate()
    job.refusal = said.decode(errors="replace")
    if child.returncode == -signal.SIGKILL:
        job.killed, job.created_ms = True, now_ms()
    elif child.returncode == killed.REFUSED:
        job.step = Step.REFUSED
    elif child.returncode == killed.PUT_OFF:
        job.step = Step.LATER


async def settle_doubt(lab: Lab, job: Job) -> None:
    """Find the job by its token alone; or fence its create, and find it then; or know that it is dead."""
    began_ms = now_ms()
    status = await _find(lab, job, _FIRST_LOOK_S)
    if status is None:
        await patiently(lambda: lab.provider.delete_file(job.file))
        job.fenced_ms = job.fenced_ms or now_ms()
        lab.journal.save()
        status = await _find(lab, job, lab.limits.settle_s - (now_ms() - job.fenced_ms) / 1000)
    if status is None:
        job.step = Step.DEAD
    else:
        job.created_ms = job.created_ms or began_ms
        created_now(job, status.job)
        job.found_s = job.listed_s = (now_ms() - job.created_ms) / 1000
    lab.journal.save()


async def _find(lab: Lab, job: Job, total_s: float) -> JobStatus | None:
    """Look for the job until it is there, the last time when ``total_s`` are over."""
    pauses = Pauses(total_s)
    look = partial(lab.provider.find, tokens=frozenset({job.token}), since_ms=lab.state.began_ms - SINCE_MS)
    while True:
        over = pauses.over
        job.looks += 1
        status = (await patiently(look)).newest
        if status is None and job.created_ms:
            job.hidden_s = (now_ms() - job.created_ms) / 1000
        if status is not None or over:
            return status
        await pauses.rest()
