"""The table of assumptions: what is taken for granted, on whose word, and what breaks where it is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue_workers.prove import judges, row_judges

if TYPE_CHECKING:
    from collections.abc import Callable

    from gemqueue_workers.prove.verdicts import Finding, Sight


class Assumption(msgspec.Struct, frozen=True, kw_only=True):
    """One fact about the provider that something rests on.

    ``source`` is documented, measured by others, one report, or contradicted. An empty ``relied`` says that nothing
    rests on it. ``slots`` are the trials that it needs, ``looks`` the looks. ``judge`` is a pure function of what was
    seen.
    """

    name: str
    assumes: str
    source: str
    breaks: str
    relied: str
    judge: Callable[[Sight], Finding]
    slots: tuple[str, ...] = ()
    looks: tuple[str, ...] = ()


ASSUMPTIONS: Final = (
    Assumption(
        name="A-refused",
        assumes="A create that names a deleted file is refused.",
        source="documented; seen in recorded replies",
        breaks="The fence: a create in doubt could still take effect after it, and a batch be bought twice.",
        relied="reconciling and submitting: the fence of a create in doubt",
        slots=("refused", "killed"),
        judge=judges.refused,
    ),
    Assumption(
        name="A-survives-pending",
        assumes="A job whose input file is deleted while it is pending is answered whole.",
        source="inferred: the one report is of running jobs",
        breaks="A job that is adopted after the fence fails because its file is gone: time, and no answer is lost.",
        relied="the fence of a create in doubt",
        slots=("pending",),
        judge=judges.survives_pending,
    ),
    Assumption(
        name="A-survives-running",
        assumes="A job whose input file is deleted while it runs is answered whole.",
        source="one report",
        breaks="Where input files are deleted early, every job fails; by default they stay until the job has ended.",
        relied="the tracker, where delete_files says so",
        slots=("running",),
        judge=judges.survives_running,
    ),
    Assumption(
        name="list-lag",
        assumes="A new job is in the list within settle_s.",
        source="measured by others: it is there at once",
        breaks="A job in doubt is taken for dead and begun again: bought twice.",
        relied="submitting: the look after the fence",
        slots=("killed",),
        judge=judges.list_lag,
    ),
    Assumption(
        name="list-order",
        assumes="The list begins with the newest job.",
        source="measured by others",
        breaks="A look that stops at the first older page overlooks a job: bought twice.",
        relied="the adapter: paging back to the moment of the intent",
        slots=("killed", "pending"),
        judge=judges.list_order,
    ),
    Assumption(
        name="found-again",
        assumes="A job is found by its display name alone when its creator was killed before noting it.",
        source="documented: the list shows display names",
        breaks="Jobs in doubt are never adopted: each is bought again, and its answers are lost.",
        relied="submitting: adoption by token",
        slots=("killed",),
        judge=judges.found_again,
    ),
    Assumption(
        name="file-deletion",
        assumes="Deleting a file again is answered 403, not 404.",
        source="measured by others",
        breaks="Nothing alone: 403, 404 and 200 all end a deletion. It proves nothing of who deleted it.",
        relied="the adapter: delete_file; keys: who may conclude from it",
        looks=("file_deletion",),
        judge=judges.file_deletion,
    ),
    Assumption(
        name="job-deletion",
        assumes="Deleting a job again is answered 404; so are a look at it and a download of its results.",
        source="measured by others",
        breaks="Clean-up would repeat itself, and results that are gone would be waited for.",
        relied="the adapter: delete_job, poll, results",
        slots=("killed",),
        looks=("job_deletion",),
        judge=judges.job_deletion,
    ),
    Assumption(
        name="bad-key",
        assumes="A key that is none is refused as such for list, job and file, never as not found.",
        source="documented; measured by others: 400 API_KEY_INVALID",
        breaks="A wrong key would look like jobs and files that are gone: a false fence, and a batch bought twice.",
        relied="the adapter's table of refusals",
        slots=("killed",),
        looks=("bad_key",),
        judge=judges.bad_key,
    ),
    Assumption(
        name="other-key",
        assumes="Another project's key is answered 404 for our job and 403 for our file, and does not list our jobs.",
        source="measured by others",
        breaks="Keys are compared by fingerprint before anything is concluded; this says whether that is needed.",
        relied="keys: a step is put back where the key is not the one that uploaded",
        slots=("killed",),
        looks=("other_key",),
        judge=judges.other_key,
    ),
    Assumption(
        name="response-schema",
        assumes="Batch answers to responseSchema have its shape.",
        source="one report (502 of 502 rows)",
        breaks="Structured answers are of the wrong shape, and paid for.",
        relied="schemas: what a class is sent as",
        slots=("schema",),
        judge=row_judges.schema,
    ),
    Assumption(
        name="response-json-schema",
        assumes="Batch answers to responseJsonSchema have its shape.",
        source="contradicted: one report (0 of 502 rows) against a unit test",
        breaks="What only JSON Schema can say is answered in the wrong shape, and paid for.",
        relied="schemas: classes that responseSchema cannot say",
        slots=("json_schema",),
        judge=row_judges.json_schema,
    ),
    Assumption(
        name="model",
        assumes="The model that was asked answers.",
        source="contradicted: models are routed to their successors",
        breaks="Answers of another model, at its price.",
        relied="prices; the comparison of modelVersion",
        slots=("rows",),
        judge=row_judges.model_answers,
    ),
    Assumption(
        name="rows-once",
        assumes="Each row of the input comes back exactly once, under its key.",
        source="not documented",
        breaks="Missing rows are bought again; doubled and foreign ones are dropped.",
        relied="the resolver: rows are matched by key",
        slots=("rows",),
        judge=row_judges.rows_once,
    ),
    Assumption(
        name="results-at-once",
        assumes="A job that has succeeded names its results in the same look.",
        source="contradicted: one report of jobs that named none",
        breaks="What is believed to be lost is bought again.",
        relied="the resolver: a job without results",
        slots=("rows",),
        judge=row_judges.results_at_once,
    ),
    Assumption(
        name="counters",
        assumes="A job, looked at by name, counts as many rows as its result file has.",
        source="measured by others",
        breaks="Rows that come late are believed to be missing, and are bought again.",
        relied="the resolver: whether a short result file is whole",
        slots=("rows",),
        judge=row_judges.counters,
    ),
    Assumption(
        name="own-answers",
        assumes="A key carries the answer to its own row.",
        source="inferred; one unconfirmed report against it",
        breaks="A wrong answer, which nothing in it tells.",
        relied="the resolver: rows are matched by key",
        slots=("rows",),
        judge=row_judges.own_answers,
    ),
    Assumption(
        name="rows-in-order",
        assumes="Rows come back in the order of the input.",
        source="documented; contradicted by several reports",
        breaks="Nothing: answers are never matched by position.",
        relied="",
        slots=("rows",),
        judge=row_judges.rows_in_order,
    ),
    Assumption(
        name="bill",
        assumes="The bill is the tokens that answers report, at our prices, by half.",
        source="documented prices of one day",
        breaks="What status, run and dry runs say of costs.",
        relied="prices",
        slots=("rows",),
        judge=row_judges.bill,
    ),
)
BY_NAME: Final = {assumption.name: assumption for assumption in ASSUMPTIONS}
