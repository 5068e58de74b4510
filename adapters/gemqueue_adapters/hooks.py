"""The webhooks that are registered for a project: made, listed, rotated, tried, deleted (protocol section 11.2)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

import msgspec

from gemqueue.errors import Rejected, Transient

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gemqueue_adapters.http import Http

T = TypeVar("T")
_PAGE_SIZE: Final = 100
_PAGES_MAX: Final = 100
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Secret(msgspec.Struct, frozen=True):
    """A signing secret as it may be shown: its last characters, and when it ends."""

    truncated_secret: str = ""
    expire_time: str = ""


class Hook(msgspec.Struct, frozen=True):
    """A registered webhook. ``new_signing_secret`` is there in the reply to its creation alone."""

    id: str = ""
    name: str = ""
    uri: str = ""
    state: str = ""
    subscribed_events: list[str] = []
    signing_secrets: list[Secret] = []
    new_signing_secret: str = ""


class _Page(msgspec.Struct, frozen=True):
    webhooks: list[Hook] = []
    next_page_token: str = ""


class _Rotated(msgspec.Struct, frozen=True):
    secret: str = ""


class Hooks:
    """The registered webhooks of one project. Every method raises only provider errors and ConfigError."""

    def __init__(self, http: Http, *, api_version: str) -> None:
        self._http = http
        self._version = api_version

    async def register(self, *, uri: str, name: str, events: Sequence[str]) -> Hook:
        """Register ``uri`` for ``events``; the reply alone shows the secret."""
        body = {"uri": uri, "subscribed_events": list(events)} | ({"name": name} if name else {})
        return self._read(await self._call("register", "POST", "", body), Hook, "register")

    async def list(self) -> list[Hook]:
        """All of them."""
        found: list[Hook] = []
        token = ""
        for _ in range(_PAGES_MAX):
            query = f"?page_size={_PAGE_SIZE}" + (f"&page_token={quote(token, safe='')}" if token else "")
            page = self._read(await self._call("list", "GET", query), _Page, "list")
            found += page.webhooks
            token = page.next_page_token
            if not token:
                return found
        raise Transient(f"list: the list of webhooks did not end within {_PAGES_MAX} pages", call="list")

    async def rotate(self, hook: str, *, at_once: bool) -> str:
        """A new secret; the old ones end now, or after a day in which both sign."""
        ends = "immediately" if at_once else "after_h24"
        body = {"revocation_behavior": f"revoke_previous_secrets_{ends}"}
        raw = await self._call("rotate", "POST", f"/{_checked(hook)}:rotateSigningSecret", body)
        return self._read(raw, _Rotated, "rotate").secret

    async def ping(self, hook: str) -> None:
        """Have a test event sent."""
        await self._call("ping", "POST", f"/{_checked(hook)}:ping")

    async def delete(self, hook: str) -> None:
        """Remove it."""
        await self._call("delete", "DELETE", f"/{_checked(hook)}")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _call(self, call: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        url = self._http.url(f"/{self._version}/webhooks{path}")
        content = msgspec.json.encode(body) if body is not None else None
        headers = {"content-type": "application/json"} if body is not None else None
        return (await self._http.request(call, method, url, content=content, headers=headers)).body

    def _read(self, raw: bytes, kind: type[T], call: str) -> T:
        try:
            return msgspec.json.decode(raw or b"{}", type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Transient(f"{call}: the reply cannot be read", call=call) from None


def _checked(hook: str) -> str:
    if not _ID.fullmatch(hook):
        raise Rejected(f"{hook[:80]!r} is no webhook's id: `gemqueue webhooks list` shows them", call="webhooks")
    return hook
