"""Job queues with one no-op job per prompt, beside gemqueue, on the same kind of server.

    python benchmarks/peers.py --rounds 5 [--only arq,saq] [--jobs arq=1000,rq=100] [--envs FOLDER] [--json FILE]

Each library gets a virtual environment of its own (made once, in ``--envs``), a fresh server, one worker process (rq,
whose worker does one job at a time, one per core) and one producer that enqueues 1 KB payloads and holds every 1 KB
result. Before the clock starts a producer has had a few jobs answered, so the worker's start is not counted.

They do more for a single job than gemqueue does for a prompt (tries, timeouts, states), and gemqueue does more for all
of them (files, HTTP, fences, checks): the factor says what it is worth to keep books per batch. gemqueue runs its whole
pipeline, as shipped, in the same rounds, its worker's CPU counted from the start.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import venv
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from harness import Process, Report, server_command, until_exists
from pipeline import one_round as pipeline_round
from pipeline import plan


class Peer(NamedTuple):
    """A library: what to install, how many jobs make a round of a few seconds, how its worker is started."""

    packages: tuple[str, ...]
    jobs: int
    worker: tuple[str, ...]


WARM_UP_JOBS = 20
PRODUCER_S_MAX = 120.0
TRIES = 3
HERE = Path(__file__).parent / "peer"
CELERY = "celery -A peer_celery worker -P threads -c 20 -l ERROR --without-gossip --without-mingle"
PEERS = {
    "arq": Peer(("arq==0.28.0",), 2_500, ("arq", "peer_arq.Settings")),
    "saq": Peer(("saq[redis,hiredis]==0.26.4", "typing_extensions"), 4_000, ("saq", "peer_saq.settings", "--quiet")),
    "taskiq": Peer(
        ("taskiq==0.13.0", "taskiq-redis==1.2.4"), 4_000, ("taskiq", "worker", "-w", "1", "peer_taskiq:broker")
    ),
    "dramatiq": Peer(("dramatiq[redis]==2.2.1",), 2_500, ("dramatiq", "-p", "1", "-t", "8", "peer_dramatiq")),
    "celery": Peer(("celery[redis]==5.7.0",), 600, tuple(CELERY.split())),
    "rq": Peer(
        ("rq==3.0.0",), 800, ("rq", "worker-pool", "-n", "2", "-w", "rq.SimpleWorker", "-q", "--url", "{url}", "bench")
    ),
}  # fmt: skip
"""Jobs that take some three to six seconds on two quiet cores where every write waits for the disk."""


def environment(folder: Path, *packages: str) -> Path:
    """The ``bin`` of an environment with these packages, made when it is not there; other versions get another one."""
    home = folder / "+".join(packages)
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([home / "bin" / "pip", "install", "--quiet", *packages], check=True)
        (home / "ready").touch()
    return home / "bin"


class StuckError(Exception):
    """A producer was still waiting after ``PRODUCER_S_MAX``: a job of the peer's was lost, or hangs."""


def produce(name: str, programs: Path, place: Path, jobs: int) -> dict[str, Any]:
    """Run a producer to its end; what it reports. Raises StuckError."""
    report = place / "report.json"
    argv = [str(programs / "python"), str(HERE / f"peer_{name}.py"), str(jobs), str(report)]
    producer = Process(argv, surroundings(place), place / "producer.log")
    too_long = threading.Timer(PRODUCER_S_MAX, os.kill, (producer.pid, signal.SIGKILL))
    too_long.start()
    producer.end(None)
    too_long.cancel()
    if producer.exit_code == -signal.SIGKILL:
        raise StuckError(f"{name}: {jobs} jobs were not done in {PRODUCER_S_MAX:.0f} s")
    if producer.exit_code:
        logs = [(place / f"{role}.log").read_text()[-3000:] for role in ("producer", "worker")]
        raise RuntimeError("\n".join(logs))
    return dict(json.loads(report.read_text()))


def surroundings(place: Path) -> dict[str, str]:
    """What producer and worker find in their environment."""
    return {"PEER_SOCKET": str(place / "s"), "PYTHONPATH": str(HERE)}


