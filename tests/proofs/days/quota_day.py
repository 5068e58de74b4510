"""A day of 429s: the provider refuses nine creates in ten, for hours, while the queue is full of prompts.

The limit is the emulator's tier 1 of a speech model, 25,000 enqueued tokens, so that a few prompts fill it. Before the
storm the queue works at the limit; during it every prompt waits and none fails; afterwards throughput comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.proofs.days.day import HOUR_S, Day, day

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "gemini-2.5-pro-preview-tts"
LIMIT_TOKENS = 25_000
JOB_S = HOUR_S
STORM = [{"on": "create", "do": "429", "p": 0.9}]
BATCH_TOKENS = 2_500


async def quota_day(
    url: str,
    folder: Path,
    *,
    storm_h: float,
    calm_h: float,
    known: bool,
    batch_tokens: int = BATCH_TOKENS,
    job_s: float = JOB_S,
) -> dict[str, Any]:
    """Three hours as usual, the storm, then calm; ``known``: the limit is configured, else learned from refusals.

    An hour is as long as a job takes, ``job_s``.
    """
    settings: dict[str, Any] = {
        "batch_tokens_max": batch_tokens,
        "linger_s": 1.0,
        "poll_max_s": job_s / 4,
        "backoff_max_s": job_s / 4,
        "first_prompts_max": 50_000,
    }
    settings |= {"enqueued_tokens_max": LIMIT_TOKENS} if known else {}
    async with day(url, folder, settings, job_s=job_s, tier=1, answers="echo") as made:
        hours = _Hours(made, batch_tokens, job_s)
        await hours.run(3)
        made.stages.emulator.faults(STORM)
        await hours.run(storm_h)
        refused = made.stages.emulator.fault_hits()[0]
        made.stages.emulator.faults([])
        await hours.run(calm_h)
        await hours.drain()
        counts = await made.stages.store.counts()
        await made.no_leaks()
        assert made.stages.emulator.ledger()["bought_twice"] == []
        return {
            "known_limit": known,
            "storm_hours": storm_h,
            "calm_hours": calm_h,
            "prompts": counts["accepted"],
            "answered": counts.get("answered", 0),
            "failed": counts.get("failed", 0),
            "requeued": counts.get("requeued", 0),
            "refused_in_the_storm": refused,
            "refusals_counted": counts.get("quota_refused", 0),
            "steps_checked": made.steps,
            "tokens_by_hour_share_of_limit": [round(share, 3) for share in hours.shares],
            "last_hours_share_of_limit": round(sum(hours.shares[-4:]) / 4, 3),
        }


class _Hours:
    """Feeds the queue; measures the tokens of the jobs that end in each hour, as a share of what the limit allows."""

    def __init__(self, made: Day, batch_tokens: int, job_s: float) -> None:
        self._day = made
        self._batch_tokens = batch_tokens
        self._job_s = job_s
        self.shares: list[float] = []
        self._ended: set[str] = set()
        self._tokens = 0

    async def run(self, hours: float) -> None:
        for _ in range(int(hours)):
            await self._feed()
            self._tokens = 0
            await self._day.run(self._day.now_s + self._job_s, [self._look])
            self.shares.append(self._tokens / LIMIT_TOKENS)

    async def _feed(self) -> None:
        """There is always more to do than an hour allows."""
        store = self._day.stages.store
        waiting = sum(batch.tokens for batch in await self._day.open() if not batch.reserved)
        waiting += sum(lane.tokens for lane in await store.lanes())
        while waiting < 1.2 * LIMIT_TOKENS:
            await self._day.submit(MODEL, 2, self._batch_tokens * 2 - 100)
            waiting += self._batch_tokens

    async def _look(self) -> None:
        ledger = await self._day.ledger_adds_up()
        assert ledger.tokens(MODEL) <= 2 * LIMIT_TOKENS
        counts = await self._day.stages.store.counts()
        assert counts.get("failed", 0) == 0
        for batch in await self._day.open():
            if batch.ended_at and batch.id not in self._ended:
                self._ended.add(batch.id)
                self._tokens += batch.tokens

    async def drain(self) -> None:
        """Until everything is answered."""
        store = self._day.stages.store
        for _ in range(40):
            if not await store.open_batches() and not any(lane.prompts for lane in await store.lanes()):
                return
            await self._day.run(self._day.now_s + self._job_s, [self._look])
        raise AssertionError("not drained")
