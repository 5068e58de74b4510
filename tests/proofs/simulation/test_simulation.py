"""The promises hold in a simulated world, seed by seed; and a seed is a seed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from gemqueue.config import Settings
from gemqueue.errors import StoreUnavailable
from gemqueue.policy import beliefs
from gemqueue.policy.beliefs import Belief
from tests.proofs.simulation.client import Client, Direct
from tests.proofs.simulation.core import CoreStore
from tests.proofs.simulation.lies import BELIEF_S, UNIT_S
from tests.proofs.simulation.memory import Memory
from tests.worlds.bench import Bench, HandClock, landing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.proofs.simulation.client import Ear, Words

ROOT = Path(__file__).parents[3]
SEEDS = 500


def simulate(*words: str) -> subprocess.CompletedProcess[str]:
    """The command."""
    return subprocess.run(
        [sys.executable, "-m", "tests.proofs.simulation", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.timeout(1500)
def test_seeds_break_no_promise(tmp_path: Path) -> None:
    """Under crashes, pauses, lost and late calls, restarts and a provider that lies, every promise holds in 500 seeds.

    What processes that were killed left unfinished is dropped without a word.
    """
    file = tmp_path / "report.json"
    done = simulate("--seeds", str(SEEDS), "--jobs", "2", "--json", str(file))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-6000:] + done.stderr[-2000:]
    found: dict[str, Any] = json.loads(file.read_text())
    assert found["seeds"] == SEEDS
    kinds = ("crashes", "pauses", "lost_replies", "lost_calls", "late_effects", "server_restarts", "refused_calls")
    assert all(found[kind] > SEEDS / 10 for kind in kinds), found
    scenes = ("deadlines", "pool", "dead", "replicated", "failover")
    assert all(found["scenes"][scene] > SEEDS / 20 for scene in scenes), found
    routes = {name.partition(".")[0] for name in found["lies"]}
    assert routes == {"looks", "lists", "readings", "creates", "uploads", "accounts"}, found
    assert found["bought_again_by"].keys() <= {"not_answered", *(rule.value for rule in Belief)}, found
    counted = ("diverted", "rescued", "late", "account_refused", "spend_refused", "replayed", "ended_returned")
    assert all(found["counted"][name] for name in counted), found


def test_lies_are_measured_by_the_table() -> None:
    """What the judge takes for the least pause between looks is that of the table of beliefs."""
    settings = Settings(queue="q", emulate=True, belief_s=BELIEF_S)
    assert beliefs.unit_s(settings) == UNIT_S
    assert beliefs.gaps_s(beliefs.Pace.ROWS, settings) == (5 * UNIT_S,)
    assert sum(beliefs.gaps_s(beliefs.Pace.HOURS, settings)) == pytest.approx(BELIEF_S)


def test_a_seed_replays_exactly() -> None:
    """The same seed gives the same history, alone or after others."""
    alone, after_others = simulate("--replay", "11"), simulate("--replay", "9", "10", "11")
    assert (alone.returncode, alone.stderr) == (0, ""), alone.stdout[-3000:] + alone.stderr[-2000:]
    assert len(alone.stdout.splitlines()) > 100
    assert after_others.stdout.endswith(alone.stdout)


class _Dying:
    """A line that breaks: only the first of its commands arrives, or all of them where they are one transaction."""

    appendfsync = "always"

    def __init__(self, memory: Memory) -> None:
        self._direct = Direct(memory)

    async def send(self, commands: Sequence[Words], *, atomic: bool) -> list[Any]:
        """What arrives takes effect; no reply does."""
        await self._direct.send(commands if atomic else commands[:1], atomic=atomic)
        raise RedisConnectionError("gone")

    async def block(self, key: bytes, after: bytes, count: int, block_ms: int) -> list[Any]:  # noqa: ARG002 - the port's
        """Nobody blocks here."""
        raise AssertionError

    async def listen(self, channel: bytes) -> Ear:  # noqa: ARG002 - the port's
        """Nobody listens here."""
        raise AssertionError


async def test_an_inbox_never_lacks_its_ttl() -> None:
    """A client that dies at any point while it opens its inbox leaves no inbox that stays for ever."""
    memory = Memory(lambda: 0)
    store = CoreStore(_Dying(memory), Settings(queue="q", emulate=True), HandClock())
    with pytest.raises(StoreUnavailable):
        await store.open_inbox("00p1")
    looker: Any = Client(Direct(memory))
    assert await looker.ttl("{gq:q:00}:inbox:00p1") > 0


async def test_a_batch_that_a_failover_opens_again_is_not_confirmed_as_closed() -> None:
    """Whoever would delete a closed batch's results is told when the server in place does not know of that."""
    memory = Memory(lambda: 0)
    made = Bench.__new__(Bench)
    made.clock = HandClock()
    made.settings = Settings(queue="q", emulate=True, redis_url="redis://r", durability="replicated", linger_s=0.0)
    made.store = CoreStore(Direct(memory), made.settings, made.clock)
    segment = await made.enqueue(1)
    claim = await made.ended()
    before = memory.copy()
    await made.store.settle(claim, [landing(segment, [0])])
    assert await made.close(claim) == ("closed", [])
    assert await made.store.confirm_closed(claim.id)
    memory.become(before)
    assert not await made.store.confirm_closed(claim.id)
