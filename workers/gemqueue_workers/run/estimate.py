"""``gemqueue run --dry-run``: what a file would come to, before a cent is spent."""

from __future__ import annotations

import asyncio
import math
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import click
import msgspec

from gemqueue.config import load_settings
from gemqueue.errors import SubmitError
from gemqueue.language.lines import token_estimate
from gemqueue.states import Kind  # noqa: TC001 - msgspec reads the annotations
from gemqueue_workers.model_notes import of_later_prices, of_model
from gemqueue_workers.model_table import tier_tokens
from gemqueue_workers.prices import DATED, Usage, batch_usd, interactive_usd
from gemqueue_workers.run.command import BadLines
from gemqueue_workers.run.index import Index
from gemqueue_workers.run.planning import survey
from gemqueue_workers.run.source.reading import read_rows
from gemqueue_workers.run.source.rows import BadLine
from gemqueue_workers.run.submitting import RowEncoder
from gemqueue_workers.run.token_estimate import MEDIA_TOKENS, request_tokens
from gemqueue_workers.screen import counted

if TYPE_CHECKING:
    from rich.console import Console

    from gemqueue.config import Settings
    from gemqueue_workers.run.options import RunOptions

_ROWS_A_BREATH: Final = 1000


class Estimate(msgspec.Struct, kw_only=True):
    """What it would come to. Tokens are those of the prompts; what the answers cost is known when they are there."""

    run: str
    model: str
    kind: Kind
    rows: int = 0
    bad_lines: int = 0
    duplicates: int = 0
    bytes: int = 0
    input_tokens: int = 0
    media_parts: int = 0
    batches: int = 0
    interactive_input_usd: float | None = None
    batch_input_usd: float | None = None
    output_usd_per_1000_tokens_a_row: float | None = None
    caveats: list[str] = []
    emulated: bool = False


async def estimate(options: RunOptions, source: str, *, emulate: bool | None, console: Console) -> Estimate:
    """Read IN twice, as a run does, and buy nothing; OUT and the store are not touched. Raises GemqueueError."""
    settings = load_settings(emulate=emulate)
    encoder = RowEncoder(options, settings)
    on_bad = BadLines(console)
    counted, packed = 0.0, 0
    found = Estimate(run=options.name, model=encoder.model, kind=options.kind, emulated=settings.emulate)
    with ExitStack() as stack:
        index = Index(None)
        stack.callback(index.close)
        plan = await survey(options, source, index, on_bad)
        found.duplicates = plan.dropped
        for n, row in enumerate(read_rows(options, source)):
            if isinstance(row, BadLine) or not plan.wants(row.line):
                continue
            try:
                request = encoder.encode(row)
            except SubmitError as error:
                on_bad(BadLine(row.line, row.content[:200].decode("utf-8", "replace"), str(error)))
                continue
            found.rows += 1
            found.bytes += len(request)
            tokens = request_tokens(request)
            counted += tokens.total
            found.media_parts += tokens.media
            packed += token_estimate(request)
            if n % _ROWS_A_BREATH == 0:
                await asyncio.sleep(0)
    found.bad_lines, found.input_tokens = on_bad.found, round(counted)
    _price(found, encoder.model, settings, packed)
    found.caveats += [*of_model(encoder.model, config=options.config), *of_later_prices(encoder.model)]
    return found


def _price(found: Estimate, model: str, settings: Settings, packed_tokens: int) -> None:
    """Batches are cut by the packer's own measure, which is coarser."""
    found.batches = max(
        math.ceil(found.rows / settings.batch_prompts_max),
        math.ceil(found.bytes / settings.batch_bytes_max),
        math.ceil(packed_tokens / settings.batch_tokens_max),
    )
    full, half = interactive_usd(model, Usage(found.input_tokens)), batch_usd(model, Usage(found.input_tokens))
    found.interactive_input_usd, found.batch_input_usd = full, half
    found.output_usd_per_1000_tokens_a_row = batch_usd(model, Usage(0, 1000 * found.rows))
    found.caveats = [
        "tokens are estimated from the characters, mostly within a tenth of what Google's tokenizer counts"
    ]
    if found.media_parts:
        many = f"{found.media_parts:,} images and other files count {MEDIA_TOKENS} tokens each here"
        found.caveats.append(f"{many}, as a small image or a page does; films, sound and long documents count more")
    if full is not None:
        found.caveats.append(f"list prices of {DATED}, answers and thoughts not included")
    over = [str(tier) for tier, tokens in enumerate(tier_tokens(model), 1) if tokens < found.input_tokens]
    if over:
        found.caveats.append(f"more than may be enqueued at once at tier {', '.join(over)}: batches wait their turn")


def finish(found: Estimate, console: Console, *, as_json: bool) -> None:
    """Print it and exit: 0 when every line is good, else 1."""
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        click.echo(
            f"{counted(found.rows, 'prompt', 'prompts')}, {found.bytes:,} bytes, "
            f"about {found.input_tokens:,} input tokens, at least {counted(found.batches, 'batch', 'batches')}; "
            f"{found.bad_lines:,} bad lines, {found.duplicates:,} repeated rows"
        )
        if found.batch_input_usd is not None:
            click.echo(
                f"Input: ${found.batch_input_usd:,.4f} as a batch, ${found.interactive_input_usd:,.4f} one by one. "
                f"Answers: ${found.output_usd_per_1000_tokens_a_row:,.4f} as a batch per 1,000 tokens in each"
            )
    for caveat in found.caveats:
        console.print(f"Note: {caveat}", soft_wrap=True, markup=False)
    sys.exit(0 if not found.bad_lines else 1)
