"""Verdicts on creates, deletions, keys and the list: pure functions of what was seen."""

from __future__ import annotations

from typing import Any, Final

from gemqueue_workers.prove.state import Step
from gemqueue_workers.prove.trials import ACCEPTED
from gemqueue_workers.prove.verdicts import SUCCEEDED, Finding, Sight, failed, held, judged, not_seen, waits

_DELETED: Final = ("refused", ACCEPTED, "pending", "running")
"""Trials whose input is deleted early."""
_NOT_FOUND: Final = (404, "missing")


def refused(sight: Sight) -> Finding:
    """A create that names a deleted file. Refused it counts only beside one that was taken: models may be refused."""
    job = sight.state.jobs.get("refused")
    if job is not None and job.job:
        return failed("a create that names a deleted file was taken")
    if job is None or job.step is not Step.REFUSED:
        return waits(sight, "refused") or not_seen("nobody knows")
    if not any(each.job for each in sight.state.every()):
        return not_seen(f"no create was taken at all: {job.refusal}", code=job.code)
    return held(f"refused with {job.code}", code=job.code)


def survives_pending(sight: Sight) -> Finding:
    """A job whose input is deleted while it waits."""
    return _survives(sight, "pending")


def survives_running(sight: Sight) -> Finding:
    """A job whose input is deleted while it runs."""
    return _survives(sight, "running")


def survives_accepted(sight: Sight) -> Finding:
    """A job whose input is deleted as soon as it is accepted, whatever it is at."""
    return _survives(sight, ACCEPTED)


def _survives(sight: Sight, slot: str) -> Finding:
    job = sight.state.jobs.get(slot)
    if (waiting := waits(sight, slot)) is not None or job is None:
        return waiting or not_seen("its job was not begun")
    seen: dict[str, Any] = {"before": job.gone_from, "after": job.gone_to, "end": job.end}
    if not job.gone_from:
        return not_seen(f"no look saw its job {slot}", **seen)
    answered = job.tally.answered if job.tally is not None else 0
    seen |= {"took_s": round(job.took_s, 1), "rows": job.rows, "answered": answered}
    if job.end != SUCCEEDED:
        said = f"deleted while {job.gone_from}, its job ended as {job.end}: {job.error}".rstrip(": ")
        if _all_fail(sight):
            return not_seen(f"{said}; so did jobs whose input was left alone", **seen)
        return failed(said, **seen)
    if job.gone_to != slot:
        return not_seen(f"answered, but it may have been {job.gone_to} when its input was deleted", **seen)
    return judged(answered == job.rows, f"deleted while {slot}; {answered} of {job.rows} rows answered", **seen)


def _all_fail(sight: Sight) -> bool:
    """Whether jobs fail that keep their input, too: then the deletion is not to blame."""
    kept = [job for slot, job in sight.state.jobs.items() if slot not in _DELETED and job.end]
    return bool(kept) and all(job.end != SUCCEEDED for job in kept)


def list_lag(sight: Sight) -> Finding:
    """How long the list hides a new job."""
    jobs = [job for job in sight.state.every() if job.job or job.killed]
    if not jobs:
        return not_seen("no job was created")
    shown = [job.listed_s for job in jobs if job.listed_s is not None]
    hidden_s = max(job.hidden_s for job in jobs)
    seen: dict[str, Any] = {"jobs": len(jobs), "shown": len(shown), "looks": sum(job.looks for job in jobs)}
    seen |= {"hidden_s": round(hidden_s, 2), "shown_s": round(max(shown, default=0.0), 2)}
    if hidden_s > sight.settle_s:
        return failed(f"a job was not in the list after {hidden_s:.1f} s", **seen)
    if len(shown) < len(jobs):
        return not_seen(f"{len(jobs) - len(shown)} of {len(jobs)} jobs are not in the list yet", **seen)
    when = f"the last look that lacked one was after {hidden_s:.1f} s" if hidden_s else "each at the first look"
    return held(f"{len(jobs)} jobs were in the list, {when}", **seen)


def list_order(sight: Sight) -> Finding:
    """Whether the list begins with the newest."""
    seen = sight.state.seen.get("order")
    if not seen:
        return not_seen("the list never held two jobs")
    wrong = seen["out_of_order"]
    return judged(not wrong, f"{wrong} of {seen['jobs']} listed jobs are newer than the one before them", **seen)


def found_again(sight: Sight) -> Finding:
    """A job whose creator was killed before it could note it."""
    job = sight.state.jobs.get("killed")
    found = [each.found_s for each in sight.state.every() if each.found_s is not None]
    seen: dict[str, Any] = {"found": len(found), "strays": sight.state.strays}
    if sight.state.strays:
        return failed(f"the list showed {sight.state.strays} jobs that no record knew: bought twice", **seen)
    if job is not None and job.killed and job.found_s is None:
        return failed(f"not in the list {sight.settle_s:g} s after its file was deleted", looks=job.looks, **seen)
    if not found:
        return waits(sight, "killed") or not_seen("no create was in doubt", **seen)
    how = "killed with the reply in its hands" if job is not None and job.killed else "stopped during a create"
    seen |= {"killed": job is not None and job.killed, "longest_s": round(max(found), 2)}
    return held(f"{how}; found by its token after {max(found):.1f} s, and not created again", **seen)


def file_deletion(sight: Sight) -> Finding:
    """A file that is deleted again."""
    told = sight.state.seen.get("file_deletion")
    return _deletions(told, [(403, "missing")])


def job_deletion(sight: Sight) -> Finding:
    """A job that is deleted again, and its results."""
    told = sight.state.seen.get("job_deletion")
    return _deletions(told, [_NOT_FOUND])


def _deletions(told: list[list[Any]] | None, right: list[tuple[int, str]]) -> Finding:
    if not told:
        return not_seen("nothing could be deleted")
    codes = [code for code, _ in told]
    if codes[0] != 200:
        return not_seen(f"the first deletion was answered {codes[0]}", codes=codes)
    return judged(all((code, read) in right for code, read in told[1:]), " then ".join(map(str, codes)), codes=codes)


def bad_key(sight: Sight) -> Finding:
    """A key that is none must not look like a thing that is gone."""
    told = sight.state.seen.get("bad_key")
    if not told:
        return not_seen("there was no job to ask for")
    codes = {name: told[name][0] for name in ("list", "job", "file")}
    right = all(told[name][1] == "auth" for name in codes)
    return judged(right, ", ".join(f"{name} {code}" for name, code in codes.items()), **codes)


def other_key(sight: Sight) -> Finding:
    """Another project's key must see nothing of ours."""
    told = sight.state.seen.get("other_key")
    if not told:
        return not_seen("no key of another project was given (--other-key-env)")
    codes = {name: told[name][0] for name in ("list", "job", "file")}
    right = told["list"][1] == "done" and not told["lists_ours"] and tuple(told["job"]) == _NOT_FOUND
    right = right and told["file"] == [403, "missing"]
    said = ", ".join(f"{name} {code}" for name, code in codes.items())
    return judged(right, f"{said}; the list {'shows' if told['lists_ours'] else 'hides'} our jobs", **codes)
