"""A row's config laid over the call's: the row wins, key by key.

So it goes inside the messages of a config, too: ``generationConfig``, ``thinkingConfig``, ``speechConfig`` and their
like. Lists, schemas and all else are replaced whole. None, or an empty list, takes a key of the call's away. What
cannot stand together is refused, with the config that each half comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

from gemqueue.errors import PromptInvalid
from gemqueue.language.gemini.fields import GENERATE_CONFIG, GENERATION, Leaf, Message, camel

if TYPE_CHECKING:
    from collections.abc import Iterator

Path = tuple[str, ...]
_GENERATION: Final = "generationConfig"
_THINKING: Final = (_GENERATION, "thinkingConfig")
_SPEECH: Final = (_GENERATION, "speechConfig")
_EITHER: Final[tuple[tuple[Path, Path], ...]] = (
    ((_GENERATION, "responseSchema"), (_GENERATION, "responseJsonSchema")),
    (("cachedContent",), ("systemInstruction",)),
    (("cachedContent",), ("tools",)),
    (("cachedContent",), ("toolConfig",)),
    ((*_THINKING, "thinkingBudget"), (*_THINKING, "thinkingLevel")),
    ((*_SPEECH, "voiceConfig"), (*_SPEECH, "multiSpeakerVoiceConfig")),
)
"""Of these a request has the one or the other."""


def laid_over(base: dict[str, object], over: dict[str, object], removed: list[Path]) -> dict[str, object]:
    """The canonical fields ``over`` on top of those of ``base``, which loses what ``removed`` names.

    Raises PromptInvalid where a field of the one cannot stand beside a field of the other.
    """
    left = base
    for path in removed:
        left = _without(left, path)
    for one, other in _EITHER:
        for ours, theirs in ((one, other), (other, one)):
            if _has(left, ours) and _has(over, theirs) and not _has(over, ours):
                raise PromptInvalid(
                    f"the call's config has {'.'.join(ours)} and the row's config has {'.'.join(theirs)}, which cannot "
                    f"stand together; leave one out, or give the row {ours[-1]} = None, which takes the call's away"
                )
    return _merged(left, over)


def removals(spec: Message, config: object) -> list[Path]:
    """The fields that a row's config gives as None or as an empty list, as canonical paths; of a dict alone.

    An object of google-genai cannot say which of its fields were given.
    """
    return [_placed(path) for path in _removals(spec, config)]


def _removals(spec: Message, config: object) -> Iterator[Path]:
    if not isinstance(config, Mapping):
        return
    for given, item in cast("Mapping[object, object]", config).items():
        name = spec.spellings.get(given) if isinstance(given, str) else None
        field = spec.fields.get(name) if name is not None else None
        if name is None or field is None:
            continue  # the walk has refused it, or it is one that None leaves out
        if item is None or item == []:
            yield (name,)
        elif isinstance(field, Message):
            yield from ((name, *path) for path in _removals(field, item))
        elif field is Leaf.SPEECH and isinstance(item, Mapping):
            inner = cast("Mapping[str, object]", item)
            yield from ((name, camel(key)) for key, value in inner.items() if value is None)


def _placed(path: Path) -> Path:
    """A generation parameter may be given beside ``generationConfig``, and belongs into it."""
    return (_GENERATION, *path) if path[0] in GENERATION.fields else path


def _messages(spec: Message) -> Iterator[str]:
    for name, field in spec.fields.items():
        if isinstance(field, Message):
            yield name
            yield from _messages(field)
        elif field is Leaf.SPEECH:
            yield name


_MESSAGES: Final = frozenset(_messages(GENERATE_CONFIG))


def _merged(base: dict[str, object], over: dict[str, object]) -> dict[str, object]:
    out = dict(base)
    for name, value in over.items():
        held = out.get(name)
        if name in _MESSAGES and isinstance(held, dict) and isinstance(value, dict):
            out[name] = _merged(cast("dict[str, object]", held), cast("dict[str, object]", value))
        else:
            out[name] = value
    return dict(sorted(out.items()))


def _has(fields: dict[str, object], path: Path) -> bool:
    name, *rest = path
    held = fields.get(name)
    if not rest:
        return held is not None
    return isinstance(held, dict) and _has(cast("dict[str, object]", held), tuple(rest))


def _without(fields: dict[str, object], path: Path) -> dict[str, object]:
    """The fields without the one at ``path``, and without messages that are empty for it."""
    name, *rest = path
    if name not in fields:
        return fields
    out = {key: value for key, value in fields.items() if key != name}
    held = fields[name]
    if rest and isinstance(held, dict):
        left = _without(cast("dict[str, object]", held), tuple(rest))
        return {**fields, name: left} if left else out
    return fields if rest else out
