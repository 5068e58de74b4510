"""gemqueue from a program: one ``map`` of named rows, which may be asked again after a kill."""

import asyncio

import uvloop
from choice import MODEL, rows, write

from gemqueue import Queue


async def main():
    named = [{"contents": row["prompt"], "name": f"nightly/{row['key']}"} for row in rows()]
    async with Queue.connect() as queue:
        outcomes = await queue.map(named, model=MODEL)
    write((row["key"], outcome.text) for row, outcome in zip(rows(), outcomes, strict=True) if outcome.ok)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
