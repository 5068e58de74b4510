"""The process that is killed: it sends one create, and SIGKILLs itself as soon as the reply is there.

Nobody learns what the reply said. The intent, with the token, was written by the process that started this one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from gemqueue.accounts import api_key_from_env
from gemqueue.config import load_settings
from gemqueue.errors import Ambiguous, ProviderError, Rejected
from gemqueue.states import Kind
from gemqueue_workers.settings import make_provider

REFUSED, PUT_OFF, IN_DOUBT = 20, 21, 22
"""Exit codes for creates to which no good reply came."""


async def create_and_die(model: str, file: str, token: str) -> int:
    """Never returns where the create succeeds."""
    provider = make_provider(load_settings(), api_key_from_env())
    try:
        await provider.create(model=model, kind=Kind.GENERATE, file=file, token=token)
    except Ambiguous:
        return IN_DOUBT
    except Rejected as error:
        sys.stdout.write(str(error))
        return PUT_OFF if error.auth else REFUSED
    except ProviderError as error:
        sys.stdout.write(str(error))
        return PUT_OFF
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


if __name__ == "__main__":
    sys.exit(asyncio.run(create_and_die(*sys.argv[1:4])))
