"""The page of the queue: what ``gemqueue status`` says, as one piece of HTML, with nothing to load or to click.

Everything that did not come from this file is escaped: names of lanes and jobs, and reasons, are foreign text.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from gemqueue_workers.manage.status import COUNTS, unknown_words, waiting
from gemqueue_workers.screen import duration, held, left_out, stripped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gemqueue_workers.manage.status_records import Status, UnknownJob

REFRESH_S: Final = 5
_ROWS_MAX: Final = 100
_UNKNOWN_MAX: Final = 5
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #60646c; --line: #d9dde3; --paper: #fff; --tile: #f4f6f8;
  --bar: #2f6fde; --warn: #8a4b00; --warn-bg: #fff3dc; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #9aa0a6; --line: #33373d; --paper: #14171a;
  --tile: #1d2125; --bar: #6ea3ff; --warn: #ffc46b; --warn-bg: #33270f; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1.25rem; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.25rem; margin: 0; } h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; justify-content: space-between; }
.soft { color: var(--soft); } .bad { color: var(--bad); font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .6rem; margin: 1rem 0 0;
  padding: 0; }
.tiles div { background: var(--tile); border-radius: 8px; padding: .6rem .8rem; }
.tiles dt { color: var(--soft); font-size: .8rem; overflow-wrap: anywhere; }
.tiles dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th { text-align: left; color: var(--soft); font-weight: 500; font-size: .8rem; }
th, td { padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.id { font: .85rem ui-monospace, monospace; overflow-wrap: anywhere; }
td.why { border-top: 0; padding-top: 0; } tr.more td { border-bottom: 0; }
.held { display: inline-block; background: var(--warn-bg); color: var(--warn); border-radius: 4px; padding: 0 .4rem;
  overflow-wrap: anywhere; }
progress { width: 5rem; height: .5rem; accent-color: var(--bar); vertical-align: middle; margin-right: .5rem; }
@media (max-width: 36rem) { progress { display: none; }
  tr { display: flex; flex-wrap: wrap; border-bottom: 1px solid var(--line); } tr.more { border-bottom: 0; }
  td, th { flex: 1 1 0; border-bottom: 0; padding: .2rem .5rem .2rem 0; } td.n, th.n { text-align: left; }
  td.id, td.why, th:first-child { flex: 1 0 100%; } }
"""
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta http-equiv="refresh" content="{refresh_s}">
<style>{style}</style></head><body>
{body}
</body></html>
"""
_NUMBERS: Final = frozenset({"prompts", "oldest", "settled", "age", "left"})
_SLOW: Final = ' <span class="held">slow</span>'


def status_page(status: Status) -> str:
    """The page. Counts first, then what waits, then what is under way."""
    counts = status.counts
    ended = counts["answered"] + counts["failed"] + counts["cancelled"]
    tiles = {
        "accepted": counts["accepted"],
        "under way": max(0, counts["accepted"] - ended),
        "answered": counts["answered"],
        "failed": counts["failed"],
        "open batches": len(status.batches),
        "events": counts.get("events", 0),
    }
    alarms = [_alarm(counts["bought_twice"]), *map(_unknown, status.unknown_jobs[:_UNKNOWN_MAX])]
    alarms += [f'<p class="bad">{_text(f"{account} is held: {why}")}</p>' for account, why in status.paused.items()]
    alarms += [f'<p class="bad">{_text(said)}</p>' for said in left_out(status.unreadable)]
    parts = [_head(status), _tiles(tiles), *alarms, _lanes(status), _batches(status)]
    rest = {name: n for name, n in sorted(counts.items()) if n and name not in COUNTS[:3]}
    if rest:
        parts += ["<h2>Counted</h2>", _tiles(rest)]
    return _page(status.queue, "\n".join(parts))


def error_page(queue: str, why: str) -> str:
    """The page while the queue cannot be looked at; it tries again by itself."""
    return _page(queue, f'<h1>{_text(queue)}</h1><p class="bad">{_text(why)}</p>')


def _page(queue: str, body: str) -> str:
    return _PAGE.format(title=f"{_text(queue)} - gemqueue", refresh_s=REFRESH_S, style=_STYLE, body=body)


def _head(status: Status) -> str:
    works = f"{status.workers} worker{'' if status.workers == 1 else 's'}"
    held_up = sum(worker.stuck or bool(worker.waiting_for) for worker in status.working)
    works += f", {held_up} of them waiting" if held_up else ""
    said = f'<span class="soft">{works}</span>' if status.workers else '<span class="bad">no worker runs</span>'
    return f'<header><h1>{_text(status.queue)} <span class="soft">gemqueue</span></h1>{said}</header>'


def _tiles(values: dict[str, int]) -> str:
    shown = (f"<div><dt>{_text(name)}</dt><dd>{n:,}</dd></div>" for name, n in values.items())
    return f'<dl class="tiles">{"".join(shown)}</dl>'


def _alarm(bought_twice: int) -> str:
    return '<p class="bad">Prompts were bought twice: this is a defect.</p>' if bought_twice else ""


def _unknown(job: UnknownJob) -> str:
    return f'<p class="bad">{_text(unknown_words(job))}</p>'


def _lanes(status: Status) -> str:
    lanes = waiting(status)
    rows = [
        (
            f'<td class="id">{_text(lane.lane)}</td>',
            f'<td class="n">{lane.pending:,}</td>',
            f'<td class="n">{duration(lane.oldest_age_s) if lane.oldest_age_s is not None else ""}</td>',
        )
        for lane in lanes
    ]
    reasons = [held(lane.held_reason, lane.held_age_s) for lane in lanes]
    return _table("Waiting to be packed", ("lane", "prompts", "oldest"), rows, reasons, "Nothing waits.")


def _batches(status: Status) -> str:
    rows = [
        (
            f'<td class="id">{_text(batch.id)}<br><span class="soft">{_text(batch.job)}</span></td>',
            f'<td class="n">{_progress(batch.settled, batch.prompts)}</td>',
            f'<td class="n">{duration(batch.age_s)}</td>',
            f'<td class="n">{duration(batch.eta_s) if batch.eta_s is not None else ""}</td>',
            f"<td>{_text(batch.state)}{_SLOW if batch.slow else ''}</td>",
        )
        for batch in status.batches
    ]
    reasons = [held(batch.held_reason, batch.held_age_s) for batch in status.batches]
    columns = ("batch, job", "settled", "age", "left", "state")
    return _table("Open batches", columns, rows, reasons, "No batch is open.")


def _progress(done: int, of: int) -> str:
    return f'<progress max="{max(1, of)}" value="{done}"></progress>{done:,} / {of:,}'


def _row(cells: Sequence[str], reason: str) -> str:
    """What holds it up stands below, over the whole width: reasons are sentences."""
    if not reason:
        return f"<tr>{''.join(cells)}</tr>"
    why = f'<td class="why" colspan="{len(cells)}"><span class="held">{_text(reason)}</span></td>'
    return f'<tr class="more">{"".join(cells)}</tr><tr>{why}</tr>'


def _table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], reasons: Sequence[str], nothing: str
) -> str:
    if not rows:
        return f'<h2>{title}</h2><p class="soft">{nothing}</p>'
    more = f", the oldest {_ROWS_MAX} of {len(rows):,}" if len(rows) > _ROWS_MAX else ""
    head = "".join(f"<th{' class=n' if name in _NUMBERS else ''}>{name}</th>" for name in columns)
    body = "\n".join(_row(row, reason) for row, reason in list(zip(rows, reasons, strict=True))[:_ROWS_MAX])
    return f'<h2>{title}{more}</h2><div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'


def _text(foreign: str) -> str:
    return escape(stripped(foreign))
