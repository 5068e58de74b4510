"""A server that can be thrown back to an earlier moment, and what the tests of such losses do."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from gemqueue.states import BatchState
from gemqueue_workers.worker.reconciler import Reconciler
from gemqueue_workers.worker.recovery import Recovery, resume
from tests.worlds.stages import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from gemqueue_workers.worker.reconciler import Survey
    from tests.valkey_server import ValkeyServer
    from tests.worlds.stages import Stages


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


async def lose(stages: Stages, lossy: Past) -> None:
    """Everything since ``lossy.save()`` is lost."""
    await asyncio.to_thread(lossy.come_back)
    await stages.reconnect()


async def all_answered_once(stages: Stages) -> None:
    """Every prompt has its answer, and none was bought twice; the quota ledger adds up before and after."""
    await ledger_adds_up(stages)
    await stages.drain()
    await ledger_adds_up(stages)
    assert stages.emulator.ledger()["bought_twice"] == []
    for blobs in [await stages.store.outcomes([(key.partition(".")[0], 0)], 1000) for key in stages.keys]:
        assert blobs[0] != []
    assert await stages.count("answered") == len(stages.keys)


async def ledger_adds_up(stages: Stages) -> None:
    """The ledger is the sum of the open batches, and each that has a job is in it."""
    found = [await stages.store.batch(id_) for id_ in await stages.store.open_batches()]
    batches = [batch for batch in found if batch is not None]
    held = {one.batch: one.tokens for one in (await stages.store.ledger(ACCOUNT)).reservations if not one.until}
    assert held == {batch.id: batch.reserved for batch in batches if batch.reserved}
    assert {batch.id for batch in batches if batch.state is BatchState.SUBMITTED} <= set(held)


async def noticed(stages: Stages) -> str:
    """A worker has met the server as it is now; when that was first noticed."""
    assert await stages.store.beat("w", "pack", ACCOUNT)
    return (await stages.store.server(ACCOUNT)).noticed


async def goes_on(stages: Stages, recovery: Recovery | None = None) -> bool:
    """Whether the pause goes on after two looks that lie a minute apart."""
    recovery = recovery or Recovery(stages.kit)
    held = await recovery.check()
    stages.clock.advance(61)
    return held and await recovery.check()


async def uploaded(stages: Stages, name: str, content: bytes) -> str:
    """A file of this name at the provider."""

    async def pieces() -> AsyncGenerator[bytes]:
        yield content

    return await stages.provider.upload(pieces(), size_bytes=len(content), name=name)


async def go_on(stages: Stages) -> Survey:
    """What the command does with ``--apply --orphans``."""
    server = await stages.store.server(ACCOUNT)
    reconciler = Reconciler(stages.kit, server.home, apply=True)
    survey = await reconciler.survey(0)
    survey.stray_files = await reconciler.stray_files()
    await reconciler.clean_up(survey)
    await resume(stages.kit, server, survey)
    return survey
