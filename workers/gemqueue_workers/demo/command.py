"""``gemqueue demo``: the whole thing in one command, on real text, against the emulator.

Its life: a folder of its own, private, holds a server that nobody else uses; ``Queue.connect`` starts it, the emulator
and a worker as processes of their own. The prompts go in as any program's would, the answers go into a file as they
land. With the queue everything stops, also on Ctrl-C; the data goes unless it is to be kept, the answers stay.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import msgspec

from gemqueue.client.queue import Queue
from gemqueue.config import load_settings
from gemqueue.errors import ConfigError
from gemqueue.language.answers import Answer
from gemqueue.states import Kind
from gemqueue_workers.demo import screen
from gemqueue_workers.demo.prompts import demo_prompts
from gemqueue_workers.demo.screen import Report
from gemqueue_workers.prices import Usage, batch_usd, interactive_usd, usage_of
from gemqueue_workers.run.results import result_line

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rich.console import Console

    from gemqueue.language.outcomes import Outcome
    from gemqueue_workers.demo.prompts import DemoPrompt

_SAMPLES: Final = 4
_QUICK: Final[dict[str, Any]] = {
    "linger_s": 0.3,
    "poll_first_s": 0.3,
    "poll_max_s": 1.0,
    "retry_first_s": 1.0,
    "sweep_s": 0.2,
    "batch_prompts_max": 1_000,
}
"""Seconds instead of hours, and several batches instead of one."""


class Place(msgspec.Struct, frozen=True):
    """Where a demo works: its data, which is its own, and the open file for the answers."""

    data: Path
    out: Path
    answers: BinaryIO


@contextmanager
def demo_place(console: Console, *, keep: bool, out: Path | None) -> Generator[Place]:
    """A private folder for one demo; its data goes afterwards unless ``keep``, the answers stay.

    Raises ConfigError where ``out`` cannot be written.
    """
    folder = Path(tempfile.mkdtemp(prefix="gemqueue-demo-"))
    data, path = folder / "data", (out or folder / "answers.jsonl").absolute()
    try:
        with path.open("wb") as answers:
            yield Place(data, path, answers)
    except OSError as error:
        raise ConfigError(f"The answers cannot be written to {path}: {error.strerror}") from error
    finally:
        if keep:
            console.print(f"Data kept. Look at it: GEMQUEUE_DATA_DIR={data} gemqueue status --emulate", soft_wrap=True)
        else:
            shutil.rmtree(data, ignore_errors=True)
        if not keep and (out is not None or not path.exists() or not path.stat().st_size):
            shutil.rmtree(folder, ignore_errors=True)


class _Tally:
    """What has come back so far."""

    def __init__(self, answers: BinaryIO, on_landed: Callable[[], None]) -> None:
        self.answered = self.failed = 0
        self.samples: list[tuple[DemoPrompt, Outcome]] = []
        self.failures: list[tuple[DemoPrompt, Outcome]] = []
        self.usage: dict[str, Usage] = {}
        self.all_emulated = True
        self._answers = answers
        self._on_landed = on_landed

    def land(self, prompt: DemoPrompt, outcome: Outcome) -> None:
        """Count one outcome and write it as the provider's result file would have it."""
        self._answers.write(result_line(prompt.label, outcome))
        if isinstance(outcome, Answer):
            self.answered += 1
            self.usage[prompt.model] = self.usage.get(prompt.model, Usage()) + usage_of([outcome])
            self.all_emulated = self.all_emulated and outcome.emulated
            self._sample(prompt, outcome)
        else:
            self.failed += 1
            self.failures.append((prompt, outcome))
        self._on_landed()

    def _sample(self, prompt: DemoPrompt, outcome: Outcome) -> None:
        """One of each sort first: an embedding, JSON, text."""
        sort = (prompt.kind, prompt.config is not None)
        of_sort = sum(1 for other, _ in self.samples if (other.kind, other.config is not None) == sort)
        if of_sort < (_SAMPLES - 2 if sort == (Kind.GENERATE, False) else 1):
            self.samples.append((prompt, outcome))


async def run_demo(console: Console, prompts_count: int, *, keep: bool = False, out: Path | None = None) -> Report:
    """The demo in a place of its own. Raises GemqueueError."""
    with demo_place(console, keep=keep, out=out) as place:
        return await demo(console, prompts_count, place)


async def demo(console: Console, prompts_count: int, place: Place) -> Report:
    """Run it and show it. Raises GemqueueError."""
    _cancel_on_sigterm()
    prompts = demo_prompts(prompts_count)
    settings = load_settings(env={}, emulate=True, data_dir=str(place.data), **_QUICK)
    logging.getLogger("gemqueue.waiting").disabled = True  # the bar says it
    screen.show_title(console, len(prompts))
    async with Queue.connect(settings=settings) as queue:
        _stop_if_cancelled()
        started = time.monotonic()
        with screen.Progress(console, len(prompts)) as progress:
            tally = _Tally(place.answers, progress.advance)
            await _ask_all(queue, prompts, tally)
        seconds = time.monotonic() - started
        counts = await queue.counts()
    report = Report(
        prompts=len(prompts),
        answered=tally.answered,
        failed=tally.failed,
        batches=counts.get("created", 0) + counts.get("adopted", 0),
        seconds=round(seconds, 3),
        prompts_per_s=round(len(prompts) / seconds, 1),
        tokens=sum(usage.tokens for usage in tally.usage.values()),
        interactive_usd=round(_sum_usd(tally, interactive_usd), 6),
        batch_usd=round(_sum_usd(tally, batch_usd), 6),
        emulated=tally.all_emulated,
        out=str(place.out),
    )
    screen.show_samples(console, tally.samples)
    screen.show_failures(console, tally.failures)
    screen.show_summary(console, report)
    return report


async def _ask_all(queue: Queue, prompts: list[DemoPrompt], tally: _Tally) -> None:
    """Text and embeddings are two lanes; both are asked at once."""
    async with asyncio.TaskGroup() as group:
        for model, kind in {(prompt.model, prompt.kind) for prompt in prompts}:
            rows = [
                {"contents": prompt.text, "config": prompt.config, "tag": prompt}
                for prompt in prompts
                if prompt.kind is kind
            ]
            group.create_task(_ask(queue, rows, model, kind, tally))


async def _ask(queue: Queue, rows: list[dict[str, Any]], model: str, kind: Kind, tally: _Tally) -> None:
    async for outcome in queue.stream(rows, model=model, kind=kind):
        prompt: Any = outcome.tag
        tally.land(prompt, outcome)


def _sum_usd(tally: _Tally, price: Callable[[str, Usage], float | None]) -> float:
    return sum(price(model, usage) or 0.0 for model, usage in tally.usage.items())


def _stop_if_cancelled() -> None:
    """A cancellation that came while connecting may have been lost: ``asyncio.wait_for`` before 3.12, in redis-py."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _cancel_on_sigterm() -> None:
    """SIGTERM ends the demo as Ctrl-C does: its server, worker and emulator end with it."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - what runs in a loop is a task
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
