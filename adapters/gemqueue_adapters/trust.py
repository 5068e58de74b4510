"""Whom a connection trusts: the certificates are read once for a process, and only where there is https."""

from __future__ import annotations

import ssl
from functools import cache

import httpx


@cache
def trust_for(scheme: str) -> ssl.SSLContext:
    """For https what SSL_CERT_FILE and SSL_CERT_DIR name, else certifi's bundle, which takes 10 ms of CPU to read.

    For http nobody, should somebody speak TLS after all.
    """
    return httpx.create_ssl_context() if scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
