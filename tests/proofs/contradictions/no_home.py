"""A container whose user has no entry in passwd and no HOME (random UIDs): does the error say what to set?"""

from __future__ import annotations

import os
import pwd

from gemqueue import ConfigError, Queue
from tests.proofs.contradictions.common import Verdict


def nobody(uid: int) -> pwd.struct_passwd:
    """What such a container answers."""
    raise KeyError(uid)


async def main(_how: str) -> Verdict:
    """Connect without a place for data."""
    for name in ("HOME", "XDG_DATA_HOME", "GEMQUEUE_DATA_DIR"):
        os.environ.pop(name, None)
    pwd.getpwuid = nobody
    said = "connected"
    try:
        async with Queue.connect(emulate=True):
            print(said)
    except Exception as error:  # noqa: BLE001 - which one it is is the question
        print(type(error).__name__, error)
        told = isinstance(error, ConfigError) and "GEMQUEUE_DATA_DIR" in str(error)
        said = f"{type(error).__name__}{' that names the setting' if told else ''}"
    return Verdict(f"no place for data: {said}", "names the setting" in said)
