"""A virtual environment of one's own, made by pip: what is in it, how large it is, how long its imports take."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
STEP_S: Final = 1800
_ROUNDS: Final = 9
_SUM: Final = """
import importlib.metadata as metadata, json
def size(found):
    return sum(file.size or 0 for file in found.files or [] if file.suffix != ".pyc")
print(json.dumps({found.name: [found.version, size(found)] for found in metadata.distributions()}))
"""


class Environment:
    """A fresh environment in ``folder``, made with ``python``; what runs in it has no setting of ours."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        self.python = str(folder / "bin" / "python")
        if python == sys.executable:
            venv.create(folder, symlinks=True)
        else:
            subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=STEP_S)

    def install(self, *requirements: str) -> None:
        """Install by our own pip, which an environment need not hold. Raises RuntimeError with pip's last words."""
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet", "--no-compile"]
        ended = self.run([*pip, *requirements])
        if ended.returncode:
            raise RuntimeError(_end_of(ended.stderr))

    def run(self, command: list[str], stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
        """A command to its end, in this environment's folder, with none of our variables but ``env``."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GEMQUEUE_", "PYTHON"))}
        return subprocess.run(
            command,
            env=kept | {"PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"} | env,
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=STEP_S,
            check=False,
        )

    def python_says(self, code: str, *argv: str, **env: str) -> str:
        """What a program prints. Raises RuntimeError with the end of its standard error."""
        ended = self.run([self.python, "-W", "error", "-c", code, *argv], **env)
        if ended.returncode:
            raise RuntimeError(_end_of(ended.stderr))
        return ended.stdout

    def packages(self) -> dict[str, tuple[str, int]]:
        """Version and bytes of each package, without bytecode."""
        found: dict[str, Any] = json.loads(self.python_says(_SUM))
        return {name: (version, size) for name, (version, size) in found.items()}

    def import_ms(self, code: str) -> float:
        """CPU milliseconds of the imports beyond those of a bare interpreter: the least of a few."""
        return 1000 * (self._cpu_s(code) - self._cpu_s("pass"))

    def _cpu_s(self, code: str) -> float:
        self.run([self.python, "-c", code])  # writes the bytecode
        return min(self._once_s(code) for _ in range(_ROUNDS))

    def _once_s(self, code: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.run([self.python, "-c", code])
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def built_wheel(folder: Path) -> Path:
    """A wheel of this checkout."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(pip, check=True, timeout=STEP_S, capture_output=True)
    return next(folder.glob("gemqueue-*.whl"))


def _end_of(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("WARNING")]
    return " / ".join(lines[-2:])[-300:]
