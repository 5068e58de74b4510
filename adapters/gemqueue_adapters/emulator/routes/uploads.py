"""The handlers of the Files API: resumable upload, query, get, list, delete (protocol section 8)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from gemqueue_adapters.emulator.proto import fields
from gemqueue_adapters.emulator.routes.multipart import Multipart
from gemqueue_adapters.emulator.service.bodies import read, tolerated
from gemqueue_adapters.emulator.service.files import File, Files, Upload
from gemqueue_adapters.emulator.wire import ApiError, Json, page_size, page_start, page_token, project_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from gemqueue_adapters.emulator.service.batches import Batches

GRANULARITY_BYTES = 8 << 20
START_MAX_BYTES = 64 << 10


class Uploads:
    """Handlers over the files."""

    def __init__(self, files: Files, batches: Batches) -> None:
        self._files = files
        self._batches = batches

    async def start(self, request: Request) -> Response:
        """Begin a resumable upload; answers with the address for the bytes."""
        project = project_of(request)
        if _is_multipart(request):
            return await self._multipart(request, project)
        if request.headers.get("x-goog-upload-command", "").strip() != "start":
            raise ApiError(400, "Expected X-Goog-Upload-Protocol: resumable and X-Goog-Upload-Command: start.")
        headers = request.headers
        size = _number(headers.get("x-goog-upload-header-content-length"))
        asked = _start_body(await read(request, START_MAX_BYTES))
        upload = self._begun(project, asked, headers.get("x-goog-upload-header-content-type"), size)
        url = f"{base_url(request)}{request.url.path}?upload_id={upload.id}&upload_protocol=resumable"
        return Response(
            headers={
                "X-Goog-Upload-Status": "active",
                "X-Goog-Upload-URL": url,
                "X-Goog-Upload-Control-URL": url,
                "X-Goog-Upload-Chunk-Granularity": str(GRANULARITY_BYTES),
            }
        )

    async def _multipart(self, request: Request, project: str) -> Response:
        """A whole upload in one request."""
        body = Multipart(request.headers.get("content-type", ""), request.stream())
        json, mime_type = await body.head()
        upload = self._begun(project, _start_body(json), mime_type, None)
        try:
            await self._files.append(upload, 0, body.media())
        except ApiError:
            self._files.cancel(upload)
            raise
        return Json({"file": self._show(request, await self._files.finish(upload, _processing_s(request)))})

    def _begun(self, project: str, asked: dict[str, Any], mime_type: str | None, size_bytes: int | None) -> Upload:
        name = _text(asked, "name")
        if name is not None and not name.startswith("files/"):
            raise ApiError(400, "File name must begin with files/")
        return self._files.start(
            Upload(
                id=secrets.token_urlsafe(24),
                project=project,
                name=None if name is None else name.removeprefix("files/"),
                display_name=_text(asked, "display_name", "displayName"),
                mime_type=_text(asked, "mime_type", "mimeType") or mime_type or "application/octet-stream",
                size_bytes=_number(_text(asked, "size_bytes", "sizeBytes")) if size_bytes is None else size_bytes,
            )
        )

    async def upload(self, request: Request) -> Response:
        """Take bytes, finish, say how much has arrived, or give up. The upload's id is the credential."""
        upload = self._files.upload(request.query_params["upload_id"])
        commands = {each.strip() for each in request.headers.get("x-goog-upload-command", "").split(",")}
        if commands == {"query"}:
            status = "active" if upload.file is None else "final"
            return Response(headers=_headers(status, self._files.received_bytes(upload)))
        if commands == {"cancel"}:
            self._files.cancel(upload)
            return Response(headers={"X-Goog-Upload-Status": "cancelled"})
        if not commands <= {"upload", "finalize"}:
            raise ApiError(400, "Unknown X-Goog-Upload-Command.")
        if "upload" in commands and upload.file is None:
            offset = _number(request.headers.get("x-goog-upload-offset"))
            await self._files.append(upload, offset or 0, request.stream())
        else:
            await request.body()
        if "finalize" not in commands:
            return Response(headers=_headers("active", self._files.received_bytes(upload)))
        file = await self._files.finish(upload, _processing_s(request))
        return Json({"file": self._show(request, file)}, headers=_headers("final", file.size_bytes))

    async def get(self, request: Request) -> Response:
        """One file resource, bare."""
        return Json(self._show(request, self._files.get(project_of(request), request.path_params["id"])))

    async def list(self, request: Request) -> Response:
        """A page of the project's files, newest first."""
        size = page_size(request, 10)
        files: list[File] = []
        for file in self._files.newest_first(project_of(request), page_start(request)):
            if len(files) == size:
                token = {"nextPageToken": page_token(files[-1].number)}
                return Json({"files": [self._show(request, each) for each in files], **token})
            files.append(file)
        return Json({"files": [self._show(request, each) for each in files]} if files else {})

    async def delete(self, request: Request) -> Response:
        """Delete a file, on which jobs may stand."""
        project, fault = project_of(request), request.state.fault
        file = self._files.get(project, request.path_params["id"])
        usable = fault is not None and fault.do == "usable"
        (self._files.hide if usable else self._files.delete)(file)
        self._batches.input_deleted(project, file.id)
        return Json({})

    def _show(self, request: Request, file: File) -> dict[str, Any]:
        return self._files.show(file, base_url(request))


def base_url(request: Request) -> str:
    """Scheme and host as the client used them, so that addresses in answers lead back here."""
    return f"{request.url.scheme}://{request.headers.get('host') or request.url.netloc}"


def _is_multipart(request: Request) -> bool:
    protocol = request.headers.get("x-goog-upload-protocol") or request.query_params.get("uploadType")
    return protocol == "multipart"


def _processing_s(request: Request) -> float:
    fault = request.state.fault
    return fault.seconds if fault is not None and fault.do == "processing" else 0


def _headers(status: str, received_bytes: int) -> dict[str, str]:
    return {"X-Goog-Upload-Status": status, "X-Goog-Upload-Size-Received": str(received_bytes)}


def _start_body(body: bytes) -> dict[str, Any]:
    """The `file` of a start body; the guide's shell samples write it in single quotes, and the service takes that."""
    if not body.strip():
        return {}
    try:
        value = msgspec.json.decode(tolerated(body))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, "Invalid JSON payload received.") from error
    if not isinstance(value, dict):
        raise ApiError(400, "Invalid JSON payload received.")
    return fields(fields(value).get("file"))


def _text(asked: dict[str, Any], *names: str) -> str | None:
    return next((str(asked[name]) for name in names if asked.get(name) is not None), None)


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ApiError(400, "Expected a number of bytes.")
    return int(text)
