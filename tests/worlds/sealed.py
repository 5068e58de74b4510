"""A sealed queue for tests: keys of its own, and a reader of everything that lies in a server, as a thief would be."""

from __future__ import annotations

import base64
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from gemqueue.sealing.wrapping import KeyTexts
from gemqueue.store import codec
from tests.worlds.stages import Stages, open_stages

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from redis.asyncio import Redis

    from gemqueue.store.base import StoreBase
    from tests.emulator_process import EmulatorProcess


def key_text(letter: str) -> str:
    """A wrapping key that is no secret."""
    return base64.b64encode(letter.encode() * 32).decode()


class Holder:
    """Wrapping keys that a test changes, as an operator changes the file."""

    def __init__(self, *letters: str) -> None:
        self.letters = list(letters)
        self.wrapper = KeyTexts(lambda: " ".join(map(key_text, self.letters)), "the test's file")

    def give(self, store: StoreBase) -> None:
        """The store has these keys; what it knew of others is gone."""
        store.seals.given = KeyTexts(lambda: " ".join(map(key_text, self.letters)), "the test's file")

    @property
    def env(self) -> dict[str, str]:
        """The same for a command."""
        return {"GEMQUEUE_SEAL": "1", "GEMQUEUE_SEAL_KEY": " ".join(map(key_text, self.letters))}


@asynccontextmanager
async def sealed_stages(
    url: str, queue: str, emulator: EmulatorProcess, holder: Holder, **settings: Any
) -> AsyncGenerator[Stages]:
    """Stages of a sealed queue, with the holder's keys."""
    async with open_stages(url, queue, emulator, seal=True, **settings) as made:
        holder.give(made.store)
        await made.store.seals.begin()
        yield made


async def everything(redis: Redis) -> bytes:
    """All keys and values of a server, each as it is, as ``DUMP`` has it, and expanded where that can be done."""
    client, found = cast("Any", redis), list[bytes]()
    async for key in client.scan_iter(count=1000):
        found += [key, await client.dump(key) or b"", *await _values(client, key)]
    return b"\n".join(found)


async def _values(client: Any, key: bytes) -> list[bytes]:
    kind = (await client.type(key)).decode()
    if kind == "hash":
        parts = [part for pair in (await client.hgetall(key)).items() for part in pair]
    elif kind == "stream":
        parts = [part for _, fields in await client.xrange(key) for pair in fields.items() for part in pair]
    elif kind == "list":
        parts = await client.lrange(key, 0, -1)
    elif kind == "zset":
        parts = await client.zrange(key, 0, -1)
    elif kind == "set":
        parts = list(await client.smembers(key))
    else:
        parts = [await client.get(key) or b""]
    return [each for part in parts for each in (part, _expanded(part))]


def _expanded(value: bytes) -> bytes:
    with suppress(ValueError):
        return codec.expand(value)
    return b""


def files_of(folder: Path) -> bytes:
    """What a server has written: its snapshot, its log, and what it has said."""
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())
