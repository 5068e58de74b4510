"""The options of an emulator, the same for the command line, the module and the tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from gemqueue_adapters.emulator.answers.answers import Mode

Tier = Literal["none", "1", "2", "3"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How an emulator behaves."""

    port: int = 0
    """0 lets the system choose."""
    host: str = "127.0.0.1"
    """The address to listen on; any but loopback needs a `token`."""
    token: str | None = None
    """What `/_emulator` asks for, as a bearer token; None asks for nothing."""
    webhooks_anywhere: bool = False
    """Whether webhooks are delivered to other hosts than this one."""
    data: Path | None = None
    """Where everything is kept; None is a temporary folder that goes with the emulator."""
    seed: int = 0
    job_s: float = 1.0
    """Virtual seconds from a job's creation to its end; 0 means as soon as the results are written."""
    tier: Tier = "none"
    storage_max_bytes: int | None = None
    """How much the files of a project may hold; None is 20 GB in a tier, and no limit without one."""
    answers: Mode = "full"
    reroute: tuple[str, ...] = ()
    """`ASKED=ANSWERING`: what is asked of the one model is answered, and billed, by the other."""
    faults: Path | None = None
    """A JSON file with the faults that are in force from the start."""
    lies: tuple[str, ...] = ()
    """What is told instead of the truth from the start, each as `route=get kind=back share=0.3 from_s=10 for_s=30`."""
    ready_file: Path | None = None
    """Gets {"url", "pid"} when requests are accepted; removed when the emulator stops."""

    def __post_init__(self) -> None:
        """Refuse, with ValueError, a reroute that is no pair of models."""
        for pair in self.reroute:
            if not all(pair.partition("=")):
                raise ValueError(f"reroute {pair!r} is no pair of models: write ASKED=ANSWERING")

    def answering(self, model: str) -> str:
        """The model that answers what is asked of `model`: itself, where nothing reroutes it."""
        return dict(pair.split("=", 1) for pair in self.reroute).get(model, model)
