"""An old module, for one release: pickles and imports of 0.2.0 name it."""

import warnings

from gemqueue.client.queue import Connecting, Deadline, Queue

__all__ = ["Connecting", "Deadline", "Queue"]

warnings.warn(
    "gemqueue.queue is going away: import public names from gemqueue; docs/moved.md says where the others are",
    DeprecationWarning,
    stacklevel=2,
)
