"""Break the code on purpose and see which check notices: a mutant that survives is a hole.

    python -m tests.mutants --list
    python -m tests.mutants --json FILE
    python -m tests.mutants resend-on-timeout settle-without-bits

Each mutant is a textual patch on a copy of the tree; one whose text is not there any more is an error, not a survivor.
The checks run on the copy, cheapest first, until one fails: the simulation (the seed must then pass on the code as it
is), the store's state machine, and the tests that the mutant names.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from tests.proofs.mutations import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
_COPIED = ("gemqueue", "workers", "adapters", "tests", "config", "pyproject.toml")
_CHECK_S_MAX = 900
SEEDS = 1000


class Verdict(msgspec.Struct, frozen=True):
    """Which check noticed a mutant, and what it said; empty for a survivor."""

    mutant: str
    says: str
    caught_by: str
    evidence: str
    seconds: float


def apply(mutant: Mutant, tree: Path) -> None:
    """Patch a tree. Raises ValueError when a text is not there exactly once."""
    for patch in mutant.patches:
        path = tree / patch.file
        text = path.read_text(encoding="utf-8")
        if text.count(patch.old) != 1:
            raise ValueError(f"{patch.file} has {text.count(patch.old)} times, not once: {patch.old.strip()[:100]!r}")
        path.write_text(text.replace(patch.old, patch.new), encoding="utf-8")


def check_patches() -> list[str]:
    """What is wrong with the patches, without running anything."""
    wrong: list[str] = []
    for name, mutant in MUTANTS.items():
        for patch in mutant.patches:
            n = (ROOT / patch.file).read_text(encoding="utf-8").count(patch.old)
            if n != 1:
                wrong.append(f"{name}: {patch.file} has {n} times, not once: {patch.old.strip()[:100]!r}")
    return wrong


def _checks(mutant: Mutant, seeds: int) -> list[tuple[str, list[str]]]:
    pytest = ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    simulation = ["-m", "tests.proofs.simulation", "--seeds", str(seeds), "--stop-at-first"]
    checks = [("simulation", simulation), ("state machine", [*pytest, "tests/store/test_machine.py"])]
    return [*checks, *((Path(test).stem, [*pytest, test]) for test in mutant.tests)]


def judge(name: str, seeds: int) -> Verdict:
    """Run the checks on a broken copy until one notices."""
    mutant = MUTANTS[name]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for each in _COPIED:
            source = ROOT / each
            if source.is_dir():
                shutil.copytree(source, tree / each, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, tree / each)
        apply(mutant, tree)
        for check, words in _checks(mutant, seeds):
            said = _run(words, tree)
            if said is not None:
                _check_unbroken(check, said)
                return Verdict(name, mutant.says, check, said, round(time.monotonic() - began, 1))
    return Verdict(name, mutant.says, "", "", round(time.monotonic() - began, 1))


def _check_unbroken(check: str, said: str) -> None:
    """A seed that breaks the code as it is says nothing about a mutant. Raises RuntimeError."""
    seed = said.removeprefix("seed ").partition(":")[0]
    if check == "simulation" and seed.isdigit():
        found = _run(["-m", "tests.proofs.simulation", "--replay", seed], ROOT)
        if found is not None:
            raise RuntimeError(f"the code itself fails, unbroken: {found}")


def _run(words: list[str], tree: Path) -> str | None:
    """None when the check passes, else the last line that says why. Raises RuntimeError when it did not get so far."""
    path = os.pathsep.join(str(tree / each) for each in (".", "workers", "adapters"))
    env = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"}
    try:
        done = subprocess.run(
            [sys.executable, *words], cwd=tree, env=env, capture_output=True, check=False, timeout=_CHECK_S_MAX
        )
    except subprocess.TimeoutExpired:
        return f"no end in {_CHECK_S_MAX} s"
    if done.returncode == 0:
        return None
    lines = [line for line in done.stdout.decode(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("seed ", "E  ", "FAILED"))]
    if not telling:
        raise RuntimeError(f"a check broke instead of failing: {' '.join(words)}: {done.stderr.decode()[-600:]}")
    return telling[-1].strip()[:300]


def _table(verdicts: list[Verdict]) -> str:
    rows = [f"{v.mutant:26} {v.caught_by or 'SURVIVED':16} {v.seconds:6.0f} s  {v.evidence[:120]}" for v in verdicts]
    caught = sum(bool(verdict.caught_by) for verdict in verdicts)
    return "\n".join([*rows, f"{caught} of {len(verdicts)} caught"])


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests.mutants")
    parser.add_argument("mutant", nargs="*", help="only these")
    parser.add_argument("--list", action="store_true", help="print the mutants and what each breaks")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds of the simulation for each")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at once")
    parser.add_argument("--json", type=Path, help="write the verdicts here")
    options = parser.parse_args()
    wrong = check_patches()
    if wrong:
        sys.stderr.write("\n".join(wrong) + "\n")
        return 2
    if options.list:
        sys.stdout.write("".join(f"{name:26} {mutant.says}\n" for name, mutant in MUTANTS.items()))
        return 0
    verdicts: list[Verdict] = []
    chosen: list[str] = options.mutant or list(MUTANTS)
    with ThreadPoolExecutor(options.jobs) as pool:
        for verdict in pool.map(partial(judge, seeds=options.seeds), chosen):
            verdicts.append(verdict)
            sys.stdout.write(_table(verdicts[-1:]).splitlines()[0] + "\n")
            sys.stdout.flush()
    sys.stdout.write(_table(verdicts).splitlines()[-1] + "\n")
    if options.json:
        found: list[dict[str, Any]] = [msgspec.structs.asdict(verdict) for verdict in verdicts]
        options.json.write_text(json.dumps({"mutants": len(found), "verdicts": found}, indent=1) + "\n")
    return 0 if all(verdict.caught_by for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
