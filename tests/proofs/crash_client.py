"""The caller's process, dying before and after each of its effects, and coming back under its log.

    python -m tests.crash_client --log FILE

One life: prompts are submitted, with a name and without, one of them is given up, all outcomes are taken. The next life
reads the log: what was acknowledged it asks for by key, what is unknown it submits again under its name. ``die_at``
has a life die at a point and another one finish, and lets the soak's checker judge what both were told.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gemqueue import Queue
from gemqueue.effects import CRASH_EXIT_CODE, Effect
from gemqueue.language.gemini.requests import generate_request
from gemqueue.language.outcomes import Failed
from gemqueue.states import Kind
from tests.proofs.soak.chaos import expected_text
from tests.proofs.soak.checker import check
from tests.proofs.soak.history import Event, Log, read
from tests.worlds.processes import MODEL, ROOT, Processes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.valkey_server import ValkeyServer

EFFECTS = frozenset({Effect.PRODUCE_ENQUEUE, Effect.PRODUCE_DELIVER, Effect.PRODUCE_CANCEL})
"""What happens in the caller's own process."""
PROMPTS = (("named", "doc-1"), ("without a name", ""), ("to be given up", "doc-2"))
_GIVEN_UP = 2
_LIFE_S_MAX = 60.0


async def live(log: Log, events: Sequence[Event]) -> None:
    """One life, which takes up what ``events`` say of earlier ones."""
    known = {event.op: event.key for event in events if event.what == "ok"}
    async with Queue.connect() as queue:
        futures = {op: queue.future(key) for op, key in known.items()}
        for op, (prompt, name) in enumerate(PROMPTS):
            if op not in futures:
                log.write(Event("invoke", op, prompt=prompt, name=name))
                futures[op] = await queue.submit(prompt, model=MODEL, name=name or None)
                log.write(Event("ok", op, key=futures[op].key))
        log.write(Event("cancel", _GIVEN_UP))
        await futures[_GIVEN_UP].cancel()
        for op, future in futures.items():
            outcome = await future.outcome(_LIFE_S_MAX)
            if isinstance(outcome, Failed):
                log.write(Event("outcome", op, key=future.key, kind=str(outcome.failure.kind)))
            else:
                log.write(Event("outcome", op, key=future.key, kind="answered", text=outcome.text))


async def die_at(point: str, valkey: ValkeyServer, folder: Path) -> None:
    """Run one point; raises AssertionError where a promise is broken or the client does not die there."""
    async with Processes(folder, valkey, f"k{secrets.token_hex(6)}") as world:
        world.start_worker()
        log = folder / "client.jsonl"
        code = await _life(world, log, GEMQUEUE_CRASH_AT=f"{point}:1")
        assert code == CRASH_EXIT_CODE, f"exit code {code}"
        code = await _life(world, log)
        assert code == 0, f"the next life ended with {code}: {(folder / 'client.log').read_text()[-500:]}"
        await world.drained()
        events = read(log)
        verdict = check(
            {"client": events},
            bought_twice=world.emulator.ledger()["bought_twice"],
            accepted=(await world.store.counts())["accepted"],
            expected=expected_text,
        )
        assert verdict.holds, verdict.complaints
        assert verdict.acknowledged == len(PROMPTS)
        world.requests |= {
            event.key: (Kind.GENERATE, generate_request(PROMPTS[event.op][0])) for event in events if event.what == "ok"
        }
        await world.judge()


async def _life(world: Processes, log: Path, **env: str) -> int:
    path = os.pathsep.join(str(ROOT / each) for each in (".", "workers", "adapters"))
    with (world.folder / "client.log").open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.proofs.crash_client", "--log", str(log),
            env=os.environ | {"PYTHONPATH": path} | world.env(**env),
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=ROOT,
        )  # fmt: skip
    async with asyncio.timeout(2 * _LIFE_S_MAX):
        return await process.wait()


def main() -> None:
    """One life."""
    parser = argparse.ArgumentParser(prog="tests.crash_client")
    parser.add_argument("--log", type=Path, required=True)
    path = parser.parse_args().log
    asyncio.run(live(Log(path), read(path)))


if __name__ == "__main__":
    main()
