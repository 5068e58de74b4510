"""What the programs of choices.py share: rows of a file in, answers in a file out, and the pause between two looks."""

import json
import os
import sys
from pathlib import Path

MODEL = "gemini-3.8-flash"
POLL_S = float(os.environ.get("CHOICE_POLL_S", "1"))
SOURCE, OUT = Path(sys.argv[1]), Path(sys.argv[2])
STATE = OUT.parent / "state"
"""Where a program notes what it needs to go on after it was killed, if it notes anything."""


def rows():
    """The ``{"key", "prompt"}`` of every line."""
    with SOURCE.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def write(answers):
    """Write a line for each ``(key, text)``."""
    with OUT.open("w", encoding="utf-8") as out:
        for key, text in answers:
            out.write(json.dumps({"key": key, "text": text}) + "\n")
