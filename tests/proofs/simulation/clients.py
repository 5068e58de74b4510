"""The simulated producers: real ``Queue`` objects, and a journal of what each call was told.

The journal outlives its process, as an application's own database would. A prompt without a name that was being
submitted when its process died is unknown: it may be there or not, and nobody submits it again. One with a name is
submitted again. A key that was told is asked for again by whoever comes after.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gemqueue.client.queue import Queue
from gemqueue.errors import GemqueueError, QueueFull, StoreUnavailable
from gemqueue.language.outcomes import Failed
from tests.proofs.simulation.core import CoreStore
from tests.proofs.simulation.network import Network

if TYPE_CHECKING:
    from gemqueue.client.futures import Future
    from gemqueue.language.outcomes import Outcome
    from tests.proofs.simulation.loop import Process
    from tests.proofs.simulation.world import SimulatedWorld

MODEL = "gemini-3.8-flash"


class Prompt:
    """One prompt as its application knows it; ``unknown`` means that nobody will ever know whether it was taken."""

    def __init__(
        self,
        text: str,
        name: str | None,
        delay_s: float,
        *,
        cancel: bool,
        deadline_s: float | None = None,
        tenant: str = "default",
        priority: int = 0,
    ) -> None:
        self.text = text
        self.name = name
        self.delay_s = delay_s
        self.cancel = cancel
        self.deadline_s = deadline_s
        self.tenant = tenant
        self.priority = priority
        self.tried = False
        self.unknown = False
        self.key = ""
        self.outcomes: list[tuple[str, str]] = []
        """What awaiting it gave, each time: kind of outcome, text or message."""

    @property
    def finished(self) -> bool:
        """Whether the application has what it wanted, or can do no more."""
        return self.unknown or bool(self.outcomes)

    def took(self, outcome: Outcome) -> None:
        """Note what came."""
        if isinstance(outcome, Failed):
            self.outcomes.append((str(outcome.failure.kind), outcome.failure.message))
        else:
            self.outcomes.append(("answered", outcome.text))


class ClientProcess:
    """One life of a producing process: it submits what is new, and waits for all that its journal has."""

    def __init__(self, world: SimulatedWorld, process: Process, journal: list[Prompt]) -> None:
        self._world = world
        self._journal = journal
        self._process = process
        self._clock = world.clock_of(process)
        self._store = CoreStore(Network(world, process), world.settings, self._clock)
        self._queue = Queue(self._store, world.account, None)

    async def run(self) -> None:
        """Its life."""
        await self._open()
        bulk = [prompt for prompt in self._journal if prompt.name == "bulk" and not prompt.tried]
        waits = [self._one(prompt) for prompt in self._journal if not prompt.finished and prompt not in bulk]
        await asyncio.gather(*waits, self._map(bulk))
        await self._close()

    async def watch(self, prompts: list[Prompt]) -> None:
        """The life of a process that submits nothing: it asks for keys that others were told."""
        await self._open()
        await asyncio.gather(*(self._watch_one(prompt) for prompt in prompts))
        await self._close()

    async def _open(self) -> None:
        while True:
            try:
                await self._queue.open()
            except StoreUnavailable:
                await self._clock.sleep(1)
            else:
                return

    async def _close(self) -> None:
        try:
            await self._queue.aclose()
        except StoreUnavailable as error:
            self._world.note(self._process.name, "aclose", str(error))

    async def _one(self, prompt: Prompt) -> None:
        if not prompt.tried:
            await self._clock.sleep(prompt.delay_s)
        future = self._queue.future(prompt.key) if prompt.key else await self._submit(prompt)
        if future is None:
            return
        if prompt.cancel:
            await self._cancel(prompt, future)
        prompt.took(await future.outcome())

    async def _submit(self, prompt: Prompt) -> Future | None:
        if prompt.tried and prompt.name is None:
            prompt.unknown = True  # it was being submitted when the process died
            return None
        prompt.tried = True
        while True:
            try:
                future = await self._queue.submit(
                    prompt.text,
                    model=MODEL,
                    name=prompt.name,
                    deadline=prompt.deadline_s,
                    tenant=prompt.tenant,
                    priority=prompt.priority,
                )
            except (StoreUnavailable, QueueFull) as error:
                self._world.note(self._process.name, f"submit {prompt.text}", type(error).__name__)
                if prompt.name is None:
                    prompt.unknown = True
                    return None
                await self._clock.sleep(1)
            else:
                prompt.key = future.key
                return future

    async def _cancel(self, prompt: Prompt, future: Future) -> None:
        await self._clock.sleep(10 * self._world.rng.random())
        while not future.done():
            try:
                word = await future.cancel()
            except StoreUnavailable:
                await self._clock.sleep(1)
            except GemqueueError as error:
                self._world.violations.append(f"cancel of {prompt.key}: {error}")
                return
            else:
                self._world.note(self._process.name, f"cancel {prompt.key}", str(word))
                return

    async def _map(self, prompts: list[Prompt]) -> None:
        """Without names: whatever is not told before the process dies stays unknown."""
        if not prompts:
            return
        for prompt in prompts:
            prompt.tried, prompt.name = True, None
        rows = [
            {"contents": one.text, "deadline": one.deadline_s, "tenant": one.tenant, "priority": one.priority}
            for one in prompts
        ]
        for prompt, outcome in zip(prompts, await self._queue.map(rows, model=MODEL), strict=True):
            prompt.key = outcome.key
            if isinstance(outcome, Failed) and not outcome.key:
                prompt.unknown = True
            else:
                prompt.took(outcome)

    async def _watch_one(self, prompt: Prompt) -> None:
        while not prompt.key:
            if prompt.finished:
                return
            await self._clock.sleep(3)
        if self._world.rng.random() < 0.5:
            await self._clock.sleep(30 * self._world.rng.random())
        prompt.took(await self._queue.future(prompt.key).outcome())
