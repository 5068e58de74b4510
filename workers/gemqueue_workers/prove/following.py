"""Jobs are followed to their end: inputs deleted at the state that is asked for, results read, time watched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gemqueue.errors import Rejected
from gemqueue.states import JobState
from gemqueue_workers.prove.lab import Pauses, patiently
from gemqueue_workers.prove.reading import Reader
from gemqueue_workers.prove.state import Step, now_ms

if TYPE_CHECKING:
    from gemqueue.provider import JobStatus
    from gemqueue_workers.prove.lab import Lab
    from gemqueue_workers.prove.state import Job
    from gemqueue_workers.prove.trials import Trial


MUTE_S_MAX: Final = 3600.0
"""How long a job that has succeeded may leave its results unnamed before it counts as one without results."""


async def follow(lab: Lab, trials: dict[str, Trial], *, wait_s: float) -> bool:
    """Follow every open job until it is read; whether all were, within ``wait_s``."""
    pauses = Pauses(wait_s)
    while True:
        for slot, trial in trials.items():
            job = lab.state.jobs.get(slot)
            if job is not None and job.open:
                await poll_job(lab, trial, job)
        left = [job for slot, job in lab.state.jobs.items() if slot in trials and job.open]
        if any(job.listed_s is None for job in left):
            await lab.read_list()
        if not left or pauses.over:
            return not left
        await pauses.rest()


async def await_list(lab: Lab) -> None:
    """Look at the list until it shows every job, or must have."""
    pauses = Pauses(2 * lab.limits.settle_s)
    while not pauses.over:
        made = [job for job in lab.state.jobs.values() if job.job]
        if all(job.listed_s is not None or job.hidden_s > lab.limits.settle_s for job in made):
            return
        await lab.read_list()
        await pauses.rest()


async def poll_job(lab: Lab, trial: Trial, job: Job) -> None:
    """Look once at a job, and do what is due."""
    status = await _polled(lab, job)
    if status is None:
        job.step, job.end, job.error = Step.READ, "missing", "the provider does not know the job any more"
        lab.journal.save()
        return
    if trial.delete in ("pending", "running") and not job.gone_to:
        status = await _let_go(lab, trial, job, status)
    if not status.state.terminal or _is_mute(lab, job, status):
        return
    job.end, job.error, job.took_s = str(status.state), status.error_message, _took_s(job, status)
    job.counted, job.step = status.rows_ok + status.rows_failed, Step.ENDED
    lab.journal.save()
    if status.has_output:
        reader = await patiently(lambda: read(lab, trial, status))
        job.tally = reader.end()
    job.step = Step.READ
    lab.journal.save()
    lab.say(f"{job.slot}: {job.end} after {job.took_s:.0f} s")


def _is_mute(lab: Lab, job: Job, status: JobStatus) -> bool:
    """Whether a job has succeeded, names no results, and may yet name them."""
    if status.state is not JobState.SUCCEEDED:
        return False
    first = not job.mute_ms
    if not status.has_output:
        job.mute_ms = job.mute_ms or now_ms()
        lab.journal.save()
        return now_ms() - job.mute_ms < MUTE_S_MAX * 1000
    job.named_s = 0.0 if first else (now_ms() - job.mute_ms) / 1000
    return False


async def _polled(lab: Lab, job: Job) -> JobStatus | None:
    try:
        return await patiently(lambda: lab.provider.poll(job.job))
    except Rejected as error:
        if error.missing:
            return None
        raise


async def _let_go(lab: Lab, trial: Trial, job: Job, status: JobStatus) -> JobStatus:
    """Delete the input where the job is at the state that is asked for, and look again at once."""
    at = state_word(status)
    if not job.gone_from and at != trial.delete:
        return status
    job.gone_from = job.gone_from or at
    lab.journal.save()
    await patiently(lambda: lab.provider.delete_file(job.file))
    after = await _polled(lab, job) or status
    job.gone_to = state_word(after)
    lab.journal.save()
    lab.say(f"{job.slot}: input deleted while {job.gone_from}")
    return after


def state_word(status: JobStatus) -> str:
    """The state as the provider spells it, without its prefix: pending, running, succeeded ..."""
    return status.raw_state.rpartition("_")[2].lower() or str(status.state)


async def read(lab: Lab, trial: Trial, status: JobStatus) -> Reader:
    """Read all results of a job."""
    reader = Reader(trial, lab.limits.model)
    async for lines in lab.provider.results(status):
        reader.take(lines)
    return reader


def _took_s(job: Job, status: JobStatus) -> float:
    if status.ended_at_ms and status.created_at_ms:
        return (status.ended_at_ms - status.created_at_ms) / 1000
    return (now_ms() - job.created_ms) / 1000
