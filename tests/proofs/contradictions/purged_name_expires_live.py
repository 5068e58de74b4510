"""A name that was purged and taken again: does the segment that had it before give it a TTL while its prompt is live?

When that is over, the same name would buy its prompt a second time, and what is live would carry a TTL.
"""

from __future__ import annotations

from gemqueue.store.runs import RunStore
from tests.proofs.contradictions.common import Verdict, embedded_url, land, let_pass
from tests.worlds.bench import ACCOUNT, Bench, bench, landing

DOC = (0, "doc-1", "d" * 32)


async def segment_state(made: Bench, segment: str) -> object:
    """Where a segment is."""
    (meta,) = await made.store.segment_metas([segment])
    return meta.state if meta else None


async def main(_how: str) -> Verdict:
    """What becomes of doc-1."""
    async with (
        embedded_url() as url,
        bench(url, "q", keep_outcome_s=2, keep_delivered_s=1, submit_timeout_s=1) as made,
    ):
        store = RunStore(url, made.settings, made.clock)
        first = await made.enqueue(2, names=[DOC, (1, "doc-2", "e" * 32)])
        claim = await made.ended()
        await land(made.store, claim, [landing(first, [0])])
        await store.forget_name(ACCOUNT, first, f"{first}.0")  # what `gemqueue purge KEY` does
        second = await made.enqueue(1, names=[DOC])  # asked for again: that is what purge is for
        print("doc-1 belongs to", await store.named(ACCOUNT, "doc-1"), "ttl", await made.ttl("name", ACCOUNT, "doc-1"))
        await land(made.store, claim, [landing(first, [1])])  # the first segment ends
        ttl_s = await made.ttl("name", ACCOUNT, "doc-1")
        print("after the first segment's end: ttl", ttl_s, "and its prompt is", await segment_state(made, second))
        await let_pass(2.5)
        third = await made.write("00" + "f" * 20, 1, names=[DOC])
        print("keep_outcome_s later, while", second, "is", await segment_state(made, second), "the same name:", third)
        await store.aclose()
        times = 1 + (third.word == "ok")
        return Verdict(f"a live prompt's name: ttl {ttl_s}, given {times} times", ttl_s == -1 and times == 1)
