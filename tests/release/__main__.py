"""``make release``: sdist and wheel of a commit, checked, tried out, and laid into dist/ with hashes and an SBOM.

    python -m tests.release [--ref HEAD] [--out dist] [--python PATH ...]

Nothing is published. Each step says in one line what it found; the first that fails ends it with exit code 1. The audit
asks a service for known vulnerabilities; where none can be reached that knows any, it is skipped, and said to be.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.installs import checks
from tests.installs.environments import ROOT, Environment
from tests.installs.serving import Serving
from tests.release.building import TOOLS, built, complaints, contents, digest, epoch_s

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_VERSIONS: Final = ("3.11", "3.12", "3.13", "3.14")
_VULNERABLE: Final = "urllib3==1.24.1"
"""What every source of known vulnerabilities has several of: one that finds none there would find none anywhere."""


class ReleaseError(Exception):
    """A step did not end well; why."""


def main() -> int:
    """Take the steps."""
    parser = argparse.ArgumentParser(prog="tests.release", description=__doc__)
    parser.add_argument("--ref", default="HEAD", help="the commit")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--python", action="append", default=[], help="an interpreter to install with; may be repeated")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gqr-", dir="/tmp") as name:
        try:
            _release(options.ref, options.out, options.python or found_pythons(), Path(name))
        except (ReleaseError, RuntimeError) as error:
            _say("FAILED", str(error))
            return 1
    return 0


def found_pythons() -> list[str]:
    """Each supported version that is on the path or under pyenv, and at least this interpreter."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found: list[str] = []
    for version in _VERSIONS:
        under_pyenv = sorted(pyenv.glob(f"{version}.*/bin/python"))
        on_path = shutil.which(f"python{version}")
        found += [str(under_pyenv[-1])] if under_pyenv else [on_path] if on_path else []
    return found or [sys.executable]


def _release(ref: str, out: Path, pythons: Sequence[str], folder: Path) -> None:
    tools = Environment(folder / "tools")
    tools.install(*TOOLS)
    files = _built_twice(tools, ref, folder)
    _checked(tools, files)
    wheel = next(file for file in files if file.suffix == ".whl")
    with Serving(folder) as serving:
        for number, python in enumerate(pythons):
            _tried_out(python, wheel, folder / f"on{number}", serving)
        _tried_out(pythons[0], next(file for file in files if file is not wheel), folder / "sdist", serving)
    everything = Environment(folder / "everything")
    everything.install(f"gemqueue[all] @ {wheel.as_uri()}")
    bom = wheel.with_name(f"{'-'.join(wheel.name.split('-')[:2])}.cdx.json")
    _sbom(tools, everything, bom, ref)
    _audited(tools, everything)
    _laid_out([*files, bom], out)


def _built_twice(tools: Environment, ref: str, folder: Path) -> list[Path]:
    """Raises ReleaseError where the second build differs from the first."""
    first, second = (built(tools, ref, folder / name) for name in ("first", "second"))
    if [(file.name, digest(file)) for file in first] != [(file.name, digest(file)) for file in second]:
        raise ReleaseError("two builds of one commit differ")
    _say("built", ", ".join(f"{file.name} ({file.stat().st_size:,} bytes)" for file in first) + ", twice the same")
    return first


def _checked(tools: Environment, files: Sequence[Path]) -> None:
    ended = tools.run([tools.python, "-m", "twine", "check", "--strict", *map(str, files)])
    if ended.returncode:
        raise ReleaseError(f"twine check: {ended.stdout[-500:]}")
    if wrong := [complaint for file in files for complaint in complaints(file)]:
        raise ReleaseError("; ".join(wrong))
    _say(
        "checked", f"by twine; {', '.join(f'{len(contents(file))} files' for file in files)}, none missing, none large"
    )


def _tried_out(python: str, file: Path, folder: Path, serving: Serving) -> None:
    """Base and all, in fresh environments; the demo runs from the latter. Raises ReleaseError."""
    tries: dict[str, tuple[Callable[[Environment, Serving], str], ...]] = {
        "": (checks.consistent, checks.submits, checks.embedded, checks.sentences),
        "[all]": (checks.consistent, checks.submits, checks.demo),
    }
    for extras, tried in tries.items():
        environment = Environment(folder / (extras.strip("[]") or "base"), python)
        environment.install(f"gemqueue{extras} @ {file.as_uri()}")
        for check in tried:
            if wrong := check(environment, serving):
                raise ReleaseError(f"{file.name}{extras}: {wrong}")
        version = environment.python_says("import platform; print(platform.python_version())").strip()
        said = environment.run(["gemqueue", "--version"]).stdout.strip()
        _say("tried out", f"{file.name}{extras} on Python {version}: {said}; {', '.join(c.__name__ for c in tried)}")


def _sbom(tools: Environment, everything: Environment, file: Path, ref: str) -> None:
    command = ["cyclonedx-py", "environment", "--pyproject", str(ROOT / "pyproject.toml"), "--mc-type", "library"]
    command += ["--output-reproducible", "--of", "JSON", "-o", str(file), everything.python]
    ended = tools.run(command, SOURCE_DATE_EPOCH=epoch_s(ref))
    if ended.returncode:
        raise ReleaseError(f"SBOM: {ended.stderr[-300:]}")
    _say("SBOM", f"{file.name}: {len(everything.packages())} packages, CycloneDX")


def _audited(tools: Environment, everything: Environment) -> None:
    """Raises ReleaseError where a vulnerability is known."""
    packages = everything.packages()
    asked = [f"{name}=={version}" for name, (version, _) in packages.items() if name != "gemqueue"]
    known, skipped = _audit(tools, [_VULNERABLE])
    if skipped or not known:
        _say("audit", f"SKIPPED: the source that can be reached from here does not even know of {_VULNERABLE}")
        return
    known, skipped = _audit(tools, asked)
    if known:
        raise ReleaseError(f"vulnerabilities are known of {', '.join(known)}")
    _say("audit", f"no vulnerability is known of {len(asked) - len(skipped)} packages; not known: {skipped or 'none'}")


def _audit(tools: Environment, requirements: Sequence[str]) -> tuple[list[str], list[str]]:
    """Of which packages a vulnerability is known, with its id, and which the source does not know at all."""
    frozen = tools.folder / "frozen.txt"
    frozen.write_text("\n".join(requirements))
    command = ["pip-audit", "--no-deps", "--disable-pip", "-r", str(frozen), "--progress-spinner", "off", "-f", "json"]
    try:
        found: list[dict[str, Any]] = json.loads(tools.run(command).stdout)["dependencies"]
    except (ValueError, KeyError):  # the source cannot be reached
        return [], list(requirements)
    known = [f"{each['name']} ({each['vulns'][0]['id']})" for each in found if each.get("vulns")]
    return known, [each["name"] for each in found if "skip_reason" in each]


def _laid_out(files: Sequence[Path], out: Path) -> None:
    out.mkdir(exist_ok=True)
    for file in files:
        shutil.copyfile(file, out / file.name)
    sums = "".join(f"{digest(file)}  {file.name}\n" for file in files)
    (out / "SHA256SUMS").write_text(sums)
    _say("laid out", f"in {out.name}/, with SHA256SUMS; not published\n{sums}".rstrip())


def _say(what: str, text: str) -> None:
    sys.stdout.write(f"{what:<10} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
