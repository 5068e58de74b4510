"""TLS to the server: it is who the URL says, or the connection does not come about.

redis-py checks who signed a certificate, and leaves open whom it was made for. Here both are checked: the name is the
URL's host, ``ssl_hostname=`` of its query where that is given, and for a master that sentinels name by its IP the IP.
A certificate that does not hold ends a connection as a server that is away does, in words of its own (``TlsError``).
"""

from __future__ import annotations

import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qs

from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import SentinelManagedConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from gemqueue.errors import ConfigError
from gemqueue.urls import safe_url, url_parts

if TYPE_CHECKING:
    from collections.abc import Generator

_REQUIREMENTS: Final = ("none", "optional", "required")
_YES: Final = frozenset({"true", "t", "yes", "y", "1"})
_NO: Final = frozenset({"false", "f", "no", "n", "0"})
_SETTING: Final = "redis_url / GEMQUEUE_REDIS_URL"
_OWN: Final = "add ssl_certfile=/certificate.pem&ssl_keyfile=/key.pem"
_OTHER_NAME: Final = ("Hostname mismatch", "IP address mismatch")
_MEANINGS: Final = (
    ("certificate has expired", "the server's certificate has expired: renew it there"),
    ("not yet valid", "the server's certificate is not valid yet: look at the clocks of both hosts"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "nobody who is trusted here has signed the server's certificate: add ssl_ca_certs=/ca.pem",
    ),
    ("CERTIFICATE_REQUIRED", f"the server asks for a certificate of ours: {_OWN}"),
    ("ALERT", "the server refuses our side of TLS: look at ssl_certfile and ssl_keyfile"),
    ("WRONG_VERSION_NUMBER", "the server speaks no TLS there: name its TLS port, or redis:// instead of rediss://"),
)
"""What OpenSSL says, and what that means; the first that fits counts."""
_FLAWS: Final = range(80, 95)
"""OpenSSL's codes for certificates that only strict checks refuse: Python's since 3.13."""
_FLAWED: Final = (
    "the server's certificate or its signer's is not made as RFC 5280 says, which Python 3.13 and later insist on: "
    "make both again, with key identifiers and key usage, and name the signer's by ssl_ca_certs=/ca.pem"
)
_told: set[str] = set()


class TlsError(RedisConnectionError):
    """The server's certificate does not hold, or TLS does not come about; the message says why and the way out."""


class TlsConnection(SSLConnection):
    """redis-py's, with the name to check, and with words for what fails."""

    def __init__(self, *, ssl_hostname: str = "", ssl_refusals: list[str] | None = None, **options: Any) -> None:
        """``ssl_refusals`` gets what ``connect`` raises, for whoever does not see it."""
        cast("Any", super()).__init__(**options)
        self._hostname = ssl_hostname
        self._refusals = ssl_refusals
        self._through = False

    async def connect(self) -> None:
        """As redis-py's. Raises TlsError."""
        with self._in_words():
            await cast("Any", super()).connect()

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        """As redis-py's, by which redis-py 6 and later connect to masters that sentinels name. Raises TlsError."""
        with self._in_words():
            await cast("Any", super()).connect_check_health(*args, **options)

    @contextmanager
    def _in_words(self) -> Generator[None]:
        try:
            yield
        except TlsError:
            raise
        except RedisConnectionError as error:
            said = self._meaning(error)
            if not said:
                raise
            if self._refusals is not None:
                self._refusals.append(said)
            raise TlsError(said) from error

    def _meaning(self, error: RedisConnectionError) -> str:
        try:
            self.ssl_context.get()
        except (OSError, ValueError, TypeError) as wrong:
            what = (wrong.strerror if isinstance(wrong, OSError) else None) or wrong
            return f"it cannot be set up here ({what}): look at {_named_files(self)} in {_SETTING}"
        found = _tls_error(error)
        if found is not None:
            return refusal(found, self._hostname or self.host)
        # A server that wants a certificate may break the connection before what it says of that is read.
        is_broken = type(error) is RedisConnectionError and self._through and not self.certfile
        return f"{error}: if the server asks for a certificate of ours, {_OWN} in {_SETTING}" if is_broken else ""

    async def _connect(self) -> None:
        self._through = False
        await cast("Any", super())._connect()  # noqa: SLF001 - redis-py's hook
        self._through = True

    def _connection_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = dict(cast("Any", super())._connection_arguments())  # noqa: SLF001 - likewise
        if self._hostname:
            arguments["server_hostname"] = self._hostname
        return arguments


