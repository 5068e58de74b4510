"""The port to a provider: twelve calls. Policy lives in the stages, dialect in the adapters.

Every call raises only ``Transient``, ``Rejected`` or ``Ambiguous`` (or ``ConfigError`` when the account or the
emulator's mark is wrong). Only ``create`` and ``answer``, which buy, may raise ``Ambiguous``; every other call is safe
to repeat and reports what it cannot tell apart as ``Transient``. ``Rejected`` is the provider's own word: what a
gateway, a proxy or another service answers in its place concludes nothing, whatever its status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from gemqueue.states import JobState, Kind


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider takes (protocol section 13)."""

    file_bytes_max: int = 2_000_000_000
    rows_max: int | None = None
    open_jobs_max: int = 100
    fenceable: bool = True
    """A create that names a deleted input file fails."""
    searchable: bool = True
    """``find`` works."""


class JobStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a job.

    ``rows_*`` are the provider's own counters (may be stale or zero: never derive completion from them).
    ``output_file`` names the result file; ``inline`` says that the rows are inside the operation itself.
    ``begun`` says that the provider works at it, where it tells that from waiting. ``error_code`` is a google.rpc
    code. ``raw`` is the operation as received, cut at 64 KiB, for the record.
    """

    job: str
    state: JobState
    raw_state: str = ""
    begun: bool = False
    display_name: str = ""
    input_file: str = ""
    created_at_ms: int = 0
    ended_at_ms: int = 0
    rows: int = 0
    rows_ok: int = 0
    rows_failed: int = 0
    output_file: str = ""
    inline: bool = False
    error_code: int = 0
    error_message: str = ""
    raw: bytes = b""

    @property
    def has_output(self) -> bool:
        """Whether there is anything to download."""
        return bool(self.output_file) or self.inline


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that the account stores at the provider; ``generated`` says that it is a result of the provider's."""

    file: str
    display_name: str = ""
    created_at_ms: int = 0
    size_bytes: int = 0
    generated: bool = False


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What a whole listing of an account's jobs showed.

    ``jobs`` carry one of the names that were looked for, newest first. ``listed`` names every job that was listed,
    older ones too: a listing that lacks a job which must be in it is not whole, whatever it says.
    """

    jobs: tuple[JobStatus, ...] = ()
    listed: frozenset[str] = frozenset()

    @property
    def newest(self) -> JobStatus | None:
        """The newest of the jobs that were looked for."""
        return self.jobs[0] if self.jobs else None


class Provider(Protocol):
    """One account at one provider."""

    @property
    def account(self) -> str:
        """The account's id, as lanes carry it."""
        ...

    @property
    def key_print(self) -> str:
        """A fingerprint of the key that is used: says whether two calls were made with the same one."""
        ...

    @property
    def limits(self) -> Limits:
        """What it takes."""
        ...

    @property
    def create_timeout_s(self) -> float:
        """The longest that ``create`` may stay in flight."""
        ...

    async def upload(
        self,
        chunks: AsyncIterator[bytes],
        *,
        size_bytes: int,
        name: str,
        progress: Callable[[int], Awaitable[None]] | None = None,
    ) -> str:
        """Upload an input file of exactly ``size_bytes`` and wait until it can be used.

        ``chunks`` may be cut anywhere. ``progress`` is awaited with the bytes sent so far, at least once per 8 MiB and
        once per poll of a file that is still processing; what it raises ends the upload. ``name`` is a display name.
        Returns the file's resource name. A file that does not become usable, or whose upload is ended when it exists
        already, is deleted as far as that can be done; the former raises ``Transient`` with the resource ``file``.
        """
        ...

    async def create(self, *, model: str, kind: Kind, file: str, token: str) -> str:
        """Create one job over ``file``, with ``token`` as its display name; returns the job's resource name.

        Sent exactly once. Raises ``Ambiguous`` when it may have taken effect, or when something answers that is not
        the provider, or about another job; ``Rejected`` (with ``line`` where the provider named one) or
        ``Transient(quota=True)`` when it certainly did not.
        """
        ...

    async def answer(self, line: bytes, *, model: str, kind: Kind, service: str, timeout_s: float) -> bytes:
        """Ask for the answer to one input line at once, of the service class flex or standard.

        Returns what a result row has under ``response``, on one line. Sent exactly once. Raises ``Ambiguous`` when it
        may have been answered and billed although no whole reply came; ``Transient`` and ``Rejected`` when it was not.
        """
        ...

    async def find(self, *, tokens: frozenset[str], since_ms: int) -> Search:
        """Look for the jobs whose display name is one of ``tokens`` among all created at ``since_ms`` or later.

        Raises ``Transient`` where the listing does not come to an end, contradicts itself, or says of itself that it is
        not whole.
        """
        ...

    def jobs(self, *, since_ms: int) -> AsyncIterator[list[JobStatus]]:
        """List every job of the account created at ``since_ms`` or later, newest first, a page at a time.

        An entry may lag behind what ``poll`` says, and need not name the job's output. A page may hold older jobs, too.
        """
        ...

    def files(self) -> AsyncIterator[list[StoredFile]]:
        """List every file of the account that the provider lists, a page at a time."""
        ...

    async def poll(self, job: str) -> JobStatus:
        """Look at a job by name. ``Rejected(missing=True)`` when the provider does not know it.

        Its state is terminal only where the provider says so without contradicting itself.
        """
        ...

    async def newest(self) -> list[JobStatus]:
        """One page of the account's newest jobs, without results; a job that is not in it may exist all the same."""
        ...

    def results(self, status: JobStatus) -> AsyncIterator[list[bytes]]:
        """Stream the result rows of an ended job, in lists of raw lines without line ends, in any order.

        Inline output comes in the same shape as the lines of a result file: ``{"key": ..., "response" | "error":
        ...}``. Raises ``Rejected(missing=True)`` when the results are gone and ``Transient`` when the stream broke, its
        length does not match, or a web page comes instead: the caller starts again.
        """
        ...

    async def cancel(self, job: str) -> None:
        """Ask for the job to be cancelled; it may still end with results. A job that is gone or over is no error."""
        ...

    async def delete_file(self, file: str) -> bool:
        """Delete an uploaded or generated file; whether it was there. One that is gone already is no error."""
        ...

    async def delete_job(self, job: str) -> None:
        """Delete an ended job. A job that is gone already is no error."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...
