"""Uploaded files and the resumable uploads that make them (protocol section 8)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue_adapters.emulator.wire import ApiError, quota_error, timestamp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from gemqueue_adapters.emulator.clock import Clock
    from gemqueue_adapters.emulator.service.store import Store

FILE_MAX_BYTES = 2 << 30
LIFE_MS = 48 * 3600 * 1000
ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
ID_CHARS = "abcdefghijklmnopqrstuvwxyz0123456789"
HASH_BLOCK_BYTES = 1 << 20


class File(msgspec.Struct, omit_defaults=True):
    """One uploaded file."""

    id: str
    number: int
    project: str
    display_name: str | None
    mime_type: str
    size_bytes: int
    sha256: str
    create_ms: int
    active_ms: int
    hidden: bool = False
    """Deleted, but a create that names it still finds it."""


class Upload(msgspec.Struct, omit_defaults=True):
    """One resumable upload; `file` is the id of the file that it became."""

    id: str
    project: str
    name: str | None
    display_name: str | None
    mime_type: str
    size_bytes: int | None
    file: str | None = None


class Files:
    """The files and uploads of all projects, in memory and on disk."""

    def __init__(
        self, files: Store, uploads: Store, clock: Clock, storage_max_bytes: int | None, *, hashed: bool = True
    ) -> None:
        self.store = files
        self._uploads_store = uploads
        self._clock = clock
        self._storage_max_bytes = storage_max_bytes
        self._new_digest = hashlib.sha256 if hashed else _Unhashed
        self._files: dict[str, File] = {}
        self._uploads: dict[str, Upload] = {}
        self._hashes: dict[str, tuple[int, Any]] = {}
        self._busy: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._number = 0

    def load(self) -> None:
        """Take up what is on disk."""
        self._uploads = dict(self._uploads_store.load(Upload))
        for _, file in self.store.load(File):
            self._files[file.id] = file
            self._number = max(self._number, file.number)

    def reset(self) -> None:
        """Forget all files and uploads."""
        for each in (self._files, self._uploads, self._hashes, self._busy):
            each.clear()
        self.store.clear()
        self._uploads_store.clear()

    def start(self, upload: Upload) -> Upload:
        """Begin an upload.

        Raises:
            ApiError: 400 for a name or size that cannot be, 409 for a name that is taken, 429 for a full store.
        """
        if upload.name is not None and not ID.fullmatch(upload.name):
            raise ApiError(400, "File name must be files/ and up to 40 lowercase letters, digits or dashes")
        self._check_size(upload.size_bytes or 0)
        self._check_name(upload)
        self._check_storage(upload.project, upload.size_bytes or 0)
        self._uploads[upload.id] = upload
        self._uploads_store.path(upload.id, "part").touch()
        self._uploads_store.put(upload.id, upload)
        return upload

    def upload(self, upload_id: str) -> Upload:
        """An upload by its id, which is the credential.

        Raises:
            ApiError: 404.
        """
        if upload_id not in self._uploads:
            raise ApiError(404, "Upload has already been terminated or does not exist.")
        return self._uploads[upload_id]

    def received_bytes(self, upload: Upload) -> int:
        """How much of an upload has arrived."""
        if upload.file is not None:
            return upload.size_bytes or 0
        return self._uploads_store.path(upload.id, "part").stat().st_size

    async def append(self, upload: Upload, offset: int, chunks: AsyncIterator[bytes]) -> None:
        """Write what arrives, as it arrives, from `offset` on; bytes sent again replace the former ones.

        Raises:
            ApiError: 400 for a gap, or beyond 2 GB.
        """
        async with self._busy[upload.id]:
            path = self._uploads_store.path(upload.id, "part")
            if upload.file is not None or offset > path.stat().st_size:
                raise ApiError(400, "The upload offset does not match what the server has received.")
            size, digest = await self._hash_until(upload, path, offset)
            with path.open("r+b") as file:
                file.truncate(offset)
                file.seek(offset)
                async for chunk in chunks:
                    size += len(chunk)
                    self._check_size(size)
                    file.write(chunk)
                    digest.update(chunk)
                    self._hashes[upload.id] = size, digest

    async def finish(self, upload: Upload, processing_s: float) -> File:
        """Make the file. Finishing twice gives the same file.

        Raises:
            ApiError: 400 if less or more has arrived than was announced, 409 if the name was taken meanwhile, 429 for
                a full store.
        """
        async with self._busy[upload.id]:
            if upload.file is not None:
                return self._files[upload.file]
            path = self._uploads_store.path(upload.id, "part")
            size, digest = await self._hash_until(upload, path, path.stat().st_size)
            if upload.size_bytes is not None and size != upload.size_bytes:
                raise ApiError(400, f"Upload has {size} bytes, but {upload.size_bytes} were announced.")
            self._check_name(upload)
            self._check_storage(upload.project, size)
            file = self._made(upload, size, digest.hexdigest(), processing_s)
            path.replace(self.store.path(file.id, "data"))
            self.store.put(file.id, file)
            self._files[file.id] = file
            upload.file, upload.size_bytes = file.id, size
            self._uploads_store.put(upload.id, upload)
            del self._hashes[upload.id]
            return file

    def cancel(self, upload: Upload) -> None:
        """Give an upload up."""
        del self._uploads[upload.id]
        self._uploads_store.drop(upload.id, "json", "part")

    def get(self, project: str, file_id: str, *, hidden: bool = False) -> File:
        """A file that lives and belongs to the project; with `hidden`, also one that was deleted from sight alone.

        Raises:
            ApiError: 403, whatever the reason (protocol section 8.3); 400 for an id longer than 40 characters.
        """
        if len(file_id) > 40:
            raise ApiError(400, "* GetFileRequest.name: File name must be at most 40 characters.")
        file = self._living(file_id)
        if file is None or file.project != project or (file.hidden and not hidden):
            message = f"You do not have permission to access the File {file_id} or it may not exist."
            raise ApiError(403, message)
        return file

    def newest_first(self, project: str, below: int | None) -> Iterator[File]:
        """The living files of a project, from number `below` down."""
        living = [file for file_id in list(self._files) if (file := self._living(file_id)) and file.project == project]
        living = [file for file in living if not file.hidden]
        for file in sorted(living, key=lambda file: -file.number):
            if below is None or file.number < below:
                yield file

    def hide(self, file: File) -> None:
        """Take a file from sight; a create that names it still finds its bytes."""
        file.hidden = True
        self.store.put(file.id, file)

    def delete(self, file: File) -> None:
        """Remove a file, its bytes first from sight, then from disk."""
        del self._files[file.id]
        self.store.drop(file.id, "json", "data")

    def show(self, file: File, base_url: str) -> dict[str, Any]:
        """The file resource (protocol section 8.1)."""
        shown: dict[str, Any] = {"name": f"files/{file.id}"}
        if file.display_name is not None:
            shown["displayName"] = file.display_name
        if file.sha256:
            shown["sha256Hash"] = base64.b64encode(file.sha256.encode()).decode()
        return shown | {
            "mimeType": file.mime_type,
            "sizeBytes": str(file.size_bytes),
            "createTime": timestamp(file.create_ms),
            "updateTime": timestamp(file.create_ms),
            "expirationTime": timestamp(file.create_ms + LIFE_MS),
            "uri": f"{base_url}/v1beta/files/{file.id}",
            "state": "ACTIVE" if self.active(file) else "PROCESSING",
            "source": "UPLOADED",
        }

    def active(self, file: File) -> bool:
        """Whether the file is ready to be used."""
        return self._clock.now_ms() >= file.active_ms

    def _living(self, file_id: str) -> File | None:
        file = self._files.get(file_id)
        if file is not None and file.create_ms + LIFE_MS <= self._clock.now_ms():
            self.delete(file)
            return None
        return file

    def _made(self, upload: Upload, size_bytes: int, sha256: str, processing_s: float) -> File:
        self._number += 1
        now_ms = self._clock.now_ms()
        return File(
            id=upload.name or "".join(secrets.choice(ID_CHARS) for _ in range(12)),
            number=self._number,
            project=upload.project,
            display_name=upload.display_name,
            mime_type=upload.mime_type,
            size_bytes=size_bytes,
            sha256=sha256,
            create_ms=now_ms,
            active_ms=now_ms + int(processing_s * 1000),
        )

    async def _hash_until(self, upload: Upload, path: Path, size_bytes: int) -> tuple[int, Any]:
        """The running digest at `size_bytes`; computed anew when the bytes at hand are not the ones it counted."""
        known = self._hashes.get(upload.id, (0, self._new_digest()))
        if known[0] != size_bytes:
            known = size_bytes, await asyncio.to_thread(_hash, self._new_digest(), path, size_bytes)
        self._hashes[upload.id] = known
        return known

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > FILE_MAX_BYTES:
            raise ApiError(400, f"File is larger than the limit of {FILE_MAX_BYTES} bytes.")

    def _check_name(self, upload: Upload) -> None:
        if upload.name is not None and self._living(upload.name) is not None:
            raise ApiError(409, f"File files/{upload.name} already exists.")

    def _check_storage(self, project: str, more: int) -> None:
        if self._storage_max_bytes is not None:
            stored = sum(file.size_bytes for file in self._files.values() if file.project == project)
            if stored + more > self._storage_max_bytes:
                raise quota_error()


class _Unhashed:
    """In the place of a digest that nobody asks for."""

    def update(self, _data: bytes) -> None:
        """Nothing."""

    def hexdigest(self) -> str:
        """No digest."""
        return ""


def _hash(digest: Any, path: Path, size_bytes: int) -> Any:
    with path.open("rb") as file:
        while size_bytes and (block := file.read(min(size_bytes, HASH_BLOCK_BYTES))):
            digest.update(block)
            size_bytes -= len(block)
    return digest
