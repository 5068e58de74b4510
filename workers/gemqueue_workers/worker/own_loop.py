"""Steps run in this process as soon as a sweep finds them due, where arq does not carry them.

Beside the embedded server arq need not be installed, on a Cluster it cannot run, and a server that is out of memory
refuses its writes. arq gives a step to one of several workers; here every worker that sees a step tries to claim it,
and the claim lets one of them through. Nothing is written for it, so nothing can be lost.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from gemqueue.tasks import end_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from gemqueue.states import Step


class OwnLoop:
    """At most ``steps_max`` steps at once, each once; ``on_room`` is called when one that was refused may be begun."""

    def __init__(
        self, run: Callable[[Step, str], Coroutine[Any, Any, None]], steps_max: int, on_room: Callable[[], None]
    ) -> None:
        self._run = run
        self._steps_max = steps_max
        self._on_room = on_room
        self._running: dict[tuple[Step, str], asyncio.Task[None]] = {}
        self._has_refused = False
        self._is_draining = False

    def begin(self, step: Step, id_: str) -> bool:
        """Run a step here; False while it runs already, while all slots are taken, and once ``drain`` was called."""
        if self._is_draining or (step, id_) in self._running or len(self._running) >= self._steps_max:
            self._has_refused = True
            return False
        task = self._running[step, id_] = asyncio.create_task(self._run(step, id_))
        task.add_done_callback(lambda _: self._ended(step, id_))
        return True

    async def drain(self, drain_s: float) -> None:
        """Begin nothing more; what runs may end within ``drain_s``, then it is cancelled, and due again."""
        self._is_draining = True
        if self._running:
            await asyncio.wait(self._running.values(), timeout=drain_s)
            await end_tasks(self._running.values())

    def _ended(self, step: Step, id_: str) -> None:
        del self._running[step, id_]
        if self._has_refused and not self._is_draining:
            self._has_refused = False
            self._on_room()
