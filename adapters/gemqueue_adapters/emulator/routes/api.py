"""The handlers of batches, and of the download of their results (protocol sections 4 to 8)."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import Response, StreamingResponse

from gemqueue_adapters.emulator.service.batches import Asked, Batches
from gemqueue_adapters.emulator.service.bodies import Created, parse, parse_update, read
from gemqueue_adapters.emulator.service.jobs import Job, Status, operation
from gemqueue_adapters.emulator.service.models import check_model
from gemqueue_adapters.emulator.wire import (
    NOT_FOUND,
    ApiError,
    Json,
    page_size,
    page_start,
    page_token,
    project_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from gemqueue_adapters.emulator.options import Options
    from gemqueue_adapters.emulator.rows import Kind
    from gemqueue_adapters.emulator.service.files import Files
    from gemqueue_adapters.emulator.webhooks.signing import Keys

SEND_BYTES = 1 << 20
UPDATES = {"generate": "updateGenerateContentBatch", "embed": "updateEmbedContentBatch"}


class Api:
    """Handlers over the batches."""

    def __init__(self, options: Options, files: Files, batches: Batches, keys: Keys) -> None:
        self._options = options
        self._keys = keys
        self._files = files
        self._batches = batches

    async def create_generate(self, request: Request) -> Response:
        """Create a batch of generateContent requests."""
        return await self._create("generate", request)

    async def create_embed(self, request: Request) -> Response:
        """Create a batch of embedContent requests."""
        return await self._create("embed", request)

    async def get(self, request: Request) -> Response:
        """One operation, with its results if they are inline."""
        job = self._job(request)
        await self._batches.settled([job])
        return Json(operation(job, self._batches.status(job), self._batches.inlined(job)))

    async def list(self, request: Request) -> Response:
        """A page of the project's operations, newest first, without results."""
        project, size = project_of(request), page_size(request, 50)
        fault = request.state.fault
        lag_s = fault.seconds if fault is not None and fault.do == "lag" else 0
        jobs: list[Job] = []
        more = False
        for job in self._batches.newest_first(project, page_start(request), lag_s):
            if more := len(jobs) == size:
                break
            jobs.append(job)
        await self._batches.settled(jobs)
        token = {"nextPageToken": page_token(jobs[-1].number)} if more else {}
        if fault is not None and fault.do == "oldest_first":
            jobs.reverse()
        shown = [operation(job, self._batches.status(job), listed=True) for job in jobs]
        return Json({"operations": shown, **token} if shown else {})

    async def cancel(self, request: Request) -> Response:
        """Cancel; an ended job stays as it is."""
        job = self._job(request)
        await request.body()
        await self._batches.settled([job])
        fault = request.state.fault
        self._batches.cancel(job, half=fault is not None and fault.do == "half")
        return Json({})

    async def update(self, request: Request) -> Response:
        """Change the priority or the display name; answers with the bare resource (protocol section 7)."""
        job = self._job(request)
        verb = request.path_params["verb"]
        if verb != UPDATES[job.kind]:
            raise ApiError(400, f"The batch is not one of {verb}.")
        self._batches.update(job, parse_update(await read(request), request.query_params.get("updateMask")))
        return Json(operation(job, self._batches.status(job), listed=True).get("metadata"))

    async def delete(self, request: Request) -> Response:
        """Delete; the job leaves the list and get answers 404."""
        self._batches.delete(self._job(request))
        return Json({})

    async def download(self, request: Request) -> Response:
        """The results of a job as JSONL; only generated files can be downloaded."""
        project, file_id = project_of(request), request.path_params["id"]
        if not file_id.startswith("batch-"):
            self._files.get(project, file_id)
            raise ApiError(400, "Only generated files can be downloaded.")
        path = self._batches.results(project, file_id.removeprefix("batch-"))
        if path is None:
            raise ApiError(404, NOT_FOUND)
        size = path.stat().st_size
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        return StreamingResponse(_parts(path, size), headers=headers)

    def _job(self, request: Request) -> Job:
        return self._batches.get(project_of(request), request.path_params["id"])

    async def _create(self, kind: Kind, request: Request) -> Response:
        project, model = project_of(request), request.path_params["model"]
        asked = parse(kind, await read(request), echo=self._options.answers == "echo")
        request.state.display_name = asked.display_name
        check_model(kind, model)
        if asked.hook is not None:
            self._keys.available()
        if asked.file is None:
            job = await self._create_inline(kind, project, model, asked)
        else:
            job = await self._create_from_file(kind, project, model, asked)
        return Json(operation(job, Status("PENDING", job.create_ms)))

    async def _create_inline(self, kind: Kind, project: str, model: str, created: Created) -> Job:
        """Create from inline rows, which are written out as lines: a job's input is always a file."""
        asked = Asked(kind, model, created.display_name, created.priority, None, created.all_named, created.hook)
        handle, name = tempfile.mkstemp(suffix=".tmp", dir=self._batches.store.folder)
        with os.fdopen(handle, "wb") as spool:
            spool.writelines(line + b"\n" for line in created.lines)
        try:
            return await self._batches.create(project, asked, Path(name))
        finally:
            await asyncio.to_thread(os.unlink, name)

    async def _create_from_file(self, kind: Kind, project: str, model: str, created: Created) -> Job:
        name = str(created.file)
        source = self.input_file(project, name)
        asked = Asked(kind, model, created.display_name, created.priority, name, shuffled=True, hook=created.hook)
        return await self._batches.create(project, asked, source)

    def input_file(self, project: str, name: str) -> Path:
        """Where the bytes of an input file are.

        Raises:
            ApiError: 404 if the project has no such file, 400 if it is not ready.
        """
        try:
            file = self._files.get(project, name.removeprefix("files/"), hidden=True)
        except ApiError as error:
            raise ApiError(404, NOT_FOUND) from error
        if not self._files.active(file):
            message = f"File {file.id} is not in an ACTIVE state and usage is not allowed."
            raise ApiError(400, message, status="FAILED_PRECONDITION")
        return self._files.store.path(file.id, "data")


async def _parts(path: Path, size_bytes: int) -> AsyncIterator[bytes]:
    """The first `size_bytes` of a file; a read of 1 MiB is too short to be worth a thread."""
    with path.open("rb", buffering=0) as file:
        while size_bytes and (part := file.read(min(size_bytes, SEND_BYTES))):
            size_bytes -= len(part)
            yield part
