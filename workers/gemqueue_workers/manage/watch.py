"""``gemqueue status --watch``: the status again and again, in its place, until Ctrl-C."""

from __future__ import annotations

import asyncio
import io
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from gemqueue.errors import StoreUnavailable
from gemqueue.tasks import check_ending
from gemqueue_workers.manage import status as module

_LOOK_S: Final = 2.0


async def watch(console: Console, *, emulate: bool | None) -> None:
    """Show it until it is cancelled; a server that is away is said, and looked for again. Raises ConfigError."""
    with Live(console=console, auto_refresh=False) as live:
        while True:
            check_ending()
            live.update(Text.from_ansi(await _picture(console, emulate)), refresh=True)
            if not console.is_terminal:
                return
            await asyncio.sleep(_LOOK_S)


async def _picture(console: Console, emulate: bool | None) -> str:
    try:
        found = await module.status(emulate=emulate)
    except StoreUnavailable as error:
        return str(error)
    paper = Console(
        file=io.StringIO(), force_terminal=True, width=console.width, highlight=False, no_color=console.no_color
    )
    with paper.capture() as captured:
        module.show_status(paper, found)
    return captured.get()
