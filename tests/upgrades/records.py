"""Records that earlier versions wrote, put into a server again."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gemqueue.states import Kind
from gemqueue.store import codec
from tests.upgrades.__main__ import FILE, JOB, OUTPUT
from tests.worlds.stages import JOB_S, MODEL

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.worlds.stages import Stages

FOLDER = Path(__file__).parent
VERSIONS = sorted(folder.name for folder in FOLDER.glob("[0-9]*"))


def read(version: str, state: str) -> dict[str, Any]:
    """The records as they were written down."""
    text = (FOLDER / version / f"{state}.json").read_text()
    found: dict[str, Any] = json.loads(text)
    if "zlib" in found:
        found = json.loads(zlib.decompress(base64.b64decode(found["zlib"])))
    return found


def raw(value: Any) -> Any:
    """What ``plain`` made of bytes, back again."""
    if isinstance(value, dict):
        return base64.b64decode(cast("dict[str, str]", value)["b64"])
    if not isinstance(value, list):
        return value
    return [raw(each) for each in cast("list[object]", value)]


async def load(stages: Stages, records: dict[str, Any]) -> None:
    """Put the records into the server."""
    for name, record in records.items():
        value, client = raw(record["value"]), stages.store.redis
        if record["type"] == "string":
            await client.set(name, value)
        elif record["type"] == "hash":
            await client.hset(name, items=value)
        elif record["type"] == "list":
            await client.rpush(name, *value)
        elif record["type"] == "set":
            await client.sadd(name, *value)
        elif record["type"] == "zset":
            await client.zadd(name, {value[i]: float(value[i + 1]) for i in range(0, len(value), 2)})
        else:
            for id_, fields in value:
                await client.xadd(name, dict(zip(fields[::2], fields[1::2], strict=True)), id=id_)
        if record["pttl"] > 0:
            await client.pexpire(name, record["pttl"])


async def at_the_provider(stages: Stages, records: dict[str, Any], *, job: bool) -> dict[str, Any]:
    """Upload the batch's lines and, where it has one, create its job; the records with the real names in them."""
    batch = next((key for key in records if ":batch:" in key), None)
    text = json.dumps(records)
    if batch is None or (FILE not in text and JOB not in text):
        return records
    fields = dict(zip(*[iter(records[batch]["value"])] * 2, strict=True))
    bodies = [codec.expand(raw(record["value"])) for key, record in records.items() if ":segment:" in key]

    async def pieces() -> AsyncGenerator[bytes]:
        yield b"".join(bodies)

    file = await stages.provider.upload(pieces(), size_bytes=sum(map(len, bodies)), name=batch.rpartition(":")[2])
    text = text.replace(FILE, file)
    if fields["state"] != "closed" and (job or JOB in text):
        token = fields["intent_token"]
        name = await stages.provider.create(model=MODEL, kind=Kind.GENERATE, file=file, token=token)
        stages.emulator.advance(JOB_S + 10)
        text = text.replace(JOB, name).replace(OUTPUT, (await stages.provider.poll(name)).output_file)
    return dict(json.loads(text))


def keys_of(records: dict[str, Any]) -> list[str]:
    """Every prompt that was submitted."""
    found: list[str] = []
    for name, record in records.items():
        if ":segmeta:" in name:
            meta = dict(zip(*[iter(record["value"])] * 2, strict=True))
            if "keys" not in meta:
                found += [f"{name.rpartition(':')[2]}.{n}" for n in range(int(meta["count"]))]
    return found


def unpack_files(version: str, state: str, folder: Path) -> None:
    """The files that belong to these records."""
    found: dict[str, str] = json.loads((FOLDER / version / "files" / f"{state}.json").read_text())
    for name, text in found.items():
        (folder / name).write_bytes(zlib.decompress(base64.b64decode(text)))
