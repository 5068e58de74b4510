"""Schemas in calls: names join over a change of the setting, and garbled answers are read rightly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.worlds.answering import answering, connect
from tests.worlds.processes import MODEL, Processes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.valkey_server import ValkeyServer
from tests.language.test_wire import Verdict


async def test_a_name_joins_over_a_change_of_the_setting(redis_url: str, queue_name: str) -> None:
    """The same prompt with a class, named, from queues with either setting, is one prompt."""
    async with answering(redis_url, queue_name):
        keys = set[str]()
        for dialect in ("json_schema", "schema"):
            async with connect(redis_url, queue_name, schema_dialect=dialect) as queue:
                future = await queue.submit("q", model=MODEL, name="n", config={"response_schema": Verdict})
                keys.add(future.key)
        assert len(keys) == 1


async def test_a_batch_that_garbles_json_schema_answers_classes_rightly(
    tmp_path: Path, valkey: ValkeyServer, queue_name: str
) -> None:
    """Where the batch route answers responseJsonSchema with wrong shapes, a class gets its own, by default."""
    async with Processes(tmp_path, valkey, queue_name) as world:
        world.emulator.faults([{"on": "row", "do": "wrong_shape"}])
        world.start_worker()
        parsed = dict[str, Any]()
        for dialect in ("schema", "json_schema"):
            async with connect(valkey.url, queue_name, schema_dialect=dialect) as queue:
                answer = await queue.generate("q", model=MODEL, config={"response_schema": Verdict})
                parsed[dialect] = answer.parsed
    assert sorted(parsed["schema"]) == ["label", "score"]
    assert isinstance(parsed["json_schema"], list)
