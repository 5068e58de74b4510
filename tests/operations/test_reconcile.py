"""The provider's jobs against the records: after a server lost its last writes, and when there is nothing to do."""

from __future__ import annotations

import asyncio
import shutil
import socket
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue import tokens
from gemqueue.effects import CRASH_EXIT_CODE, Effect
from gemqueue.reconciling import Standing
from gemqueue.states import Kind, Step
from gemqueue_workers.aftermath import HELD, Aftermath, resume
from gemqueue_workers.reconciler import Reconciler
from tests.cli.command import gemqueue
from tests.operations.kit import ACCOUNT, LANE, MODEL, Shop, shop, start_emulator
from tests.valkey_server import ValkeyServer
from tests.world import World, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from pathlib import Path

    from gemqueue_workers.reconciler import Survey
    from tests.emulator_process import EmulatorProcess

LOSSY = ("--appendfsync", "no")  # everysec may keep writes in memory while it syncs, and a copy would miss them


class Past:
    """A server that can be thrown back: it is killed, and started again on what it had written earlier."""

    def __init__(self, server: ValkeyServer, folder: Path) -> None:
        self.server = server
        self._saved = folder / "saved"

    def save(self) -> None:
        """Remember this moment."""
        shutil.rmtree(self._saved, ignore_errors=True)
        shutil.copytree(self.server.folder / "appendonlydir", self._saved)

    def come_back(self) -> None:
        """Whatever was written since is lost."""
        self.server.kill()
        shutil.rmtree(self.server.folder / "appendonlydir")
        shutil.copytree(self._saved, self.server.folder / "appendonlydir")
        self.server.start()


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Generator[EmulatorProcess]:
    made = start_emulator(tmp_path_factory.mktemp("emulator"))
    yield made
    made.kill()


@pytest.fixture
def lossy(tmp_path: Path) -> Generator[Past]:
    with ValkeyServer(extra=LOSSY) as server:
        yield Past(server, tmp_path)


@pytest.fixture
async def made(lossy: Past, queue_name: str, emulator: EmulatorProcess) -> AsyncGenerator[Shop]:
    async with shop(lossy.server.url, queue_name, emulator) as made:
        await made.store.greet(ACCOUNT)
        yield made


async def lose(made: Shop, lossy: Past) -> None:
    """Everything since ``lossy.save()`` is lost."""
    await asyncio.to_thread(lossy.come_back)
    await made.reconnect()


def job_ends(made: Shop) -> None:
    made.clock.advance(60)
    made.emulator.advance(60)


async def all_answered_once(made: Shop) -> None:
    """Every prompt has its answer, and none was bought twice."""
    await made.drain()
    assert made.emulator.ledger()["bought_twice"] == []
    for blobs in [await made.store.outcomes([(key.partition(".")[0], 0)], 1000) for key in made.keys]:
        assert blobs[0] != []
    assert await made.count("answered") == len(made.keys)


async def test_a_batch_thrown_back_to_before_its_create_adopts_the_job(made: Shop, lossy: Past) -> None:
    """The server forgets begin and accept. Nothing is submitted until the listed job has been adopted."""
    await made.submit("one", "two")
    batch = await made.sealed()
    lossy.save()
    await made.step(Step.SUBMIT, batch)
    assert await made.count("created") == 1
    await lose(made, lossy)
    made.clock.advance(made.settings.lease_s + 1)
    assert not await made.step(Step.SUBMIT, batch)
    assert await made.store.held_reason(ACCOUNT) == HELD
    made.clock.advance(made.settings.settle_s)
    assert not await Aftermath(made.kit).look()
    record = await made.store.batch(batch)
    assert record is not None
    assert (record.state, record.job) == ("submitted", made.emulator.ledger()["jobs"][0]["name"])
    assert await made.store.held_reason(ACCOUNT) == ""
    assert (await made.count("adopted"), await made.count("reconciled")) == (1, 1)
    await all_answered_once(made)


