"""The OpenAI-compatible batch endpoints (protocol section 12): the same jobs and files, in other clothes.

Uploads and downloads are not part of it, here as there: files go the native way. Errors come in a list of one.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue_adapters.emulator.rows import RowError
from gemqueue_adapters.emulator.service.batches import Asked, Batches
from gemqueue_adapters.emulator.service.bodies import payload_error, read
from gemqueue_adapters.emulator.service.openai_rows import KINDS, to_native
from gemqueue_adapters.emulator.wire import NOT_FOUND, ApiError, Json, project_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from gemqueue_adapters.emulator.routes.api import Api
    from gemqueue_adapters.emulator.service.jobs import Job

    Handler = Callable[[Request], Awaitable[Response]]

BODY_MAX_BYTES = 1 << 20
STATUSES = {
    "PENDING": "validating",
    "RUNNING": "in_progress",
    "SUCCEEDED": "completed",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "EXPIRED": "expired",
}


class _Create(msgspec.Struct):
    endpoint: str
    input_file_id: str
    completion_window: str = "24h"
    metadata: dict[str, str] | None = None


class OpenAI:
    """Handlers over the same batches."""

    def __init__(self, api: Api, batches: Batches) -> None:
        self._api = api
        self._batches = batches

    async def create(self, request: Request) -> Response:
        """Create a batch out of an uploaded file of OpenAI's rows."""
        project = project_of(request)
        try:
            asked = msgspec.json.decode(await read(request, BODY_MAX_BYTES), type=_Create)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise payload_error(error) from error
        kind = KINDS.get(asked.endpoint)
        if kind is None or asked.completion_window != "24h":
            raise ApiError(400, f"endpoint must be one of {', '.join(KINDS)}, and completion_window 24h.")
        source = self._api.input_file(project, asked.input_file_id)
        handle, name = tempfile.mkstemp(suffix=".tmp", dir=self._batches.store.folder)
        try:
            with os.fdopen(handle, "wb") as spool:
                model = await asyncio.to_thread(to_native, asked.endpoint, source, spool)
            openai = {"endpoint": asked.endpoint, "metadata": asked.metadata}
            wanted = Asked(kind, model, None, 0, asked.input_file_id, shuffled=True, openai=openai)
            return Json(self._shown(await self._batches.create(project, wanted, Path(name))))
        except RowError as error:
            raise ApiError(400, str(error)) from error
        finally:
            await asyncio.to_thread(os.unlink, name)

    async def retrieve(self, request: Request) -> Response:
        """One batch."""
        job = self._job(request)
        await self._batches.settled([job])
        return Json(self._shown(job))

    async def cancel(self, request: Request) -> Response:
        """Cancel, and show the batch."""
        job = self._job(request)
        await request.body()
        fault = request.state.fault
        self._batches.cancel(job, half=fault is not None and fault.do == "half")
        return Json(self._shown(job))

    async def list(self, request: Request) -> Response:
        """A page of the batches that OpenAI clients made, newest first."""
        project, after, limit = project_of(request), request.query_params.get("after"), _limit(request)
        below = self._batches.get(project, after.removeprefix("batches/")).number if after else None
        mine = [job for job in self._batches.newest_first(project, below) if job.openai is not None]
        await self._batches.settled(mine[:limit])
        shown = [self._shown(job) for job in mine[:limit]]
        ends = {"first_id": shown[0]["id"], "last_id": shown[-1]["id"]} if shown else {}
        return Json({"object": "list", "data": shown, "has_more": len(mine) > limit, **ends})

    async def unsupported(self, request: Request) -> Response:
        """Refuse uploads and downloads, as the service does."""
        project_of(request)
        raise ApiError(404, "The OpenAI-compatible layer has no files: upload and download them by the native API.")

    def _job(self, request: Request) -> Job:
        name = str(request.path_params["id"])
        job = self._batches.get(project_of(request), name.removeprefix("batches/"))
        if job.openai is None:
            raise ApiError(404, NOT_FOUND)
        return job

    def _shown(self, job: Job) -> dict[str, Any]:
        at = self._batches.status(job)
        ended = at.end_ms is not None
        shown: dict[str, Any] = {
            "id": f"batches/{job.id}",
            "object": "batch",
            **(job.openai or {}),
            "input_file_id": job.input_file,
            "completion_window": "24h",
            "status": STATUSES[at.state],
            "created_at": job.create_ms // 1000,
        }
        if ended:
            shown[f"{STATUSES[at.state]}_at"] = (at.end_ms or 0) // 1000
        if at.error is not None:
            error = {"code": str(at.error["code"]), "message": at.error["message"]}
            shown["errors"] = {"object": "list", "data": [error]}
        failed = job.ran.tally.failed if job.ran is not None and at.state == "SUCCEEDED" else 0
        completed = job.rows - failed if at.state == "SUCCEEDED" else 0
        if at.state == "SUCCEEDED":
            shown["output_file_id"] = f"files/batch-{job.id}"
        return shown | {"request_counts": {"total": job.rows, "completed": completed, "failed": failed}}


def in_a_list(handler: Handler) -> Handler:
    """`handler` with its errors wrapped in a list of one."""

    async def wrapped(request: Request) -> Response:
        try:
            return await handler(request)
        except ApiError as error:
            error.listed = True
            raise

    return wrapped


def _limit(request: Request) -> int:
    text = request.query_params.get("limit") or "20"
    if not text.isascii() or not text.isdigit():
        raise ApiError(400, "limit must be a number.")
    return max(1, min(int(text), 100))
