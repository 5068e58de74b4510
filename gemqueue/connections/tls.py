"""TLS to the server: it is who the URL says, or the connection does not come about.

redis-py checks who signed a certificate, and leaves open whom it was made for. Here both are checked: the name is the
URL's host, ``ssl_hostname=`` of its query where that is given, and for a master that sentinels name by its IP the IP.
A certificate that does not hold ends a connection as a server that is away does, in words of its own (``TlsError``).
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import parse_qs

from redis.asyncio.connection import SSLConnection
from redis.asyncio.sentinel import SentinelManagedConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gemqueue.connections.links import SETTING, Named, TlsError
from gemqueue.connections.probes import end_after_hello, speaks_plainly
from gemqueue.errors import ConfigError
from gemqueue.urls import safe_url, url_parts

_REQUIREMENTS: Final = ("none", "optional", "required")
_YES: Final = frozenset({"true", "t", "yes", "y", "1"})
_NO: Final = frozenset({"false", "f", "no", "n", "0"})
_OWN: Final = "add ssl_certfile=/certificate.pem&ssl_keyfile=/key.pem"
_OTHER_NAME: Final = ("Hostname mismatch", "IP address mismatch")
_NO_TLS: Final = "the server speaks no TLS there: name its TLS port, or write redis:// instead of rediss://"
_MEANINGS: Final = (
    ("certificate has expired", "the server's certificate has expired: renew it there"),
    ("not yet valid", "the server's certificate is not valid yet: look at the clocks of both hosts"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "nobody who is trusted here has signed the server's certificate: add ssl_ca_certs=/ca.pem",
    ),
    ("CERTIFICATE_REQUIRED", f"the server asks for a certificate of ours: {_OWN}"),
    ("ALERT", "the server refuses our side of TLS: look at ssl_certfile and ssl_keyfile"),
    ("WRONG_VERSION_NUMBER", _NO_TLS),
)
"""What OpenSSL says, and what that means; the first that fits counts."""
_FLAWS: Final = range(80, 95)
"""OpenSSL's codes for certificates that only strict checks refuse: Python's since 3.13."""
_FLAWED: Final = (
    "the server's certificate or its signer's is not made as RFC 5280 says, which Python 3.13 and later insist on: "
    "make both again, with key identifiers and key usage, and name the signer's by ssl_ca_certs=/ca.pem"
)
_HOLDS: Final = {
    "ssl_ca_certs": (b"-----BEGIN CERTIFICATE-----", "certificate"),
    "ssl_certfile": (b"-----BEGIN CERTIFICATE-----", "certificate"),
    "ssl_keyfile": (b"PRIVATE KEY-----", "private key"),
}
_told: set[str] = set()


class TlsConnection(Named, SSLConnection):
    """redis-py's, with the name to check, and with words for what fails."""

    def __init__(self, *, ssl_hostname: str = "", **options: Any) -> None:
        super().__init__(**options)
        self._hostname = ssl_hostname

    async def meaning(self, error: RedisError) -> str:
        """What OpenSSL, the URL's files or the other side mean by it."""
        said = self._meaning(error) or await self._said_later(error)
        if not said and isinstance(error, RedisTimeoutError) and await speaks_plainly(self.host, int(self.port)):
            return f"{_NO_TLS} in {SETTING}"  # it takes our hello for a line, and waits for its end
        return said

    def _meaning(self, error: RedisError) -> str:
        try:
            self.ssl_context.get()
        except (OSError, ValueError, TypeError) as wrong:
            return f"{_wrong_file(self, wrong)} in {SETTING}"
        found = _tls_error(error)
        return refusal(found, self._hostname or self.host) if found is not None else ""

    async def _said_later(self, error: RedisError) -> str:
        """A server that wants a certificate may break a connection before what it says of that is read."""
        if type(error) is not RedisConnectionError or not self.through:
            return ""
        end = await end_after_hello(**self._connection_arguments())
        if end is None or isinstance(end, ssl.SSLError):
            return refusal(end, self._hostname or self.host) if end else ""
        own = f"does not trust the certificate in ssl_certfile={self.certfile}: name another" if self.certfile else ""
        own = own or f"asks for a certificate of ours: {_OWN}"
        return f"the server ends the connection as soon as TLS has come about, and probably {own} in {SETTING}"

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
        raise ConfigError(f"{SETTING}: ssl_cert_reqs must be one of {', '.join(_REQUIREMENTS)}")
    said = parse_qs(query).get("ssl_check_hostname", [""])[0].lower()
    if said not in _YES | _NO | {""}:
        raise ConfigError(f"{SETTING}: ssl_check_hostname must be true or false")
    check = said in _YES or (not said and requirement != "none")
    if check and requirement == "none":
        raise ConfigError(
            f"{SETTING}: ssl_check_hostname=true cannot be without certificates: leave ssl_cert_reqs=none out"
        )
    certificate, key = options.get("ssl_certfile"), options.get("ssl_keyfile")
    if key and not certificate:
        raise ConfigError(f"{SETTING}: ssl_keyfile is nothing without its certificate: {_OWN}")
    own = {"ssl_keyfile": key or certificate} if certificate else {}  # one file may hold both
    return options | own | {"ssl_cert_reqs": requirement, "ssl_check_hostname": check}


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
            f"ssl_hostname=NAME in {SETTING} (ssl_check_hostname=false there checks no name)"
        )
    meant = next((meant for mark, meant in _MEANINGS if mark in words), f"{words}: look at the URL's port and scheme")
    if getattr(error, "verify_code", 0) in _FLAWS:
        meant = _FLAWED
    return f"{meant} in {SETTING} ({getattr(error, 'verify_message', '') or error.reason})"


def _wrong_file(connection: SSLConnection, error: Exception) -> str:
    """Which file of the URL cannot be used, why, and what to do."""
    files = {
        "ssl_ca_certs": connection.ca_certs,
        "ssl_certfile": connection.certfile,
        "ssl_keyfile": connection.keyfile,
    }
    given = {name: str(path) for name, path in files.items() if path}
    for name, path in given.items():
        try:
            text = Path(path).read_bytes()
        except OSError as unread:
            return f"{name}={path} cannot be read ({unread.strerror}): correct the path, or let us read it,"
        if _HOLDS[name][0] not in text:
            return f"{name}={path} holds no {_HOLDS[name][1]} in PEM form: name the file that does"
    if "KEY_VALUES_MISMATCH" in str(error):
        return "the key in ssl_keyfile is not that of the certificate in ssl_certfile: name two that belong together"
    shown = ", ".join(f"{name}={path}" for name, path in given.items()) or "the ssl_ parameters"
    return f"it cannot be set up here ({error}): look at {shown}"


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """What OpenSSL said, below what redis-py made of it."""
    below: BaseException | None = error
    while isinstance(below, RedisError) and not isinstance(below, TlsError):
        below = below.__cause__ or below.__context__
    return below if isinstance(below, ssl.SSLError) else None
