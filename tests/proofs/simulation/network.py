"""The network between simulated processes and the simulated server.

A command's life: it is sent, it arrives and takes effect, its reply comes back. Between any two of these another
process may run, and the world may interfere: the sender dies or is paused, the command or its reply is lost, it arrives
after its sender gave up, the server restarts. A command without a reply may have taken effect or not; that is all that
its sender knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.proofs.simulation.client import attempt
from tests.proofs.simulation.scenes import FAILOVER

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from tests.proofs.simulation.client import Words
    from tests.proofs.simulation.loop import Process
    from tests.proofs.simulation.memory import Memory
    from tests.proofs.simulation.world import SimulatedWorld

TIMEOUT_S = 4.0
LATE_S_MAX = 25.0
_DOWN_S_MAX = 4.0
_SLOW_S_MAX = 1.8
_HOP_S = 0.0003
_INTERLEAVED = 0.1
_PROMOTED = 0.7


class Request:
    """Commands on their way, and the future that their sender awaits."""

    __slots__ = ("commands", "fate", "future", "generation", "process", "replies", "reply_s")

    def __init__(self, process: Process, commands: Sequence[Words], generation: int) -> None:
        self.process = process
        self.commands = commands
        self.generation = generation
        self.future: asyncio.Future[list[Any]] = process.create_future()
        self.replies: list[Any] = []
        self.fate = ""
        self.reply_s = 0.0

    def answer(self) -> None:
        """The replies are there."""
        if not self.future.done():
            self.future.set_result(self.replies)

    def fail(self, error: Exception) -> None:
        """There will be none."""
        if not self.future.done():
            self.future.set_exception(error)


class Server:
    """The server as the network has it: up or down, and who waits for its replies."""

    def __init__(self, world: SimulatedWorld, memory: Memory) -> None:
        self.world = world
        self.memory = memory
        self.generation = 0
        self._down_until = 0.0
        self._replica: tuple[dict[bytes, Any], dict[bytes, int]] | None = None
        """What the replica had when it last confirmed."""
        self._waiting: dict[Request, None] = {}
        self._blocked: dict[bytes, list[Callable[[], None]]] = {}
        self._ears: dict[bytes, list[NetworkEar]] = {}
        memory.on_append = self._wake
        memory.on_publish = self._publish
        memory.on_wait = self._confirmed

    def hop_s(self) -> float:
        """How long one way takes."""
        return _HOP_S * (1 + 4 * self.world.rng.random())

    @property
    def down(self) -> bool:
        """Whether nobody answers."""
        return self._down_until > self.world.scheduler.now

    @property
    def expects_late(self) -> bool:
        """Whether commands are still under way whose sender has given up."""
        return any(request.fate == "late" and len(request.replies) < len(request.commands) for request in self._waiting)

    def send(self, request: Request, at: float, *, atomic: bool) -> None:
        """It arrives at that time."""
        self._waiting[request] = None
        self.world.scheduler.at(at, self.arrive, request, atomic)

    def arrive(self, request: Request, atomic: bool) -> None:
        """The commands take effect, as far as the server lives; a pipeline may let others in between."""
        world = self.world
        while len(request.replies) < len(request.commands):
            if self.down or request.generation != self.generation:
                self._reset(request)
                return
            words = request.commands[len(request.replies)]
            if request.fate == "restart_lost":
                self.restart(request)
                return
            reply = attempt(self.memory, words)
            request.replies.append(reply)
            world.saw(request.process, words, reply)
            whole = len(request.replies) == len(request.commands)
            if request.fate == "restart_kept" and (whole or (not atomic and world.rng.random() < 0.5)):
                self.restart(request)
                return
            if not atomic and not whole and world.rng.random() < _INTERLEAVED:
                world.scheduler.at(world.scheduler.now + self.hop_s(), self.arrive, request, atomic)
                return
        if request.fate == "reply_lost":
            world.scheduler.at(world.scheduler.now + self.hop_s(), self._reset, request)
        else:
            at = world.scheduler.now + self.hop_s() + request.reply_s
            world.scheduler.at(at, self._reply, request, process=request.process)

    def _reply(self, request: Request) -> None:
        if self._waiting.pop(request, 0) is None:
            request.answer()

    def _reset(self, request: Request) -> None:
        self._waiting.pop(request, None)
        error = RedisConnectionError("Connection reset by peer")
        self.world.scheduler.at(self.world.scheduler.now + self.hop_s(), request.fail, error, process=request.process)

    def restart(self, request: Request) -> None:
        """It dies while it works on this request; what it had acknowledged is in its log, the connections are gone."""
        self.world.note("server", request.fate, "down")
        self.generation += 1
        self._down_until = self.world.scheduler.now + self.world.rng.random() * _DOWN_S_MAX
        self.memory.restart()
        if self._replica is not None and self.world.rng.random() < _PROMOTED:
            self.world.note("server", "failover", "the replica takes over")
            self.memory.become(self._replica)
        for waiting in list(self._waiting):
            self._reset(waiting)
        ears, self._ears = self._ears, {}
        for ear in (ear for group in ears.values() for ear in group):
            self.world.scheduler.at(self.world.scheduler.now + self.hop_s(), ear.cut, process=ear.process)
        blocked, self._blocked = self._blocked, {}
        for wakes in blocked.values():
            for wake in wakes:
                wake()

    # --- blocking reads ---

    def on_entry(self, key: bytes, wake: Callable[[], None]) -> None:
        """Call once when the stream has an entry, or the connection is gone."""
        self._blocked.setdefault(key, []).append(wake)

    # --- subscriptions ---

    def subscribe(self, channel: bytes, ear: NetworkEar) -> None:
        """It hears what is published from now on, until the server restarts."""
        ears = self._ears.setdefault(channel, [])
        ears[:] = [each for each in ears if not each.process.dead]
        ears.append(ear)

    def _publish(self, channel: bytes) -> int:
        ears = self._ears.get(channel, ())
        for ear in ears:
            at = self.world.scheduler.now + self.hop_s()
            self.world.scheduler.at(at, ear.ring, process=ear.process)
        return len(ears)

    def _confirmed(self, replicas: int) -> int:
        world, data = self.world, self.memory.data
        if world.faults.draw("replicas"):
            return 0
        known = all(b"{gq:sim:00}:server:" + account.encode() in data for account in world.owners)
        joined = len(world.owners) == 1 or len(data.get(b"{gq:sim:00}:pool:" + world.account.encode(), ())) > 1
        if FAILOVER in world.scenes and known and joined:  # nothing is promised of a queue's first moments
            self._replica = self.memory.copy()
        return replicas

    def _wake(self, key: bytes) -> None:
        for wake in self._blocked.pop(key, ()):
            wake()


class NetworkEar:
    """One process's subscription to one channel."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._rung = False
        self._lost = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """A message has come."""
        self._rung = True
        if self._waiter is not None:
            _set(self._waiter)

    def cut(self) -> None:
        """The connection is gone."""
        self._lost = True
        if self._waiter is not None:
            _set(self._waiter)

    async def wait(self, timeout_s: float) -> bool:
        """Whether a message came in that time."""
        if not self._rung and not self._lost:
            self._waiter = self.process.create_future()
            timer = self.process.call_later(timeout_s, _set, self._waiter)
            await self._waiter
            timer.cancel()
        if self._lost:
            raise RedisConnectionError("Connection closed by server.")
        rung, self._rung = self._rung, False
        return rung


