"""Nothing of a run is left at the provider: its files and jobs are deleted, those too that no record knows."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from gemqueue.errors import Rejected
from gemqueue_workers.prove.following import read
from gemqueue_workers.prove.lab import patiently
from gemqueue_workers.prove.state import Step

if TYPE_CHECKING:
    from gemqueue.provider import JobStatus
    from gemqueue_workers.prove.lab import Lab
    from gemqueue_workers.prove.state import Job
    from gemqueue_workers.prove.trials import Trial


async def clean(lab: Lab, trials: dict[str, Trial]) -> None:
    """Delete every job and file whose display name is of this run; jobs that still run are cancelled first.

    A job that the list shows although no record knew it was bought twice: it is counted, with what it cost.
    """
    listed = [status for status in await patiently(lab.listed) if status.display_name.startswith(lab.state.prefix)]
    for status in listed:
        await _note_stray(lab, trials, status)
    running = {status.job for status in listed if not status.state.terminal}
    for name in {status.job for status in listed} | {job.job for job in lab.state.every() if job.job}:
        await _delete_job(lab, name, cancel=name in running)
    for job in lab.state.every():
        job.step = Step.GONE if job.step in (Step.CREATED, Step.ENDED, Step.READ) else job.step
    lab.journal.save()
    await _delete_files(lab)


async def _note_stray(lab: Lab, trials: dict[str, Trial], listed: JobStatus) -> None:
    known = next((job for job in lab.state.every() if job.job == listed.job), None)
    if known is not None:
        return
    record = next((job for job in lab.state.every() if job.token == listed.display_name), None)
    if record is None or record.step is not Step.INTENDED:
        lab.state.strays += 1
    if record is not None:
        record.job = listed.job
        await _count(lab, trials[record.slot], record)
    lab.journal.save()


async def _count(lab: Lab, trial: Trial, job: Job) -> None:
    """What a job cost that was found late."""
    status = await patiently(lambda: lab.provider.poll(job.job))
    if status.has_output:
        reader = await patiently(lambda: read(lab, trial, status))
        job.tally, job.end = reader.end(), str(status.state)


async def _delete_job(lab: Lab, name: str, *, cancel: bool) -> None:
    with suppress(Rejected):  # one that is gone already is what is wanted
        if cancel:
            await patiently(lambda: lab.provider.cancel(name))
        await patiently(lambda: lab.provider.delete_job(name))


async def _delete_files(lab: Lab) -> None:
    names = await patiently(lambda: _stored(lab))
    known = {job.file for job in lab.state.every() if job.file}
    for name in {*names, *known}:
        with suppress(Rejected):
            await patiently(lambda name=name: lab.provider.delete_file(name))  # type: ignore[misc]


async def _stored(lab: Lab) -> list[str]:
    """The files of this run."""
    names: list[str] = []
    async for page in lab.provider.files():
        names += [file.file for file in page if file.display_name.startswith(lab.state.prefix)]
    return names
