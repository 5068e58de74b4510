"""Workers of 0.2.0 beside a sealed queue: what they cannot read they leave to workers with the key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.worlds.processes import Processes, until
from tests.worlds.sealed import Holder

if TYPE_CHECKING:
    from pathlib import Path

    from tests.valkey_server import ValkeyServer


async def test_sealed_prompts_are_left_to_new_workers(
    valkey: ValkeyServer, queue_name: str, tmp_path: Path, old_path: str
) -> None:
    """An old worker packs and submits what is not sealed, claims nothing that is, and a new one answers that."""
    if not old_path:
        return
    holder = Holder("a")
    async with Processes(tmp_path, valkey, queue_name) as world:
        old = world.start_worker(PYTHONPATH=old_path)
        await world.submit([f"plain {n}" for n in range(12)])
        await until(world.finished, what="the old worker has done what it can read")
        world.store.seals.on = True
        holder.give(world.store)
        await world.store.seals.begin()
        await world.submit([f"sealed {n} [[fault:internal:1]]" for n in range(12)])

        async def left_alone() -> bool:
            return "of a newer gemqueue" in (tmp_path / "workers.log").read_text()

        await until(left_alone, what="the old worker has met the lane")
        assert (await world.store.counts())["created"] == 1
        new = world.start_worker(**holder.env)
        await world.drained()
        await world.judge()
        assert (old.alive, new.alive) == (True, True)
        assert (await world.store.counts())["answered"] == 24
