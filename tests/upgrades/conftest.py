"""The code of 0.2.0, beside which workers of this version run."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.worlds.processes import ROOT

OLD_COMMIT = "201880f"


@pytest.fixture(scope="module")
def old_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a worker of 0.2.0 has as its PYTHONPATH; empty where this clone has no history."""
    packed = subprocess.run(["git", "archive", OLD_COMMIT], cwd=ROOT, capture_output=True, check=False)
    if packed.returncode:
        return ""
    folder = tmp_path_factory.mktemp("old")
    subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, check=True)
    return os.pathsep.join(str(folder / part) for part in (".", "workers", "adapters"))
