"""``gemqueue admin retry``: the failures of a run are taken out of OUT and asked for again."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.accounts import api_key_from_env, lane_account
from gemqueue.config import load_settings
from gemqueue.errors import ConfigError
from gemqueue_workers.run import command
from gemqueue_workers.run.connection import connected
from gemqueue_workers.run.options import STDIO, RunOptions
from gemqueue_workers.run.runner import Place, take_over, taken_back
from gemqueue_workers.run.writing import without_failures

if TYPE_CHECKING:
    from rich.console import Console

    from gemqueue.config import Settings
    from gemqueue_workers.run.progress import Outcome

_KEYS_AN_ENTRY: Final = 1000
_ENTRIES_A_CALL: Final = 100


async def known_options(settings: Settings, name: str) -> RunOptions:
    """How the run was last started. Raises ConfigError when nothing is known of it."""
    async with connected(settings, with_worker=False) as link:
        record = await link.store.run_record(link.account, name)
        if record is None:
            known = ", ".join(await link.store.run_names(link.account)) or "none"
            raise ConfigError(f"no run {name!r} is known on the account {link.account}; known: {known}")
    return msgspec.json.decode(record.command, type=RunOptions)


async def retry(name: str, *, emulate: bool | None, console: Console, quiet: bool, as_json: bool = False) -> Outcome:
    """Ask again for what failed. Raises GemqueueError."""
    settings = load_settings(emulate=emulate)
    options = await known_options(settings, name)
    if STDIO in {options.source, options.out}:
        raise ConfigError(f"run {name!r} read or wrote a pipe: what failed is not in a file")
    await _take_back(settings, options)
    return await command.run(options, options.source, emulate=emulate, console=console, quiet=quiet, as_json=as_json)


async def _take_back(settings: Settings, options: RunOptions) -> None:
    """First the store learns that these rows are open again, then OUT loses them; a crash between changes nothing."""
    with ExitStack() as stack:
        place = Place(options, lane_account(settings, api_key_from_env()), stack)
        keys: list[str] = []
        for _ in without_failures(place.failures, keys.append):
            pass
        if not keys:
            return  # none, or an earlier retry was stopped: the run goes on
        entries = [taken_back(keys[i : i + _KEYS_AN_ENTRY]) for i in range(0, len(keys), _KEYS_AN_ENTRY)]
        async with connected(settings, with_worker=False) as link:
            for start in range(0, len(entries), _ENTRIES_A_CALL):
                await take_over(link, options, entries[start : start + _ENTRIES_A_CALL], place.config_mode)
        place.failures.replace(without_failures(place.failures, lambda _: None))
