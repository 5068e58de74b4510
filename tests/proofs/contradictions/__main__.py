"""Runs one of the scripts by its number or name; without any it lists them.

python -m tests.proofs.contradictions 3 token
python -m tests.proofs.contradictions empty_list_page blank
"""

from __future__ import annotations

import asyncio
import importlib
import sys

SCRIPTS: dict[int, tuple[str, str]] = {
    1: ("two_accounts_one_folder", ""),
    2: ("run_on_another_store", "queue data"),
    3: ("empty_list_page", "token error blank"),
    4: ("results_come_late", "short html cancelled"),
    5: ("uploads_pile_up", ""),
    6: ("purged_name_expires_live", ""),
    7: ("watchers_and_big_calls", ""),
    8: ("heartbeats_by_many_clocks", ""),
    9: ("taken_key_is_gone_in_an_hour", ""),
    10: ("flushall_under_workers", ""),
    11: ("disk_full", "DIR"),
    12: ("no_home", ""),
    13: ("interactive_paid_thirty_times", "flex standard"),
    14: ("bought_again_and_again", ""),
    16: ("small_segments", "50000"),
    17: ("rotated_key_forgets_names", ""),
    18: ("clock_steps_and_fences", ""),
    19: ("a_cancel_reads_every_batch", ""),
    20: ("line_held_by_a_pools_pause", ""),
    21: ("succeeded_without_output_yet", "late stale"),
}
"""The script of each number, and its variants, the first of which is the default."""


def main() -> int:
    """The command."""
    if len(sys.argv) < 2:
        sys.stdout.write("".join(f"{n:2} {name} {variants}".rstrip() + "\n" for n, (name, variants) in SCRIPTS.items()))
        return 0
    asked = sys.argv[1]
    found = [each for n, each in SCRIPTS.items() if asked in {str(n), f"{n:02}", each[0]}]
    if not found:
        sys.stderr.write(f"There is no script {asked!r}; without an argument all are listed.\n")
        return 2
    name, variants = found[0]
    how = sys.argv[2] if len(sys.argv) > 2 else variants.partition(" ")[0]
    asyncio.run(importlib.import_module(f"tests.proofs.contradictions.{name}").main(how))
    return 0


if __name__ == "__main__":
    sys.exit(main())
