"""What must work in an environment; each returns what does not, or nothing, or raises RuntimeError with it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from tests.installs.environments import ROOT
from tests.installs.serving import QUEUE, QUICK

if TYPE_CHECKING:
    from tests.installs.environments import Environment
    from tests.installs.serving import Serving

MODEL: Final = "gemini-3.8-flash"
_SUBMIT: Final = f"""
import asyncio, importlib.util, sys
for name in ("celery", "django", "fastapi", "redis"):
    if importlib.util.find_spec(name):
        __import__(name)
from gemqueue import Queue
async def main():
    async with Queue.connect(sys.argv[1], queue={QUEUE!r}, emulate=True, linger_s=0.1) as queue:
        outcomes = await queue.map(["a", "b", "c"], model={MODEL!r})
        print(sum(outcome.ok for outcome in outcomes))
asyncio.run(asyncio.wait_for(main(), 60))
"""
_SENTENCES: Final = {
    "work": "needs arq: pip install 'gemqueue[worker]'",
    "serve": "needs starlette and uvicorn and prometheus_client: pip install 'gemqueue[serve]'",
    "admin metrics": "needs starlette and uvicorn and prometheus_client: pip install 'gemqueue[serve]'",
    "demo": "needs starlette and uvicorn: pip install 'gemqueue[emulator]'",
    "emulate": "needs starlette and uvicorn: pip install 'gemqueue[emulator]'",
}
_TEST_TOOLS: Final = ("gemqueue[serve,webhooks]", "uvloop", "pytest", "pytest-asyncio", "pytest-timeout", "hypothesis")


def consistent(environment: Environment, _: Serving) -> str:
    """Pip finds no package whose requirements are not met."""
    ended = environment.run([sys.executable, "-m", "pip", "--python", environment.python, "check"])
    return ended.stdout.strip() if ended.returncode else ""


def submits(environment: Environment, serving: Serving) -> str:
    """A program beside whatever frameworks there are gets its answers; any warning is an error."""
    said = environment.python_says(_SUBMIT, serving.redis_url).strip()
    return "" if said == "3" else f"{said} of 3 answered"


def embedded(environment: Environment, serving: Serving) -> str:
    """``gemqueue run`` on the embedded default answers its rows, without arq."""
    command = ["gemqueue", "run", "rows.jsonl", "-o", "out.jsonl", "-m", MODEL, "--emulate"]
    (environment.folder / "rows.jsonl").write_text('{"contents": "a"}\n{"contents": "b"}\n')
    env = {"GOOGLE_GEMINI_BASE_URL": serving.emulator_url, "GEMQUEUE_DATA_DIR": str(environment.folder / "d"), **QUICK}
    ended = environment.run(command, **env)
    return "" if ended.returncode == 0 else f"run: {ended.stderr.strip()[-200:]}"


def sentences(environment: Environment, _: Serving) -> str:
    """What is not installed is one sentence with the line for pip, and exit code 2."""
    for command, sentence in _SENTENCES.items():
        ended = environment.run(["gemqueue", *command.split()], GEMINI_API_KEY="k", GEMQUEUE_DATA_DIR="d")
        said = ended.stderr.strip()
        if ended.returncode != 2 or "\n" in said or not said.endswith(sentence):
            return f"gemqueue {command}: {said[-200:]}"
    return ""


def the_line_installs(environment: Environment, _: Serving) -> str:
    """The line that the sentence gives installs what is missing, and leaves gemqueue as it is."""
    environment.install("gemqueue[worker]")
    environment.python_says("import arq")
    return ""


def demo(environment: Environment, _: Serving) -> str:
    """``gemqueue demo`` answers all of its prompts."""
    ended = environment.run(["gemqueue", "demo", "--prompts", "200", "--json"])
    return "" if ended.returncode == 0 else f"demo: {ended.stderr.strip()[-200:]}"


def tests(environment: Environment, _: Serving) -> str:
    """The tests of the connections and of the store pass with this redis-py, where any warning is an error."""
    environment.install(*_TEST_TOOLS)
    environment.install("--no-deps", "arq")  # its pin is what this is not about
    pytest = [environment.python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    folders = [str(ROOT / "tests" / folder) for folder in ("connections", "store")]
    ended = environment.run([*pytest, "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), *folders])
    failed = " ".join(line.rpartition("/")[2] for line in ended.stdout.splitlines() if line.startswith("FAILED"))
    return "" if ended.returncode == 0 else f"tests: {failed or ended.stdout[-300:]}"
