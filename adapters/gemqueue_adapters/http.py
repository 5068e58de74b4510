"""One httpx client for one origin: the key, the emulator's mark, the timeouts, and a provider error for all that fails.

Nothing here retries, follows a redirect, or says anything of a request beyond its call's name. The key is added as a
request leaves and only towards the configured origin; foreign URLs (an upload's) are called without it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import httpcore
import httpx
import msgspec

from gemqueue.errors import Ambiguous, ConfigError, ProviderError, Rejected, Transient
from gemqueue_adapters.clients import make_client
from gemqueue_adapters.envelope import Problem, read_problem
from gemqueue_adapters.problems import failure, refusal
from gemqueue_adapters.trust import trust_for

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping

MARK: Final = "x-gemini-emulator"
"""The header that every reply of an emulator carries (design section 6)."""

CONNECT_TIMEOUT_S: Final = 10.0
DOWNLOAD_READ_TIMEOUT_S: Final = 120.0
KEEPALIVE_S: Final = 4.0  # below any server's own limit, so that a create seldom meets a connection just being closed
BODY_BYTES_MAX: Final = 256 * 1024 * 1024
PROBLEM_BYTES_MAX: Final = 64 * 1024
READ_BYTES: Final = 256 * 1024
"""What a transport has ready at a time. httpcore asks for a quarter of it, and each of its reads costs some 40 us."""

_OK: Final = 200
_PAGES: Final = {"text/html", "application/xhtml+xml"}
GOOGLE_DOMAIN: Final = "googleapis.com"
_KEY = re.compile(r"[\x21-\x7e]{1,512}")


class Reply(msgspec.Struct, frozen=True):
    """A successful reply, read whole; header names are case-insensitive."""

    status: int
    headers: httpx.Headers
    body: bytes


class ApiKey(httpx.Auth):
    """Adds the key as a request leaves. Its repr, and that of whatever holds it, does not show the key."""

    def __init__(self, key: str) -> None:
        if not _KEY.fullmatch(key):
            raise ConfigError("the API key is empty or holds characters that no key has (blanks, line ends)")
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Set the header (protocol section 1.3)."""
        request.headers["x-goog-api-key"] = self._key
        yield request

    def blot_out(self, text: bytes) -> bytes:
        """Foreign text without the key in it."""
        return text.replace(self._key.encode("ascii"), b"***")

    def __repr__(self) -> str:
        return "ApiKey(***)"


class Http:
    """Calls to one origin. Every method raises only the provider errors and ``ConfigError``."""

    def __init__(self, *, base_url: str, api_key: str, emulate: bool, timeout_s: float) -> None:
        self._auth = ApiKey(api_key)
        self._base = checked_base(base_url, emulate=emulate)
        self._emulate = emulate
        self._timeout_s = timeout_s
        self._probed = False
        self._client = _client(self._base, timeout_s)

    def __repr__(self) -> str:
        return f"Http({self.origin}, emulate={self._emulate})"

    @property
    def origin(self) -> str:
        """Scheme, host and port, as errors name it."""
        return str(self._base.copy_with(raw_path=b"/")).rstrip("/")

    def url(self, path: str) -> httpx.URL:
        """``path`` under the base URL, whose own path prefix is kept (protocol section 1.2)."""
        prefix = self._base.raw_path.decode("ascii").rstrip("/")
        return self._base.copy_with(raw_path=(prefix + path).encode("ascii"))

    def upload_url(self, text: str) -> httpx.URL:
        """Check where an upload's bytes are asked to go: to our origin, or from Google to another Google host."""
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL:
            raise Rejected("upload: the reply names no usable upload URL", call="upload") from None
        ours = _origin_of(url) == _origin_of(self._base)
        google = all(candidate.scheme == "https" and _is_google(candidate) for candidate in (self._base, url))
        if not (ours or (google and url.port is None)) or url.userinfo:
            raise Rejected("upload: the reply sends the upload to a foreign host", call="upload")
        return url

    async def probe(self, call: str, path: str, *, deadline_s: float | None = None) -> None:
        """Make sure, once, that the other side is what it should be, before a prompt leaves (design section 6)."""
        if self._probed:
            return
        await self.request(call, "GET", self.url(path), deadline_s=deadline_s)
        self._probed = True

    async def request(
        self,
        call: str,
        method: str,
        url: httpx.URL,
        *,
        content: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        with_key: bool = True,
        risky: bool = False,
        forgive: tuple[str, ...] = (),
        deadline_s: float | None = None,
        patient: bool = False,
    ) -> Reply:
        """Send once, read the reply whole; an error reply whose status is in ``forgive`` counts as a success.

        ``risky`` calls raise ``Ambiguous`` where others raise ``Transient``; ``deadline_s`` bounds the call as a whole.
        Only 200 is a success (section 1.4). A ``patient`` call is risky only while no reply of the API comes (its error
        replies are never billed), and may be silent for all of ``deadline_s``.
        """
        error: ProviderError
        try:
            async with asyncio.timeout(deadline_s):
                request = self._client.build_request(method, url, content=content, headers=headers)
                if patient:
                    request.extensions["timeout"] = {**request.extensions["timeout"], "read": deadline_s}
                response = await self._client.send(request, stream=True, auth=self._auth if with_key else None)
                try:
                    self._check_mark(response)
                    body = await _read(response, call, risky=risky or patient)
                finally:
                    await response.aclose()
        except (httpx.HTTPError, OSError) as exc:
            error = failure(exc, call=call, risky=risky or patient)
        else:
            reply = Reply(response.status_code, response.headers, body)
            if response.status_code == _OK or (problem := self._problem(reply)).status in forgive:
                return reply
            error = refusal(problem, call=call, risky=risky or (patient and not problem.own))
        raise error  # outside the handler: the httpx error it stems from carries the request, hence the key

    @asynccontextmanager
    async def stream(self, call: str, url: httpx.URL) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """GET a body of any size in pieces; a web page, and whatever breaks it off, is ``Transient``."""
        timeout = httpx.Timeout(
            self._timeout_s, connect=CONNECT_TIMEOUT_S, read=max(self._timeout_s, DOWNLOAD_READ_TIMEOUT_S)
        )
        error: ProviderError
        try:
            request = self._client.build_request("GET", url, headers={"accept-encoding": "identity"}, timeout=timeout)
            response = await self._client.send(request, stream=True, auth=self._auth)
            try:
                self._check_mark(response)
                if response.status_code == _OK:
                    _check_no_page(response, call)
                    yield response.aiter_bytes()
                    return
                body = await _read(response, call, risky=False)
            finally:
                await response.aclose()
        except (httpx.HTTPError, OSError) as exc:
            error = failure(exc, call=call, risky=False)
        else:
            error = refusal(self._problem(Reply(response.status_code, response.headers, body)), call=call, risky=False)
        raise error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _check_mark(self, response: httpx.Response) -> None:
        marked = MARK in response.headers
        if marked and not self._emulate:
            raise ConfigError(
                f"{self.origin} is an emulator; pass --emulate / GEMQUEUE_EMULATE=1 to accept its made-up answers, "
                "or set the base URL to the real service"
            )
        if self._emulate and not marked:
            raise ConfigError(
                f"{self.origin} answered without an emulator's mark; emulated prompts must not go to a real service: "
                "leave --emulate / GEMQUEUE_EMULATE away, or set the base URL to an emulator"
            )
        if 300 <= response.status_code < 400:
            raise ConfigError(
                f"{self.origin} answered with a redirect (HTTP {response.status_code}), which is never followed, "
                "for the key's sake: set the base URL to where the service is"
            )

    def _problem(self, reply: Reply) -> Problem:
        return read_problem(reply.status, reply.headers, self._auth.blot_out(reply.body), now_s=time.time())


