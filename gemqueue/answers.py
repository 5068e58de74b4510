"""An old module, for one release: pickles and imports of 0.2.0 name it."""

import warnings

from gemqueue.language.answers import Answer

__all__ = ["Answer"]

warnings.warn(
    "gemqueue.answers is going away: import public names from gemqueue; docs/moved.md says where the others are",
    DeprecationWarning,
    stacklevel=2,
)
