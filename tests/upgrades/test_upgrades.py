"""Records of every earlier version, in every state, are finished by the current code; nothing is bought twice by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from gemqueue.states import BatchState
from gemqueue.store import codec
from gemqueue.store.runs import RunStore
from tests.leaks import leftovers
from tests.upgrades.__main__ import LATER_STATES, QUEUE, STATES
from tests.upgrades.records import FOLDER, VERSIONS, at_the_provider, keys_of, load, read
from tests.worlds.stages import ACCOUNT

if TYPE_CHECKING:
    from tests.worlds.stages import Stages

IN_DOUBT = (("intent", True), ("fenced", True))
CASES = [
    (version, state, job)
    for version in VERSIONS
    for state, job in (*((file.stem, False) for file in sorted((FOLDER / version).glob("*.json"))), *IN_DOUBT)
]
"""With a job, the create in doubt has taken effect."""


@pytest.mark.parametrize(("version", "state", "job"), CASES)
async def test_every_state_of_every_version_is_finished(stages: Stages, version: str, state: str, *, job: bool) -> None:
    """Loaded and drained: each prompt has one outcome, a job that exists is not created again, nothing is left."""
    records = await at_the_provider(stages, read(version, state), job=job)
    jobs = len(stages.emulator.ledger()["jobs"])
    await load(stages, records)
    await stages.store.greet(ACCOUNT)
    await stages.drain()
    seen: dict[str, int] = {}
    keys = keys_of(records)
    for segment in sorted({key.partition(".")[0] for key in keys}):
        for blob in (await stages.store.outcomes([(segment, 0)], 1000))[0]:
            for row in codec.expand(blob).splitlines():
                key = msgspec.json.decode(row)["key"]
                seen[key] = seen.get(key, 0) + 1
    assert seen == dict.fromkeys(keys, 1)
    assert stages.emulator.ledger()["bought_twice"] == []
    if jobs:
        assert len(stages.emulator.ledger()["jobs"]) == jobs
    assert await leftovers(stages.store.redis, QUEUE) == []


@pytest.mark.parametrize("version", VERSIONS)
async def test_runs_and_names_of_every_version_are_known(stages: Stages, version: str) -> None:
    """A run can be taken over with what it has bought, and a name leads to its prompt."""
    await load(stages, read(version, "run") | read(version, "sealed"))
    runs = RunStore(stages.settings.redis_url, stages.settings, stages.clock)
    record = await runs.open_run(ACCOUNT, "nightly", "{}", "{}", [])
    assert (record.epoch, record.entries) == (2, 1)
    (entry,) = await runs.run_entries(ACCOUNT, "nightly", 0, 1)
    assert entry.keys == ["a", "b"]
    await runs.aclose()
    named = await stages.store.named(ACCOUNT, "doc-1")
    assert named is not None
    assert named[1] == "digest"


def test_every_state_has_its_records() -> None:
    """No state of a batch is without a fixture, in any version; those since 0.2.0 have names and a run's files, too."""
    for version in VERSIONS:
        wanted = [*STATES, *(LATER_STATES if version != "0.1.0" else ())]
        assert sorted(wanted) == sorted(file.stem for file in (FOLDER / version).glob("*.json"))
        states: set[str] = set()
        for state in STATES:
            for name, record in read(version, state).items():
                if ":batch:" in name:
                    states.add(dict(zip(*[iter(record["value"])] * 2, strict=True))["state"])
        assert states == set(BatchState), version
