"""What an archive of a release must hold, and must not."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from tests.release.building import complaints, contents

if TYPE_CHECKING:
    from pathlib import Path

GOOD = (
    "gemqueue/py.typed",
    "gemqueue/store/lua/enqueue.lua",
    "gemqueue_adapters/py.typed",
    "gemqueue_workers/py.typed",
    "gemqueue_workers/models.toml",
    "gemqueue-0.3.0.dist-info/METADATA",
)


def wheel(folder: Path, *names: str, size: int = 1) -> Path:
    """A wheel of these files."""
    file = folder / "gemqueue-0.3.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "x" * size)
    return file


def test_a_whole_wheel_is_fine(tmp_path: Path) -> None:
    """Nothing is said of a wheel that has its packages, scripts and prices, and nothing else."""
    file = wheel(tmp_path, *GOOD)
    assert list(complaints(file)) == []
    assert set(contents(file)) == set(GOOD)


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    """A file that is missing, one that does not belong there and one that is large are each named."""
    assert list(complaints(wheel(tmp_path, *GOOD[:4], GOOD[5]))) == [
        "gemqueue-0.3.0-py3-none-any.whl lacks gemqueue_workers/models.toml"
    ]
    assert [said.rpartition(" ")[2] for said in complaints(wheel(tmp_path, *GOOD, "tests/a.py"))] == ["tests/a.py"]
    assert len(list(complaints(wheel(tmp_path, *GOOD, size=200_001)))) == len(GOOD)
