"""The core: gemqueue's own store over a dict.

``RunStore`` is the real class, with its real encoding and its real Lua files; only the server under it is a ``Memory``
of this process. So there is no second version of any transition that could be right where the scripts are wrong. What
licenses it is ``test_lockstep``: the same operations on this and on a real server, compared after every step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gemqueue.store.runs import RunStore
from gemqueue.store.scripts import Scripts
from tests.proofs.simulation.client import Client

if TYPE_CHECKING:
    from gemqueue.clock import Clock
    from gemqueue.config import Settings
    from tests.proofs.simulation.client import Line

_URL = "redis://simulated"


class CoreStore(RunStore):
    """The store on a line to a ``Memory``."""

    def __init__(self, line: Line, settings: Settings, clock: Clock) -> None:
        super().__init__(_URL, settings, clock)
        client: Any = Client(line)
        self.redis = client
        replicate_ms = self.scripts.replicate_ms
        self.scripts = Scripts(client, _URL, self.prefix, self.clock)
        self.scripts.replicate_ms = replicate_ms
