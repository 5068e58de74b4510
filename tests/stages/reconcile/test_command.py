"""Comparing again, by hand or after a death: a look writes nothing, and what is done is not done twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue.effects import CRASH_EXIT_CODE, Effect
from gemqueue.policy import job_names
from gemqueue.policy.reconciling import Standing
from gemqueue.states import Step
from gemqueue_workers.worker.recovery import HELD
from tests.cli.command import gemqueue
from tests.stages.reconcile.past import all_answered_once, go_on, lose, noticed, uploaded
from tests.worlds.stages import ACCOUNT

if TYPE_CHECKING:
    from tests.stages.reconcile.past import Past
    from tests.worlds.stages import Stages

RECONCILE_EFFECTS = [effect for effect in Effect if effect.startswith("reconcile.")]


def command(stages: Stages, *arguments: str, **env: str) -> tuple[int, dict[str, Any]]:
    """``gemqueue admin reconcile`` on these stages' queue: its exit code, and what it printed."""
    named = {name: getattr(stages.settings, name) for name in ("redis_url", "queue", "settle_s", "lease_s")}
    given = {f"GEMQUEUE_{name.upper()}": str(value) for name, value in named.items()}
    given |= {"GEMQUEUE_EMULATE": "1", "GOOGLE_GEMINI_BASE_URL": stages.emulator.url}
    with stages.ticking() as clock:
        ended = gemqueue("admin", "reconcile", "--json", *arguments, GEMQUEUE_TEST_CLOCK=clock, **given, **env)
    return ended.returncode, msgspec.json.decode(ended.stdout) if ended.returncode == 0 else {"error": ended.stderr}


async def _dump(stages: Stages) -> dict[str, bytes]:
    names = sorted(await stages.store.redis.keys("*"))
    return {name.decode(): await stages.store.redis.dump(name) for name in names}


async def test_a_dry_run_changes_nothing_and_twice_is_as_once(stages: Stages, lossy: Past) -> None:
    """A look writes nothing; a second comparison finds everything known and writes nothing either."""
    await stages.submit("one", "two")
    batch = await stages.sealed()
    lossy.save()
    await stages.step(Step.SUBMIT, batch)
    await lose(stages, lossy)
    stages.clock.advance(stages.settings.lease_s + 1)
    before = await _dump(stages)
    assert [f.standing for f in (await stages.compare(apply=False)).findings] == [Standing.WAITING]
    assert await _dump(stages) == before
    await stages.compare()
    after = await _dump(stages)
    assert [f.standing for f in (await stages.compare()).findings] == [Standing.KNOWN]
    assert await _dump(stages) == after
    await stages.store.resume(ACCOUNT, (await stages.store.server(ACCOUNT)).noticed)
    await all_answered_once(stages)


async def test_the_command_is_a_look_unless_it_may_apply(stages: Stages, lossy: Past) -> None:
    """What it prints says what every job is; --go-on ends the pause whatever is open."""
    await stages.submit("one")
    lossy.save()
    batch = await stages.submitted()
    await lose(stages, lossy)
    await noticed(stages)
    stages.clock.advance(stages.settings.settle_s + 1)
    code, said = command(stages)
    assert (code, said["applied"], [job["standing"] for job in said["jobs"]]) == (0, False, ["running"])
    assert (said["jobs"][0]["batch"], said["held_reason"]) == (batch, HELD)
    _, said = command(stages, "--apply")
    assert "still runs" in said["held_reason"]
    _, said = command(stages, "--go-on")
    assert said["held_reason"] == ""
    assert not await stages.store.beat("w", "pack", ACCOUNT)
    stages.jobs_end()
    _, said = command(stages, "--apply")
    assert said["counts"]["rebuilt"] == 1
    await all_answered_once(stages)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("effect", RECONCILE_EFFECTS)
async def test_a_reconcile_that_dies_anywhere_is_done_by_the_next(
    stages: Stages, lossy: Past, effect: str, when: str
) -> None:
    """Two batches lost, one thrown back, an orphan and a stray: the command dies at each effect, and runs again."""
    await uploaded(stages, job_names.file_name((await stages.store.server(ACCOUNT)).home, "00b" + "c" * 20), b"\n")
    stages.clock.advance(2 * 3600)
    stages.emulator.advance(2 * 3600)
    await stages.submit("waits", "for its job")
    thrown_back = await stages.sealed()
    await stages.submit("its record", "is lost")
    lossy.save()
    await stages.submitted()
    stages.jobs_end()
    await stages.step(Step.SUBMIT, thrown_back)
    await stages.submit("the server forgets this")
    await stages.submitted()
    stages.keys.pop()
    await lose(stages, lossy)
    await noticed(stages)
    stages.clock.advance(stages.settings.settle_s + stages.settings.lease_s)
    code, said = command(stages, "--apply", "--orphans", GEMQUEUE_CRASH_AT=f"{effect}:{when}:1")
    assert code == CRASH_EXIT_CODE, said
    stages.clock.advance(stages.settings.lease_s + 1)
    await go_on(stages)
    stages.jobs_end()
    survey = await go_on(stages)
    assert await stages.store.held_reason(ACCOUNT) == ""
    assert {finding.standing for finding in survey.findings} <= {Standing.KNOWN, Standing.OVER, Standing.ORPHANED}
    await all_answered_once(stages)


async def test_quarantined_rows_are_shown(stages: Stages) -> None:
    """A row that comes twice is told of by reason and batch, and the batch shows its bytes."""
    await stages.submit("one", "[[fault:doubled]]")
    batch = await stages.submitted()
    await stages.drain()
    code, said = command(stages)
    (kept,) = said["quarantined"]
    assert (code, kept["batch"], kept["rows"], said["counts"]["quarantined"]) == (0, batch, 1, 1)
    env = {"GEMQUEUE_REDIS_URL": stages.settings.redis_url, "GEMQUEUE_QUEUE": stages.settings.queue}
    shown = msgspec.json.decode(gemqueue("show", batch, "--json", GEMQUEUE_EMULATE="1", **env).stdout)
    (stray,) = shown["quarantined"]
    assert stray["reason"] == kept["reason"]
    assert "response" in stray["row"]
