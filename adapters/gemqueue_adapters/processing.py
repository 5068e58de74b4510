"""An uploaded file until it can be used: waited for while the service processes it, deleted if it never becomes usable.

A file that stays would count against what the project may store for 48 hours, and each try would leave another.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from gemqueue.errors import GemqueueError, Rejected, Transient
from gemqueue_adapters.operations import FileInfo, file_of
from gemqueue_adapters.upload import HEARTBEAT_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

DISCARD_S: Final = 5.0
FILE: Final = "file"
"""The ``resource`` of a ``Transient``: the service did not get through with the file."""
_ENDS: Final = {"ACTIVE", "FAILED"}

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.upload")


class UploadedFile:
    """A file that an upload has made.

    ``look`` gets the resource by its name, ``delete`` deletes it. The first pause between looks is ``poll_s``; they
    grow by half up to a heartbeat, until ``timeout_s`` have passed.
    """

    def __init__(
        self,
        info: FileInfo,
        *,
        look: Callable[[str], Awaitable[bytes]],
        delete: Callable[[str], Awaitable[object]],
        sleep: Callable[[float], Awaitable[None]],
        poll_s: float,
        timeout_s: float,
    ) -> None:
        self._info = info
        self._look = look
        self._delete = delete
        self._sleep = sleep
        self._pause_s = poll_s
        self._timeout_s = timeout_s

    async def until_usable(self, heard: Callable[[], Awaitable[None]]) -> str:
        """Wait until it is ACTIVE; returns its name. ``heard`` is awaited before each look, and may end the wait.

        Raises ``Transient`` with the resource ``file`` where it failed, vanished or is processed for too long.
        """
        end_s = asyncio.get_running_loop().time() + self._timeout_s
        while self._info.state not in _ENDS:
            if asyncio.get_running_loop().time() >= end_s:
                raise _unusable(f"the file is still being processed after {self._timeout_s:g} s")
            await self._sleep(self._pause_s)
            self._pause_s = min(self._pause_s * 1.5, HEARTBEAT_S)
            await heard()
            await self._refresh()
        if self._info.state == "FAILED":
            raise _unusable(f"the service failed to process the file: {self._info.error_message}".rstrip(": "))
        return self._info.name

    async def discard(self) -> None:
        """Delete it as far as that can be done within a moment; what it raises itself is logged, nothing else."""
        try:
            async with asyncio.timeout(DISCARD_S):
                await self._delete(self._info.name)
        except (GemqueueError, TimeoutError, RuntimeError) as error:  # RuntimeError: the client is closed already
            log.warning("file.not_deleted", file=self._info.name, error=str(error) or type(error).__name__)

    async def _refresh(self) -> None:
        """A look that fails for a passing reason, or shows another file, is no news."""
        try:
            info = file_of(await self._look(self._info.name))
        except (Transient, ValueError):
            return
        except Rejected as exc:
            if exc.missing:
                raise _unusable("the file has vanished") from None
            raise
        if info.name == self._info.name:
            self._info = info


def _unusable(why: str) -> Transient:
    return Transient(f"upload: {why}", call="upload", resource=FILE)
