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
    from tests.worlds.stages import Shop

RECONCILE_EFFECTS = [effect for effect in Effect if effect.startswith("reconcile.")]


def command(made: Shop, *arguments: str, **env: str) -> tuple[int, dict[str, Any]]:
    """``gemqueue admin reconcile`` on this shop: its exit code, and what it printed."""
    named = {name: getattr(made.settings, name) for name in ("redis_url", "queue", "settle_s", "lease_s")}
    given = {f"GEMQUEUE_{name.upper()}": str(value) for name, value in named.items()}
    given |= {"GEMQUEUE_EMULATE": "1", "GOOGLE_GEMINI_BASE_URL": made.emulator.url}
    with made.ticking() as clock:
        ended = gemqueue("admin", "reconcile", "--json", *arguments, GEMQUEUE_TEST_CLOCK=clock, **given, **env)
    return ended.returncode, msgspec.json.decode(ended.stdout) if ended.returncode == 0 else {"error": ended.stderr}


async def _dump(made: Shop) -> dict[str, bytes]:
    names = sorted(await made.store.redis.keys("*"))
    return {name.decode(): await made.store.redis.dump(name) for name in names}


async def test_a_dry_run_changes_nothing_and_twice_is_as_once(made: Shop, lossy: Past) -> None:
    """A look writes nothing; a second comparison finds everything known and writes nothing either."""
    await made.submit("one", "two")
    batch = await made.sealed()
    lossy.save()
    await made.step(Step.SUBMIT, batch)
    await lose(made, lossy)
    made.clock.advance(made.settings.lease_s + 1)
    before = await _dump(made)
    assert [f.standing for f in (await made.compare(apply=False)).findings] == [Standing.WAITING]
    assert await _dump(made) == before
    await made.compare()
    after = await _dump(made)
    assert [f.standing for f in (await made.compare()).findings] == [Standing.KNOWN]
    assert await _dump(made) == after
    await made.store.resume(ACCOUNT, (await made.store.server(ACCOUNT)).noticed)
    await all_answered_once(made)


async def test_the_command_is_a_look_unless_it_may_apply(made: Shop, lossy: Past) -> None:
    """What it prints says what every job is; --go-on ends the pause whatever is open."""
    await made.submit("one")
    lossy.save()
    batch = await made.submitted()
    await lose(made, lossy)
    await noticed(made)
    made.clock.advance(made.settings.settle_s + 1)
    code, said = command(made)
    assert (code, said["applied"], [job["standing"] for job in said["jobs"]]) == (0, False, ["running"])
    assert (said["jobs"][0]["batch"], said["held_reason"]) == (batch, HELD)
    _, said = command(made, "--apply")
    assert "still runs" in said["held_reason"]
    _, said = command(made, "--go-on")
    assert said["held_reason"] == ""
    assert not await made.store.beat("w", "pack", ACCOUNT)
    made.jobs_end()
    _, said = command(made, "--apply")
    assert said["counts"]["rebuilt"] == 1
    await all_answered_once(made)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("effect", RECONCILE_EFFECTS)
async def test_a_reconcile_that_dies_anywhere_is_done_by_the_next(
    made: Shop, lossy: Past, effect: str, when: str
) -> None:
    """Two batches lost, one thrown back, an orphan and a stray: the command dies at each effect, and runs again."""
    await uploaded(made, job_names.file_name((await made.store.server(ACCOUNT)).home, "00b" + "c" * 20), b"\n")
    made.clock.advance(2 * 3600)
    made.emulator.advance(2 * 3600)
    await made.submit("waits", "for its job")
    thrown_back = await made.sealed()
    await made.submit("its record", "is lost")
    lossy.save()
    await made.submitted()
    made.jobs_end()
    await made.step(Step.SUBMIT, thrown_back)
    await made.submit("the server forgets this")
    await made.submitted()
    made.keys.pop()
    await lose(made, lossy)
    await noticed(made)
    made.clock.advance(made.settings.settle_s + made.settings.lease_s)
    code, said = command(made, "--apply", "--orphans", GEMQUEUE_CRASH_AT=f"{effect}:{when}:1")
    assert code == CRASH_EXIT_CODE, said
    made.clock.advance(made.settings.lease_s + 1)
    await go_on(made)
    made.jobs_end()
    survey = await go_on(made)
    assert await made.store.held_reason(ACCOUNT) == ""
    assert {finding.standing for finding in survey.findings} <= {Standing.KNOWN, Standing.OVER, Standing.ORPHANED}
    await all_answered_once(made)


async def test_quarantined_rows_are_shown(made: Shop) -> None:
    """A row that comes twice is told of by reason and batch, and the batch shows its bytes."""
    await made.submit("one", "[[fault:doubled]]")
    batch = await made.submitted()
    await made.drain()
    code, said = command(made)
    (kept,) = said["quarantined"]
    assert (code, kept["batch"], kept["rows"], said["counts"]["quarantined"]) == (0, batch, 1, 1)
    env = {"GEMQUEUE_REDIS_URL": made.settings.redis_url, "GEMQUEUE_QUEUE": made.settings.queue}
    shown = msgspec.json.decode(gemqueue("show", batch, "--json", GEMQUEUE_EMULATE="1", **env).stdout)
    (stray,) = shown["quarantined"]
    assert stray["reason"] == kept["reason"]
    assert "response" in stray["row"]
