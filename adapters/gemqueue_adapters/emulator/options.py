"""The options of an emulator, the same for the command line, the module and the tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from gemqueue_adapters.emulator.answers import Mode

Tier = Literal["none", "1", "2", "3"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How an emulator behaves."""

    port: int = 0
    """The port on 127.0.0.1; 0 lets the system choose."""
    data: Path | None = None
    """Where everything is kept; None is a temporary folder that goes with the emulator."""
    seed: int = 0
    job_s: float = 1.0
    """Virtual seconds from a job's creation to its end; 0 means as soon as the results are written."""
    tier: Tier = "none"
    answers: Mode = "full"
    faults: Path | None = None
    """A JSON file with the faults that are in force from the start."""
    ready_file: Path | None = None
    """Gets {"url", "pid"} when requests are accepted; removed when the emulator stops."""