async def test_a_lost_record_is_rebuilt_from_the_results(made: Shop, lossy: Past) -> None:
    """The server forgets the whole batch. Packing waits while its job runs, and then it has its record again."""
    await made.submit(*(f"prompt {n}" for n in range(5)))
    await made.submit("another", "segment")
    lossy.save()
    batch = await made.submitted()
    await lose(made, lossy)
    made.clock.advance(made.settings.settle_s + 1)
    assert not await made.step(Step.PACK)
    made.clock.advance(made.settings.settle_s + 1)
    aftermath = Aftermath(made.kit)
    assert await aftermath.look()
    assert "its record is lost and it still runs" in await made.store.held_reason(ACCOUNT)
    assert not await made.step(Step.PACK)
    await made.submit("new")
    job_ends(made)
    assert not await aftermath.look()
    record = await made.store.batch(batch)
    assert record is not None
    assert (record.state, record.prompts, record.segments) == ("submitted", 7, 2)
    assert await made.count("rebuilt") == 1
    await all_answered_once(made)
    assert made.emulator.ledger()["rows_bought"] == 8


async def test_a_lost_batch_of_a_pool_is_rebuilt(made: Shop, lossy: Past) -> None:
    """The server forgets a batch that was packed from a pool: its segments are taken from the pool's lane."""
    made.join("emulated.pool.shared")
    await made.store.join_pool(made.kit.pool, ACCOUNT)
    await made.submit("one", "two")
    lossy.save()
    batch = await made.submitted()
    await lose(made, lossy)
    await made.submit("later")
    made.clock.advance(1)
    assert not await made.step(Step.PACK)
    made.clock.advance(made.settings.settle_s + 1)
    assert "server" in await made.store.held_reason(made.kit.pool)
    job_ends(made)
    assert not await Aftermath(made.kit).look()
    record = await made.store.batch(batch)
    assert record is not None
    assert (record.state, record.prompts, record.lane, record.pool) == ("submitted", 2, LANE, made.kit.pool)
    assert (await made.store.lane(made.lane)).prompts == 1
    await all_answered_once(made)
    assert made.emulator.ledger()["rows_bought"] == 3


async def test_a_lost_batch_of_retries_is_rebuilt(made: Shop, lossy: Past) -> None:
    """Prompts that had moved on into a retry segment are found there, by the keys that it carries."""
    await made.submit("[[fault:internal:1]] one", "two")
    first = await made.submitted()
    job_ends(made)
    for step in (Step.TRACK, Step.RESOLVE):
        await made.step(step, first)
    assert await made.count("requeued") == 1
    lossy.save()
    made.clock.advance(3600)
    await made.submitted()
    await lose(made, lossy)
    job_ends(made)
    made.clock.advance(3600)
    assert not await made.step(Step.PACK)
    made.clock.advance(made.settings.settle_s + 1)
    assert not await Aftermath(made.kit).look()
    assert await made.count("rebuilt") == 1
    await all_answered_once(made)


async def test_segments_that_were_packed_anew_are_taken_back(made: Shop, lossy: Past) -> None:
    """After a backup was restored by hand the prompts stand in a new sealed batch; the ended job's batch gets them."""
    await made.submit("one", "two")
    lossy.save()
    batch = await made.submitted()
    await lose(made, lossy)
    job_ends(made)
    await made.store.scripts.run("greet", ACCOUNT, "", 1)
    await made.store.resume(ACCOUNT, (await made.store.server(ACCOUNT)).noticed)  # as if nobody had noticed
    other = await made.sealed()
    survey = await made.compare()
    assert [(f.batch, f.standing, f.done) for f in survey.findings] == [
        (batch, Standing.KNOWN, "rebuilt with 1 segments")
    ]
    await all_answered_once(made)
    record = await made.store.batch(other)
    assert record is not None
    assert record.job == ""


async def test_what_others_have_in_the_account_is_left_alone(made: Shop) -> None:
    """Jobs without a name of ours, or with that of another installation, are counted and never touched."""
    foreign_home = "0" * 8
    names = ["somebody's job", "gq-", tokens.job_token(foreign_home, "00b" + "a" * 20, 7), "gq-00bzz-1"]
    file = await _uploaded(made, "not ours", b'{"key":"k","request":{"contents":[{"parts":[{"text":"x"}]}]}}\n')
    stray = await _uploaded(made, tokens.file_name(foreign_home, "00b" + "b" * 20), b"\n")
    jobs = [await made.provider.create(model=MODEL, kind=Kind.GENERATE, file=file, token=name) for name in names]
    before = [(await made.provider.poll(job)).state for job in jobs]
    reconciler = Reconciler(made.kit, (await made.store.server(ACCOUNT)).home, apply=True)
    survey = await reconciler.survey(0)
    survey.stray_files = await reconciler.stray_files()
    await reconciler.clean_up(survey)
    assert (survey.findings, survey.foreign, survey.stray_files) == ([], len(names), [])
    assert [(await made.provider.poll(job)).state for job in jobs] == before
    assert stray in [stored.file async for page in made.provider.files() for stored in page]