class SentinelTlsConnection(SentinelManagedConnection, TlsConnection):
    """The same to a master that sentinels name."""


def checked(options: dict[str, Any], query: str) -> dict[str, Any]:
    """redis-py's options of a ``rediss`` URL, with the server's name checked unless the query says otherwise.

    Raises ConfigError for what it asks of TLS and cannot be.
    """
    requirement = str(options.get("ssl_cert_reqs", "required")).lower().removeprefix("cert_")  # Celery writes CERT_NONE
    if requirement not in _REQUIREMENTS:
        raise ConfigError(f"{_SETTING}: ssl_cert_reqs must be one of {', '.join(_REQUIREMENTS)}")
    said = parse_qs(query).get("ssl_check_hostname", [""])[0].lower()
    if said not in _YES | _NO | {""}:
        raise ConfigError(f"{_SETTING}: ssl_check_hostname must be true or false")
    check = said in _YES or (not said and requirement != "none")
    if check and requirement == "none":
        raise ConfigError(
            f"{_SETTING}: ssl_check_hostname=true cannot be without certificates: leave ssl_cert_reqs=none out"
        )
    return options | {"ssl_cert_reqs": requirement, "ssl_check_hostname": check}


def weakness(url: str) -> str:
    """What the URL leaves unchecked of the server, and what that means; empty where it is all checked, or no TLS."""
    parts = url_parts(url)
    if not parts.scheme.startswith("rediss"):
        return ""
    query = {name: values[0].lower() for name, values in parse_qs(parts.query).items()}
    if query.get("ssl_cert_reqs", "").removeprefix("cert_") == "none":
        return (
            f"TLS to {safe_url(url)} checks no certificate (ssl_cert_reqs=none): anybody in between can read the "
            "password and all prompts; name the signer by ssl_ca_certs=/path.pem instead"
        )
    if query.get("ssl_check_hostname") not in _NO:
        return ""
    return (
        f"TLS to {safe_url(url)} does not check the server's name (ssl_check_hostname=false): anybody with a "
        "certificate of a trusted signer can sit in between; give the certificate's name as ssl_hostname=NAME instead"
    )


def untold_weakness(url: str) -> str:
    """The same, for whoever asks first in this process; empty from then on, for it has been told."""
    said = weakness(url)
    if said in _told:
        return ""
    _told.add(said)
    return said


def refusal(error: ssl.SSLError, name: str) -> str:
    """Why the connection did not come about, and the way out; ``name`` is whom the certificate should be for."""
    words = str(error)
    if any(mark in words for mark in _OTHER_NAME):
        return (
            f"the server's certificate is not for {name!r}: use a name that it is for, or say that one by "
            f"ssl_hostname=NAME in {_SETTING} (ssl_check_hostname=false there checks no name)"
        )
    meant = next((meant for mark, meant in _MEANINGS if mark in words), f"{words}: look at the URL's port and scheme")
    if getattr(error, "verify_code", 0) in _FLAWS:
        meant = _FLAWED
    return f"{meant} in {_SETTING} ({getattr(error, 'verify_message', '') or error.reason})"


def _named_files(connection: SSLConnection) -> str:
    files = {
        "ssl_ca_certs": connection.ca_certs,
        "ssl_certfile": connection.certfile,
        "ssl_keyfile": connection.keyfile,
    }
    return ", ".join(f"{name}={path}" for name, path in files.items() if path) or "the ssl_ parameters"


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """What OpenSSL said, below what redis-py made of it."""
    below: BaseException | None = error
    while isinstance(below, RedisError) and not isinstance(below, TlsError):
        below = below.__cause__ or below.__context__
    return below if isinstance(below, ssl.SSLError) else None
