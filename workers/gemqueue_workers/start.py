"""Where ``gemqueue`` starts: Python's garbage collector rests until all that a command needs is imported.

Importing makes 90,000 objects and more that stay for good. Left to itself the collector looks through them again and
again while they are made, and once more when the process ends: a third of the CPU of a short command, and as much of a
worker's start and end. So it rests while they are made, and leaves them alone afterwards. What a command makes while it
runs is collected as ever.
"""

from __future__ import annotations

import gc


def main() -> None:
    """Run the command line."""
    gc.disable()
    from gemqueue_workers.cli import main as command_line  # noqa: PLC0415 - only now does the collector rest

    try:
        command_line()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
