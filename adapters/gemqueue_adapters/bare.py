"""Single calls whose bare status matters, for whoever examines the service itself: the port hides it."""

from __future__ import annotations

import hashlib

import msgspec

from gemqueue.errors import ProviderError, Rejected
from gemqueue_adapters.http import Http


class Told(msgspec.Struct, frozen=True):
    """What one call was answered: the status, and what the adapter takes it for.

    ``read`` is done, missing, auth, refused or later. ``body`` is that of a success.
    """

    code: int
    read: str
    body: bytes = b""


class BareCalls:
    """Calls with one key, each sent once. Raises ``ConfigError`` for a key or URL that cannot be right."""

    def __init__(self, *, api_key: str, base_url: str, api_version: str, emulate: bool, timeout_s: float) -> None:
        self._http = Http(base_url=base_url, api_key=api_key, emulate=emulate, timeout_s=timeout_s)
        self._version = api_version
        self.key_print = hashlib.sha256(api_key.encode()).hexdigest()[:12]

    async def resource(self, method: str, name: str) -> Told:
        """Ask for a resource of the API, such as ``files/abc`` or ``batches?pageSize=100``. See ``path``."""
        return await self.path(method, f"/{self._version}/{name}")

    async def path(self, method: str, path: str) -> Told:
        """Send once and say what came. Raises the ``ProviderError`` of a call that no reply came to."""
        try:
            reply = await self._http.request("ask", method, self._http.url(path))
        except ProviderError as error:
            if not error.code:
                raise
            return Told(error.code, _read(error))
        return Told(reply.status, "done", reply.body)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _read(error: ProviderError) -> str:
    if not isinstance(error, Rejected):
        return "later"
    return "auth" if error.auth else "missing" if error.missing else "refused"
