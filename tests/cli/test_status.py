"""``gemqueue status``: what it says is what the store holds, and looking changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console

from gemqueue.client.queue import Queue
from gemqueue.config import Settings
from gemqueue.ids import new_batch_id
from gemqueue.records import LaneState, Sign
from gemqueue.states import Step
from gemqueue.store.metrics import read
from gemqueue.store.store import Store
from gemqueue_workers.manage.status import COUNTS, read_status, show_status
from gemqueue_workers.manage.status_records import BatchStatus, LaneStatus, Status, Turnaround
from gemqueue_workers.manage.working import troubled, unserved
from gemqueue_workers.screen import since
from tests.cli.command import gemqueue

if TYPE_CHECKING:
    from pathlib import Path

LANE = "emulated.local/gemini-3.8-flash/generate/batch"


def asked(*arguments: str, **env: str) -> dict[str, Any]:
    """The JSON that a status prints."""
    ended = gemqueue("status", "--json", *arguments, **env)
    assert (ended.returncode, ended.stderr) == (0, "")
    found: dict[str, Any] = msgspec.json.decode(ended.stdout)
    return found


async def sealed(settings: Settings) -> str:
    """Pack what waits in the lane, as a worker would; the batch's id."""
    store = Store(settings.redis_url, settings)
    taken = await store.claim(Step.PACK, LANE, "emulated.local")
    assert taken is not None
    claim, record = taken
    assert isinstance(record, LaneState)
    batch = new_batch_id()
    assert (await store.pack(claim, batch, {}))[0] == "sealed"
    await store.rest(claim)
    await store.aclose()
    return batch


def test_status_of_a_queue_never_used(tmp_path: Path) -> None:
    """An unused data folder gives an empty status with every count, and is not even made."""
    folder = tmp_path / "data"
    found = asked(GEMQUEUE_DATA_DIR=str(folder))
    assert (found["schema"], found["lanes"], found["batches"], found["workers"]) == (1, [], [], 0)
    assert found["counts"] == dict.fromkeys(COUNTS, 0)
    assert not folder.exists()


async def test_status_follows_a_prompt(redis_url: str, queue_name: str) -> None:
    """Prompts show in their lane, then in their batch; what is settled there is counted."""
    env = {"GEMQUEUE_REDIS_URL": redis_url, "GEMQUEUE_QUEUE": queue_name}
    settings = Settings(redis_url=redis_url, queue=queue_name, emulate=True, linger_s=0.001)
    async with Queue.connect(settings=settings) as queue:
        futures = [await queue.submit(f"prompt {i}", model="gemini-3.8-flash") for i in range(3)]
        (lane,) = asked(**env)["lanes"]
        assert (lane["lane"], lane["pending"], lane["held_reason"]) == (LANE, 3, "no worker")
        assert lane["oldest_age_s"] >= 0

        batch = await sealed(settings)
        await futures[0].cancel()
        found = asked(**env)
        cost = {"answers": 0, "tokens": 0, "usd": 0.0, "saved_usd": 0.0}
        empty: dict[str, Any] = {
            "lane": LANE,
            "pending": 0,
            "oldest_age_s": None,
            "held_reason": "",
            "held_cause": "",
            "held_age_s": None,
            "cost": cost,
            "turnaround": [],
            "answered_by": {},
            "rerouted": 0,
            "warnings": [],
        }
        assert found["lanes"] == [empty]
        (row,) = found["batches"]
        assert (row["id"], row["state"], row["job"]) == (batch, "sealed", "")
        assert (row["prompts"], row["settled"]) == (3, 1)
        assert row["age_s"] >= 0
        assert (found["counts"]["accepted"], found["counts"]["cancelled"], found["counts"]["bought_twice"]) == (3, 1, 0)
        for future in futures[1:]:
            await future.cancel()


def test_since_when_something_is_held() -> None:
    """The time of day, with the day where it was another one."""
    noon = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    assert (since(725, noon), since(86_400, noon)) == ("since 11:47 UTC", "since 2026-11-21 12:00 UTC")


