"""What people should know of a model before they buy, and of the answers that they got from another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gemqueue_workers.model_table import TABLE, bare, ignored, is_rerouted, known_as, routed, today
from gemqueue_workers.prices import DATED, Usage, interactive_usd

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping

    from gemqueue.language.gemini.usage import Charge, Spent

_OWN: Final = "GEMQUEUE_MODELS names a table of your own"


def of_model(model: str, day: dt.date | None = None, config: Mapping[str, Any] | None = None) -> list[str]:
    """That a model ends or has ended, has no price, or ignores what the config asks for."""
    day = day or today()
    notes = [*_of_end(model, day), *_of_price(model, day)]
    if names := ignored(model, config):
        notes.append(f"{bare(model)} ignores {', '.join(names)}: leave it out, for later models refuse it")
    return notes


def _of_end(model: str, day: dt.date) -> list[str]:
    known = TABLE.models.get(known_as(model))
    if known is None or known.ends is None:
        return []
    over = known.ends <= day
    ends = f"{bare(model)} {'ended' if over else 'ends'} on {known.ends}"
    if not known.routed_to:
        return [ends]
    since = "since then" if over else "from then on"
    return [f"{ends}: {since} {routed(model, max(day, known.ends))} answers in its place, at its own price"]


def _of_price(model: str, day: dt.date) -> list[str]:
    if interactive_usd(model, Usage(), day) is not None:
        return []
    return [f"{routed(model, day)} has no price in the model table of {DATED}, so its cost is not known; {_OWN}"]


def of_later_prices(model: str, day: dt.date | None = None) -> list[str]:
    """Prices of the model that are known and not in force yet."""
    day = day or today()
    answering = routed(model, day)
    known = TABLE.models.get(answering)
    return [
        f"{answering} costs ${price.input_usd} in and ${price.output_usd} out, a million tokens, from {price.since} on"
        for price in (known.prices if known is not None else ())
        if price.since > day
    ]


def versions_of(charges: Mapping[Charge, Spent]) -> dict[str, int]:
    """How many answers named each model; an answer that names none is not among them."""
    found: dict[str, int] = {}
    for by, one in charges.items():
        if by.version and one.answers:
            found[bare(by.version)] = found.get(bare(by.version), 0) + one.answers
    return found


def rerouted_of(asked: str, versions: Mapping[str, int]) -> int:
    """How many of them surely came from another model than was asked."""
    return sum(n for version, n in versions.items() if is_rerouted(asked, version))


def of_answers(asked: str, versions: Mapping[str, int]) -> list[str]:
    """Which models answered in place of the one that was asked, and which names the table does not know."""
    return [note for version, n in versions.items() for note in _of_version(bare(asked), version, n)]


def _of_version(asked: str, version: str, n: int) -> Iterable[str]:
    answers = f"{n:,} answer{'' if n == 1 else 's'}"
    if is_rerouted(asked, version):
        yield f"{answers} came from {version}, and {asked} was asked: billed at the price of {known_as(version)}"
    elif not known_as(version) and version != asked:
        yield f"{answers} to {asked} came from {version}, which the model table of {DATED} does not know"
