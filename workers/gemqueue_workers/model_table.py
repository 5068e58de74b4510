"""The models that we know, in ``config/models.toml``: what they cost, when they end, who answers for them then.

A file of one's own, named by ``GEMQUEUE_MODELS``, is laid over the packaged one, model by model.
"""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from gemqueue.errors import ConfigError
from gemqueue.variables import file_from_env

if TYPE_CHECKING:
    from collections.abc import Mapping

MODELS_ENV: Final = "GEMQUEUE_MODELS"
_HERE: Final = Path(__file__).parent
_FILES: Final = (_HERE / "models.toml", _HERE.parents[1] / "config" / "models.toml")
"""Where a wheel has the table, and where a checkout has it."""
_VERSION: Final = re.compile(r"-(\d|preview|exp)")
"""How a name goes on that is a version of the model before it: gemini-3.5-flash-001, but not gemini-3.5-flash-lite."""
_PRICED: Final = ("prices", "input_usd", "output_usd")


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"since": "from"}):
    """USD per million tokens, interactive, from a day (UTC) on; an embedding has no output."""

    input_usd: Decimal
    output_usd: Decimal = Decimal(0)
    since: dt.date = dt.date.min


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of a model. A price holds from its day to that of the next; enqueued tokens are by tier."""

    prices: tuple[Price, ...] = ()
    enqueued_tokens: tuple[int, ...] = ()
    batch_cached_shares: tuple[Decimal, ...] = (Decimal(1),)
    ends: dt.date | None = None
    routed_to: str = ""
    aliases: tuple[str, ...] = ()
    ignores: tuple[str, ...] = ()

    def price(self, day: dt.date) -> Price | None:
        """The price in force on that day; None where the model has none."""
        ordered = sorted(self.prices, key=lambda price: price.since)
        held = [price for price in ordered if price.since <= day]
        return next(iter(held[-1:] + ordered[:1]), None)


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. The shares are of the interactive price; ``cached_share`` of that of input."""

    dated: str
    models: dict[str, Model]
    source: str = ""
    batch_share: Decimal = Decimal("0.5")
    flex_share: Decimal = Decimal("0.5")
    cached_share: Decimal = Decimal("0.1")
    enqueued_tokens: dict[str, tuple[int, ...]] = {}


def load_table(own: Path | None = None) -> Table:
    """The table, with a file of one's own laid over it. Raises ConfigError that names the file and the field."""
    path = next(file for file in _FILES if file.is_file())
    values = _read(path)
    if own is not None:
        path, over = own, _read(own)
        values = _laid_over(values, over, path)
    try:
        models = {name: _priced(model) for name, model in values["models"].items()}
        return msgspec.convert(values | {"models": models}, Table)
    except msgspec.ValidationError as error:
        raise ConfigError(f"Price table {path}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"Price table {path}: {error}") from error


def _laid_over(values: dict[str, Any], over: dict[str, Any], path: Path) -> dict[str, Any]:
    """What one's own file says of a model holds; what it does not say of it stays, but a price replaces all prices."""
    patterns, models = over.get("enqueued_tokens", {}), dict(values["models"])
    for name, model in _tables(over.get("models", {}), path, "models").items():
        _tables(model, path, f"models.{name}")
        known: dict[str, Any] = models.get(name, {})
        replaced = any(field in model for field in _PRICED)
        models[name] = {k: v for k, v in known.items() if not (replaced and k in _PRICED)} | model
    rest = {k: v for k, v in values["enqueued_tokens"].items() if k not in patterns}
    return values | over | {"models": models, "enqueued_tokens": patterns | rest}


def _tables(value: Any, path: Path, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"Price table {path}: {name} is no table but {value!r}; write [{name}] and its fields below")
    return cast("dict[str, Any]", value)


def _priced(model: dict[str, Any]) -> dict[str, Any]:
    """The price as files of 0.2.0 have it, one and without a day, in the form of today's."""
    flat = {k: v for k, v in model.items() if k in ("input_usd", "output_usd")}
    if not flat or "prices" in model:
        return model
    return {k: v for k, v in model.items() if k not in flat} | {"prices": [flat]}


TABLE: Final = load_table(file_from_env(MODELS_ENV))


def today() -> dt.date:
    """The day by which prices and ends are looked up: UTC."""
    return dt.datetime.now(tz=dt.UTC).date()


def tier_tokens(model: str, table: Table = TABLE) -> tuple[int, ...]:
    """Enqueued tokens of a model by tier: its own, else those of the first pattern that fits; empty where none does."""
    known = table.models.get(model)
    if known is not None and known.enqueued_tokens:
        return known.enqueued_tokens
    return next((limits for pattern, limits in table.enqueued_tokens.items() if fnmatchcase(model, pattern)), ())


def bare(name: str) -> str:
    """A model's name without what stands before it; an emulated answer names what it stands for."""
    return name.removeprefix("emulator/").removeprefix("models/")


def known_as(name: str, table: Table = TABLE) -> str:
    """The longest name in the table that this is, or is a version or an alias of; empty where there is none."""
    name = bare(name)
    names = ((other, model) for model, known in table.models.items() for other in (model, *known.aliases))
    fits = ((len(other), model) for other, model in names if other == name or _is_version(name, other))
    return max(fits, default=(0, ""))[1]


def _plain(name: str, table: Table) -> str:
    """The model that an alias is of; any other name as it is."""
    name = bare(name)
    return next((model for model, known in table.models.items() if name in known.aliases), name)


def _is_version(name: str, of: str) -> bool:
    return name.startswith(of) and _VERSION.match(name, len(of)) is not None


def is_rerouted(asked: str, version: str, table: Table = TABLE) -> bool:
    """Whether an answer's modelVersion is surely another model than was asked; what is absent or unknown is not."""
    answered, wanted = known_as(version, table), known_as(asked, table)
    return bool(answered and wanted) and answered != wanted


def billed_as(asked: str, version: str, table: Table = TABLE) -> str:
    """The model at whose price an answer is billed: the one that gave it, where it is surely another."""
    return known_as(version, table) if is_rerouted(asked, version, table) else _plain(asked, table)


def routed(model: str, day: dt.date, table: Table = TABLE) -> str:
    """The model that answers on that day for what is asked of this one, by the table."""
    model, seen = _plain(model, table), set[str]()
    while (known := table.models.get(model)) and known.routed_to and model not in seen:
        if known.ends is None or known.ends > day:
            break
        seen.add(model)
        model = known.routed_to
    return model


def ignored(model: str, config: Mapping[str, Any] | None, table: Table = TABLE) -> list[str]:
    """The parameters in a config, in either spelling, that the model does nothing with."""
    known = table.models.get(known_as(model, table))
    given = {_folded(name) for name in config or {}}
    for name, value in (config or {}).items():
        if _folded(name) == "generationconfig" and isinstance(value, dict):
            given |= {_folded(inner) for inner in cast("dict[str, Any]", value)}
    return [name for name in known.ignores if _folded(name) in given] if known else []


def _folded(name: str) -> str:
    return name.replace("_", "").lower()
