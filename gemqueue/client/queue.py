"""The face: prompts in, answers out. One ``Queue`` per process and event loop is enough for any number of callers.

A ``Queue`` is a connection to one queue: a producer that groups prompts into segments, a listener that settles their
futures, a watchdog behind both. Nothing that it holds is the truth: the process may die at any time, and another one
finds every prompt again by its key or its name.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast, overload

from gemqueue.client.bulk import Flow, Gather, Rows, checked_rows
from gemqueue.client.connect import reach
from gemqueue.client.door import Doors, Row
from gemqueue.client.futures import Future, answer_of, taken
from gemqueue.client.listener import Listener
from gemqueue.client.producer import Producer
from gemqueue.client.tickets import Ticket
from gemqueue.client.watchdog import Watchdog
from gemqueue.errors import ConfigError, StoreUnavailable
from gemqueue.ids import split_key
from gemqueue.language.checks import check_name
from gemqueue.states import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
    from types import TracebackType
    from typing import Self

    from gemqueue.client.door import Door
    from gemqueue.client.futures import Stopped
    from gemqueue.client.tickets import Prompt, Route
    from gemqueue.config import Settings
    from gemqueue.embedded.local import Local
    from gemqueue.language.answers import Answer
    from gemqueue.language.outcomes import Outcome
    from gemqueue.store.producer import ProducerStore

Deadline = float | timedelta | datetime | None
"""When answers are wanted: seconds from now, a timedelta, or a datetime with a time zone."""


class Queue:
    """A connection to one queue; made by ``Queue.connect()``. It belongs to the event loop that made it."""

    def __init__(self, store: ProducerStore, account: str, local: Local | None) -> None:
        self.settings = store.settings
        self.account = account
        self._store = store
        self._local = local
        on_lost: Callable[[], Awaitable[None]] = local.revive if local is not None else _nothing
        on_no_worker = (lambda: local.ensure_worker(store)) if local is not None else None
        self._listener = Listener(store, account, on_lost)
        self._producer = Producer(store, self._listener, on_lost)
        self._doors = Doors(self._producer, self.settings, account)
        self._watchdog = Watchdog(store, self._listener, on_no_worker)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()

    @staticmethod
    def connect(
        url: str | None = None,
        *,
        queue: str | None = None,
        emulate: bool | None = None,
        settings: Settings | None = None,
        **overrides: Any,
    ) -> Connecting:
        """Connect to a queue: ``async with Queue.connect() as queue`` or ``queue = await Queue.connect()``.

        ``url`` is a Redis or Valkey (``redis://``, ``rediss://``, ``unix://``), by default ``GEMQUEUE_REDIS_URL``;
        without one an embedded server and a worker are started, or shared. ``emulate`` asks for an emulator's answers.
        ``overrides`` are settings by name; ``seal_wrapper`` may also be an object with ``wrap`` and ``unwrap`` itself,
        where the workers have their own (docs/sealing.md). Raises ConfigError; StoreUnavailable when no server answers
        within seconds.
        """
        given: dict[str, Any] = {"redis_url": url, "queue": queue, "emulate": emulate, **overrides}
        return Connecting(settings, given)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Write what is buffered (within ``submit_timeout_s``) and disconnect.

        Prompts go on without this process. Whoever still awaits one here gets StoreUnavailable.
        """
        if self._producer.closed:
            return
        closed = StoreUnavailable(
            "this Queue is closed; its prompts go on: connect again and use queue.future(key) or queue.lookup(name)"
        )
        try:
            await self._producer.close(closed)
        finally:
            await self._watchdog.stop()
            await self._listener.close(closed)
            await self._store.aclose()
            if self._local is not None:
                await self._local.release()

    # --- single prompts: these raise ---

    async def submit(
        self,
        contents: object,
        *,
        model: str,
        config: object = None,
        kind: str = Kind.GENERATE,
        name: str | None = None,
        tag: object = None,
        priority: int = 0,
        tenant: str = "default",
        deadline: Deadline = None,
    ) -> Future:
        """Submit one prompt; returns once it is durable.

        ``deadline`` is when the answer is wanted: seconds from now, a timedelta, or a datetime with a time zone. It
        orders the packing; what else it does is up to the setting ``deadline_policy``. When it has passed, the prompt
        is answered all the same.

        ``name`` is its idempotency key: the same prompt under the same name is bought once, whoever submits it. Names
        belong to the account, which is the API key's fingerprint where the setting ``account`` is empty: then a new key
        forgets them, and the same names are bought again. Raises
        PromptInvalid, PromptTooLarge, NameConflict; QueueFull or StoreUnavailable after ``submit_timeout_s``. After
        StoreUnavailable, and when this await is cancelled, the prompt may have been submitted or not: under a name it
        is safe to submit it again.
        """
        door = self._door(model=model, kind=kind, config=config, priority=priority, tenant=tenant, deadline=deadline)
        route, prompt, ticket = door.single(Row(contents, name, None, tag))
        receipt = ticket.receipt()
        await self._producer.put(route, prompt, self.settings.submit_timeout_s)
        await receipt
        return self._future(ticket)

    async def generate(
        self,
        contents: object,
        *,
        model: str,
        config: object = None,
        name: str | None = None,
        tag: object = None,
        priority: int = 0,
        tenant: str = "default",
        deadline: Deadline = None,
    ) -> Answer:
        """Submit one prompt and wait for its answer, which takes as long as a batch does: minutes to hours.

        Raises what ``submit`` and ``Future.result`` raise.
        """
        door = self._door(
            model=model, kind=Kind.GENERATE, config=config, priority=priority, tenant=tenant, deadline=deadline
        )
        return await self._answer(*door.single(Row(contents, name, None, tag)))

    @overload
    async def embed(  # type: ignore[overload-overlap]  # a list is an object too, and means several
        self,
        contents: list[Any] | tuple[Any, ...],
        *,
        model: str,
        config: object = None,
        priority: int = 0,
        tenant: str = ...,
        deadline: Deadline = ...,
    ) -> list[Answer]: ...
    @overload
    async def embed(
        self,
        contents: object,
        *,
        model: str,
        config: object = None,
        priority: int = 0,
        tenant: str = ...,
        deadline: Deadline = ...,
    ) -> Answer: ...
    async def embed(
        self,
        contents: object,
        *,
        model: str,
        config: object = None,
        priority: int = 0,
        tenant: str = "default",
        deadline: Deadline = None,
    ) -> list[Answer] | Answer:
        """One embedding (``answer.values``) per text: a list for a list, in its order, else one.

        Raises what ``generate`` raises, for a list its first failure; ``map(..., kind="embed")`` returns failures.
        """
        door = self._door(
            model=model, kind=Kind.EMBED, config=config, priority=priority, tenant=tenant, deadline=deadline
        )
        if not isinstance(contents, list | tuple):
            return await self._answer(*door.single(Row(contents)))
        texts = cast("list[object]", contents)
        for text in texts:
            door.single(Row(text))  # all of them are looked at before any is submitted
        outcomes = await Gather().run(door, [{"contents": text} for text in texts], self._listener)
        return [answer_of(outcome) for outcome in outcomes]

    # --- many prompts: these return outcomes ---

    async def map(
        self,
        rows: Rows,
        *,
        model: str,
        config: object = None,
        kind: str = Kind.GENERATE,
        priority: int = 0,
        tenant: str = "default",
        deadline: Deadline = None,
        config_mode: str = "merge",
    ) -> list[Outcome]:
        """Submit every row and return every outcome, ``Answer`` or ``Failed``, in the rows' order.

        A row is contents, or a dict with ``contents`` and any of ``name, config, tag, priority, tenant, deadline``. Its
        config is laid over the call's, key by key; with ``config_mode="replace"`` it takes its place. Nothing that
        happens to one row costs the others' answers: a row that is not valid, whose name is taken by another body, or
        that the store did not take within ``submit_timeout_s``, is a ``Failed`` whose ``error`` says why. Raises only
        PromptInvalid for what all rows share, what ``rows`` itself raises, StoreUnavailable once the Queue is closed.
        """
        door = self._door(
            model=model, kind=kind, config=config, priority=priority, tenant=tenant, deadline=deadline, mode=config_mode
        )
        return await Gather().run(door, checked_rows(rows), self._listener)

    def stream(
        self,
        rows: Rows,
        *,
        model: str,
        config: object = None,
        kind: str = Kind.GENERATE,
        priority: int = 0,
        tenant: str = "default",
        deadline: Deadline = None,
        config_mode: str = "merge",
    ) -> AsyncGenerator[Outcome]:
        """Submit rows as they come and yield outcomes as they land, at most ``window_prompts_max`` under way.

        Rows and failures are as for ``map``. ``rows`` may be endless; it is asked for more only as outcomes are taken.
        An error that it raises is raised here after the outcomes of the rows that it gave before.
        """
        door = self._door(
            model=model, kind=kind, config=config, priority=priority, tenant=tenant, deadline=deadline, mode=config_mode
        )
        return Flow(self.settings.window_prompts_max).run(door, checked_rows(rows), self._listener)

    # --- prompts from elsewhere ---

    def future(self, key: str) -> Future:
        """The future of any prompt of this queue by its key, from whatever process it was submitted; no I/O.

        Awaiting it raises OutcomeExpired when there is no such prompt (any more). Raises ConfigError when ``key`` is
        not a key.
        """
        self._check_place()
        segment_id, index = split_key(key)
        segment = self._listener.segment(segment_id)
        ticket = segment.handles.get(index)
        if ticket is None:
            ticket = Ticket()
            segment.place(ticket, index)
        return self._future(ticket)

    async def lookup(self, name: str) -> Future | None:
        """The future of the prompt that has ``name`` on this account; None when none has. Raises PromptInvalid."""
        self._check_place()
        found = await self._store.named(self.account, check_name(name))
        if found is None:
            return None
        segment_id, index = split_key(found[0])
        segment = self._listener.segment(segment_id)
        ticket = segment.handles.get(index)
        if ticket is None or ticket.name != name:
            ticket = Ticket(name)
            segment.place(ticket, index)
        return self._future(ticket)

    async def cancel(self, key: str) -> Stopped:
        """``Future.cancel`` of the prompt with this key."""
        return await self.future(key).cancel()

    async def counts(self) -> dict[str, int]:
        """The queue's counters: accepted, answered, failed, created, adopted and so on."""
        self._check_place()
        return await self._store.counts()

    # --- inside ---

    def _door(self, **asked: Any) -> Door:
        self._check_place()
        return self._doors.door(**asked)

    def _check_place(self) -> None:
        """Raise ConfigError in another event loop, thread or process than that in which the queue was opened."""
        if os.getpid() != self._pid:
            raise ConfigError(
                "this Queue was opened before its process forked, and belongs to the parent: "
                "open one with Queue.connect() after the fork"
            )
        with suppress(RuntimeError):  # outside of any loop nothing can wait
            if asyncio.get_running_loop() is not self._loop and self._loop is not None:
                raise ConfigError(
                    "this Queue belongs to another event loop (an earlier asyncio.run, or another thread): "
                    "open one with Queue.connect() in each loop; the prompts go on, and queue.future(key) finds them"
                )

    def _future(self, ticket: Ticket) -> Future:
        return Future(ticket, self._listener, self._store, self._watchdog)

    async def _answer(self, route: Route, prompt: Prompt, ticket: Ticket) -> Answer:
        """Put a prompt on its way and await its answer: what ``submit`` and ``result`` do, with one waiter for both."""
        waiter = ticket.waiter()
        try:
            await self._producer.put(route, prompt, self.settings.submit_timeout_s)
            await waiter
        except BaseException:
            ticket.leave(waiter)
            raise
        return answer_of(taken(ticket, self._listener))

    async def open(self) -> None:
        """Start listening; ``connect`` has done it."""
        self._loop, self._pid = asyncio.get_running_loop(), os.getpid()
        await self._listener.open()
        self._watchdog.start()


class Connecting:
    """What ``Queue.connect`` returns: to be awaited, or entered."""

    def __init__(self, settings: Settings | None, given: dict[str, Any]) -> None:
        self._settings = settings
        self._given = given
        self._queue: Queue | None = None

    def __await__(self) -> Generator[Any, None, Queue]:
        return self._open().__await__()

    async def __aenter__(self) -> Queue:
        self._queue = await self._open()
        return self._queue

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._queue is not None:
            await self._queue.aclose()

    if not TYPE_CHECKING:  # for a type checker it has nothing beside what stands here

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"Queue.connect() gives its queue when it is awaited: `queue = await Queue.connect(...)`, or "
                f"`async with Queue.connect(...) as queue`; then queue.{name}"
            )

    async def _open(self) -> Queue:
        async with AsyncExitStack() as undo:
            queue = Queue(*await reach(self._settings, self._given, undo))
            await queue.open()
            undo.pop_all()  # the queue closes it all from now on
            return queue


async def _nothing() -> None:
    """Nothing to revive: the server is somebody else's."""
