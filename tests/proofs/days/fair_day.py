"""Days on which fifty tenants flood a queue that has room for two jobs.

Half of them fill the queue before the other half comes. From then on each has a share of what goes into jobs, by its
weight, whoever came first; a prompt of high priority waits for one job at most; and nobody is left out.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from gemqueue.ids import new_segment_id
from gemqueue.language.gemini.requests import generate_request
from gemqueue.language.lines import line
from gemqueue.records import Lane
from gemqueue.states import Kind
from gemqueue.store import codec
from gemqueue.store.producer import SegmentWrite
from tests.proofs.days.day import HOUR_S, Day, day
from tests.worlds.stages import ACCOUNT, MODEL

if TYPE_CHECKING:
    from pathlib import Path

TENANTS = {f"t{n:02}": 1 + n % 5 for n in range(50)}
"""With their weights."""
URGENT = "urgent"
BATCH_PROMPTS = sum(TENANTS.values())
JOBS_AT_ONCE = 2
_SEGMENT_PROMPTS = 5


async def fair_day(url: str, folder: Path, *, jobs: int) -> dict[str, Any]:
    """The floods, until so many jobs were created after the last had come; what each got of them."""
    settings: dict[str, Any] = {
        "batch_prompts_max": BATCH_PROMPTS,
        "first_prompts_max": BATCH_PROMPTS,
        "open_jobs_max": JOBS_AT_ONCE,
        "model_jobs_max": JOBS_AT_ONCE,
        "linger_s": 1.0,
        "poll_max_s": 300.0,
        "quota_cool_s": 0.0,
        "backoff_max_s": HOUR_S,  # whoever waits for room is woken
        "tenant_weights": " ".join(f"{name}={weight}" for name, weight in TENANTS.items()),
    }
    async with day(url, folder, settings, job_s=HOUR_S, answers="echo") as made:
        floods = _Floods(made, jobs)
        names = list(TENANTS)
        await floods.come(names[::2])
        await made.run(HOUR_S * 1.5, [floods.look])
        await floods.come(names[1::2])
        floods.begin()
        while len(floods.jobs) < jobs:
            await floods.ask_urgently()
            await made.run(made.now_s + HOUR_S * 3.3, [floods.look])
        return floods.report()


class _Floods:
    """Who has got into which job, in their order, and how long each urgent prompt has waited for its own."""

    def __init__(self, made: Day, jobs: int) -> None:
        self._day = made
        self._flood = 1.4 * jobs  # of each tenant: more than its share of all jobs
        self._seen: set[str] = set()
        self._began_s = 0.0
        self._asked: dict[str, float] = {}
        self.jobs: list[Counter[str]] = []
        self.waits_s: list[float] = []

    async def come(self, names: list[str]) -> None:
        """Each of them submits all that it has at once."""
        for name in names:
            for _ in range(round(self._flood * TENANTS[name] / _SEGMENT_PROMPTS)):
                await self._submit(name, _SEGMENT_PROMPTS, 0)

    def begin(self) -> None:
        """Jobs count from now on."""
        self.jobs.clear()
        self._began_s = self._day.now_s

    async def ask_urgently(self) -> None:
        """One prompt of high priority, by somebody who has nothing else."""
        self._asked[await self._submit(URGENT, 1, 9)] = self._day.now_s

    async def _submit(self, tenant: str, count: int, priority: int) -> str:
        id_ = new_segment_id()
        body = b"".join(line(f"{id_}.{n}", generate_request("x")) for n in range(count))
        lane = str(Lane(ACCOUNT, MODEL, Kind.GENERATE))
        segment = SegmentWrite(
            id=id_, lane=lane, producer="00pday", count=count, raw_bytes=len(body), tokens=count, tenant=tenant,
            priority=priority,
        )  # fmt: skip
        assert (await self._day.stages.store.enqueue(segment, codec.compress(body))).word == "ok"
        return id_

    async def look(self) -> None:
        """Note the jobs that are there now."""
        store = self._day.stages.store
        new = [one.id for one in await self._day.open() if one.state == "submitted" and one.id not in self._seen]
        for batch in new:
            self._seen.add(batch)
            got: Counter[str] = Counter()
            for meta in await store.segment_metas(await store.manifest(batch)):
                assert meta is not None
                got[meta.tenant] += meta.count
                if meta.id in self._asked:
                    self.waits_s.append(self._day.now_s - self._asked.pop(meta.id))
            self.jobs.append(got)

    def report(self) -> dict[str, Any]:
        """What was seen."""
        total: Counter[str] = Counter()
        for got in self.jobs:
            total.update(got)
        prompts = sum(total[name] for name in TENANTS)
        share = {name: total[name] / prompts * BATCH_PROMPTS / weight for name, weight in TENANTS.items()}
        gaps = {name: _longest_gap([name in got for got in self.jobs]) for name in TENANTS}
        hours = (self._day.now_s - self._began_s) / HOUR_S
        waited_s = [*self.waits_s, *(self._day.now_s - at for at in self._asked.values())]
        return {
            "tenants": len(TENANTS),
            "jobs": len(self.jobs),
            "prompts": prompts,
            "share_of_weight_least": round(min(share.values()), 3),
            "share_of_weight_most": round(max(share.values()), 3),
            "tenants_with_nothing": sum(not total[name] for name in TENANTS),
            "jobs_without_a_tenant_most": max(gaps.values()),
            "urgent": len(waited_s),
            "urgent_without_a_job": len(self._asked),
            "urgent_waited_jobs_most": round(max(waited_s) / HOUR_S, 3),
            "room_used": round(len(self.jobs) / (hours * JOBS_AT_ONCE), 3),
        }


def _longest_gap(there: list[bool]) -> int:
    longest = now = 0
    for one in there:
        now = 0 if one else now + 1
        longest = max(longest, now)
    return longest
