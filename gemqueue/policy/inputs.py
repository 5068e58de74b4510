"""When a job's input file may go, and what it means that a job failed without it. Pure.

An input file takes room of the project's storage, and whether an accepted job survives its deletion rests on one
report. So it goes when its job has ended, unless a setting says otherwise, and a job that failed for want of it is no
failure of its prompts: the batch begins anew with a new file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from gemqueue.records import Hold
from gemqueue.setting_values import DeleteFiles
from gemqueue.states import Cause, JobState

if TYPE_CHECKING:
    from gemqueue.config import Settings
    from gemqueue.provider import JobStatus
    from gemqueue.records import Batch

_NOT_FOUND: Final = 5
MISSES_MAX: Final = 3
"""How often a batch begins anew; a provider that goes on saying so means something else, and the job has failed."""
_OTHERS: Final = re.compile(r"\b(?:models|tunedModels|cachedContents)/")
_INPUT: Final = re.compile(r"\binput[ _]?(?:file|config)", re.IGNORECASE)
_FILE: Final = re.compile(r"\bfiles/[a-z0-9-]+")
_GONE: Final = re.compile(r"not (?:be )?(?:found|exist|available)|no (?:longer|such)|deleted|expired", re.IGNORECASE)


def blames_input(status: JobStatus, file: str = "") -> bool:
    """Whether a job failed and says that its input, ``file`` where the provider names none, is not there.

    One with results had its input, whatever it says. Nothing documents the words. A message that names the input as
    gone is believed under any code; code 5, "not found", is also believed where no other resource is named. A message
    about another file is about a row's own.
    """
    if status.state is not JobState.FAILED or status.has_output or _OTHERS.search(status.error_message):
        return False
    said, known = status.error_message, (status.input_file or file).removeprefix("files/")
    is_missing = status.error_code == _NOT_FOUND
    if (known and known in said) or _INPUT.search(said):
        return is_missing or bool(_GONE.search(said))
    return is_missing and not _FILE.search(said)


def begins_anew(batch: Batch, status: JobStatus) -> bool:
    """Whether a job's failure is the want of its input, and not so often that it must be something else."""
    return batch.inputs_missed < MISSES_MAX and blames_input(status, batch.intent_file or batch.input_file)


def was_deleted(batch: Batch) -> bool:
    """Whether the record knows that the input of the batch's job was deleted before the job's end."""
    return batch.fenced_at > 0 or (batch.intent_file != "" and batch.input_file == "")


def may_go_while_running(batch: Batch, status: JobStatus, settings: Settings) -> bool:
    """Whether the setting lets the input file go now; that of a batch whose job missed its input is kept."""
    chosen = settings.delete_files == DeleteFiles.RUNNING and not batch.inputs_missed
    return chosen and batch.input_file != "" and status.begun


def why_begun_anew(status: JobStatus) -> Hold:
    """Why a batch waits that begins anew."""
    said = f": {status.error_message}" if status.error_message else ""
    text = f"input: {status.job} failed because its input file was gone{said}; another job is created"
    return Hold(Cause.INPUT, text[:1000])
