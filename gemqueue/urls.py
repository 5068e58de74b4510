"""How a URL that may hold secrets is shown. Nothing else prints one."""

from __future__ import annotations

import re
from typing import Final

_SCHEMES: Final = frozenset({"redis", "rediss", "redis+sentinel", "rediss+sentinel", "unix", "http", "https"})
_HIDDEN: Final = "***"
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


def shown_url(url: str) -> str:
    """The URL with ``***`` for each password in it and each parameter that is not known to be harmless.

    A URL that cannot be taken apart for certain, as where a password is not percent-encoded, is hidden whole but for
    its scheme; a text that is no URL is hidden whole.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in _SCHEMES:
        return _HIDDEN if url else ""
    head, mark, query = rest.partition("?")
    login, at, place = head.rpartition("@")
    given = query.split("&") if query else []
    if any("@" in text and (at or text.partition("=")[0] not in _SECRET) for text in given):
        return f"{scheme}://{_HIDDEN}"  # what looks like the query may be a password's end
    place, sharp, _ = place.partition("#")
    return f"{scheme}://{_login(login)}{at}{place}{sharp and '#***'}{mark}{'&'.join(map(_parameter, given))}"


def safe_url(url: str) -> str:
    """The URL's scheme, hosts and path alone: what messages call the server."""
    scheme, sep, rest = shown_url(url).partition("://")
    return f"{scheme}{sep}{rest.partition('?')[0].rpartition('@')[2]}"


def _login(login: str) -> str:
    user, _, password = login.partition(":")
    return f"{user}:{_HIDDEN}" if password else login and _HIDDEN


def _parameter(text: str) -> str:
    name, equals, value = text.partition("=")
    plain = _PLAIN.get(name)
    if plain is not None and plain.fullmatch(value):
        return text
    return f"{name}={_HIDDEN}" if equals and (plain or name in _SECRET) else _HIDDEN
