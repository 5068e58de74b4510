"""Arguments of scripts of which there are several: each item stands for one group of them (``calls.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gemqueue.store.scripts import Arg


class Landing(NamedTuple):
    """Outcomes of one origin on their way in: its bitmap, how many rows, the compressed blob.

    ``failed`` of the rows are failures, the others answers; ``lost`` of those failed because Redis lost their bodies.
    """

    segment: str
    bits: bytes
    rows: int
    blob: bytes
    failed: int = 0
    lost: int = 0


class Review(NamedTuple):
    """When the rescue step looks at a segment again; 0 for never."""

    segment: str
    at_ms: int


class Move(NamedTuple):
    """Lines of a segment that go on elsewhere."""

    segment: str
    bits: bytes


class Field(NamedTuple):
    """A field of a record, and what it is set to."""

    field: str
    value: Arg


class Listed(NamedTuple):
    """A job as a listing shows it."""

    job: str
    token: str
    state: str
    created_at: int


class Compared(NamedTuple):
    """A job, and the state in which it was compared."""

    job: str
    compared: str


class Raise(NamedTuple):
    """A number in a hash, and how much is added to it."""

    hash: str
    name: str
    n: int


class Wrapped(NamedTuple):
    """A data key of a generation: wrapped as it was (empty where it was not there), and as it is to be."""

    generation: int
    old: bytes
    new: bytes