def one_round(name: str, folder: Path, jobs: int) -> dict[str, Any]:
    """One fresh server, worker and producer."""
    peer, programs = PEERS[name], environment(folder, "hiredis", *PEERS[name].packages)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gqp")))
        server = Process(server_command(place), {}, place / "server.log")
        stack.callback(server.end)
        until_exists(place / "s")
        command = [word.format(url=f"unix://{place / 's'}") for word in peer.worker]
        argv = [str(programs / command[0]), *command[1:]]
        worker = Process(argv, surroundings(place), place / "worker.log", group=True)
        stack.callback(worker.kill_group)
        produce(name, programs, place, WARM_UP_JOBS)
        start_s = {"worker": worker.tree_cpu_s(), "server": server.cpu_s()}
        found = produce(name, programs, place, jobs)
        used_s = {"worker": worker.tree_cpu_s() - start_s["worker"], "server": server.cpu_s() - start_s["server"]}
    us = {f"{role}_us": seconds * 1e6 / jobs for role, seconds in used_s.items()}
    us["producer_us"] = found["cpu_s"] * 1e6 / jobs
    return {"jobs": jobs, "prompts_per_s": jobs / found["seconds"], "ours_us": sum(us.values()), **us}


def a_round(name: str, folder: Path, jobs: int) -> dict[str, Any]:
    """A round, anew where one got stuck; ``stuck`` is how often. Raises StuckError when it is always so."""
    for stuck in range(TRIES):
        try:
            return one_round(name, folder, jobs) | {"stuck": stuck}
        except StuckError as error:
            print(error)
    raise StuckError(f"{name}: {TRIES} rounds in a row got stuck")


def jobs_of(text: str) -> dict[str, int]:
    """How many jobs each library gets in a round: one number for all, or ``arq=1000,rq=100``."""
    if text.isdecimal():
        return dict.fromkeys(PEERS, int(text))
    given = dict(word.split("=") for word in text.split(",") if word)
    return {name: int(given.get(name, peer.jobs)) for name, peer in PEERS.items()}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(PEERS))
    parser.add_argument("--jobs", default="", help="in a round, for all or each (arq=1000,rq=100); else some seconds")
    parser.add_argument("--prompts", type=int, default=200_000, help="gemqueue's load")
    parser.add_argument("--envs", type=Path, default=Path.home() / ".cache" / "gemqueue-peers")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names, jobs = options.only.split(","), jobs_of(options.jobs)
    options.envs.mkdir(parents=True, exist_ok=True)
    for name in names:
        environment(options.envs, "hiredis", *PEERS[name].packages)
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in ("gemqueue", *names)}
    for _ in range(options.rounds):
        rounds["gemqueue"].append(pipeline_round(plan(prompts=options.prompts)))
        for name in names:
            rounds[name].append(a_round(name, options.envs, jobs[name]))
    report = Report("peers", options)
    ours = statistics.median(one["prompts_per_s"] for one in rounds["gemqueue"])
    ours_us = statistics.median(one["ours_us"] for one in rounds["gemqueue"])
    print(f"one no-op job per prompt, 1 KB in and out, {options.rounds} rounds")
    columns = f"{'us/job':>8} {'producer':>9} {'worker':>8} {'server':>8} {'gemqueue is':>12} {'its CPU':>10}"
    print(f"{'':10} {'jobs/s':>10} {'(least, most)':>20} {columns}")
    for name, each in rounds.items():
        median = report.add(name, each)
        speeds = [one["prompts_per_s"] for one in each]
        spread = f"({min(speeds):,.0f}, {max(speeds):,.0f})"
        us = " ".join(f"{median[f'{role}_us']:>8.1f}" for role in ("producer", "worker", "server"))
        factor = f"{ours / median['prompts_per_s']:>10.1f} x {median['ours_us'] / ours_us:>8.1f} x"
        print(f"{name:10} {median['prompts_per_s']:>10,.0f} {spread:>20} {median['ours_us']:>8.1f}  {us} {factor:>12}")
    report.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
