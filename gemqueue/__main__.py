"""``python -m gemqueue``: the console script, found by the installed metadata, so that nothing here imports upwards."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> object:
    """Run the command line. Exits with a message where gemqueue's metadata are not installed."""
    try:
        scripts = list(distribution("gemqueue").entry_points.select(group="console_scripts", name="gemqueue"))
    except PackageNotFoundError:
        scripts = []
    if not scripts:
        sys.exit("gemqueue is not installed here: pip install -e . in the checkout")
    return cast("Callable[[], object]", scripts[0].load())()


if __name__ == "__main__":
    sys.exit(cast("int | None", main()))
