"""The looks, which buy nothing: what deletions, a bad key and another project's key are answered with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gemqueue_adapters.operations import page_of
from gemqueue_workers.prove.lab import Pauses, patiently
from gemqueue_workers.prove.state import Step
from gemqueue_workers.prove.trials import Trial

if TYPE_CHECKING:
    from gemqueue_adapters.bare import BareCalls, Told
    from gemqueue_workers.prove.lab import Lab

LIST: Final = "batches?pageSize=100"
_DELETIONS: Final = 3
_UNWELL_S: Final = 30.0
_LOOK: Final = Trial(slot="look")


async def before_jobs(lab: Lab, names: set[str]) -> None:
    """The looks that need no job."""
    if "file_deletion" in names and "file_deletion" not in lab.state.seen:
        file = await lab.upload(list(_LOOK.lines()), lab.state.token("look"))
        told = [await ask(lab.calls, "DELETE", file) for _ in range(_DELETIONS)]
        _note(lab, "file_deletion", [[each.code, each.read] for each in told])


async def beside_jobs(lab: Lab, names: set[str]) -> None:
    """What other keys are answered about a job and a file of ours, and about the list."""
    jobs = [job for job in lab.state.jobs.values() if job.open or job.step is Step.READ]
    keys = {"bad_key": lab.bad, "other_key": lab.other}
    for name, calls in keys.items():
        if name in names and name not in lab.state.seen and calls is not None and jobs:
            file = await lab.upload(list(_LOOK.lines()), lab.state.token("look"))
            _note(lab, name, await _asked(calls, jobs[0].job, file, lab.state.prefix))
            await patiently(lambda file=file: lab.provider.delete_file(file))  # type: ignore[misc]


async def _asked(calls: BareCalls, job: str, file: str, prefix: str) -> dict[str, Any]:
    """Only a file that was made for it is deleted with a foreign key, never one that a job needs."""
    listed = await ask(calls, "GET", LIST)
    ours = listed.read == "done" and any(each.display_name.startswith(prefix) for each in page_of(listed.body)[0])
    found = {"list": listed, "job": await ask(calls, "GET", job), "file": await ask(calls, "DELETE", file)}
    return {name: [told.code, told.read] for name, told in found.items()} | {"lists_ours": ours}


async def after_jobs(lab: Lab, names: set[str]) -> None:
    """What repeated deletions of a job are answered with, and what becomes of its results."""
    job = next((each for each in lab.state.jobs.values() if each.step is Step.READ and each.tally is not None), None)
    if "job_deletion" not in names or "job_deletion" in lab.state.seen or job is None:
        return
    status = await patiently(lambda: lab.provider.poll(job.job))
    job.step = Step.GONE  # whatever becomes of this process, another look must take another job
    lab.journal.save()
    told = [await ask(lab.calls, "DELETE", job.job) for _ in range(_DELETIONS - 1)]
    told.append(await ask(lab.calls, "GET", job.job))
    if status.output_file:
        told.append(await ask(lab.calls, "GET", f"{status.output_file}:download?alt=media"))
    _note(lab, "job_deletion", [[each.code, each.read] for each in told])


async def ask(calls: BareCalls, method: str, name: str) -> Told:
    """One call; repeated where no reply came to it, and for a while where the service is not well."""
    pauses = Pauses(_UNWELL_S)
    while True:
        told = await patiently(lambda: calls.resource(method, name))
        if told.read != "later" or pauses.over:
            return told
        await pauses.rest()


def _note(lab: Lab, name: str, seen: Any) -> None:
    lab.state.seen[name] = seen
    lab.journal.save()
