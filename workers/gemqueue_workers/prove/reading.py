"""What the result rows of a trial say: counted, and forgotten. A pure function over lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from gemqueue.language.answers import Answer
from gemqueue.records import BATCH
from gemqueue_workers.model_table import bare, billed_as
from gemqueue_workers.prices import batch_usd, service_usd, usage_of
from gemqueue_workers.prove.state import Tally
from gemqueue_workers.prove.trials import FIELDS, key_of, number_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gemqueue_workers.prove.trials import Trial

_NUMBER: Final = re.compile(r"\b\d{5}\b")
_NONE: Final = msgspec.Raw()


class _Row(msgspec.Struct):
    key: str = ""
    response: msgspec.Raw = _NONE


class Reader:
    """Counts a trial's rows as they come."""

    def __init__(self, trial: Trial, model: str) -> None:
        self.tally = Tally(expected=trial.rows)
        self._model = model
        self._schema = bool(trial.schema)
        self._indexes = {key_of(trial.slot, index): index for index in range(trial.rows)}
        self._seen: set[str] = set()

    def take(self, lines: Iterable[bytes]) -> None:
        """Count these lines, in the order of the file."""
        for line in lines:
            try:
                row = msgspec.json.decode(line, type=_Row)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                row = _Row()
            self._row(row)

    def end(self) -> Tally:
        """The whole count, priced by the list."""
        self.tally.missing = self.tally.expected - len(self._seen)
        return self.tally

    def _row(self, row: _Row) -> None:
        tally, index = self.tally, self._indexes.get(row.key)
        answer = _answer(row)
        if answer is not None:
            self._bill(answer)
        if index is None:
            tally.foreign += 1
        elif row.key in self._seen:
            tally.doubled += 1
        else:
            tally.misplaced += index != len(self._seen)
            self._seen.add(row.key)
            tally.failed += answer is None
            if answer is not None:
                tally.answered += 1
                self._judge(answer, index)

    def _bill(self, answer: Answer) -> None:
        tally, usage = self.tally, usage_of([answer])
        tally.input_tokens += usage.input_tokens
        tally.output_tokens += usage.output_tokens
        version = bare(answer.model_version)
        tally.usd += service_usd(billed_as(self._model, version), usage, BATCH) or batch_usd(self._model, usage) or 0.0
        tally.models[version] = tally.models.get(version, 0) + 1

    def _judge(self, answer: Answer, index: int) -> None:
        if self._schema:
            fits = _fits(answer.text)
            self.tally.fit += fits
            self.tally.misfit += not fits
            return
        numbers = set(_NUMBER.findall(answer.text))
        own = str(number_of(index)) in numbers
        others = any(0 <= int(number) - number_of(0) < self.tally.expected for number in numbers)
        self.tally.own += own
        self.tally.swapped += others and not own


def _answer(row: _Row) -> Answer | None:
    """The answer of a row; None where it has none, or one that cannot be read."""
    answer = Answer(key=row.key, raw=bytes(row.response))
    try:
        return answer if row.response and answer.decoded else None
    except ValueError:
        return None


def _fits(text: str) -> bool:
    """Whether an answer has the fields of the schema, each of its type, and no other."""
    try:
        value: Any = msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return False
    if not isinstance(value, dict):
        return False
    given = cast("dict[str, object]", value)
    if given.keys() != FIELDS.keys():
        return False
    right = all(isinstance(given[name], kind) and not isinstance(given[name], bool) for name, kind in FIELDS.items())
    return right and all(isinstance(city, str) for city in cast("list[object]", given["cities"]))
