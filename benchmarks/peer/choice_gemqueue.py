"""gemqueue from a program: one ``map``; ``named`` gives every row a name, so a second start buys nothing again."""

import asyncio
import sys

import uvloop
from choice import MODEL, rows, write

from gemqueue import Queue

NAMED = sys.argv[3:] == ["named"]


def asked(row):
    """What ``map`` is given for a row."""
    return {"contents": row["prompt"], "name": f"nightly/{row['key']}"} if NAMED else row["prompt"]


async def main():
    found = rows()
    async with Queue.connect() as queue:
        outcomes = await queue.map(map(asked, found), model=MODEL)
    write((row["key"], outcome.text) for row, outcome in zip(found, outcomes, strict=True) if outcome.ok)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
