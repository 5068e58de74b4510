"""Flat memory? 50,000 prompts that were submitted one by one are 50,000 segments: what does one step hold?"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from gemqueue.states import Step
from gemqueue_workers.stages.contents import BatchContents
from gemqueue_workers.stages.expected import Expected
from tests.proofs.contradictions.common import Verdict, embedded_url
from tests.worlds.bench import bench

MB_MAX_PER_THOUSAND = 1
BATCH = "0b" + "0" * 21


def resident_mb() -> int:
    """What this process holds."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024


async def main(how: str) -> Verdict:
    """``how`` is the number of prompts."""
    prompts_max = int(how)
    async with embedded_url() as url, bench(url, "q", first_prompts_max=prompts_max) as made:
        for _ in range(0, prompts_max, 500):
            await asyncio.gather(*(made.enqueue(1) for _ in range(500)))
        slowest_s, claim, word, prompts = 0.0, await made.claim(Step.PACK), "packing", 0
        while word == "packing":
            began_s = time.perf_counter()
            word, prompts, _ = await made.store.pack(claim, BATCH, {})
            slowest_s = max(slowest_s, time.perf_counter() - began_s)
        slow_ms = max((each["duration"] for each in await made.store.redis.slowlog_get(128)), default=0) / 1000
        print(f"packed {prompts}; slowest pack call {slowest_s * 1000:.0f} ms, on the server {slow_ms:.0f} ms")
        before_mb = resident_mb()
        contents = await BatchContents.load(made.store, BATCH)
        after_mb = resident_mb()
        expected = Expected(contents)
        print(f"{len(contents.sources)} segments, {len(expected.origins)} origins: {after_mb - before_mb} MB")
        print(f"with what is expected {resident_mb() - before_mb} MB in one step; steps_max {made.settings.steps_max}")
        mb = resident_mb() - before_mb
        held = mb <= MB_MAX_PER_THOUSAND * prompts_max / 1000
        return Verdict(f"{prompts_max} segments of one prompt: {mb} MB in one step", held)
