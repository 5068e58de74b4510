"""The first reading of IN, before anything is bought: which rows are new, which are known, which lines are bad."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from gemqueue.errors import ConfigError
from gemqueue_workers.run.index import BEGIN_BYTES, Index, Seen, Verdict, number_of
from gemqueue_workers.run.source.reading import read_rows
from gemqueue_workers.run.source.rows import BadLine, Row

if TYPE_CHECKING:
    from gemqueue_workers.run.options import RunOptions

_ROWS_A_LOOK: Final = 500
_DUPLICATES_SHOWN: Final = 5
NOTHING, NEW, KNOWN, BEGUN = 0, 1, 2, 3
_WANTED: Final = frozenset({NEW, BEGUN})


class Plan:
    """What is to be done: for each line one byte, NEW or KNOWN or NOTHING, or BEGUN.

    BEGUN is new, too: an earlier start was about to buy it, and may have.
    """

    def __init__(self) -> None:
        self.lines = bytearray()
        self.rows = 0
        self.new = 0
        self.known = 0
        self.begun = 0
        self.bad = 0
        self.dropped = 0

    def mark(self, line: int, what: int) -> None:
        """One row."""
        if line >= len(self.lines):
            self.lines.extend(bytes(max(line + 1, 2 * len(self.lines)) - len(self.lines)))
        self.lines[line] = what
        self.rows += 1
        self.new += what in _WANTED
        self.known += what == KNOWN
        self.begun += what == BEGUN

    def wants(self, line: int) -> bool:
        """Whether the row of this line is to be bought."""
        return self.what(line) in _WANTED

    def what(self, line: int) -> int:
        """What is to be done with the row of this line."""
        return self.lines[line] if line < len(self.lines) else NOTHING


Compare = Callable[[Row, Seen | None], Awaitable[str]]
"""How a row differs from what was submitted under its key, in words."""
Begin = Callable[[Plan], Awaitable[None]]
"""The last word before the plan is carried out: what it writes into the index lasts with the plan, or not at all."""


async def survey(
    options: RunOptions,
    path: str,
    index: Index,
    on_bad: Callable[[BadLine], None],
    compare: Compare | None = None,
    *,
    begin: Begin | None = None,
) -> Plan:
    """Read IN once.

    Raises ConfigError when it is empty, when a key stands in it twice, and when a row that was bought has changed; and
    what ``begin`` raises.
    """
    plan = Plan()
    judge = _Judge(options, index, plan)
    index.begin_pass()
    try:
        for item in read_rows(options, path):
            if isinstance(item, BadLine):
                plan.bad += 1
                on_bad(item)
            elif judge.add(item):
                await asyncio.sleep(0)
        judge.flush()
        judge.conclude()
        if begin is not None:
            await begin(plan)
    except Changed as changed:
        index.end_pass(keep=False)
        how = await compare(changed.row, changed.before) if compare is not None else "its content is another one now"
        raise ConfigError(
            f"{options.source} line {changed.row.line}: row {changed.row.key!r} was submitted with another content; "
            f"{how}. Give changed rows new keys, or the changed file another -o"
        ) from None
    except BaseException:
        index.end_pass(keep=False)
        raise
    index.end_pass(keep=True)
    return plan


class Changed(Exception):  # noqa: N818 - ``look`` makes an error of it
    """A row that was bought has another content now."""

    def __init__(self, row: Row, before: Seen | None) -> None:
        super().__init__(row.key)
        self.row = row
        self.before = before


class _Judge:
    def __init__(self, options: RunOptions, index: Index, plan: Plan) -> None:
        self.duplicates = 0
        self._shown: list[str] = []
        self._options = options
        self._index = index
        self._plan = plan
        self._rows: list[Row] = []

    def add(self, row: Row) -> bool:
        """One more; True when a group has been judged."""
        self._rows.append(row)
        if len(self._rows) < _ROWS_A_LOOK:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Judge the rows gathered so far against the index, and count them."""
        rows, self._rows = self._rows, []
        seen = [_seen(row) for row in rows]
        for row, verdict in zip(rows, self._index.judge(seen), strict=True):
            if verdict.other:
                self._duplicate(row, verdict)
            elif verdict.changed:
                raise Changed(row, verdict.before)
            else:
                self._plan.mark(row.line, KNOWN if verdict.state else BEGUN if verdict.begun else NEW)

    def _duplicate(self, row: Row, verdict: Verdict) -> None:
        if self._options.dedupe_first:
            self._plan.dropped += 1
            return
        self.duplicates += 1
        if len(self._shown) < _DUPLICATES_SHOWN:
            self._shown.append(f"{row.key!r} in lines {verdict.other} and {row.line}")

    def conclude(self) -> None:
        """IN has been read to its end. Raises ConfigError for repeated keys, and when there was nothing."""
        if self.duplicates:
            raise ConfigError(self._complaint())
        if not self._plan.rows and not self._plan.bad:
            raise ConfigError(f"{self._options.source} is empty: there is nothing to ask")

    def _complaint(self) -> str:
        more = self.duplicates - len(self._shown)
        rest = f", and {more} more" if more else ""
        return (
            f"{self._options.source} has the same key more than once: {'; '.join(self._shown)}{rest}. "
            "Mend it, or take the first of each with --dedupe first"
        )


def _seen(row: Row) -> Seen:
    content = row.content.removesuffix(b"\0")  # a row without a config of its own
    return Seen(row.line, number_of(row.key.encode()), number_of(row.content), len(content), content[:BEGIN_BYTES])
