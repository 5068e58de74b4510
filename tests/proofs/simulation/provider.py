"""The port to the provider, as each simulated worker has it: one ``Provider`` per process, one ``Cloud`` behind all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.errors import Ambiguous, ProviderError, Rejected, Transient
from gemqueue.provider import Limits, StoredFile
from tests.proofs.simulation.cloud import COMMIT_S_MAX, owner_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from gemqueue.provider import JobStatus, Search
    from gemqueue.states import Kind
    from tests.proofs.simulation.cloud import Cloud
    from tests.proofs.simulation.loop import Process
    from tests.proofs.simulation.world import SimulatedWorld

_Call = tuple[str, "Callable[[], Any]", str, type[ProviderError]]
"""The method, its effect, how the history shows it, and what is raised where nobody knows."""
_LATE_S_MAX = 40.0
_PAGE = 4
_LOST_S = 2.0


class SimulatedProvider:
    """Calls that take time, and to which things happen on the way."""

    limits = Limits()
    key_print = "the key of all"

    def __init__(self, world: SimulatedWorld, process: Process, account: str, create_timeout_s: float) -> None:
        self.account = account
        self.create_timeout_s = create_timeout_s
        self._world = world
        self._process = process
        self._cloud: Cloud = world.cloud
        self._owner = world.owners[account]

    async def _call(
        self, name: str, work: Callable[[], Any], what: str, *, unsure: type[ProviderError], timeout_s: float = _LOST_S
    ) -> Any:
        """There and back. ``unsure`` is raised where nobody knows whether it took effect."""
        world, process = self._world, self._process
        process_fate = world.faults.draw("process")
        await world.befall(process, process_fate)
        fate = world.faults.draw("calls" if name == "answer" else "provider")
        scheduler = world.scheduler
        future = process.create_future()
        arrival = scheduler.now + 0.02 + 0.2 * world.rng.random()
        if fate in {"quota", "spend", "5xx"}:
            refused = Transient("429", call=name, quota=fate == "quota", spend=fate == "spend")
            error = unsure("503", call=name) if fate == "5xx" else refused
            scheduler.at(arrival, _fail, future, error, process=process)
            world.note(process.name, what, fate)
        elif fate != "lost":
            late = timeout_s + world.rng.random() * _LATE_S_MAX if fate == "late" else 0.0
            scheduler.at(arrival + late, self._arrive, future, (name, work, what, unsure), fate)
        else:
            world.note(process.name, what, "lost")
        scheduler.at(scheduler.now + timeout_s, _fail, future, unsure("timed out", call=name), process=process)
        await world.after_sending(process, process_fate)
        return await future

    def _arrive(self, future: Any, call: _Call, fate: str) -> None:
        name, work, what, unsure = call
        world, scheduler = self._world, self._world.scheduler
        lies = self._cloud.lies
        lies.begin()
        mute = lies.mute(self._owner)
        try:
            if world.refuses(self.account):
                raise Rejected("API key not valid", call=name, code=400, auth=True)
            result = work()
        except ProviderError as error:
            world.note(self._process.name, what, f"{type(error).__name__}: {error}{' late' * (fate == 'late')}")
            if not mute:
                lies.heard()
                scheduler.at(scheduler.now + 0.05, _fail, future, error, process=self._process)
            return
        if mute:
            fate = "reply_lost"
        if not fate:
            lies.heard()
        world.note(self._process.name, what, f"done {fate}".strip())
        if name == "create":
            scheduler.at(scheduler.now + COMMIT_S_MAX * world.rng.random(), self._commit, future, result, fate)
        elif fate == "reply_lost":
            return
        elif fate == "5xx_after":
            scheduler.at(scheduler.now + 0.05, _fail, future, unsure("500", call=name), process=self._process)
        else:
            thinks_s = 2 * world.rng.random() if name == "answer" else 0.05
            scheduler.at(scheduler.now + thinks_s, _give, future, result, process=self._process)

    def _commit(self, future: Any, created: tuple[str, str, bytes], fate: str) -> None:
        job = self._cloud.commit(*created)
        scheduler = self._world.scheduler
        self._world.note("provider", f"commit {created[0]} {created[1]}", job.name)
        if fate == "5xx_after":
            scheduler.at(scheduler.now + 0.05, _fail, future, Ambiguous("500", call="create"), process=self._process)
        elif fate != "reply_lost":
            scheduler.at(scheduler.now + 0.05, _give, future, job.name, process=self._process)

    # --- the port ---

    async def upload(
        self,
        chunks: AsyncIterator[bytes],
        *,
        size_bytes: int,
        name: str,
        progress: Callable[[int], Awaitable[None]] | None = None,
    ) -> str:
        """Takes its time, sometimes longer than a lease."""
        parts: list[bytes] = []
        async for chunk in chunks:
            parts.append(chunk)
            await self._process_sleep(self._cloud.slow_upload_s * self._world.rng.random())
            if progress is not None:
                await progress(sum(map(len, parts)))
        data = b"".join(parts)
        if len(data) != size_bytes:
            self._cloud.violations.append(f"an upload of {name} has {len(data)} bytes, not {size_bytes}")

        def store() -> str:
            self._cloud.lies.upload(self._owner)
            return self._cloud.store_file(data, self._owner)

        found: str = await self._call("upload", store, f"upload {name}", unsure=Transient)
        return found

    async def create(self, *, model: str, kind: Kind, file: str, token: str) -> str:  # noqa: ARG002 - the port's
        """The call that must not be doubled."""

        def check() -> tuple[str, str, bytes]:
            return token, file, self._cloud.check(self._own(file, "create"))

        job: str = await self._call(
            "create", check, f"create {token} {file}", unsure=Ambiguous, timeout_s=self.create_timeout_s
        )
        return job

    async def answer(self, line: bytes, *, model: str, kind: Kind, service: str, timeout_s: float) -> bytes:  # noqa: ARG002 - the port's
        """It bills when it arrives, whatever becomes of its reply."""
        key = line[:40].decode(errors="replace")
        response: bytes = await self._call(
            "answer",
            lambda: self._cloud.calls.ask(line, service),
            f"answer {service} {key}",
            unsure=Ambiguous,
            timeout_s=timeout_s,
        )
        return response

    async def find(self, *, tokens: frozenset[str], since_ms: int) -> Search:
        """By token, as far as the listing shows it."""
        name = f"find {' '.join(sorted(tokens))}"
        found: Search = await self._call(
            "find", lambda: self._cloud.find(tokens, since_ms, self._owner), name, unsure=Transient
        )
        return found

    async def jobs(self, *, since_ms: int) -> AsyncIterator[list[JobStatus]]:
        """As far as the listing shows them, in pages of two."""
        found = await self._call("jobs", lambda: self._cloud.listing(since_ms, self._owner), "jobs", unsure=Transient)
        for at in range(0, len(found), 2):
            yield found[at : at + 2]

    async def newest(self) -> list[JobStatus]:
        """The first page, without results."""
        found = await self._call("newest", lambda: self._cloud.listing(0, self._owner), "newest", unsure=Transient)
        return [msgspec.structs.replace(status, output_file="") for status in found[:_PAGE]]

    async def files(self) -> AsyncIterator[list[StoredFile]]:
        """Every file."""
        found = await self._call("files", lambda: self._cloud.files_of(self._owner), "files", unsure=Transient)
        yield [StoredFile(file=name) for name in found]

    async def poll(self, job: str) -> JobStatus:
        """By name."""
        found: JobStatus = await self._call(
            "poll", lambda: self._cloud.poll(self._own(job, "poll")), f"poll {job}", unsure=Transient
        )
        return found

    async def results(self, status: JobStatus) -> AsyncIterator[list[bytes]]:
        """The rows, a few at a time."""
        job = self._cloud.jobs[status.job]
        rows = await self._call("results", lambda: self._cloud.rows(job), f"results {job.name}", unsure=Transient)
        fate = self._world.faults.draw("files")
        if fate == "short" and job.counts_rows and job.short_reads < 2:
            job.short_reads += 1
            self._cloud.lies.told_at_once(job.name, "short")
            rows = rows[: len(rows) // 2]
        while rows:
            n = 1 + int(self._world.rng.random() * 4)
            yield rows[:n]
            rows = rows[n:]
            if fate == "broken" and len(rows) < len(job.rows) // 2:
                raise Transient("the stream broke", call="results")
            await self._process_sleep(0.5 * self._world.rng.random())

    async def cancel(self, job: str) -> None:
        """Ask for its end."""
        await self._call(
            "cancel", lambda: self._cloud.cancel(self._own(job, "cancel")), f"cancel {job}", unsure=Transient
        )

    async def delete_file(self, file: str) -> bool:
        """It is gone; whether it was there."""
        found: bool = await self._call(
            "delete_file",
            lambda: owner_of(file) == self._owner and self._cloud.files.pop(file, None) is not None,
            f"delete {file}",
            unsure=Transient,
        )
        return found

    async def delete_job(self, job: str) -> None:
        """Its results are gone; the ledger keeps it."""
        await self._call("delete_job", lambda: None, f"delete {job}", unsure=Transient)

    async def aclose(self) -> None:
        """Nothing is open."""

    def _own(self, name: str, call: str) -> str:
        """A name that this key may know. Raises Rejected."""
        if owner_of(name) != self._owner:
            raise Rejected("not found", call=call, code=404, missing=True)
        return name

    async def _process_sleep(self, seconds: float) -> None:
        waiter = self._process.create_future()
        self._process.call_later(seconds, _give, waiter, None)
        await waiter


def _give(future: Any, result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: Any, error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
