"""``gemqueue emulate``: the emulator as a command, which says where it is and how to use it as soon as it is ready."""

from __future__ import annotations

import dataclasses
import tempfile
import threading
from pathlib import Path

import click
import msgspec

from gemqueue_adapters.emulator import Options, run

_LOOK_S = 0.02

_READY = """\
The emulator of the Gemini Batch API answers at {url}
It makes every answer up, and says so in each: [emulated].

  for gemqueue:    export GOOGLE_GEMINI_BASE_URL={url}
                   gemqueue work --emulate
  for google-genai and other clients:
                   export GOOGLE_GEMINI_BASE_URL={url} GEMINI_API_KEY=any
  what was bought: curl {url}/_emulator/ledger

Ctrl-C stops it."""


def run_emulator(options: Options) -> None:
    """Serve until SIGTERM or SIGINT; without a ready file, for a person, say on standard error when it is ready.

    Raises OSError when the port is taken, ValueError when the faults file does not hold faults.
    """
    if options.ready_file is not None:
        run(options)
        return
    with tempfile.TemporaryDirectory(prefix="gemqueue-emulate-") as folder:
        ready_file = Path(folder) / "ready.json"
        stopped = threading.Event()
        threading.Thread(target=_announce, args=(ready_file, stopped), daemon=True).start()
        try:
            run(dataclasses.replace(options, ready_file=ready_file))
        finally:
            stopped.set()


def _announce(ready_file: Path, stopped: threading.Event) -> None:
    while not ready_file.exists():
        if stopped.wait(_LOOK_S):
            return
    click.echo(_READY.format(url=msgspec.json.decode(ready_file.read_bytes())["url"]), err=True)
