"""What a job and its input file are called at the provider, so that whoever lists them knows whose they are.

``gq-<home>-<batch>-<fence>`` is a job, ``gq-<home>-<batch>`` an input file. The home is a random word that the queue's
server was given for the account, so that two installations on one account never take each other's jobs for their own.
Jobs of 0.1.0 carry no home.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from gemqueue.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gemqueue.provider import JobStatus

_NAME = re.compile(r"gq-(?:([0-9a-f]{8})-)?(00b[0-9a-f]{20})(?:-([0-9]{1,15}))?", re.ASCII)


class Token(msgspec.Struct, frozen=True):
    """A name of ours, read; ``fence`` is 0 for an input file."""

    home: str
    batch: str
    fence: int = 0

    def is_of(self, home: str) -> bool:
        """Whether it may be this home's; one without a home may be anybody's who is old enough."""
        return self.home in {home, ""}


def checked_home(text: str) -> str:
    """The home that a person names. Raises ConfigError where it is none."""
    if parse(f"gq-{text}-00b{'0' * 20}") is None or not text:
        raise ConfigError(
            f"{text[:40]!r} is no home: that is the first word behind gq- in the names of jobs, like 1f2e3d4c"
        )
    return text


def job_token(home: str, batch: str, fence: int) -> str:
    """The display name of the job that a batch begins under a fence."""
    return f"{file_name(home, batch)}-{fence}"


def file_name(home: str, batch: str) -> str:
    """The display name of a batch's input file."""
    return f"gq-{home}-{batch}" if home else f"gq-{batch}"


def batch_of(token: str) -> str:
    """The batch whose job carries this token; empty where it is none of ours."""
    found = parse(token)
    return found.batch if found is not None and found.fence else ""


def parse(display_name: str) -> Token | None:
    """The name read; None where it is none of ours."""
    found = _NAME.fullmatch(display_name)
    return Token(found[1] or "", found[2], int(found[3] or 0)) if found else None


def older_homes(jobs: Iterable[JobStatus], home: str, began_at_ms: int) -> list[str]:
    """The other homes that have jobs from before this one was given: another queue's, or this one's, if it was lost."""
    named = [(job, parse(job.display_name)) for job in jobs]
    found = [
        token.home
        for job, token in named
        if token is not None and token.fence and token.home not in {"", home} and job.created_at_ms < began_at_ms
    ]
    return list(dict.fromkeys(found))
