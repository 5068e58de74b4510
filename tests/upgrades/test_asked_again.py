"""What 0.2.0 was asked under names and in a run is asked again: it joins, and nothing is bought twice."""

from __future__ import annotations

import asyncio
import io
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue import Answer, Failed, NameConflict, Queue
from gemqueue.errors import ConfigError
from gemqueue.states import Kind
from gemqueue.store import codec
from gemqueue_workers.run.options import RunOptions, named
from tests.upgrades import asking
from tests.upgrades.__main__ import QUEUE
from tests.upgrades.records import at_the_provider, load, read, unpack_files
from tests.worlds.stages import ACCOUNT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.worlds.stages import Stages

VERSION = "0.2.0"


async def loaded(stages: Stages, state: str) -> None:
    """The records are in the server, as if this server had always had them."""
    await load(stages, await at_the_provider(stages, read(VERSION, state), job=False))
    await stages.store.greet(ACCOUNT)


@pytest.mark.parametrize("dialect", ["schema", "json_schema"])
@pytest.mark.parametrize("state", ["named", "named_answered"])
async def test_named_prompts_join(stages: Stages, state: str, dialect: str) -> None:
    """Waiting or answered, with a class or a row's own config: each joins its prompt, however classes are sent now."""
    await loaded(stages, state)
    before = await stages.count("accepted")
    async with Queue.connect(stages.settings.redis_url, queue=QUEUE, emulate=True, schema_dialect=dialect) as queue:
        calls = asking.ask(queue)
        keys: dict[str, str] = {}
        for name, call in calls.items():
            while not call.done():
                await stages.drain()
                await asyncio.wait([call], timeout=0.05)
            (outcome,) = call.result()
            assert isinstance(outcome, Answer), (name, outcome)
            stored = await stages.store.named(ACCOUNT, name)
            assert stored is not None
            keys[name] = outcome.key
            assert outcome.key == stored[0]
        assert len(set(keys.values())) == len(asking.NAMED)
        assert await stages.count("accepted") == before == len(asking.NAMED)
        assert stages.emulator.ledger()["bought_twice"] == []
        (other,) = await queue.map([{"contents": "another", "name": "row"}], model=asking.MODEL)
        assert isinstance(other, Failed)
        assert isinstance(other.error, NameConflict)


async def continued(stages: Stages, folder: Path, said: io.StringIO, **more: Any) -> Any:
    """The same command again, with the stages beside it."""
    task = asyncio.create_task(asking.run(stages.settings.redis_url, QUEUE, folder, said, **more))
    while not task.done():
        await stages.drain()
        await asyncio.wait([task], timeout=0.05)
    return task.result()


async def sent_configs(stages: Stages) -> dict[str, Any]:
    """The generation parameters of every row that waits, by its text."""
    found: dict[str, Any] = {}
    for name in await stages.store.redis.keys(stages.store.key("segment", "*")):
        for line in codec.expand(await stages.store.redis.get(name)).splitlines():
            request = msgspec.json.decode(line)["request"]
            found[request["contents"][0]["parts"][0]["text"]] = request["generationConfig"]
    return found


async def test_a_run_in_its_middle_goes_on(stages: Stages, tmp_path: Path) -> None:
    """Run, OUT and OUT.gemqueue of 0.2.0 are taken over, in the mode that they began in, which is said once.

    Rows that are added are the only ones that are bought.
    """
    await loaded(stages, "run_middle")
    unpack_files(VERSION, "run_middle", tmp_path)
    half = (tmp_path / "out.jsonl").read_bytes()
    assert half.count(b"\n") == 3
    (tmp_path / "in.jsonl").write_text("".join(map(asking.row, range(8))))
    with pytest.raises(ConfigError, match="was begun with --config-mode replace, and now it is merge"):
        await asking.run(stages.settings.redis_url, QUEUE, tmp_path, io.StringIO(), config_mode="merge")
    said = io.StringIO()
    report = await continued(stages, tmp_path, said)
    assert (report.rows, report.resumed, report.submitted, report.answered) == (8, 6, 2, 8)
    assert said.getvalue().count("goes on as it began: a row's own config takes the place of --config") == 1
    out = (tmp_path / "out.jsonl").read_bytes()
    assert out.startswith(half)
    assert sorted(msgspec.json.decode(line)["key"] for line in out.splitlines()) == [f"k{n}" for n in range(8)]
    ledger = stages.emulator.ledger()
    assert (ledger["rows_bought"], ledger["bought_twice"]) == (5, [])
    assert said.getvalue().count("did not note its store. From now on that is the queue 'upgrade' on ") == 1
    again = io.StringIO()
    await continued(stages, tmp_path, again)
    assert "did not note its store" not in again.getvalue()
    with closing(sqlite3.connect(tmp_path / "out.jsonl.gemqueue")) as index:
        assert dict(index.execute("SELECT name, value FROM meta"))["config_mode"] == "replace"


async def test_rows_that_are_added_keep_the_mode(stages: Stages, tmp_path: Path) -> None:
    """A row added to a run of 0.2.0 goes out under the run's rule, also when Redis has long forgotten the run.

    What is then bought again is said, since 0.2.0 did not note the store.
    """
    for known in (True, False):
        await stages.store.redis.flushall()
        if known:
            await loaded(stages, "run_middle")
        unpack_files(VERSION, "run_middle", tmp_path)
        (tmp_path / "in.jsonl").write_text("".join(map(asking.row, range(8))))
        said = io.StringIO()
        task = asyncio.create_task(asking.run(stages.settings.redis_url, QUEUE, tmp_path, said))
        while "upgrade row 7" not in await sent_configs(stages):
            assert not task.done(), task
            await asyncio.wait([task], timeout=0.01)
        configs = await sent_configs(stages)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert configs["upgrade row 6"] == {"maxOutputTokens": 50}
        assert configs["upgrade row 7"] == {"temperature": 0}
        assert ("what was bought on another one is bought again: 3 rows." in said.getvalue()) == (not known)
    await stages.store.redis.flushall()


@pytest.mark.parametrize(
    ("given", "name", "settings"),
    [
        (
            {},
            "run-66a72d894807",
            '{"column":"","config":null,"key":"","kind":"generate","model":"gemini-3.5-flash","template":"","text":false}',
        ),
        (
            {"config": {"b": 1, "a": {"x": [1, 2.5, None]}}, "text": True, "key": "id", "template": "Q: {t}"},
            "run-5f3d1200cded",
            (
                '{"column":"","config":{"a":{"x":[1,2.5,null]},"b":1},"key":"id","kind":"generate",'
                '"model":"gemini-3.5-flash","template":"Q: {t}","text":true}'
            ),
        ),
        (
            {"kind": Kind.EMBED, "column": "c", "deadline": "2h", "order": "input", "failed": "/data/f.jsonl"},
            "run-7ccba8a62f04",
            '{"column":"c","config":null,"key":"","kind":"embed","model":"gemini-3.5-flash","template":"","text":false}',
        ),
    ],
)
def test_runs_keep_their_names(given: dict[str, Any], name: str, settings: str) -> None:
    """A command that 0.2.0 knew has the settings and the name that 0.2.0 gave it, byte for byte, in either mode."""
    for mode in ("", "merge", "replace"):
        options = RunOptions(
            source="/data/in.jsonl", out="/data/out.jsonl", model=asking.MODEL, config_mode=mode, **given
        )
        assert (named(options).name, options.settings()) == (name, settings)
