"""What is asked under names and in a run: by the code of a version when its records are written, and again by this one.

It uses what every version since 0.2.0 has. ``python -m tests.upgrades.asking URL QUEUE`` asks what is named.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console

from gemqueue import Failed, Queue
from gemqueue.config import Settings
from gemqueue_workers.run.options import RunOptions
from gemqueue_workers.run.progress import Progress
from gemqueue_workers.run.runner import Runner

if TYPE_CHECKING:
    import io
    from pathlib import Path

    from gemqueue import Outcome
    from gemqueue_workers.run.progress import Outcome as Report

MODEL, EMBEDDING = "gemini-3.5-flash", "gemini-embedding-2"
CALL: dict[str, Any] = {"max_output_tokens": 50, "system_instruction": "Answer in French"}
RUN = "nightly"


@dataclasses.dataclass
class Verdict:
    """A class as response schema."""

    label: str
    score: float


NAMED: dict[str, dict[str, Any]] = {
    "plain": {"rows": [{"contents": "upgrade plain"}]},
    "config": {"rows": [{"contents": ["upgrade", {"text": "config"}]}], "config": CALL},
    "class": {"rows": [{"contents": "upgrade class"}], "config": {"response_schema": Verdict}},
    "classes": {"rows": [{"contents": "upgrade classes"}], "config": {"response_schema": list[Verdict]}},
    "row": {"rows": [{"contents": "upgrade row", "config": {"temperature": 0}}], "config": CALL},
    "row class": {"rows": [{"contents": "upgrade row", "config": {"response_schema": Verdict}}], "config": CALL},
    "vector": {"rows": [{"contents": "upgrade"}], "model": EMBEDDING, "kind": "embed", "config": {"title": "t"}},
}
"""The calls of ``map``, each with one row, under the name of that row."""


def ask(queue: Queue) -> dict[str, asyncio.Task[list[Outcome]]]:
    """Every named prompt on its way, by name."""
    calls: dict[str, asyncio.Task[list[Outcome]]] = {}
    for name, call in NAMED.items():
        given: dict[str, Any] = {"model": MODEL} | call | {"rows": [row | {"name": name} for row in call["rows"]]}
        calls[name] = asyncio.create_task(queue.map(**given))
    return calls


def row(number: int) -> str:
    """A line of IN; every other one has a config of its own."""
    config = ', "config": {"temperature": 0}' if number % 2 else ""
    return f'{{"key": "k{number}", "prompt": "upgrade row {number}"{config}}}\n'


async def outcomes(queue: Queue) -> dict[str, str]:
    """The key of every named prompt, or the kind of error that refused it, once it has its outcome."""
    found = {name: (await call)[0] for name, call in ask(queue).items()}
    return {name: type(o.error).__name__ if isinstance(o, Failed) else o.key for name, o in found.items()}


async def _main(url: str, name: str) -> None:
    async with Queue.connect(url, queue=name, emulate=True) as queue:
        sys.stdout.write(json.dumps(await outcomes(queue)))


async def run(url: str, queue: str, folder: Path, said: io.StringIO, **more: Any) -> Report:
    """``gemqueue run`` of the folder's in.jsonl into its out.jsonl, in this process."""
    source, out = str(folder / "in.jsonl"), str(folder / "out.jsonl")
    options = RunOptions(source=source, out=out, model=MODEL, name=RUN, config=CALL, **more)
    runner = Runner(options, Settings(queue=queue, emulate=True, redis_url=url), lambda _: None)
    return await runner.run(Progress(Console(file=said, width=1000), MODEL))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
