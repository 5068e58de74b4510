"""Runs one of the scripts by its number or name, or all of them; without an argument it lists them.

python -m tests.proofs.contradictions 3 token
python -m tests.proofs.contradictions empty_list_page blank
python -m tests.proofs.contradictions --all

A script's last line says what it found and whether that held; the command exits 1 where it did not.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Script(NamedTuple):
    """Its module, its variants, the first of which is the default, and whether it wants the machine for itself."""

    name: str
    variants: tuple[str, ...] = ("",)
    alone: bool = False


SCRIPTS: dict[int, Script] = {
    1: Script("two_accounts_one_folder"),
    2: Script("run_on_another_store", ("queue", "data")),
    3: Script("empty_list_page", ("token", "error", "blank")),
    4: Script("results_come_late", ("short", "html", "cancelled")),
    5: Script("uploads_pile_up"),
    6: Script("purged_name_expires_live"),
    7: Script("watchers_and_big_calls", alone=True),
    8: Script("heartbeats_by_many_clocks"),
    9: Script("taken_key_is_gone_in_an_hour"),
    10: Script("flushall_under_workers"),
    11: Script("disk_full"),
    12: Script("no_home"),
    13: Script("interactive_paid_thirty_times", ("flex", "standard")),
    14: Script("bought_again_and_again"),
    16: Script("small_segments", ("50000",), alone=True),
    17: Script("rotated_key_forgets_names"),
    18: Script("clock_steps_and_fences"),
    19: Script("a_cancel_reads_every_batch", alone=True),
    20: Script("line_held_by_a_pools_pause"),
    21: Script("succeeded_without_output_yet", ("late", "stale")),
    22: Script("a_server_that_forgot", ("flushall", "database", "backup", "fresh")),
}
AT_ONCE = 4
"""Most of what the scripts do is wait."""


class Done(NamedTuple):
    """A script that has run by itself: its last line, and whether it held."""

    title: str
    last: str
    held: bool


async def by_itself(n: int, how: str, room: asyncio.Semaphore) -> Done:
    """One script in a process of its own."""
    command = [sys.executable, "-m", "tests.proofs.contradictions", str(n), *([how] if how else [])]
    async with room:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        out, _ = await process.communicate()
    text = out.decode(errors="replace").strip()
    done = Done(f"{n:2} {SCRIPTS[n].name} {how}".rstrip(), text.rpartition("\n")[2], process.returncode == 0)
    sys.stdout.write(f"--- {done.title}\n{text}\n")
    sys.stdout.flush()
    return done


async def run_all() -> int:
    """Each script with each of its variants; those that measure time come last, one by one."""
    asked = [(n, how, script.alone) for n, script in SCRIPTS.items() for how in script.variants]
    room = asyncio.Semaphore(AT_ONCE)
    found = list(await asyncio.gather(*(by_itself(n, how, room) for n, how, alone in asked if not alone)))
    for n, how, alone in asked:
        if alone:
            found.append(await by_itself(n, how, room))
    sys.stdout.write("".join(f"{each.title:40} {each.last}\n" for each in sorted(found)))
    held = sum(each.held for each in found)
    sys.stdout.write(f"{held} of {len(found)} hold\n")
    return int(held < len(found))


def run_one(asked: str, hows: Sequence[str]) -> int:
    """One script in this process."""
    found = [each for n, each in SCRIPTS.items() if asked in {str(n), f"{n:02}", each.name}]
    if not found:
        sys.stderr.write(f"There is no script {asked!r}; without an argument all are listed.\n")
        return 2
    script = found[0]
    how = hows[0] if hows else script.variants[0]
    verdict = asyncio.run(importlib.import_module(f"tests.proofs.contradictions.{script.name}").main(how))
    sys.stdout.write(f"{verdict}\n")
    return int(not verdict.held)


def main() -> int:
    """The command."""
    asked = sys.argv[1:]
    if not asked:
        sys.stdout.write("".join(f"{n:2} {s.name} {' '.join(s.variants)}".rstrip() + "\n" for n, s in SCRIPTS.items()))
        return 0
    return asyncio.run(run_all()) if asked == ["--all"] else run_one(asked[0], asked[1:])


if __name__ == "__main__":
    sys.exit(main())
