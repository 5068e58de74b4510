"""What people choose between: gemqueue, a plain script on google-genai, and three libraries that batch for Gemini.

    python benchmarks/choices.py --rounds 3 [--prompts 100000] [--only named,script] [--envs FOLDER] [--json FILE]

Each is one command, rows of a file in and answers in a file out, in a virtual environment of its own (made once for
each requirement, in ``--envs``), against an emulator of its own whose jobs take two seconds. The clock and the CPU of
the command run from its start to its end; what the start alone costs is measured with a few prompts, shown, and taken
off the cost of a prompt. gemqueue's worker and server run beside its command and are counted with it.

Then each is killed twice, with all that belongs to it, and started again as its guide says: while the create of its
job is being answered (the job is made, the answer never arrives), and when all its jobs are made and looked at. The
emulator's ledger says how many rows were bought. The kills are counts, not times, so they run side by side.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from choices_kill import KILLED_PROMPTS, MOMENTS, killed
from harness import Pipeline, Report
from peers import environment
from producer import MODEL, prompts

from gemqueue_adapters.emulator.answers.answers import answerer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Process


class Choice(NamedTuple):
    """One of them: what to install (nothing: gemqueue's own), its command, and how it writes a prompt's request."""

    packages: tuple[str, ...]
    command: tuple[str, ...]
    prompts_max: int
    wire: str
    faults: tuple[dict[str, Any], ...] = ()


JOB_S = 2.0
POLL_S = 1.0
START_PROMPTS = 10
BYTES = 1000
AT_ONCE = 6
HERE = Path(__file__).parent / "peer"
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
"""litellm, on which batchlane stands, asks the net for a list of prices at its start otherwise."""
FULL = 100_000
OURS = '{"contents":[{"parts":[{"text":%s}],"role":"user"}]}'
RUN = ("-m", "gemqueue", "run", "{source}", "--out", "{out}", "--model", MODEL, "--text", "--quiet")
CHOICES = {
    "map": Choice((), ("choice_gemqueue.py", "{source}", "{out}"), FULL, OURS),
    "named": Choice((), ("choice_gemqueue.py", "{source}", "{out}", "named"), FULL, OURS),
    "run": Choice((), RUN, FULL, OURS),
    "script": Choice(
        ("google-genai==3.6.1",),
        ("choice_script.py", "{source}", "{out}"),
        FULL,
        '{"contents": [{"parts": [{"text": %s}]}]}',
    ),
    "pydantic-ai": Choice(
        ("pydantic-ai-slim[google]==2.68.0",),
        ("choice_pydantic_ai.py", "{source}", "{out}"),
        10_000,
        '{"contents":[{"parts":[{"text":%s}],"role":"user"}],"generationConfig":{"responseModalities":["TEXT"]}}',
    ),
    "steadybatch": Choice(
        ("steadybatch[gemini]==0.2.1",),
        ("choice_steadybatch.py", "{source}", "{out}"),
        5_000,
        '{"contents": [{"role": "user", "parts": [{"text": %s}]}], '
        '"generationConfig": {"temperature": 0.0, "maxOutputTokens": 1024}}',
    ),
    "batchlane": Choice(
        ("batchlane==0.2.0",),
        ("choice_batchlane.py", "{source}", "{out}"),
        2_000,
        '{"contents": [{"role": "user", "parts": [{"text": %s}]}]}',
        ({"on": "job", "do": "job_state"},),  # it waits for ever where states are spelt as the service spells them
    ),
}
"""``prompts_max`` is what takes some ten seconds on two quiet cores."""


class Command:
    """A choice's command over so many prompts, in one pipeline; it can be started more than once."""

    def __init__(self, choice: Choice, envs: Path, count: int) -> None:
        self.choice = choice
        self.count = count
        self.ours = not choice.packages
        self._python = sys.executable if self.ours else str(environment(envs, *choice.packages) / "python")

    def prepare(self, pipeline: Pipeline) -> None:
        """Write the rows."""
        (pipeline.folder / "files").mkdir()
        with self._source(pipeline).open("w", encoding="utf-8") as lines:
            for key, text in rows(self.count):
                lines.write(json.dumps({"key": key, "prompt": text}) + "\n")

    def start(self, pipeline: Pipeline) -> Process:
        """Start it, for the first time or again."""
        places = {"source": self._source(pipeline), "out": self._out(pipeline)}
        words = [word.format(**places) for word in self.choice.command]
        if words[0].endswith(".py"):
            words[0] = str(HERE / words[0])
        env = pipeline.env() | {"GEMINI_API_KEY": "bench", "CHOICE_POLL_S": str(POLL_S)}
        return pipeline.start([self._python, *words], env | QUIET, "caller")

    def landed(self, pipeline: Pipeline) -> dict[str, int]:
        """How many prompts have their answer in the file, and how many a wrong one or one that nobody asked for.

        In a process of its own: the kernel counts what a parent holds when it forks as its child's peak.
        """
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(landed, self._out(pipeline), self.choice.wire, self.count).result()

    def log(self, pipeline: Pipeline) -> str:
        """The end of what it printed."""
        return (pipeline.folder / "caller.log").read_text()[-3000:]

    def _source(self, pipeline: Pipeline) -> Path:
        return pipeline.folder / "files" / "in.jsonl"

    def _out(self, pipeline: Pipeline) -> Path:
        return pipeline.folder / "files" / "out.jsonl"


def rows(count: int) -> Iterator[tuple[str, str]]:
    """The keys and texts of so many prompts."""
    for n, text in enumerate(prompts(count, BYTES)):
        yield f"row-{n:09d}", text.encode("ascii", "ignore").decode()


def landed(out: Path, wire: str, count: int) -> dict[str, int]:
    """What ``Command.landed`` promises, of this file."""
    respond = answerer("generate", "echo", MODEL)
    expected = {key: respond((wire % json.dumps(text)).encode()) for key, text in rows(count)}
    answered = wrong = 0
    for line in out.read_text(encoding="utf-8").splitlines():
        row = msgspec.json.decode(line)
        response = expected.pop(row["key"], None)
        asked = msgspec.json.decode(response)["candidates"][0]["content"]["parts"][0]["text"] if response else None
        right = asked is not None and row.get("text") == asked
        answered, wrong = answered + right, wrong + (not right)
    return {"answered": answered, "wrong": wrong}


def one_round(command: Command) -> dict[str, Any]:
    """One fresh emulator (and server and worker), one run of the command."""
    with Pipeline(job_s=JOB_S, work=command.ours) as pipeline:
        command.prepare(pipeline)
        pipeline.control("faults", list(command.choice.faults))
        started = time.monotonic()
        caller = command.start(pipeline)
        costs = {"caller": caller.end(None)}
        seconds = time.monotonic() - started
        if caller.exit_code:
            raise RuntimeError(command.log(pipeline))
        bought = pipeline.control("ledger")["rows_bought"]
        if command.ours:
            costs |= {"worker": pipeline.worker.end(), "server": pipeline.server.end()}
        answers = command.landed(pipeline)
    peaks_mb = [cost.peak_mb for cost in costs.values()]
    found = {"prompts": command.count, "seconds": seconds, "rows_bought": bought, **answers}
    found |= {"peak_sum_mb": sum(peaks_mb), "peak_largest_mb": max(peaks_mb)}
    found |= {f"{role}_peak_mb": cost.peak_mb for role, cost in costs.items()}
    return found | {f"{role}_cpu_s": cost.cpu_s for role, cost in costs.items()}


def per_prompt(found: dict[str, Any], start: dict[str, Any]) -> dict[str, Any]:
    """A round with the CPU of a prompt, the start's taken off."""
    roles = [name.removesuffix("_cpu_s") for name in found if name.endswith("_cpu_s")]
    us = {f"{role}_us": (found[f"{role}_cpu_s"] - start[f"{role}_cpu_s"]) / found["prompts"] * 1e6 for role in roles}
    return found | us | {"us": sum(us.values()), "start_s": sum(start[f"{role}_cpu_s"] for role in roles)}


def kills(names: list[str], envs: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Both kills of each, some of them side by side."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        under_way = {
            (name, moment): threads.submit(killed, Command(CHOICES[name], envs, KILLED_PROMPTS), moment)
            for name in names
            for moment in MOMENTS
        }
        return {name: {moment: under_way[name, moment].result() for moment in MOMENTS} for name in names}


def show(name: str, median: dict[str, float], after: dict[str, dict[str, Any]]) -> None:
    """A line of the table."""
    roles = " + ".join(f"{median[role]:.0f}" for role in ("caller_us", "worker_us", "server_us") if role in median)
    figures = f"{median['prompts']:>8,.0f} {median['seconds']:>7.1f} {median['us']:>8.1f} {roles:>14}"
    figures += f" {median['start_s']:>7.1f} {median['peak_sum_mb']:>8.0f} {median['peak_largest_mb']:>8.0f}"
    for one in after.values():
        lot = f"{one['rows_bought'] / one['prompts']:.2f} x, {one['answered']:,} in {one['seconds']:.0f} s"
        figures += f" {lot:>24}"
    print(f"{name:12} {figures}")


def broken(name: str, found: dict[str, Any]) -> bool:
    """Not all have their own answer; or where gemqueue promises to buy once, it has bought twice."""
    twice = name in {"named", "run"} and found["rows_bought"] > found["prompts"]
    return found["wrong"] > 0 or found["answered"] < found["prompts"] or twice


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=FULL, help="at the most; the slow ones take fewer")
    parser.add_argument("--only", default=",".join(CHOICES))
    parser.add_argument("--envs", type=Path, default=Path.home() / ".cache" / "gemqueue-peers")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = options.only.split(",")
    report = Report("choices", options)
    counts = {name: min(options.prompts, CHOICES[name].prompts_max) for name in names}
    starts = {name: one_round(Command(CHOICES[name], options.envs, START_PROMPTS)) for name in names}
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(options.rounds):  # alternating, so that all meet the same machine
        for name in names:
            found = one_round(Command(CHOICES[name], options.envs, counts[name]))
            rounds[name].append(per_prompt(found, starts[name]) | {"packages": CHOICES[name].packages})
    after = kills(names, options.envs)
    print(f"jobs of {JOB_S:.0f} s, rows of 1 KB, {options.rounds} rounds; kills with {KILLED_PROMPTS:,} prompts each")
    columns = f"{'prompts':>8} {'s':>7} {'CPU us':>8} {'of it':>14} {'start s':>7} {'MB, all':>8} {'largest':>8}"
    print(f"{'':12} {columns} {'killed at create':>24} {'killed in flight':>24}")
    for name in names:
        show(name, report.add(name, rounds[name]), after[name])
        for moment, one in after[name].items():
            report.add(f"{name}, killed {moment}", [one])
    report.write()
    return 1 if any(broken(name, one) for name in names for one in (*rounds[name], *after[name].values())) else 0


if __name__ == "__main__":
    sys.exit(main())
