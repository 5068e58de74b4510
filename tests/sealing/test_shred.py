"""``gemqueue admin shred``: one tenant's data opens for nobody, not even in a backup, and the others' goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue import Queue
from gemqueue.errors import SealError
from gemqueue.language.outcomes import Failed
from gemqueue.store.seals.ring import Seals
from tests.cli.command import gemqueue
from tests.worlds.stages import MODEL, Stages

if TYPE_CHECKING:
    import subprocess

    from tests.worlds.sealed import Holder

pytestmark = pytest.mark.usefixtures("no_leaks")


def shred(stages: Stages, holder: Holder, *arguments: str, tenant: str = "acme") -> subprocess.CompletedProcess[str]:
    """The command, of this queue and with these keys."""
    given = {"GEMQUEUE_REDIS_URL": stages.settings.redis_url, "GEMQUEUE_QUEUE": stages.settings.queue}
    return gemqueue("admin", "shred", "--tenant", tenant, *arguments, **given, **holder.env, GEMQUEUE_EMULATE="1")


def connect(stages: Stages, holder: Holder) -> Any:
    """A queue of a producer with the keys."""
    plain = msgspec.structs.replace(stages.settings, seal=False)
    return Queue.connect(settings=plain, seal=True, seal_wrapper=holder.wrapper)


def begun_anew(stages: Stages, holder: Holder) -> None:
    """The stages' store as in a process that has just begun."""
    stages.store.seals = Seals(lambda: stages.store.scripts, stages.store.key, stages.settings)
    holder.give(stages.store)


async def test_a_tenant_is_gone_for_good(stages: Stages, holder: Holder) -> None:
    """Its open prompts fail with the reason, its answers cannot be read, nor can those of a backup; others' can."""
    stages.emulator.faults([{"on": "row", "do": "foreign", "nth": [1]}])
    async with connect(stages, holder) as queue:
        done = [await queue.submit(f"done {whose}", model=MODEL, tenant=whose) for whose in ("acme", "other")]
        await stages.drain()
        stages.emulator.faults([])
        keys = [future.key for future in done]
        waiting = await queue.submit("waits", model=MODEL, tenant="acme")
        batch = await stages.submitted()
        late = await queue.submit("late", model=MODEL, tenant="acme")
        backup = {name: await stages.store.redis.dump(name) async for name in stages.store.redis.scan_iter()}
        holder.letters.insert(0, "b")
        ended = shred(stages, holder, "--yes", "--json")
        assert ended.returncode == 0, ended.stderr
        said = msgspec.json.decode(ended.stdout)
        assert (said["open_prompts"], said["dead_letters"], len(said["destroy"])) == (2, 0, 1)
        again = shred(stages, holder, "--yes", "--json")  # as after a crash in its middle
        assert msgspec.json.decode(again.stdout) == said | {"open_prompts": 0}
        for future in (waiting, late):
            outcome = await future.outcome()
            assert isinstance(outcome, Failed)
            assert outcome.failure.message.startswith("its tenant's key was destroyed (gemqueue admin shred)")
    del holder.letters[1:]  # as the command asks
    begun_anew(stages, holder)
    async with connect(stages, holder) as queue:
        outcome = await queue.future(keys[0]).outcome()
        assert isinstance(outcome, Failed)
        assert "done other" in (await queue.future(keys[1])).text
        stages.jobs_end()
        await stages.drain()
        assert await stages.store.batch(batch) is not None
        anew = await queue.submit("a new life", model=MODEL, tenant="acme")
        await stages.drain()
        assert "a new life" in (await anew).text
    await _nobody_opens(stages, holder, backup)


async def _nobody_opens(stages: Stages, holder: Holder, backup: dict[bytes, bytes]) -> None:
    """With what is left of the keys, the backup's keys of the tenant do not open."""
    name = stages.store.key("seal", "acme")
    await stages.store.redis.restore(name, 0, backup[name.encode()], replace=True)
    begun_anew(stages, holder)
    with pytest.raises(SealError, match="is wrapped by"):
        await stages.store.seals.shut("segment", "00a", "acme", b"data")
    assert not await stages.store.redis.exists(stages.store.key("quarantine"))


async def test_it_is_refused_where_it_would_not_be_final(stages: Stages, holder: Holder) -> None:
    """Without a new wrapping key, for a tenant without keys, or without a word of consent, nothing is destroyed."""
    async with connect(stages, holder) as queue:
        future = await queue.submit("one", model=MODEL, tenant="acme")
    ended = shred(stages, holder, "--yes")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "put the line of a new one (`gemqueue admin seal key`) first into GEMQUEUE_SEAL_KEY_FILE" in ended.stderr
    ended = shred(stages, holder, "--yes", tenant="nobody")
    assert ended.returncode == 2
    assert "tenant 'nobody' has no key in this queue" in ended.stderr
    ended = shred(stages, holder, "--keep-key")  # nobody types the name
    assert ended.returncode == 1
    await stages.drain()
    async with connect(stages, holder) as queue:
        assert "one" in (await queue.future(future.key)).text
    ended = shred(stages, holder, "--yes", "--keep-key")
    assert ended.returncode == 0
    assert "Backups stay readable for whoever has the wrapping key" in ended.stdout


async def test_what_was_never_sealed_is_deleted(stages: Stages, holder: Holder) -> None:
    """Answers from before the seal are in no key's hand: the command takes them away, and says how many."""
    await stages.store.redis.delete(stages.store.key("seal", "+names"))
    async with Queue.connect(settings=msgspec.structs.replace(stages.settings, seal=False)) as queue:
        old = await queue.submit("old", model=MODEL, tenant="acme")
        key = old.key
        stages.store.seals.on = False
        await stages.drain()
        stages.store.seals.on = True
    async with connect(stages, holder) as queue:
        await queue.submit("new", model=MODEL, tenant="acme")
        await stages.drain()
        ended = shred(stages, holder, "--yes", "--keep-key", "--json")
        assert msgspec.json.decode(ended.stdout)["plain_outcomes"] == 1
        outcome = await queue.future(key).outcome()
        assert isinstance(outcome, Failed)
        assert "its tenant's key was destroyed" in outcome.failure.message
