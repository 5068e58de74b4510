"""What listens at a place, asked only when a connection there has failed: TLS, or a server that speaks plainly."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final

_WAIT_S: Final = 2.0
_PLAIN: Final = (b"+", b"-")
"""How a server's reply to PING begins, be it a refusal."""


async def speaks_tls(host: str, port: int) -> bool:
    """Whether TLS comes about there; who it is does not count, and nothing is told to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_WAIT_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # it has answered in TLS, and wants something of us
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


async def end_after_hello(**how: Any) -> OSError | EOFError | None:
    """How a server ends TLS that has come about, before it is told anything; None where it waits, or is not reached.

    One that wants a certificate of ours says so only then, and some say nothing.
    """
    try:
        async with asyncio.timeout(_WAIT_S):
            reader, writer = await asyncio.open_connection(**how)
    except (OSError, TimeoutError):
        return None
    try:
        async with asyncio.timeout(_WAIT_S):
            return None if await reader.read(1) else EOFError()
    except TimeoutError:
        return None
    except OSError as error:
        return error
    finally:
        writer.transport.abort()


async def speaks_plainly(host: str, port: int) -> bool:
    """Whether a server answers there without TLS; it is told nothing but PING."""
    try:
        async with asyncio.timeout(_WAIT_S):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"PING\r\n")
            said = await reader.read(1)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return said in _PLAIN