async def _uploaded(made: Shop, name: str, content: bytes) -> str:
    async def pieces() -> AsyncGenerator[bytes]:
        yield content

    return await made.provider.upload(pieces(), size_bytes=len(content), name=name)


async def test_orphans_and_strays_go_only_when_asked(made: Shop, lossy: Past) -> None:
    """A running job whose prompts nobody here has, and files of batches that are over: shown, and then cleaned up."""
    lossy.save()
    await made.submit("one")
    lost = await made.submitted()
    await lose(made, lossy)
    made.keys.clear()
    await made.submit("two")
    made.clock.advance(made.settings.settle_s + 1)
    await made.store.resume(ACCOUNT, await _noticed(made))
    done = await made.submitted()
    await made.drain()
    reconciler = Reconciler(made.kit, (await made.store.server(ACCOUNT)).home, apply=True)
    survey = await reconciler.survey(0)
    found = {finding.batch: finding for finding in survey.findings}
    assert found[done].standing is Standing.KNOWN
    assert found[lost].standing is Standing.ORPHANED  # it ended as time went by
    survey.stray_files = await reconciler.stray_files()
    assert len(survey.stray_files) >= 1
    await reconciler.clean_up(survey)
    assert await reconciler.stray_files() == []


async def _noticed(made: Shop) -> str:
    assert await made.store.beat("w", "pack", ACCOUNT)
    return (await made.store.server(ACCOUNT)).noticed


async def test_a_job_that_nobody_can_place_is_cancelled_only_when_asked(made: Shop, lossy: Past) -> None:
    """While it runs it keeps the pause; a person may cancel it, or lift the pause and leave it."""
    lossy.save()
    await made.submit("one")
    await made.submitted()
    await lose(made, lossy)
    made.keys.clear()
    reconciler = Reconciler(made.kit, (await made.store.server(ACCOUNT)).home, apply=True)
    survey = await reconciler.survey(0)
    (finding,) = survey.findings
    assert (finding.standing, len(survey.open_questions())) == (Standing.RUNNING, 1)
    await reconciler.clean_up(survey)
    assert finding.done == "cancelled"
    job_ends(made)
    assert (await made.compare()).open_questions() == []


async def test_a_second_job_of_a_batch_is_counted_once(made: Shop) -> None:
    """A job whose intent was proven dead and that is there all the same is counted once, however often it is seen."""
    made.emulator.faults(
        [{"on": "create", "do": "lost_after", "nth": [1]}, {"on": "list", "do": "lag", "seconds": 9_000}]
    )
    await made.submit("one", "two")
    batch = await made.submitted()
    made.clock.advance(made.settings.settle_s + 1)
    await made.step(Step.SUBMIT, batch)
    assert len(made.emulator.ledger()["jobs"]) == 2
    made.emulator.faults([])
    for _ in range(3):
        survey = await made.compare()
        assert sorted(str(finding.standing) for finding in survey.findings) == ["known", "twice"]
    assert await made.count("bought_twice") == 2
    await made.drain()


async def test_a_late_job_of_a_batch_that_has_none_is_adopted(made: Shop) -> None:
    """Its intent was proven dead and nothing has been created since: adopting it is better than buying again."""
    made.emulator.faults(
        [
            {"on": "create", "do": "lost_after", "nth": [1]},
            {"on": "create", "do": "429", "nth": [1]},
            {"on": "list", "do": "lag", "seconds": 9_000},
        ]
    )
    await made.submit("one", "two")
    batch = await made.submitted()
    made.clock.advance(made.settings.settle_s + 1)
    await made.step(Step.SUBMIT, batch)
    made.emulator.faults([])
    (finding,) = (await made.compare()).findings
    assert (finding.standing, finding.done) == (Standing.KNOWN, "adopted")
    await all_answered_once(made)


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


