"""An old module, for one release: pickles and imports of 0.2.0 name it."""

import warnings

from gemqueue.client.futures import Future, Stopped

__all__ = ["Future", "Stopped"]

warnings.warn(
    "gemqueue.futures is going away: import public names from gemqueue; docs/moved.md says where the others are",
    DeprecationWarning,
    stacklevel=2,
)
