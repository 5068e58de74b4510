"""How soon an answer is there after its job has ended, and what that costs in requests: polling against webhooks.

    python -m tests.webhooks_latency --json FILE [--jobs 40] [--only polling,webhooks]

Jobs of one prompt each take between 5 and 40 seconds, drawn by a seed, the same for every mode. Eight go before, which
teach the lane how long jobs take and whether webhooks can be relied on, and are not counted. Everything runs for
real: a Valkey, the emulator, a worker, ``gemqueue serve``, and a proxy before it that may replay or be flooded. Times
are between the moment at which the provider says that the job ended and the one at which its future was resolved.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import signal
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec

from gemqueue import Queue
from gemqueue.config import Settings
from tests.adapters.subjects import connect
from tests.emulator.receiver import HookServer
from tests.serve.door import Door, event, signed
from tests.valkey_server import ValkeyServer
from tests.worlds.processes import MODEL, Processes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType, TracebackType

    from gemqueue.client.futures import Future

SEED = 11
JOB_S = (5.0, 40.0)
GAP_S = 0.1
FLOOD_PER_S = 50
WARM_UP_JOBS = 8
DEFAULTS = ("poll_first_s", "poll_max_s", "sweep_s", "lease_s", "create_timeout_s", "settle_s", "drain_s")


class Mode(msgspec.Struct, frozen=True):
    """What is different about the webhooks of a run; ``late_s`` spreads deliveries over so many seconds."""

    webhooks: bool = True
    fault: str = ""
    late_s: float = 0.0
    shuffled: bool = False
    replays: bool = False
    floods: bool = False


MODES = {
    "polling": Mode(webhooks=False),
    "webhooks": Mode(),
    "lost": Mode(fault="lost"),
    "late by 5 s": Mode(fault="late", late_s=5.0),
    "doubled": Mode(fault="doubled"),
    "out of order": Mode(fault="late", late_s=4.0, shuffled=True),
    "badly signed": Mode(fault="bad_signature"),
    "flooded with forgeries": Mode(floods=True),
    "replayed": Mode(replays=True),
}


class Proxy(HookServer):
    """Passes deliveries on, and, where asked to, sends each of them twice again, a second and three later."""

    def __init__(self, target: str, *, replays: bool) -> None:
        self._http = httpx.Client(trust_env=False, timeout=10)
        self._target = target
        self._later_s = (1.0, 3.0) if replays else ()
        super().__init__()

    def answer(self, body: bytes, headers: dict[str, str]) -> int:
        """What the target says to it; 502 when the run is over."""
        signed = {name: text for name, text in headers.items() if name.startswith("webhook-")}
        status = self.post(body, signed)
        for later_s in self._later_s:
            timer = threading.Timer(later_s, self.post, (body, signed))
            timer.daemon = True
            timer.start()
        return status

    def post(self, body: bytes, headers: dict[str, str]) -> int:
        """Pass one on; 502 when the run is over."""
        try:
            return self._http.post(self._target, content=body, headers=headers).status_code
        except (httpx.HTTPError, RuntimeError):
            return 502

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._http.close()


def faults(mode: Mode, jobs: int) -> list[dict[str, Any]]:
    """How long each job takes, and what befalls its events."""
    dice = random.Random(SEED)
    takes: list[dict[str, Any]] = [
        {"on": "job", "do": "pending", "seconds": round(dice.uniform(*JOB_S), 2), "nth": [n + 1]} for n in range(jobs)
    ]
    if not mode.fault:
        return takes
    if mode.shuffled:
        return takes + [
            {"on": "webhook", "do": "late", "seconds": round(dice.uniform(0, mode.late_s), 2), "nth": [1]}
            for _ in range(jobs)
        ]
    return [*takes, {"on": "webhook", "do": mode.fault, "seconds": mode.late_s}]


async def flood(url: str) -> None:
    """Post forged events, of real shape and with a wrong secret, until cancelled."""
    secret = "whsec_" + "A" * 44
    async with httpx.AsyncClient(trust_env=False) as http:
        while True:
            body = event(f"batches/{secrets.token_hex(18)}")
            await http.post(url, content=body, headers=signed(body, secret=secret))
            await asyncio.sleep(1 / FLOOD_PER_S)


async def measure(name: str, jobs: int, valkey: ValkeyServer) -> dict[str, Any]:
    """One mode."""
    mode = MODES[name]
    plain = {setting: getattr(Settings(), setting) for setting in DEFAULTS} | {"batch_prompts_max": 1}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gqw")))
        async with Processes(folder, valkey, f"w{secrets.token_hex(6)}", plain, job_s=0.0) as world:
            door = stack.enter_context(Door(folder, world.env()))
            proxy = stack.enter_context(Proxy(f"{door.url}/webhook", replays=mode.replays))
            if mode.webhooks:
                world.settings = msgspec.structs.replace(world.settings, webhook_url=proxy.url)
            world.emulator.faults(faults(mode, WARM_UP_JOBS + jobs))
            world.start_worker()
            flooding = asyncio.create_task(flood(f"{door.url}/webhook")) if mode.floods else None
            await resolved_at(world, WARM_UP_JOBS)
            before = len(world.emulator.requests())
            done = await resolved_at(world, jobs)
            asked = world.emulator.requests()[before:]
            if flooding is not None:
                flooding.cancel()
            door.stop()
            found = await lags_s(world, done)
            counts = await world.store.counts()
    return {
        "mode": name,
        "jobs": jobs,
        "p50_s": round(statistics.median(found), 3),
        "p99_s": round(sorted(found)[min(len(found) - 1, int(len(found) * 0.99))], 3),
        "max_s": round(max(found), 3),
        "gets_per_batch": round(sum(seen["point"] == "get" for seen in asked) / jobs, 2),
        "requests_per_batch": round(len(asked) / jobs, 2),
        "answered": counts.get("answered", 0) - WARM_UP_JOBS,
        **{each: counts.get(each, 0) for each in ("events", "events_doubled", "events_refused")},
    }


async def resolved_at(world: Processes, jobs: int) -> dict[str, float]:
    """Submit, wait for all, and say when each future was resolved, by key."""
    done: dict[str, float] = {}

    async def wait(future: Future) -> None:
        await future
        done[future.key] = time.time()

    async with Queue.connect(settings=world.settings) as queue, asyncio.TaskGroup() as group:
        for number in range(jobs):
            group.create_task(wait(await queue.submit(f"prompt {number}", model=MODEL)))
            await asyncio.sleep(GAP_S)
    return done


async def lags_s(world: Processes, done: dict[str, float]) -> list[float]:
    """How long after its job's end, as the provider tells it, each future was resolved."""
    found: list[float] = []
    provider = connect(world.emulator, api_key="emulated-local")
    for key, at in done.items():
        (meta,) = await world.store.segment_metas([key.partition(".")[0]])
        batch = await world.store.batch(meta.batch) if meta else None
        assert batch is not None
        found.append(at - (await provider.poll(batch.job)).ended_at_ms / 1000)
    await provider.aclose()
    return found


def _end(signum: int, _frame: FrameType | None) -> None:
    """What was started is stopped on the way out."""
    sys.exit(128 + signum)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests.webhooks_latency")
    parser.add_argument("--jobs", type=int, default=40)
    parser.add_argument("--only", default=",".join(MODES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _end)
    rows = run(options.only.split(","), options.jobs)
    if options.json:
        options.json.write_text(json.dumps({"seed": SEED, "job_s": JOB_S, "rows": rows}, indent=1))
    return 0 if all(row["answered"] == row["jobs"] for row in rows) else 1


def run(names: Sequence[str], jobs: int) -> list[dict[str, Any]]:
    """Every mode named, each printed as it ends."""
    rows: list[dict[str, Any]] = []
    with ValkeyServer() as valkey:
        for name in names:
            rows.append(asyncio.run(measure(name, jobs, valkey)))
            sys.stdout.write("  ".join(f"{field} {value}" for field, value in rows[-1].items()) + "\n")
            sys.stdout.flush()
    return rows


if __name__ == "__main__":
    sys.exit(main())
