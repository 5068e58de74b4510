"""A config as canonical fields: generation parameters under ``generationConfig``, the others beside it."""

from __future__ import annotations

from typing import Final, cast

from gemqueue.canonical import Walk, mapping_of, plain
from gemqueue.errors import PromptInvalid
from gemqueue.fields import EMBED_CONFIG, GENERATE_CONFIG, GENERATION
from gemqueue.states import Kind

_CONFIG: Final = {Kind.GENERATE: GENERATE_CONFIG, Kind.EMBED: EMBED_CONFIG}
_SCHEMAS: Final = ("responseSchema", "responseJsonSchema")


def config_fields(kind: Kind, config: object, path: str) -> dict[str, object]:
    """The canonical fields of a config, none for None. Raises PromptInvalid."""
    if config is None:
        return {}
    fields = Walk().message(
        _CONFIG[kind], mapping_of(plain(config, path), path, "a dict or a google.genai.types config"), path
    )
    if kind is Kind.EMBED:
        return checked_embed(fields, path)
    return checked_generate(_with_mime_type(_split(fields, path)), path)


def _split(fields: dict[str, object], path: str) -> dict[str, object]:
    """Generation parameters under ``generationConfig``, the others beside it, as the SDK does (protocol 4.1)."""
    generation = {name: value for name, value in fields.items() if name in GENERATION.fields}
    nested = cast("dict[str, object]", fields.get("generationConfig") or {})
    for name, value in nested.items():
        if generation.setdefault(name, value) != value:
            raise PromptInvalid(f"{path}.{name} and {path}.generationConfig.{name} differ; leave one out")
    top = {name: value for name, value in fields.items() if name not in GENERATION.fields}
    top.pop("generationConfig", None)
    if generation:
        top["generationConfig"] = dict(sorted(generation.items()))
    return dict(sorted(top.items()))


def _with_mime_type(fields: dict[str, object]) -> dict[str, object]:
    """The provider refuses a schema without a MIME type."""
    generation = cast("dict[str, object]", fields.get("generationConfig") or {})
    if "responseMimeType" in generation or not any(name in generation for name in _SCHEMAS):
        return fields
    return {**fields, "generationConfig": dict(sorted({**generation, "responseMimeType": "application/json"}.items()))}


def checked_generate(fields: dict[str, object], path: str) -> dict[str, object]:
    """The fields of a generate request as they are. Raises PromptInvalid for what cannot stand together."""
    generation = cast("dict[str, object]", fields.get("generationConfig") or {})
    if all(name in generation for name in _SCHEMAS):
        raise PromptInvalid(f"{path}: responseSchema and responseJsonSchema are both given; leave one out")
    if "cachedContent" in fields:
        for name in ("systemInstruction", "tools", "toolConfig"):
            if name in fields:
                raise PromptInvalid(
                    f"{path}.{name} cannot stand beside {path}.cachedContent; put it into the cached content"
                )
    return fields


def checked_embed(fields: dict[str, object], path: str) -> dict[str, object]:
    """The fields of an embed request as they are. Raises PromptInvalid for a dimension below 1."""
    dimension = fields.get("outputDimensionality")
    if dimension is not None and cast("int", dimension) < 1:
        raise PromptInvalid(f"{path}.outputDimensionality must be 1 or more")
    return fields
