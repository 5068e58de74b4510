"""What the provider tells of its jobs, and the process that hears it: gemqueue's side of webhooks, behind its door.

An event's life: a job ends, the provider sends word, the door writes it to the store and answers; a door that dies or
cannot write is told again. Word is lost, doubled, late or too early, lacks the token, or names a job that it is not of:
an event is a hint, and no promise may depend on one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.errors import GemqueueError
from tests.proofs.simulation.core import CoreStore
from tests.proofs.simulation.network import Network

if TYPE_CHECKING:
    import asyncio

    from tests.proofs.simulation.cloud import Job
    from tests.proofs.simulation.loop import Process
    from tests.proofs.simulation.world import SimulatedWorld

_LATE_S_MAX = 20.0


class Events:
    """Word that is on its way or waits for the door: id, job and token."""

    def __init__(self, world: SimulatedWorld) -> None:
        self.on = world.rng.random() < 0.7
        self.arrived: list[tuple[str, str, str]] = []
        self._world = world
        self._number = 0
        self._waiter: asyncio.Future[None] | None = None

    def created(self, job: Job) -> None:
        """It has not ended, and now and then somebody says so."""
        if self.on and self._world.faults.draw("events") == "early":
            self._send(job.name, job.token, 1)

    def ended(self, job: Job, others: list[str]) -> None:
        """Word of it, as fate has it; ``others`` are the names of all jobs."""
        fate = self._world.faults.draw("events") if self.on else "lost"
        if fate != "lost":
            name = self._world.rng.choice(others) if fate == "foreign" else job.name
            token = "" if fate == "nameless" else job.token
            self._send(name, token, 2 if fate == "doubled" else 1, late=fate == "late")

    def _send(self, job: str, token: str, times: int, *, late: bool = False) -> None:
        self._number += 1
        scheduler, rng = self._world.scheduler, self._world.rng
        for _ in range(times):
            at = scheduler.now + (_LATE_S_MAX if late else 0.5) * rng.random()
            scheduler.at(at, self._arrive, (f"msg_{self._number}", job, token))

    def _arrive(self, event: tuple[str, str, str]) -> None:
        self.arrived.append(event)
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.set_result(None)

    async def next(self, process: Process) -> None:
        """Until something has arrived; one door waits at a time."""
        self._waiter = process.create_future()
        await self._waiter


async def door(world: SimulatedWorld, process: Process) -> None:
    """The life of the process that hears events."""
    clock = world.clock_of(process)
    store = CoreStore(Network(world, process), world.settings, clock)
    arrived = world.cloud.events.arrived
    while True:
        if not arrived:
            await world.cloud.events.next(process)
            continue
        event = arrived[0]
        try:
            await store.announce(*event)
        except GemqueueError:
            await clock.sleep(0.5)
        else:
            arrived.remove(event)
