"""A config as canonical fields: generation parameters under ``generationConfig``, the others beside it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, cast

from gemqueue.errors import PromptInvalid
from gemqueue.language.gemini.fields import EMBED_CONFIG, GENERATE_CONFIG, GENERATION
from gemqueue.language.gemini.merging import laid_over, removals
from gemqueue.language.gemini.schemas import Twin
from gemqueue.language.gemini.values import mapping_of, plain
from gemqueue.language.gemini.walk import Walk
from gemqueue.states import Kind

_CONFIG: Final = {Kind.GENERATE: GENERATE_CONFIG, Kind.EMBED: EMBED_CONFIG}
_GENERATION: Final = "generationConfig"
_JSON: Final = "application/json"
_SCHEMAS: Final = ("responseSchema", "responseJsonSchema")


class ConfigMode(StrEnum):
    """What a row's own config does to the config of the call or the run."""

    MERGE = "merge"
    """It is laid over it, key by key (``merging``)."""
    REPLACE = "replace"
    """It takes its place, as in 0.2.0."""


def known_mode(mode: str) -> ConfigMode:
    """The mode. Raises PromptInvalid."""
    try:
        return ConfigMode(mode)
    except ValueError:
        raise PromptInvalid(f'config_mode must be "merge" or "replace", not {mode!r}') from None


def given_fields(kind: Kind, config: object, path: str, base: dict[str, object]) -> dict[str, object]:
    """The canonical fields that were given: those of ``config``, laid over ``base``. Raises PromptInvalid.

    A schema stands under the name that it was asked for by.
    """
    if config is None:
        return base
    plainly = mapping_of(plain(config, path), path, "a dict or a google.genai.types config")
    fields = Walk().message(_CONFIG[kind], plainly, path)
    fields = _as_asked(_split(fields, path), path) if kind is Kind.GENERATE else fields
    return laid_over(base, fields, removals(_CONFIG[kind], plainly)) if base else fields


def config_fields(kind: Kind, given: dict[str, object], path: str) -> dict[str, object]:
    """The fields of a config as the identity form has them. Raises PromptInvalid for what cannot stand together."""
    if kind is Kind.EMBED:
        return given
    generation = cast("dict[str, object]", given.get(_GENERATION) or {})
    if isinstance(generation.get("responseSchema"), Twin):
        generation = _renamed(generation, "responseSchema", "responseJsonSchema", path)
    if any(name in generation for name in _SCHEMAS):
        generation = {"responseMimeType": _JSON, **generation}  # the provider refuses a schema without one
    fields = {**given, _GENERATION: dict(sorted(generation.items()))} if generation else given
    return checked_generate(dict(sorted(fields.items())), path)


def _as_asked(fields: dict[str, object], path: str) -> dict[str, object]:
    generation = cast("dict[str, object]", fields.get(_GENERATION) or {})
    if not isinstance(generation.get("responseJsonSchema"), Twin):
        return fields
    return {**fields, _GENERATION: _renamed(generation, "responseJsonSchema", "responseSchema", path)}


def _renamed(fields: dict[str, object], old: str, new: str, path: str) -> dict[str, object]:
    if new in fields:
        raise PromptInvalid(f"{path}: responseSchema and responseJsonSchema are both given; leave one out")
    return {new if name == old else name: value for name, value in fields.items()}


def _split(fields: dict[str, object], path: str) -> dict[str, object]:
    """Generation parameters under ``generationConfig``, the others beside it, as the SDK does (protocol 4.1)."""
    generation = {name: value for name, value in fields.items() if name in GENERATION.fields}
    nested = cast("dict[str, object]", fields.get(_GENERATION) or {})
    for name, value in nested.items():
        if generation.setdefault(name, value) != value:
            raise PromptInvalid(f"{path}.{name} and {path}.{_GENERATION}.{name} differ; leave one out")
    top = {name: value for name, value in fields.items() if name not in GENERATION.fields}
    top.pop(_GENERATION, None)
    if generation:
        top[_GENERATION] = dict(sorted(generation.items()))
    return dict(sorted(top.items()))


def checked_generate(fields: dict[str, object], path: str) -> dict[str, object]:
    """The fields of a generate request as they are. Raises PromptInvalid for what cannot stand together."""
    generation = cast("dict[str, object]", fields.get(_GENERATION) or {})
    _check_categories(cast("list[dict[str, object]]", fields.get("safetySettings") or []), path)
    if all(name in generation for name in _SCHEMAS):
        raise PromptInvalid(f"{path}: responseSchema and responseJsonSchema are both given; leave one out")
    if "cachedContent" in fields:
        for name in ("systemInstruction", "tools", "toolConfig"):
            if name in fields:
                raise PromptInvalid(
                    f"{path}.{name} cannot stand beside {path}.cachedContent; put it into the cached content"
                )
    return fields


def flat_embed(fields: dict[str, object], path: str) -> dict[str, object]:
    """The fields of an embed request, those of ``embedContentConfig`` beside the others: the API takes them there too.

    Raises PromptInvalid for one that is given in both places.
    """
    nested = cast("dict[str, object]", fields.get("embedContentConfig") or {})
    for name in nested:
        if name in fields:
            raise PromptInvalid(f"{path}.{name} is given twice, also in {path}.embedContentConfig; leave one out")
    flat = {**fields, **nested}
    flat.pop("embedContentConfig", None)
    return dict(sorted(flat.items()))


def _check_categories(settings: list[dict[str, object]], path: str) -> None:
    """The provider refuses a request that says two things of one category."""
    seen: set[object] = set()
    for index, setting in enumerate(settings):
        category = setting["category"]
        if category in seen:
            raise PromptInvalid(f"{path}.safetySettings[{index}].category {category} is given twice; leave one out")
        seen.add(category)
