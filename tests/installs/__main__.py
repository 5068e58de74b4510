"""What installs where: ``make installs``, or ``python -m tests.installs [NAME ...] [--wheel FILE] [--json FILE]``.

Each row is a fresh environment made by pip: what it takes beside gemqueue, the redis-py that it gets, its size, the CPU
that imports cost, and whether a program there submits prompts that a worker from another environment answers. Prints a
table; exits 1 if a row is not as it should be. It downloads a few hundred MB, so it is not a part of ``make test``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.installs import checks
from tests.installs.environments import ROOT, Environment, built_wheel
from tests.installs.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable

_FRAMEWORKS: Final = ("celery", "django", "fastapi")
_NOT_OURS: Final = {"pip", "setuptools"}


class Row(NamedTuple):
    """An environment: its name, the extras, what it has beside them, whether pip must refuse it, further checks."""

    name: str
    extras: str = ""
    beside: tuple[str, ...] = ()
    refused: bool = False
    checks: tuple[Callable[[Environment, Serving], str], ...] = ()


def lowest() -> tuple[str, ...]:
    """Every requirement of ours, at the lowest version that it allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    asked = [requirement for each in (project["dependencies"], *extras.values()) for requirement in each]
    found = [re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", requirement) for requirement in asked]
    return tuple(sorted({f"{each[1]}=={each[2]}" for each in found if each}))


ROWS: Final = (
    Row("base", checks=(checks.sentences, checks.embedded, checks.the_line_installs)),
    *(Row(f"redis-py {n}", beside=(f"redis=={n}.*",), checks=(checks.tests,)) for n in ("5.3", "6", "7", "8")),
    *(Row(f"{', '.join(_FRAMEWORKS)}, redis-py {n}", beside=(*_FRAMEWORKS, f"redis=={n}.*")) for n in ("5.3", "8")),
    Row("celery[redis]", beside=("celery[redis]",)),
    Row("django, django-redis", beside=("django", "django-redis")),
    Row("fastapi[standard]", beside=("fastapi[standard]",)),
    Row("[worker]", "worker"),
    Row("[serve]", "serve"),
    Row("[webhooks]", "webhooks"),
    Row("[all]", "all", checks=(checks.demo,)),
    Row("[all], lowest", "all", lowest(), checks=(checks.embedded, checks.demo)),
    Row("[worker], redis-py 6", "worker", ("redis>=6",), refused=True),
)


class Result(NamedTuple):
    """What a row showed; ``wrong`` is empty where it is as it should be."""

    name: str
    redis: str = ""
    packages: int = 0
    megabytes: float = 0
    import_ms: float = 0
    queue_ms: float = 0
    wrong: str = ""


def main() -> None:
    """Run all, print the table."""
    parser = argparse.ArgumentParser(prog="tests.installs", description=__doc__)
    parser.add_argument("name", nargs="*", help="only rows whose name contains one of these")
    parser.add_argument("--wheel", type=Path, help="this wheel and not one of the checkout")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gqi-", dir="/tmp") as folder, Serving(Path(folder)) as serving:
        wheel = options.wheel or built_wheel(Path(folder))
        chosen = [row for row in ROWS if any(name in row.name for name in options.name or [""])]
        results = [_told(tried(row, wheel.resolve(), Path(folder) / f"e{n}", serving)) for n, row in enumerate(chosen)]
    if options.json:
        options.json.write_text(json.dumps([result._asdict() for result in results], indent=1))
    wrong = sum(bool(result.wrong) for result in results)
    sys.stdout.write(f"{len(results) - wrong} passed, {wrong} failed\n")
    sys.exit(1 if wrong or not results else 0)


def tried(row: Row, wheel: Path, folder: Path, serving: Serving) -> Result:
    """Make the environment and look at it."""
    environment = Environment(folder)
    try:
        environment.install(f"gemqueue[{row.extras}] @ {wheel.as_uri()}" if row.extras else str(wheel), *row.beside)
    except RuntimeError as error:
        return Result(row.name, wrong="" if row.refused else str(error))
    if row.refused:
        return Result(row.name, wrong="pip should have refused it")
    packages = {name: found for name, found in environment.packages().items() if name not in _NOT_OURS}
    found: dict[str, Any] = {"redis": packages["redis"][0], "packages": len(packages)}
    found["megabytes"] = sum(size for _, size in packages.values()) / 1e6
    found["import_ms"] = environment.import_ms("import gemqueue")
    found["queue_ms"] = environment.import_ms("from gemqueue import Queue")
    return Result(row.name, **found, wrong=_wrong(row, environment, serving))


def _wrong(row: Row, environment: Environment, serving: Serving) -> str:
    try:
        said = [check(environment, serving) for check in (checks.consistent, checks.submits, *row.checks)]
    except RuntimeError as error:
        return str(error)
    return "; ".join(filter(None, said))


def _told(result: Result) -> Result:
    sys.stdout.write(
        f"{result.name:<40}{result.redis:>8}{result.packages:>4} packages{result.megabytes:>7.1f} MB"
        f"{result.import_ms:>6.0f} ms{result.queue_ms:>6.0f} ms  {result.wrong or 'as it should be'}\n"
    )
    sys.stdout.flush()
    return result


if __name__ == "__main__":
    main()
