"""How a URL that may hold secrets is taken apart and shown. Nothing else prints one."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

SENTINEL_SCHEMES: Final = frozenset({"redis+sentinel", "rediss+sentinel"})
CLUSTER_SCHEMES: Final = frozenset({"redis+cluster", "rediss+cluster"})
_SCHEMES: Final = SENTINEL_SCHEMES | CLUSTER_SCHEMES | {"redis", "rediss", "unix", "http", "https", "socks5", "socks5h"}
HIDDEN: Final = "***"
_PORT_MAX: Final = 65_535
_NUMBER: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?")
_TRUTH: Final = re.compile(r"true|false|yes|no|[0-9]", re.IGNORECASE)
_PATH: Final = re.compile(r"[~./][\w./~ -]*")
_PLAIN: Final = {
    "db": _NUMBER,
    "socket_timeout": _NUMBER,
    "socket_connect_timeout": _NUMBER,
    "health_check_interval": _NUMBER,
    "max_connections": _NUMBER,
    "timeout": _NUMBER,
    "socket_keepalive": _TRUTH,
    "retry_on_timeout": _TRUTH,
    "ssl_check_hostname": _TRUTH,
    "ssl_cert_reqs": re.compile(r"(CERT_)?(none|optional|required)", re.IGNORECASE),
    "ssl_hostname": re.compile(r"[\w-]+(\.[\w-]+)+|[\[\]0-9a-f:.]+"),
    "ssl_ca_certs": _PATH,
    "ssl_certfile": _PATH,
    "ssl_keyfile": _PATH,
}
"""Parameters that are shown, and what their values then look like."""
_SECRET: Final = frozenset({"password", "username", "sentinel_password", "sentinel_username"})
"""Parameters that may be named, and no more."""
_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)(%[\w.~%-]+)?\]|([^\[\]:]*))(?::([0-9]*))?")
"""An address in brackets and its zone, or a name; and a port. Each may be left out."""
_BRACKETED: Final = re.compile(r"(?=.*[\[\]])[\[\]0-9A-Fa-f:.]+")
"""Part of an address and a bracket: wrong, and no secret."""
_WEB_PART: Final = re.compile(r"\.?[A-Za-z][a-z._-]{0,23}|v\d[a-z0-9]{0,7}|")
_DB: Final = re.compile(r"[0-9]{0,9}")
_PLAIN_PARTS: Final = {"http": _WEB_PART, "https": _WEB_PART, "redis": _DB, "rediss": _DB}
"""Parts of a path that are shown. A callback's path may end in a token; a sentinel's service and a socket may not."""
_BEFORE_PORT: Final = re.compile(r"(\[[0-9A-Fa-f:.]+(?:%[\w.~%-]+)?\]|[\w.-]*):")


class UrlParts(NamedTuple):
    """A URL's parts as they were written; ``login`` and ``hosts`` stand around the last ``@``."""

    scheme: str
    login: str
    hosts: str
    path: str
    query: str


def url_parts(url: str) -> UrlParts:
    """The parts of a URL that may name several hosts.

    For one host this says what ``urlsplit`` says. Of several, ``urlsplit`` takes some with brackets and refuses
    others, and which ones depends on the version of Python.
    """
    scheme, _, rest = re.sub(r"[\t\r\n]", "", url).partition("://")
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    tail = urlsplit(f"//host{rest[len(place) :]}")
    login, _, hosts = place.rpartition("@")
    return UrlParts(scheme.lower(), login, hosts, tail.path, tail.query)


def names_cluster(url: str) -> bool:
    """Whether it is the URL of a Redis Cluster."""
    return url_parts(url).scheme in CLUSTER_SCHEMES


def host_and_port(text: str) -> tuple[str, int | None]:
    """The host, without brackets, and the port of ``host:port``, ``[address]:port`` or ``[address%25zone]:port``.

    Raises ValueError, without quoting the text, where it is none of these.
    """
    found = _HOST.fullmatch(text)
    if found is None or text.startswith(":") or not text:
        raise ValueError("no host and port")
    address, zone, name, port = found.groups()
    host = unquote(name).lower() if name else _address(address, unquote(zone or ""))
    if port and int(port) > _PORT_MAX:
        raise ValueError(f"no port above {_PORT_MAX}")
    return host, int(port) if port else None


def host_of(url: str) -> str:
    """The one host of a URL, without brackets, or an empty string. Raises ValueError where it cannot be read."""
    check_brackets(url_parts(url).hosts)
    return urlsplit(url).hostname or ""


def check_brackets(host: str) -> None:
    """Raise ValueError unless a host with brackets is an address, at most with a port. Older Pythons take more."""
    if "[" in host or "]" in host:
        host_and_port(host)


def _address(text: str, zone: str) -> str:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError("no IPv6 address in the brackets") from None
    return f"{text.lower()}{zone}"


def shown_url(url: str) -> str:
    """The URL with ``***`` for the login in it, and each parameter and part of a path not known to be harmless.

    A URL that cannot be taken apart for certain, as where a password is not percent-encoded, is hidden whole but for
    its scheme; a text that is no URL is hidden whole. So is what stands for a host and port and cannot be one.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in _SCHEMES:
        return HIDDEN if url else ""
    head, mark, query = rest.partition("?")
    login, at, place = head.rpartition("@")
    given = query.split("&") if query else []
    if any("@" in text and (at or text.partition("=")[0] not in _SECRET) for text in given):
        return f"{scheme}://{HIDDEN}"  # what looks like the query may be a password's end
    place, sharp, _ = place.partition("#")
    hosts, slash, path = place.partition("/")
    plain = _PLAIN_PARTS.get(scheme)
    parts = (part if plain is None or plain.fullmatch(part) else HIDDEN for part in path.split("/"))
    place = f"{','.join(map(_host, hosts.split(',')))}{slash}{'/'.join(parts)}"
    return f"{scheme}://{login and HIDDEN}{at}{place}{sharp and '#***'}{mark}{'&'.join(map(_parameter, given))}"


def shown_text(text: str) -> str:
    """A value that should be no URL: as it is, but what looks like a URL is shown as one."""
    return shown_url(text) if "://" in text else text


def safe_url(url: str) -> str:
    """The URL's scheme, hosts and path alone: what messages call the server."""
    scheme, sep, rest = shown_url(url).partition("://")
    return f"{scheme}{sep}{rest.partition('?')[0].rpartition('@')[2]}"


def _host(text: str) -> str:
    """As it is; but what stands for a port and is none may be the end of a login whose ``@`` is missing."""
    if _HOST.fullmatch(text) or _BRACKETED.fullmatch(text):
        return text
    before = _BEFORE_PORT.match(text)
    return f"{before[0]}{HIDDEN}" if before else HIDDEN


def _parameter(text: str) -> str:
    name, equals, value = text.partition("=")
    plain = _PLAIN.get(name)
    if plain is not None and plain.fullmatch(value):
        return text
    return f"{name}={HIDDEN}" if equals and (plain or name in _SECRET) else HIDDEN