def checked_base(base_url: str, *, emulate: bool) -> httpx.URL:
    """The base URL, or ``ConfigError`` when the key must not go there."""
    try:
        base = httpx.URL(base_url)
    except httpx.InvalidURL:
        raise ConfigError("the base URL is no URL") from None
    if not base.host or base.query or base.fragment or base.userinfo:
        raise ConfigError("the base URL must be scheme://host[:port][/prefix], without user, query or fragment")
    if base.scheme != "https" and not (base.scheme == "http" and _is_loopback(base.host)):
        raise ConfigError(f"the base URL must be https (http only on loopback): {base.scheme}://{base.host}")
    if emulate and _is_google(base):
        raise ConfigError("--emulate / GEMQUEUE_EMULATE=1 with the real service's base URL: choose one of the two")
    return base


async def _read(response: httpx.Response, call: str, *, risky: bool) -> bytes:
    whole = response.status_code == _OK
    bytes_max = BODY_BYTES_MAX if whole else PROBLEM_BYTES_MAX
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > bytes_max and whole:
            raise (Ambiguous if risky else Rejected)(f"{call}: the reply is larger than {bytes_max} bytes", call=call)
        if len(body) > bytes_max:
            break
    return bytes(body)


def _check_no_page(response: httpx.Response, call: str) -> None:
    media = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media in _PAGES:
        raise Transient(f"{call}: a web page came instead (a gateway or proxy on the way?)", call=call)


def _read_by_more() -> None:
    """There is no option for it: the size is an attribute of httpcore's connection class."""
    connection = httpcore.AsyncHTTP11Connection
    connection.READ_NUM_BYTES = READ_BYTES  # pyright: ignore[reportAttributeAccessIssue] - taken for a constant


def _client(base: httpx.URL, timeout_s: float) -> httpx.AsyncClient:
    _read_by_more()
    return make_client(
        http2=False,
        follow_redirects=False,
        trust_env=base.scheme == "https",  # a proxy sees the ciphertext of https, but would see the key of http
        verify=trust_for(base.scheme),
        headers={"user-agent": "gemqueue", "accept": "*/*"},
        timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S),
        limits=httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=KEEPALIVE_S),
    )


def _origin_of(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port  # httpx drops a scheme's default port


def _is_google(url: httpx.URL) -> bool:
    return url.host == GOOGLE_DOMAIN or url.host.endswith("." + GOOGLE_DOMAIN)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
