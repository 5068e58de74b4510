"""An old module, for one release: pickles and imports of 0.2.0 name it."""

import warnings

from gemqueue.language.outcomes import Failed, Outcome

__all__ = ["Failed", "Outcome"]

warnings.warn(
    "gemqueue.outcomes is going away: import public names from gemqueue; docs/moved.md says where the others are",
    DeprecationWarning,
    stacklevel=2,
)
