"""Synchronous calls at the provider, beside its jobs: what each bought, and what the deadlines of a seed look like.

A call has no fence. It answers and bills when it arrives, whether anybody hears the answer or not, so the ledger here
says how often each prompt was paid for outside of a batch. Flex knows less than standard does: now and then it refuses
a prompt for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from gemqueue.errors import Rejected
from gemqueue.policy.turnaround import sample
from tests.proofs.simulation.lines import REFUSED, Line, answer_to, blocked, response_of, text_of

if TYPE_CHECKING:
    from tests.proofs.simulation.world import SimulatedWorld

_decode = msgspec.json.Decoder(Line).decode
_HISTORY_S = 6.0
"""How long jobs took, in a queue that has a history."""
DEADLINES_S = (4.0, 20.0, 40.0, 70.0)
"""What an application may wish for."""


class Calls:
    """The ledger of synchronous calls."""

    def __init__(self, world: SimulatedWorld) -> None:
        self._world = world
        self.paid: dict[str, list[str]] = {}
        """By key: the service of each call that was answered and billed."""
        self.texts: dict[str, str] = {}

    def ask(self, line: bytes, service: str) -> bytes:
        """A call arrives. Raises Rejected."""
        asked = _decode(line)
        text = text_of(asked.request)
        if REFUSED in text:
            raise Rejected("INVALID_ARGUMENT", call="answer", code=400)
        if service == "flex" and self._world.faults.draw("services") == "unknown":
            raise Rejected("no such service here", call="answer", code=404)
        self.paid.setdefault(asked.key, []).append(service)
        self.texts[asked.key] = text
        if self._world.faults.draw("rows") == "blocked":
            return msgspec.json.encode(blocked())
        return msgspec.json.encode(response_of(answer_to(text)))


def history(now_ms: int) -> dict[bytes, bytes]:
    """A turnaround history as it lies in the store: jobs that were quick."""
    size, bucket = sample(1, _HISTORY_S)
    return {b"%d" % size: msgspec.msgpack.encode({"at": now_ms, "w": {str(bucket): 9.0}})}