async def test_status_for_a_person(redis_url: str, queue_name: str) -> None:
    """The same in words: how many, where they wait, that nobody works, and no control character of anybody's."""
    settings = Settings(redis_url=redis_url, queue=queue_name, emulate=True)
    async with Queue.connect(settings=settings) as queue:
        future = await queue.submit("one prompt", model="gemini-3.8-flash")
        status = await read_status(settings)
        (lane,) = status.lanes
        odd = msgspec.structs.replace(lane, held_reason="quota [red]\x1b[2J")
        console = Console(record=True, width=160, quiet=False, file=None, force_terminal=False)
        with console.capture() as shown:
            show_status(console, msgspec.structs.replace(status, lanes=[odd]))
        text = shown.get()
        assert "1 prompts accepted" in text
        assert LANE in text
        assert "no worker runs" in text
        assert "quota [red] [2J" in text
        assert "\x1b" not in text
        await future.cancel()


def test_how_long_jobs_take_and_what_is_held_is_said_once() -> None:
    """Percentiles by size stand below the open batches; a reason that a batch shows is not repeated for its lane."""
    known = Turnaround(prompts="10-99", jobs=1_200, p50_s=310.0, p90_s=1_500.0, p99_s=30_000.0)
    reason = "enqueued tokens: 9 of 9 in use"
    batch = BatchStatus(
        id="00b1", lane=LANE, state="sealed", job="", prompts=3, settled=0, age_s=9, held_reason=reason, held_age_s=9
    )
    lane = LaneStatus(lane=LANE, pending=0, oldest_age_s=None, held_reason=reason, turnaround=[known])
    console = Console(record=True, width=160, force_terminal=False)
    with console.capture() as shown:
        counts: dict[str, int] = dict.fromkeys(COUNTS, 0)
        show_status(console, Status(queue="q", lanes=[lane], batches=[batch], workers=1, counts=counts))
    words = shown.get().split()
    assert " ".join(words).count(reason) == 1
    assert "packed" not in words
    assert "10-99 1,200 5 min 25 min 8 h" in " ".join(words)


async def test_workers_are_listed(redis_url: str, queue_name: str) -> None:
    """Each worker has a line with version and age; whose sweeps fail, or who waits, stands first and says what for."""
    settings = Settings(redis_url=redis_url, queue=queue_name, emulate=True)
    store = Store(redis_url, settings)
    sign = Sign(accounts=("emulated.local",), host="far", pid=7, version="1.2", waiting_for="account (poll): no")
    now_ms = await store.server_now_ms()
    fine = Sign(accounts=("emulated.local",), host="near", pid=8, version="1.3", last_good_sweep_at=now_ms)
    await store.beat("fine", "pack+submit+track+resolve+rescue", "emulated.local", fine)
    await store.beat("w", "track", "emulated.local", sign)
    await store.redis.hset(store.key("worker", "w"), "began_at", 1)
    status = await read_status(settings)
    waits = next(worker for worker in status.working if worker.id == "w")
    assert (waits.stuck, waits.version, waits.sweep_age_s, waits.waiting_for) == (True, "1.2", None, sign.waiting_for)
    console = Console(record=True, width=160, file=None, force_terminal=False)
    with console.capture() as shown:
        show_status(console, status)
    text = shown.get()
    first, second = (line.split() for line in text.splitlines() if "emulated.local" in line)
    assert (first[:3], first[-5:]) == (["far", "7", "1.2"], ["emulated.local", "track", *sign.waiting_for.split()])
    assert "never" in first
    assert (second[:3], second[-2:]) == (["near", "8", "1.3"], ["emulated.local", "all"])
    assert [status.working[0].age_s is not None, len(status.working)] == [True, 2]
    assert unserved(await store.workers(), settings, "emulated.local") == ("ok", "2 run")
    said = unserved(await store.workers(), settings, "emulated.other")
    assert said == ("warning", "2 run; no worker: those that run do not serve emulated.other: start gemqueue work")
    (found,) = troubled(await store.workers(), settings)
    assert found.startswith("worker w (pid 7 on far) beats, and no sweep has gone well for ")
    assert found.endswith("; waits for account (poll): no")
    gauges = {(each.name, *each.labels.values()): each.value for each in (await read(store)).gauges}
    assert (gauges["workers",], gauges["stuck_workers",]) == (2, 1)
    assert gauges["serving_workers", "emulated.local", "track"] == 1
    assert 0 <= gauges["worker_sweep_age_seconds", "fine", "near", "1.3"] < 60
    assert gauges["worker_sweep_age_seconds", "w", "far", "1.2"] > 10**8
    await store.aclose()
