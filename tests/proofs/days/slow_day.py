"""A model that stalls beside one that answers in minutes: what is seen, what is left alone, what is done at last.

Both models have a history of ten-minute jobs. Then one job of the first stalls: for 30 hours; or past the provider's
48, at which it expires with nothing to show; or a policy gives it up an hour earlier, when half of its rows are done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gemqueue.records import Lane
from gemqueue.states import BatchState, Kind
from tests.proofs.days.day import HOUR_S, Day, day
from tests.worlds.stages import ACCOUNT

if TYPE_CHECKING:
    from pathlib import Path

STALLED = "gemini-2.5-pro"
QUICK = "gemini-3.8-flash"
JOB_S = 600.0
SETTINGS: dict[str, Any] = {"linger_s": 1.0, "poll_max_s": 1_800.0, "batch_prompts_max": 100}


async def slow_day(url: str, folder: Path, *, stall_h: float, policy: str = "wait") -> dict[str, Any]:
    """One stall of so many hours; what was seen of it."""
    settings = SETTINGS | {"slow_policy": policy}
    async with day(url, folder, settings, job_s=JOB_S, answers="echo") as made:
        for _ in range(12):
            await made.submit(QUICK, 5, 40)
            await made.submit(STALLED, 5, 40)
            await made.run(made.now_s + 2 * JOB_S)
        stall = _Stall(made)
        await stall.begin(stall_h)
        while not await stall.over():
            await made.submit(QUICK, 5, 40)
            await made.run(made.now_s + 3 * HOUR_S, [stall.look])
        await made.run(made.now_s + HOUR_S)
        return await stall.report(policy, stall_h)


class _Stall:
    def __init__(self, made: Day) -> None:
        self._day = made
        self._batch = ""
        self._began_s = 0.0
        self._alarm_s: float | None = None
        self._cancelled_s: float | None = None
        self._ended_s: float | None = None
        self._answered_s = 0.0
        self._etas: list[tuple[float, float]] = []

    async def begin(self, stall_h: float) -> None:
        """A job of 100 prompts in ten segments, which stays PENDING."""
        stages = self._day.stages
        half = {"on": "cancel", "do": "half"}
        stages.emulator.faults([{"on": "job", "do": "pending", "seconds": stall_h * HOUR_S, "times": 1}, half])
        for _ in range(10):
            await self._day.submit(STALLED, 10, 40)
        await self._day.run(self._day.now_s + 10)
        (open_,) = [batch for batch in await self._day.open() if batch.state is BatchState.SUBMITTED]
        self._batch, self._began_s = open_.id, self._day.now_s

    async def look(self) -> None:
        """After every step: when the alarm came, what is expected, and that nothing is done early."""
        await self._day.ledger_adds_up()
        age_s = self._day.now_s - self._began_s
        batch = await self._day.stages.store.batch(self._batch)
        assert batch is not None
        if batch.slow_at and self._alarm_s is None:
            self._alarm_s = age_s
        if batch.cancel_at and self._cancelled_s is None:
            self._cancelled_s = age_s
        if batch.ended_at and self._ended_s is None:
            self._ended_s = age_s
        if self._ended_s is not None and not self._answered_s and not await self._open(batch.lane):
            self._answered_s = age_s
        if not batch.ended_at and (not self._etas or age_s > self._etas[-1][0] + 5 * HOUR_S):
            known = await self._day.stages.store.turnaround(ACCOUNT, STALLED, batch.prompts)
            assert known is not None
            self._etas.append((age_s, known.remaining_s(age_s)))

    async def over(self) -> bool:
        """Whether everything of the stalled model is answered."""
        lane = Lane(ACCOUNT, STALLED, Kind.GENERATE)
        return self._ended_s is not None and not await self._open(lane)

    async def _open(self, lane: Lane) -> bool:
        store = self._day.stages.store
        open_ = [await store.batch(id_) for id_ in await store.open_batches()]
        waiting = await store.redis.zcard(store.key("later", str(lane)))
        waiting += sum(state.prompts for state in await store.lanes() if state.lane == lane)
        return bool(waiting) or any(batch is not None and batch.lane == lane for batch in open_)

    async def report(self, policy: str, stall_h: float) -> dict[str, Any]:
        """What came of it, in figures."""
        stages = self._day.stages
        counts, ledger = await stages.store.counts(), stages.emulator.ledger()
        jobs = [job for job in ledger["jobs"] if job["state"] != "SUCCEEDED"]
        assert ledger["bought_twice"] == []
        assert counts.get("bought_twice", 0) == 0
        await self._day.no_leaks()
        hours = [
            None if at is None else round(at / HOUR_S, 2) for at in (self._alarm_s, self._cancelled_s, self._ended_s)
        ]
        return {
            "policy": policy,
            "stall_hours": stall_h,
            "alarm_after_h": hours[0],
            "cancelled_after_h": hours[1],
            "ended_after_h": hours[2],
            "answered_after_h": round(self._answered_s / HOUR_S, 2),
            "eta_at_age_h": [[round(age / HOUR_S, 2), round(left / HOUR_S, 2)] for age, left in self._etas],
            "jobs_that_did_not_succeed": [job["state"] for job in jobs],
            "jobs_of_the_stalled_model_afterwards": await self._later_jobs(),
            "prompts": counts["accepted"],
            "answered": counts["answered"],
            "failed": counts.get("failed", 0),
            "returned_free_of_charge": counts.get("returned", 0),
            "attempts_charged": counts.get("requeued", 0),
            "rows_bought": ledger["rows_bought"],
            "alarms": counts.get("slow", 0),
        }

    async def _later_jobs(self) -> list[int]:
        """Prompts of each job that what was left went into."""
        rows = self._day.stages.emulator.ledger()["jobs"]
        names = [job["display_name"] for job in rows]
        first = next(n for n, name in enumerate(names) if f"-{self._batch}-" in name)
        return sorted(job["rows"] for job in rows[first + 1 :] if job["rows"] != 5)
