"""How long one script holds the server when something that nobody bounds has grown.

Each process that looks for a prompt by key or name registers its inbox in watch:<segment>. A function that is started
anew for each look (serverless, cron) adds one a look, and ``notice`` walks them at each landing.
"""

from __future__ import annotations

import time

from tests.proofs.contradictions.common import Verdict, embedded_url, land
from tests.worlds.bench import bench, landing

SEGMENTS = 8
HELD_MS_MAX = 500.0


async def main(_how: str) -> Verdict:
    """One settle of eight segments, by how many watch each."""
    held_ms = 0.0
    async with embedded_url() as url:
        for watchers in (0, 1_000, 10_000, 100_000):
            async with bench(url, f"q{watchers}") as made:
                segments = [await made.enqueue(3) for _ in range(SEGMENTS)]
                for start in range(0, watchers, 1000):
                    pipe = made.store.redis.pipeline(transaction=False)
                    for segment in segments:
                        inboxes = [f"00{start + n:020x}" for n in range(1000)]
                        pipe.sadd(made.store.key("watch", segment), *inboxes)
                        pipe.hset(made.store.key("segmeta", segment), "watched", 1)
                    await pipe.execute()
                claim = await made.ended()
                started_s = time.perf_counter()
                await land(made.store, claim, [landing(segment, [0]) for segment in segments])
                held_ms = 1000 * (time.perf_counter() - started_s)
                print(f"{watchers:>7} watchers of each of {SEGMENTS} segments: one settle takes {held_ms:8.1f} ms")
    return Verdict(f"one settle with 100,000 watchers of a segment takes {held_ms:.0f} ms", held_ms < HELD_MS_MAX)