class Network:
    """One process's line to the server."""

    def __init__(self, world: SimulatedWorld, process: Process) -> None:
        self._world = world
        self._process = process
        self.appendfsync: str = world.appendfsync

    async def send(self, commands: Sequence[Words], *, atomic: bool) -> list[Any]:
        """There and back, or what a connection raises."""
        world, process, server = self._world, self._process, self._world.server
        fate = world.faults.draw("process")
        if fate:
            await world.befall(process, fate)
        request = Request(process, commands, server.generation)
        now = world.scheduler.now
        if server.down:
            world.scheduler.at(now + server.hop_s(), request.fail, _refused(), process=process)
            return await request.future
        request.fate = world.faults.draw("store")
        arrival = now + server.hop_s()
        slow = world.faults.draw("slow")
        if slow == "call":
            arrival += world.rng.random() * _SLOW_S_MAX
        elif slow == "reply":
            request.reply_s = world.rng.random() * _SLOW_S_MAX
        if request.fate == "late":
            arrival = now + TIMEOUT_S + world.rng.random() * LATE_S_MAX
        if request.fate in {"late", "lost"}:
            late = RedisTimeoutError("Timeout reading from socket")
            world.scheduler.at(now + TIMEOUT_S, request.fail, late, process=process)
        if request.fate != "lost":
            server.send(request, arrival, atomic=atomic)
        if fate:
            await world.after_sending(process, fate)
        return await request.future

    async def block(self, key: bytes, after: bytes, count: int, block_ms: int) -> list[Any]:
        """Entries, as soon as there are some; none after ``block_ms``."""
        world, server = self._world, self._world.server
        if server.down:
            raise _refused()
        generation = server.generation
        found = server.memory.entries_after(key, after, count)
        if not found:
            woken = self._process.create_future()
            timer = self._process.call_later(block_ms / 1000, _set, woken)
            at = world.scheduler.at
            server.on_entry(key, lambda: at(world.scheduler.now + _HOP_S, _set, woken, process=self._process))
            await woken
            timer.cancel()
            found = server.memory.entries_after(key, after, count)
        if server.generation != generation:
            raise RedisConnectionError("Connection closed by server.")
        fate = world.faults.draw("store")
        if fate in {"lost", "reply_lost", "late"}:
            raise RedisConnectionError("Connection reset by peer")
        return found

    async def listen(self, channel: bytes) -> NetworkEar:
        """Subscribe."""
        await self.send([[b"PING"]], atomic=True)
        ear = NetworkEar(self._process)
        self._world.server.subscribe(channel, ear)
        return ear


def _refused() -> Exception:
    return RedisConnectionError("Error 111 connecting to simulated. Connection refused.")


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
