"""The service's published keys, fetched from one address, kept for an hour, and asked for anew at a bounded rate.

A forged delivery must not be a way to make us call anybody: the address comes from the settings alone, redirects are
not followed, the reply is bounded in size and time, and however many deliveries name unknown keys, it is asked for at
most once a minute, or every five seconds while it does not answer. Keys that are known stay in use meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import httpx

from gemqueue.errors import ConfigError
from gemqueue.urls import shown_url
from gemqueue_adapters.clients import make_client
from gemqueue_adapters.http import MARK, checked_base
from gemqueue_adapters.webhooks import PublicKeys, keys_of

if TYPE_CHECKING:
    from gemqueue.clock import Clock

PATH: Final = "/.well-known/jwks.json"
KEEP_S: Final = 3600.0
AGAIN_S: Final = 60.0
_AGAIN_FAILED_S: Final = 5.0
_BYTES_MAX: Final = 64 * 1024
_FETCH_S_MAX: Final = 3.0  # a delivery waits for it, and its sender gives up after a few seconds


class KeySource:
    """The keys at ``url``, or at the well-known place of the base URL's origin.

    ``error`` says why the last fetch failed, or is empty. Raises ConfigError for an address that must not be asked.
    """

    def __init__(self, *, base_url: str, url: str, emulate: bool, clock: Clock) -> None:
        try:
            origin = checked_base(base_url, emulate=emulate).copy_with(raw_path=PATH.encode())
            self._url = checked_base(url, emulate=False) if url else origin
        except ConfigError as error:
            raise ConfigError(f"The keys of webhooks (webhook_jwks_url, base_url): {error}") from error
        self._emulate = emulate
        self._clock = clock
        self._keys = PublicKeys()
        self._fetched_s = self._tried_s = -KEEP_S
        self._lock = asyncio.Lock()
        self._client = make_client(follow_redirects=False, trust_env=self._url.scheme == "https", timeout=_FETCH_S_MAX)
        self._shown = shown_url(str(self._url))
        self.error = ""
        self.fetches = 0

    async def keys(self) -> PublicKeys:
        """The known keys, an hour old at most where the address answers; none where it never has."""
        if self._clock.monotonic() - self._fetched_s >= KEEP_S:
            await self.refresh()
        return self._keys

    async def refresh(self) -> bool:
        """Ask anew, for a key that is not known; False when that was tried a moment ago, or failed."""
        async with self._lock:
            now_s = self._clock.monotonic()
            if now_s - self._tried_s < (_AGAIN_FAILED_S if self.error else AGAIN_S):
                return False
            self.fetches += 1
            try:
                async with asyncio.timeout(_FETCH_S_MAX):
                    self._keys = keys_of(await self._fetch())
            except (httpx.HTTPError, OSError, TimeoutError, ValueError) as error:
                self.error = f"{type(error).__name__}: {error}"
                return False
            finally:
                self._tried_s = self._clock.monotonic()  # whoever has waited for this answer does not ask again
            self.error = ""
            self._fetched_s = now_s
            return True

    async def _fetch(self) -> bytes:
        async with self._client.stream("GET", self._url) as reply:
            if reply.status_code != 200:
                raise ValueError(f"{self._shown} answers with HTTP {reply.status_code}")
            if (MARK in reply.headers) != self._emulate:
                raise ValueError(f"{self._shown} is {'no' if self._emulate else 'an'} emulator")
            body = bytearray()
            async for piece in reply.aiter_bytes():
                body += piece
                if len(body) > _BYTES_MAX:
                    raise ValueError(f"{self._shown} answers with more than {_BYTES_MAX} bytes")
            return bytes(body)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
