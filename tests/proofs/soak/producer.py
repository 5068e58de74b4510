"""One client of the soak, as a process: submits through ``Queue``, awaits, gives up, and writes down what it was told.

    python -m tests.soak.producer --log FILE --stop FILE --name p0 --seed 1 --per-s 50

A client that is killed comes back under its name and reads its own log: what was acknowledged it asks for by key, what
is unknown and has a name it submits again. When the stop file is there, it submits no more, waits for the rest, and
ends.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemqueue import Queue
from gemqueue.errors import GemqueueError, StoreUnavailable
from gemqueue.language.outcomes import Failed
from tests.proofs.soak.history import Event, Log, What, read

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from gemqueue.client.futures import Future
    from gemqueue.language.outcomes import Outcome

MODEL = "gemini-3.8-flash"
_OPEN_MAX = 1500
_END_S_MAX = 280.0
_CONNECT_S_MAX = 60.0


class Client:
    """What one process does; ``pending`` are the futures that it waits for, by number."""

    def __init__(self, queue: Queue, log: Log, options: argparse.Namespace) -> None:
        self._queue = queue
        self._log = log
        self._options = options
        self._dice = random.Random(f"{options.seed}:{options.name}")
        self._tasks: dict[asyncio.Task[None], tuple[int, ...]] = {}
        self._next = 0

    def resume(self, events: Sequence[Event]) -> None:
        """Take up what an earlier life of this client left open."""
        invoked = {event.op: event for event in events if event.what == "invoke"}
        keys = {event.op: event.key for event in events if event.what == "ok"}
        done = {event.op for event in events if event.what in {"outcome", "failed"}}
        self._next = max(invoked, default=-1) + 1
        self._dice = random.Random(f"{self._options.seed}:{self._options.name}:{self._next}")
        for op, event in invoked.items():
            if op in done:
                continue
            if op in keys:
                self._start(self._await(op, self._queue.future(keys[op])), op)
            elif event.name:
                self._start(self._submit(event), op)

    async def run(self, stop: Path) -> None:
        """Submit until the stop file is there, then wait for everything."""
        while not os.path.exists(stop):  # noqa: ASYNC240, PTH110 - a local file, looked for now and then
            if len(self._tasks) < _OPEN_MAX:
                self._some()
            await asyncio.sleep(self._dice.uniform(0, 2 * 10 / self._options.per_s))
        await self._end()

    def _some(self) -> None:
        """About ten prompts: single submits, or one map."""
        prompts = [self._new() for _ in range(self._dice.randint(1, 19))]
        if self._dice.random() < 0.3:
            self._start(self._map(prompts), *(event.op for event in prompts))
            return
        for event in prompts:
            self._start(self._submit(event, cancel=self._dice.random() < 0.02), event.op)

    def _new(self) -> Event:
        op, self._next = self._next, self._next + 1
        who = f"{self._options.name}-{op}"
        name = f"soak-{who}" if self._dice.random() < 0.5 else ""
        return Event("invoke", op, prompt=f"prompt {who} " + "x" * self._dice.randint(0, 300), name=name)

    def _start(self, work: Coroutine[Any, Any, None], *ops: int) -> None:
        task = asyncio.create_task(work)
        self._tasks[task] = ops
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")

    async def _submit(self, event: Event, *, cancel: bool = False) -> None:
        """One prompt; one with a name is submitted again for as long as its fate is unknown."""
        while True:
            self._log.write(event)
            try:
                future = await self._queue.submit(event.prompt, model=MODEL, name=event.name or None)
            except StoreUnavailable as error:
                self._log.write(Event("unknown", event.op, kind=type(error).__name__, text=str(error)))
                if not event.name:
                    return
                await asyncio.sleep(self._dice.uniform(0, 1))
                continue
            except GemqueueError as error:
                self._log.write(Event("failed", event.op, kind=type(error).__name__, text=str(error)))
                return
            self._log.write(Event("ok", event.op, key=future.key))
            if cancel:
                await self._cancel(event.op, future)
            await self._await(event.op, future)
            return

    async def _cancel(self, op: int, future: Future) -> None:
        self._log.write(Event("cancel", op))
        try:
            await future.cancel()
        except StoreUnavailable:
            return  # it may have been cancelled or not; its outcome says

    async def _await(self, op: int, future: Future) -> None:
        self._tell(op, await future.outcome())

    async def _map(self, events: list[Event]) -> None:
        self._log.write(*events)
        rows = [{"contents": event.prompt, "name": event.name or None} for event in events]
        outcomes = await self._queue.map(rows, model=MODEL)
        for event, outcome in zip(events, outcomes, strict=True):
            if outcome.key:
                self._log.write(Event("ok", event.op, key=outcome.key))
                self._tell(event.op, outcome)
            elif isinstance(outcome, Failed):
                what: What = "unknown" if isinstance(outcome.error, StoreUnavailable) else "failed"
                self._log.write(Event(what, event.op, kind=type(outcome.error).__name__, text=str(outcome.error)))

    def _tell(self, op: int, outcome: Outcome) -> None:
        if isinstance(outcome, Failed):
            failure = outcome.failure
            self._log.write(Event("outcome", op, key=outcome.key, kind=str(failure.kind), text=failure.message))
        else:
            self._log.write(Event("outcome", op, key=outcome.key, kind="answered", text=outcome.text))

    async def _end(self) -> None:
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=_END_S_MAX)
        for ops in list(self._tasks.values()):
            self._log.write(*(Event("hung", op) for op in ops))


async def _connect() -> Queue:
    """The server may be away just now."""
    deadline = asyncio.get_running_loop().time() + _CONNECT_S_MAX
    while True:
        try:
            return await Queue.connect()
        except StoreUnavailable:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.05)


async def _main(options: argparse.Namespace) -> None:
    async with await _connect() as queue:
        client = Client(queue, Log(options.log), options)
        client.resume(read(options.log))
        await client.run(options.stop)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="tests.soak.producer", description=__doc__)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--stop", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-s", type=float, default=50.0)
    asyncio.run(_main(parser.parse_args()))
