"""Source distribution and wheel out of a commit, the same bytes whenever and wherever they are built."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import zipfile
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from tests.installs.environments import ROOT, STEP_S

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.installs.environments import Environment

TOOLS: Final = ("build", "hatchling", "twine", "cyclonedx-bom", "pip-audit")
_IN_WHEEL: Final = (
    "gemqueue/py.typed",
    "gemqueue/store/lua/enqueue.lua",
    "gemqueue_adapters/py.typed",
    "gemqueue_workers/py.typed",
    "gemqueue_workers/models.toml",
)
_IN_SDIST: Final = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "config/models.toml")
_FILE_BYTES_MAX: Final = 200_000
_PACKAGES: Final = ("gemqueue", "gemqueue_workers", "gemqueue_adapters")


def epoch_s(ref: str) -> str:
    """When the commit was made: the time of everything in the archives."""
    return _git("log", "-1", "--format=%ct", ref).decode().strip()


def built(tools: Environment, ref: str, folder: Path) -> list[Path]:
    """Sdist and wheel of the commit, in ``folder``. Raises RuntimeError where they cannot be built."""
    source = folder / "source"
    with tarfile.open(fileobj=io.BytesIO(_git("archive", ref))) as archive:
        archive.extractall(source, filter="data")
    command = [tools.python, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source)]
    ended = tools.run(command, SOURCE_DATE_EPOCH=epoch_s(ref))
    if ended.returncode:
        raise RuntimeError(ended.stderr[-300:] or ended.stdout[-300:])
    return sorted((folder / "dist").iterdir())


def digest(file: Path) -> str:
    """SHA-256 in hex."""
    return sha256(file.read_bytes()).hexdigest()


def contents(file: Path) -> dict[str, int]:
    """The files in an archive and their sizes; in a source distribution without the folder that holds them all."""
    if file.suffix == ".whl":
        return {info.filename: info.file_size for info in zipfile.ZipFile(file).infolist()}
    with tarfile.open(file) as archive:
        return {info.name.partition("/")[2]: info.size for info in archive.getmembers() if info.isfile()}


def complaints(file: Path) -> Iterator[str]:
    """What an archive lacks, or has that it should not."""
    found = contents(file)
    is_wheel = file.suffix == ".whl"
    yield from (f"{file.name} lacks {name}" for name in (_IN_WHEEL if is_wheel else _IN_SDIST) if name not in found)
    for name, size in found.items():
        top = name.partition("/")[0]
        if size > _FILE_BYTES_MAX:
            yield f"{file.name}: {name} has {size:,} bytes"
        if is_wheel and top not in _PACKAGES and not top.endswith(".dist-info"):
            yield f"{file.name} has {name}"


def _git(*words: str) -> bytes:
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        ["git", "-C", str(ROOT), *words], env=env, check=True, capture_output=True, timeout=STEP_S
    ).stdout
