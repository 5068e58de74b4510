"""``gemqueue admin tenant``, and where it is seen that a tenant is over its limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from rich.console import Console

from gemqueue.states import Step
from gemqueue.store import metrics
from gemqueue_workers.manage.status import read_status
from gemqueue_workers.manage.tenant import TenantStatus, show_tenants
from tests.cli.command import gemqueue
from tests.worlds.bench import ACCOUNT, Bench, bench

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@pytest.fixture
async def here(redis_url: str, queue_name: str) -> AsyncGenerator[Bench]:
    """Batches of ten prompts."""
    async with bench(redis_url, queue_name, batch_prompts_max=10, redis_url=redis_url) as made:
        yield made


def tenant(here: Bench, *words: str) -> Any:
    """What the command says, for a program."""
    env = {"GEMQUEUE_REDIS_URL": here.store.url, "GEMQUEUE_QUEUE": here.settings.queue, "GEMQUEUE_EMULATE": "1"}
    ended = gemqueue("admin", "tenant", *words, "--json", **env)
    assert ended.returncode == 0, ended.stderr
    return msgspec.json.decode(ended.stdout)


async def test_a_limit_is_set_seen_and_taken_away(here: Bench) -> None:
    """``set`` changes what is given alone; ``list`` shows it with the prompts; status and metrics say who waits."""
    assert tenant(here, "set", "a", "--jobs-max", "1", "--weight", "3")["jobs_max"] == 1
    for _ in range(3):
        await here.enqueue(5, tenant="a")
    await here.enqueue(5, tenant="b")
    claim = await here.claim(Step.PACK)
    await here.pack_one(claim)
    await here.pack_one(claim)
    await here.store.rest(claim)
    found = {one["tenant"]: one for one in tenant(here, "list")}
    reason = "tenant a: 1 of its 1 jobs are in flight"
    assert (found["a"]["held_cause"], found["a"]["held_reason"]) == ("tenant", reason)
    assert (found["a"]["waiting"] + found["a"]["in_flight"], found["a"]["weight"], found["a"]["jobs"]) == (15, 3, 1)
    assert (found["b"]["held_reason"], found["b"]["accepted"]) == ("", 5)
    await here.store.beat("w1", "pack+submit+track+resolve+rescue", ACCOUNT)
    (lane,) = (await read_status(here.settings)).lanes
    assert (lane.pending, lane.held_cause, lane.held_reason) == (found["a"]["waiting"], "tenant", reason)
    gauges = {
        (gauge.name, gauge.labels["tenant"]): gauge.value
        for gauge in (await metrics.read(here.store)).gauges
        if "tenant" in gauge.labels
    }
    assert gauges["tenant_waiting_prompts", "a"] == found["a"]["waiting"]
    assert (gauges["tenant_over_limit", "a"], gauges["tenant_over_limit", "b"]) == (1, 0)
    done = tenant(here, "set", "a", "--jobs-max", "none")
    assert (done["weight"], done["jobs_max"]) == (3, 0)
    assert tenant(here, "set", "a", "--keep-outcome-s", "86400")["keep_outcome_s"] == 86_400
    assert {one["tenant"]: one["held_reason"] for one in tenant(here, "list")} == {"a": "", "b": ""}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("a/b", "--weight", "2"), "'a/b' cannot be a tenant"),
        (("a", "--weight", "101"), "--weight 101 is above 100"),
        (("a", "--jobs-max", "few"), "'few' is no whole number"),
        (("a", "--keep-outcome-s", "5"), "--keep-outcome-s 5 is below submit_timeout_s = 60"),
        (("a",), "nothing to set"),
    ],
)
def test_what_cannot_be_set_is_refused(words: tuple[str, ...], complaint: str) -> None:
    """With exit 2, and words that name the value and the way out."""
    ended = gemqueue("admin", "tenant", "set", *words, GEMQUEUE_EMULATE="1")
    assert (ended.returncode, complaint in ended.stderr) == (2, True), ended.stderr


def test_tenants_are_listed_for_people() -> None:
    """A line each, with what holds it and control characters removed; none at all is said."""
    console = Console(record=True, width=160, quiet=False)
    show_tenants(console, [])
    one = TenantStatus(
        account="a", tenant="bob", weight=2, jobs_max=3, per_min_max=5000, jobs=3, held_reason="tenant bob\x1b[2J: 3"
    )
    show_tenants(console, [one])
    text = console.export_text()
    assert "No prompts yet" in text
    assert "3 of 3" in text
    assert "5,000" in text
    assert "\x1b[2J" not in text