async def _dump(made: Shop) -> dict[str, bytes]:
    names = sorted(await made.store.redis.keys("*"))
    return {name.decode(): await made.store.redis.dump(name) for name in names}


async def test_the_pause_waits_for_creates_in_flight(made: Shop, lossy: Past) -> None:
    """A create that was sent before the server went may still show up: before ``settle_s`` nothing is lifted."""
    await made.submit("one")
    lossy.save()
    await lose(made, lossy)
    await _noticed(made)
    looking = asyncio.create_task(Aftermath(made.kit).look())

    async def waits() -> bool:
        return made.clock.sleepers == 1

    await until(waits, what="waiting out settle_s")
    made.clock.advance(made.settings.settle_s - 1)
    assert made.clock.sleepers == 1
    made.clock.advance(2)
    assert not await looking
    await all_answered_once(made)


async def test_no_fence_is_given_twice(made: Shop, lossy: Past) -> None:
    """A holder from before the loss is stale after it, even where the server forgot that it ever was one."""
    await made.submit("one")
    batch = await made.sealed()
    lossy.save()
    old = await made.store.claim(Step.SUBMIT, batch, ACCOUNT)
    assert old is not None
    await lose(made, lossy)
    await _noticed(made)
    await made.store.resume(ACCOUNT, (await made.store.server(ACCOUNT)).noticed)
    new = await made.store.claim(Step.SUBMIT, batch, ACCOUNT)
    assert new is not None
    assert new[0].fence > old[0].fence + 1_000_000
    assert (await made.store.claim(Step.SUBMIT, batch, ACCOUNT)) is None
    await made.store.release(new[0], 0.0)
    await all_answered_once(made)


async def test_a_server_that_writes_through_is_not_held(emulator: EmulatorProcess) -> None:
    """Started again it has lost nothing that anybody was told: a worker goes on at once, and asks nobody."""
    with ValkeyServer() as server:
        async with shop(server.url, "tlossless", emulator) as made:
            assert not (await made.store.greet(ACCOUNT))[1]
            await made.submit("one")
            server.kill()
            server.start()
            await made.reconnect()
            assert not await made.step(Step.PACK)  # noticed, in the very script
            assert await made.store.beat("w", "pack", ACCOUNT)
            before = len(emulator.requests())
            assert not await Aftermath(made.kit).look()
            assert len(emulator.requests()) == before
            await all_answered_once(made)


async def test_a_promoted_replica_is_held(emulator: EmulatorProcess) -> None:
    """However it writes to its disk, a replica may not have had everything: the provider's jobs are compared first."""
    with ValkeyServer(extra=("--repl-diskless-sync-delay", "0")) as master, ValkeyServer() as replica:
        port = _free_port()
        async with shop(master.url, "tpromoted", emulator) as made:
            await made.store.redis.config_set("port", port)
            assert not (await made.store.greet(ACCOUNT))[1]
            await made.submit("one")
            async with shop(replica.url, "tpromoted", emulator) as after:
                await after.store.redis.execute_command("REPLICAOF", "127.0.0.1", port)
                assert await made.store.redis.wait(1, 25_000) == 1
                await after.store.redis.execute_command("REPLICAOF", "NO", "ONE")
                after.clock.advance(5)
                assert (await after.store.greet(ACCOUNT))[1]
                assert not await after.step(Step.PACK)
                after.clock.advance(after.settings.settle_s)
                assert not await Aftermath(after.kit).look()
                after.keys += made.keys
                await all_answered_once(after)


RECONCILE_EFFECTS = [effect for effect in Effect if effect.startswith("reconcile.")]


def command(made: Shop, *arguments: str, **env: str) -> tuple[int, dict[str, Any]]:
    """``gemqueue reconcile`` on this shop: its exit code, and what it printed."""
    clock = made.emulator.data.parent / "clock"
    clock.write_text(repr((made.clock.now_ms() - time.time() * 1000) / 1000))
    named = {name: getattr(made.settings, name) for name in ("redis_url", "queue", "settle_s", "lease_s")}
    given = {f"GEMQUEUE_{name.upper()}": str(value) for name, value in named.items()}
    given |= {"GEMQUEUE_EMULATE": "1", "GOOGLE_GEMINI_BASE_URL": made.emulator.url}
    ended = gemqueue("reconcile", "--json", *arguments, GEMQUEUE_TEST_CLOCK=f"file://{clock}", **given, **env)
    return ended.returncode, msgspec.json.decode(ended.stdout) if ended.returncode == 0 else {"error": ended.stderr}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("effect", RECONCILE_EFFECTS)
