"""Time and processes: one seeded scheduler, and an asyncio event loop for each simulated process.

A process's life: it runs its callbacks in asyncio's own order; which process runs next is drawn from the seed. When
nobody has anything to run, time jumps to the next event. A process that is killed never runs again, and what it had in
memory is gone; one that is paused finds everything that happened meanwhile when it wakes. Threads are events too: what
is handed to an executor runs at a time of the scheduler's choosing.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine

EPOCH_MS = 1_800_000_000_000
_STEPS_MAX = 3_000_000
_THREAD_S_MAX = 0.01
DONE_S = 2.0


class Stuck(AssertionError):  # noqa: N818 - what is found, no mistake of the caller
    """The simulated world does not come to rest."""


class Task(asyncio.Task[Any]):
    """A task whose hash does not depend on its address, so that sets of tasks have one order."""

    made = 0

    def __init__(self, coro: Coroutine[Any, Any, Any], **options: Any) -> None:
        Task.made += 1
        self._number = Task.made
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


class Process:
    """One process: an event loop whose time is the scheduler's, with as much of one as gemqueue and asyncio ask for."""

    def __init__(self, scheduler: Scheduler, name: str) -> None:
        self.name = name
        self.dead = False
        self.paused_until = 0.0
        self.listed = False
        """Whether it stands in the scheduler's list of those that can run."""
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        self.kit: Any = None
        """What a worker works with."""
        self._scheduler = scheduler
        self.loop: Any = self  # as asyncio's own signatures want it

    def __repr__(self) -> str:
        return self.name

    def kill(self) -> None:
        """It is gone, as after ``kill -9``."""
        self.dead = True
        self.ready.clear()

    def pause(self, seconds: float) -> None:
        """It stands still, as under SIGSTOP; it does not notice."""
        self.paused_until = self._scheduler.now + seconds
        self._scheduler.at(self.paused_until, self._awake)

    def _awake(self) -> None:
        if self.ready and not self.dead and self.paused_until <= self._scheduler.now:
            self._scheduler.runnable(self)

    # --- what asyncio asks of a loop ---

    def time(self) -> float:
        """The scheduler's."""
        return self._scheduler.now

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        """Behind everything that this process has to run."""
        handle = asyncio.Handle(callback, args, self.loop, context)
        if not self.dead:
            self._scheduler.runnable(self)
            self.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        """At a time."""
        handle = asyncio.TimerHandle(when, callback, args, self.loop, context)
        self._scheduler.at(when, self._timer, handle, process=self)
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        """After a while."""
        return self.call_at(self._scheduler.now + delay, callback, *args, context=context)

    def _timer(self, handle: asyncio.Handle) -> None:
        if not handle.cancelled():
            self._scheduler.runnable(self)
            self.ready.append(handle)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays in the heap and does nothing."""

    def create_future(self) -> asyncio.Future[Any]:
        """A future."""
        return asyncio.Future(loop=self.loop)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        """A task of this process."""
        task = Task(coro, loop=self, name=name, context=context)
        self.tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # noqa: ARG002
        """A thread: it does its work at some time soon."""
        future = self.create_future()

        def work() -> None:
            if future.done():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - it belongs to whoever awaits
                future.set_exception(error)

        self._scheduler.at(self._scheduler.now + self._scheduler.rng.random() * _THREAD_S_MAX, work, process=self)
        return future

    def get_debug(self) -> bool:
        """Never."""
        return False

    def is_running(self) -> bool:
        """Always, as far as a process can see."""
        return True

    def is_closed(self) -> bool:
        """Never, as far as a process can see."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What nobody caught is a finding."""
        if not self.dead:
            self._scheduler.unhandled.append(f"{self.name}: {context.get('message')}: {context.get('exception')!r}")


class Scheduler:
    """Whose turn it is; ``now`` is in seconds."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now = 0.0
        self.steps = 0
        self.processes: list[Process] = []
        self.unhandled: list[str] = []
        self._number = 0
        self._heap: list[tuple[float, int, Process | None, Callable[..., None], tuple[Any, ...]]] = []
        self._runnable: list[Process] = []
        self._running: Process | None = None

    def now_ms(self) -> int:
        """The wall clock, and the server's."""
        return EPOCH_MS + int(self.now * 1000)

    def process(self, name: str, main: Callable[[], Coroutine[Any, Any, None]]) -> Process:
        """Start a process."""
        process = Process(self, name)
        self.processes.append(process)
        process.call_soon(lambda: process.create_task(main()).add_done_callback(self._ended))
        return process

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """A process that ends by an error is a finding."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.unhandled.append(f"{task.get_name()} ended: {error!r}")

    def runnable(self, process: Process) -> None:
        """It has something to run."""
        if not process.listed:
            process.listed = True
            self._runnable.append(process)

    def at(self, when: float, callback: Callable[..., None], *args: Any, process: Process | None = None) -> None:
        """An event; one that belongs to a process waits while that is paused, and is dropped when it is dead."""
        self._number += 1
        heapq.heappush(self._heap, (when, self._number, process, callback, args))

    def run(self, until: float, done: Callable[[], bool] | None = None) -> None:
        """Go on until that time, or until nothing is left to do, or ``done`` says so. Raises Stuck.

        ``done`` is asked every ``DONE_S``, when everybody waits.
        """
        heap, ask_at = self._heap, self.now + DONE_S
        try:
            while True:
                if self._runnable:
                    self._turn()
                elif done is not None and self.now >= ask_at:
                    ask_at = self.now + DONE_S
                    if done():
                        return
                elif heap and heap[0][0] <= until:
                    self._event()
                else:
                    self.now = max(self.now, until)
                    return
                self.steps += 1
                if self.steps > _STEPS_MAX:
                    raise Stuck(f"{_STEPS_MAX} steps and no end, at {self.now:.3f} s")
        finally:
            self._running = None
            asyncio._set_running_loop(None)

    def _turn(self) -> None:
        """One process runs everything that it could run at the moment, as an event loop does in one round."""
        runnable = self._runnable
        n = int(self.rng.random() * len(runnable)) if len(runnable) > 1 else 0
        process = runnable[n]
        ready = process.ready
        if process is not self._running:
            self._running = process
            asyncio._set_running_loop(process.loop)
        for _ in range(len(ready)):
            if process.dead or process.paused_until > self.now:
                break
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()
        if process.dead or process.paused_until > self.now or not ready:
            process.listed = False
            runnable.remove(process)

    def _event(self) -> None:
        when, number, process, callback, args = heapq.heappop(self._heap)
        self.now = max(self.now, when)
        if process is not None:
            if process.dead:
                return
            if process.paused_until > self.now:
                heapq.heappush(self._heap, (process.paused_until, number, process, callback, args))
                return
        callback(*args)

    def bury(self) -> None:
        """The end: what still waits is dropped without a word."""
        for process in self.processes:
            process.kill()
            for task in process.tasks:
                vars_of: Any = task
                vars_of._log_destroy_pending = False
        self._heap.clear()
        self._runnable.clear()
        self.processes.clear()
