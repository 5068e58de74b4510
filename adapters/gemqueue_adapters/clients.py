"""Clients of httpx, which take proxies from the environment; what is wrong with those is said without their secrets."""

from __future__ import annotations

import urllib.request
from typing import Any

import httpx

from gemqueue.errors import ConfigError
from gemqueue.urls import shown_url


def make_client(**options: Any) -> httpx.AsyncClient:
    """``httpx.AsyncClient(**options)``. Raises ConfigError where a proxy of the environment cannot be used."""
    try:
        return httpx.AsyncClient(**options)
    except (httpx.InvalidURL, ValueError):
        wrong = "write a proxy as http://[user:password@]host:port, with special characters percent-encoded"
    except ImportError:
        wrong = "a SOCKS proxy needs another package: pip install 'httpx[socks]'"
    raise ConfigError(f"{shown_proxies()} cannot be used: {wrong}")


def shown_proxies() -> str:
    """The variables that name proxies, with their values as they may be printed."""
    found = {scheme: url for scheme, url in urllib.request.getproxies().items() if scheme in {"http", "https", "all"}}
    return ", ".join(f"{scheme.upper()}_PROXY ({shown_url(url)})" for scheme, url in sorted(found.items()))