async def test_a_reconcile_that_dies_anywhere_is_done_by_the_next(
    made: Shop, lossy: Past, effect: str, when: str
) -> None:
    """Two batches lost, one thrown back, an orphan and a stray: the command dies at each effect, and runs again."""
    await _uploaded(made, tokens.file_name((await made.store.server(ACCOUNT)).home, "00b" + "c" * 20), b"\n")
    made.clock.advance(2 * 3600)
    made.emulator.advance(2 * 3600)
    await made.submit("waits", "for its job")
    thrown_back = await made.sealed()
    await made.submit("its record", "is lost")
    lossy.save()
    await made.submitted()
    job_ends(made)
    await made.step(Step.SUBMIT, thrown_back)
    await made.submit("the server forgets this")
    await made.submitted()
    made.keys.pop()
    await lose(made, lossy)
    await _noticed(made)
    made.clock.advance(made.settings.settle_s + made.settings.lease_s)
    code, said = command(made, "--apply", "--orphans", GEMQUEUE_CRASH_AT=f"{effect}:{when}:1")
    assert code == CRASH_EXIT_CODE, said
    made.clock.advance(made.settings.lease_s + 1)
    await go_on(made)
    job_ends(made)
    survey = await go_on(made)
    assert await made.store.held_reason(ACCOUNT) == ""
    assert {finding.standing for finding in survey.findings} <= {Standing.KNOWN, Standing.OVER, Standing.ORPHANED}
    await all_answered_once(made)


async def go_on(made: Shop) -> Survey:
    """What the command does with ``--apply --orphans``."""
    server = await made.store.server(ACCOUNT)
    reconciler = Reconciler(made.kit, server.home, apply=True)
    survey = await reconciler.survey(0)
    survey.stray_files = await reconciler.stray_files()
    await reconciler.clean_up(survey)
    await resume(made.kit, server, survey)
    return survey


async def test_the_command_is_a_look_unless_it_may_apply(made: Shop, lossy: Past) -> None:
    """What it prints says what every job is; --go-on ends the pause whatever is open."""
    await made.submit("one")
    lossy.save()
    batch = await made.submitted()
    await lose(made, lossy)
    await _noticed(made)
    made.clock.advance(made.settings.settle_s + 1)
    code, said = command(made)
    assert (code, said["applied"], [job["standing"] for job in said["jobs"]]) == (0, False, ["running"])
    assert (said["jobs"][0]["batch"], said["held_reason"]) == (batch, HELD)
    _, said = command(made, "--apply")
    assert "still runs" in said["held_reason"]
    _, said = command(made, "--go-on")
    assert said["held_reason"] == ""
    assert not await made.store.beat("w", "pack", ACCOUNT)
    job_ends(made)
    _, said = command(made, "--apply")
    assert said["counts"]["rebuilt"] == 1
    await all_answered_once(made)


async def test_workers_do_it_by_themselves(lossy: Past, tmp_path: Path, queue_name: str) -> None:
    """Workers on a server that is thrown back under them hold, compare, adopt and go on; nothing is bought twice."""
    async with World(tmp_path, lossy.server, queue_name, job_s=2.0) as world:
        await world.submit([f"prompt {n}" for n in range(20)], segment_prompts=4)
        await world.store.greet(ACCOUNT)  # as the first worker did, long ago
        await asyncio.to_thread(lossy.save)
        world.start_worker()

        async def created() -> bool:
            return (await world.store.counts()).get("created", 0) > 0

        await until(created, what="a job")
        await asyncio.to_thread(lossy.come_back)
        await world.drained()
        await world.judge()
        counts = await world.store.counts()
        assert (counts["server_changes"], counts["reconciled"]) == (1, 1)
        assert counts["adopted"] >= 1


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
