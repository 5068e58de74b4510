"""Records of every earlier version, in every state, are finished by the current code; nothing is bought twice by it."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from gemqueue import codec
from gemqueue.states import BatchState, Kind
from gemqueue.store_runs import RunStore
from tests.leaks import leftovers
from tests.operations.kit import ACCOUNT, MODEL, Shop, shop, start_emulator
from tests.upgrades.__main__ import FILE, JOB, OUTPUT, QUEUE, STATES
from tests.valkey_server import ValkeyServer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from tests.emulator_process import EmulatorProcess

FOLDER = Path(__file__).parent
IN_DOUBT = (("intent", True), ("fenced", True))
VERSIONS = sorted(folder.name for folder in FOLDER.glob("[0-9]*"))
CASES = [(version, state, job) for version in VERSIONS for state, job in (*((s, False) for s in STATES), *IN_DOUBT)]
"""With a job, the create in doubt has taken effect."""


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Generator[EmulatorProcess]:
    made = start_emulator(tmp_path_factory.mktemp("emulator"))
    yield made
    made.kill()


@pytest.fixture(scope="module")
def server() -> Generator[ValkeyServer]:
    """A server of its own: the records carry their queue's name."""
    with ValkeyServer() as made:
        yield made


@pytest.fixture
async def made(server: ValkeyServer, emulator: EmulatorProcess) -> AsyncGenerator[Shop]:
    async with shop(server.url, QUEUE, emulator) as made:
        await made.store.redis.flushall()
        yield made


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


async def load(made: Shop, records: dict[str, Any]) -> None:
    """Put the records into the server."""
    for name, record in records.items():
        value, client = raw(record["value"]), made.store.redis
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


async def at_the_provider(made: Shop, records: dict[str, Any], *, job: bool) -> dict[str, Any]:
    """Upload the batch's lines and, where it has one, create its job; the records with the real names in them."""
    batch = next((key for key in records if ":batch:" in key), None)
    text = json.dumps(records)
    if batch is None or (FILE not in text and JOB not in text):
        return records
    fields = dict(zip(*[iter(records[batch]["value"])] * 2, strict=True))
    bodies = [codec.expand(raw(record["value"])) for key, record in records.items() if ":segment:" in key]

    async def pieces() -> AsyncGenerator[bytes]:
        yield b"".join(bodies)

    file = await made.provider.upload(pieces(), size_bytes=sum(map(len, bodies)), name=batch.rpartition(":")[2])
    text = text.replace(FILE, file)
    if fields["state"] != "closed" and (job or JOB in text):
        token = fields["intent_token"]
        name = await made.provider.create(model=MODEL, kind=Kind.GENERATE, file=file, token=token)
        made.emulator.advance(60)
        text = text.replace(JOB, name).replace(OUTPUT, (await made.provider.poll(name)).output_file)
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


@pytest.mark.parametrize(("version", "state", "job"), CASES)
async def test_every_state_of_every_version_is_finished(made: Shop, version: str, state: str, *, job: bool) -> None:
    """Loaded and drained: each prompt has one outcome, a job that exists is not created again, nothing is left."""
    records = await at_the_provider(made, read(version, state), job=job)
    jobs = len(made.emulator.ledger()["jobs"])
    await load(made, records)
    await made.store.greet(ACCOUNT)
    await made.drain()
    seen: dict[str, int] = {}
    keys = keys_of(records)
    for segment in sorted({key.partition(".")[0] for key in keys}):
        for blob in (await made.store.outcomes([(segment, 0)], 1000))[0]:
            for row in codec.expand(blob).splitlines():
                key = msgspec.json.decode(row)["key"]
                seen[key] = seen.get(key, 0) + 1
    assert seen == dict.fromkeys(keys, 1)
    assert made.emulator.ledger()["bought_twice"] == []
    if jobs:
        assert len(made.emulator.ledger()["jobs"]) == jobs
    assert await leftovers(made.store.redis, QUEUE) == []


@pytest.mark.parametrize("version", VERSIONS)
async def test_runs_and_names_of_every_version_are_known(made: Shop, version: str) -> None:
    """A run can be taken over with what it has bought, and a name leads to its prompt."""
    await load(made, read(version, "run") | read(version, "sealed"))
    runs = RunStore(made.settings.redis_url, made.settings, made.clock)
    record = await runs.open_run(ACCOUNT, "nightly", "{}", "{}", [])
    assert (record.epoch, record.entries) == (2, 1)
    (entry,) = await runs.run_entries(ACCOUNT, "nightly", 0, 1)
    assert entry.keys == ["a", "b"]
    await runs.aclose()
    named = await made.store.named(ACCOUNT, "doc-1")
    assert named is not None
    assert named[1] == "digest"


def test_every_state_has_its_records() -> None:
    """No state of a batch is without a fixture, in any version."""
    for version in VERSIONS:
        states: set[str] = set()
        for state in STATES:
            for name, record in read(version, state).items():
                if ":batch:" in name:
                    states.add(dict(zip(*[iter(record["value"])] * 2, strict=True))["state"])
        assert states == set(BatchState), version
