"""What goes wrong, drawn from the seed: which kinds of fault this seed has, how often, and what befalls each call.

Not every seed has every kind ("swarm testing"): where nothing else happens, one kind alone is seen more clearly, and
some promises hold only while others are kept, so a seed says what it may ask for.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

_PROCESS = {"crash": 0.006, "crash_sent": 0.006, "pause": 0.006, "pause_sent": 0.004}
"""A process dies before a call, or right after it was sent; it is paused before, or before it reads the reply."""
_STORE = {"lost": 0.006, "reply_lost": 0.010, "late": 0.004, "restart_lost": 0.0007, "restart_kept": 0.0007}
"""A call to the server never arrives; its reply does not; it arrives after its caller gave up; the server restarts and
has forgotten, or kept, what it had not acknowledged."""
_PROVIDER = {
    "lost": 0.02, "reply_lost": 0.05, "late": 0.04, "quota": 0.04, "spend": 0.008, "5xx": 0.03, "5xx_after": 0.02
}  # fmt: skip
"""The same; 429 for quota, or for want of money; an error of the server before, or after the effect."""
_JOBS = {"failed": 0.08, "expired": 0.08, "cancelled": 0.05}
"""How a job ends that does not succeed."""
_ROWS = {"error": 0.05, "invalid": 0.01, "missing": 0.04, "malformed": 0.03, "doubled": 0.04, "blocked": 0.01}
"""What a result file does to a row."""
_FILES = {"broken": 0.1, "short": 0.06, "foreign": 0.15, "denied": 0.05}
"""What befalls a whole download: it breaks, it ends early and looks whole, it brings foreign rows; a look at a job that
finds nothing."""
_CALLS = {
    "lost": 0.02, "reply_lost": 0.04, "late": 0.03, "quota": 0.08, "spend": 0.01, "5xx": 0.04, "5xx_after": 0.03
}  # fmt: skip
"""What befalls a synchronous call: as any call to the provider, with its own rates."""
_SERVICES = {"unknown": 0.05}
"""Flex refuses a prompt for good."""
_LOST = {"results": 0.01}
"""Results that nobody will ever read."""
_REPLICAS = {"short": 0.08}
"""No replica confirms in time."""
_EVENTS = {"lost": 0.1, "doubled": 0.1, "late": 0.2, "nameless": 0.2, "early": 0.1, "foreign": 0.05}
"""Word of a job's end: it does not come, comes twice, late, without the token, before the end, or of another job."""
_SLOW = {"call": 0.05, "reply": 0.05}
"""No fault, only time in which others get in between: a call to the server, or its reply, is long under way."""


class Fates:
    """One draw per call among kinds with rates."""

    def __init__(self, rates: dict[str, float], factor: float) -> None:
        self.factor = factor
        self._limits: list[tuple[float, str]] = []
        self.total = 0.0
        for name, rate in rates.items():
            self.total += rate * factor
            self._limits.append((self.total, name))

    def of(self, r: float) -> str:
        """The fate that a draw between 0 and 1 stands for; empty for none."""
        if r >= self.total:
            return ""
        return next(name for limit, name in self._limits if r < limit)


class Faults:
    """One seed's faults; ``on`` until the calm."""

    def __init__(self, rng: random.Random) -> None:
        self.on = True
        self.counts: Counter[str] = Counter()
        self._rng = rng
        self.process = Fates(_PROCESS, self._factor())
        self.store = Fates(_STORE, self._factor())
        self.provider = Fates(_PROVIDER, self._factor())
        self.jobs = Fates(_JOBS, self._factor())
        self.rows = Fates(_ROWS, self._factor())
        self.files = Fates(_FILES, self._factor())
        self.events = Fates(_EVENTS, self._factor())
        self.slow = Fates(_SLOW, self._factor())
        self.calls = Fates(_CALLS, self._factor())
        self.services = Fates(_SERVICES, self._factor())
        self.replicas = Fates(_REPLICAS, self._factor())
        self.lost = Fates(_LOST, self._factor())
        self.alarms = Fates({"dropped": 0.1, "doubled": 0.1, "full": 0.02}, self._factor())

    def _factor(self) -> float:
        r = self._rng.random()
        return 0.0 if r < 0.3 else 1.0 if r < 0.8 else 3.0

    def restart_often(self) -> None:
        """The server restarts a few times in every seed."""
        self.store = Fates({**_STORE, "restart_lost": 0.003, "restart_kept": 0.003}, 1.0)

    def spoil_rows(self) -> None:
        """Many rows fail for good."""
        self.rows = Fates(_ROWS, 6.0)

    def draw(self, kind: str) -> str:
        """What befalls this call, job or row; empty for nothing. ``kind`` is a field of this class."""
        if not self.on:
            return ""
        fates: Fates = getattr(self, kind)
        r = self._rng.random()
        fate = fates.of(r) if r < fates.total else ""
        if fate:
            self.counts[f"{kind}.{fate}"] += 1
        return fate
