"""`python -m gemqueue_adapters.emulator`: the emulator as a process."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from gemqueue_adapters.emulator import Options, run


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(prog="gemqueue_adapters.emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--token", default=os.environ.get("GEMINI_EMULATOR_TOKEN"))
    parser.add_argument("--webhooks-anywhere", action="store_true")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--job-s", type=float, default=1.0)
    parser.add_argument("--tier", choices=["none", "1", "2", "3"], default="none")
    parser.add_argument("--storage-max-bytes", type=int)
    parser.add_argument("--answers", choices=["full", "echo"], default="full")
    parser.add_argument("--reroute", action="append", default=[], metavar="ASKED=ANSWERING")
    parser.add_argument("--faults", type=Path)
    parser.add_argument("--lie", dest="lies", action="append", default=[], metavar="'route=R kind=K ...'")
    parser.add_argument("--ready-file", type=Path)
    try:
        run(Options(**vars(parser.parse_args())))
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
