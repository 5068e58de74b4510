"""Measure the house: its rooms and floors, its size, what people have to know of it.

    python -m tests.house
    python -m tests.house --at REF --json FILE

It reads the files and runs none of them, so any commit of this repository can be measured, and two be compared.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tarfile
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.house.figures import Figures, Spread, figures_of
from tests.house.plan import PACKAGES, Plan, Shape, plan_of, read_package

ROOT = Path(__file__).parents[2]


def measure(root: Path) -> tuple[dict[str, Plan], Figures]:
    """The tree at ``root``."""
    packages = [read_package(root, name) for name in PACKAGES]
    return {package.name: plan_of(package) for package in packages}, figures_of(packages, root)


def table(plans: dict[str, Plan], figures: Figures) -> str:
    """The measures for people."""
    lines = [
        "In brackets: without the imports that only type checkers see.",
        "",
        f"{'':42} {'count':>5} {'floors':>9} {'arrows':>11} {'up':>9} {'circles':>9}",
    ]
    for name, plan in plans.items():
        lines += [_row(f"{name}: rooms", plan.rooms_typed, plan.rooms_run)]
        lines += [_row(f"{name}: modules", plan.modules_typed, plan.modules_run)]
    for name, plan in plans.items():
        order = "up by the declared order" if plan.ordered else "no declared order: up is what closes a circle"
        lines += ["", f"{name}: {order}; widest folder {plan.widest_folder}, {plan.widest} modules"]
        for what, typed, run in (
            ("rooms", plan.rooms_typed.circles, plan.rooms_run.circles),
            ("modules", plan.modules_typed.circles, plan.modules_run.circles),
        ):
            lines += [f"  circle of {what}: {_names(name, circle)}" for circle in typed]
            lines += [f"    also as it runs: {_names(name, circle)}" for circle in run]
    return "\n".join([*lines, "", *_figures(figures)]) + "\n"


def _row(title: str, typed: Shape, run: Shape) -> str:
    def both(one: int, other: int) -> str:
        return f"{one} ({other})"

    return (
        f"{title:42} {typed.nodes:>5} {both(typed.floors, run.floors):>9} {both(typed.arrows, run.arrows):>11} "
        f"{both(typed.up, run.up):>9} {both(len(typed.circles), len(run.circles)):>9}"
    )


def _names(package: str, circle: list[str]) -> str:
    return " - ".join(name.removeprefix(f"{package}.") for name in circle)


def _spread(found: Spread) -> str:
    return f"{found.count}: median {found.median:g}, p90 {found.p90}, p99 {found.p99}, max {found.max} lines"


def _figures(found: Figures) -> list[str]:
    near = ", ".join(found.files_near_the_limit) or "none"
    rows = {
        "lines of Python, without the emulator": str(found.python_lines),
        "lines of Lua": str(found.lua_lines),
        "settings": str(found.settings),
        "commands, and groups of them": f"{found.commands}, {found.command_groups}",
        "kinds of Redis keys": str(found.key_kinds),
        "functions, without the emulator": _spread(found.functions),
        "functions, with it": _spread(found.functions_all),
        "most complex function": f"{found.complexity_max}, {found.most_complex}",
        "files, without the emulator": _spread(found.files),
        "files, with it": _spread(found.files_all),
        "files within 10 lines of 400": f"{len(found.files_near_the_limit)} ({near})",
    }
    return [f"{title:42} {value}" for title, value in rows.items()]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="tests.house", description="Measure the house.")
    parser.add_argument("--at", metavar="REF", help="a commit; default: the files as they are")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measures here, too")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        root = ROOT
        if options.at:
            root = Path(folder)
            packed = subprocess.run(["git", "archive", options.at], cwd=ROOT, check=False, capture_output=True)
            if packed.returncode:
                parser.error(f"--at {options.at}: {packed.stderr.decode().strip()}")
            with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
                archive.extractall(root, filter="data")
        plans, figures = measure(root)
    sys.stdout.write(table(plans, figures))
    if options.json:
        found = {"packages": {name: asdict(plan) for name, plan in plans.items()}, "product": asdict(figures)}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
