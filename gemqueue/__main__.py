"""``python -m gemqueue``: the console script, found by the installed metadata, so that nothing here imports upwards."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> object:
    """Run the command line. Exits with a message where gemqueue's metadata are not installed."""
    scripts = entry_points(group="console_scripts", name="gemqueue")
    if not scripts:
        sys.exit("gemqueue is not installed here: pip install gemqueue, or pip install -e . in a checkout")
    return cast("Callable[[], object]", next(iter(scripts)).load())()


if __name__ == "__main__":
    sys.exit(cast("int | None", main()))
