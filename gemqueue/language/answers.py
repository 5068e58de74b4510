"""The answer to one prompt: the provider's response as it came, decoded when somebody looks.

There may be a million of these in memory at once, so an ``Answer`` is a few references around the undecoded bytes. The
views read what REST calls GenerateContentResponse or EmbedContentResponse; all of them speak of one candidate, the
first that has any content.
"""

from __future__ import annotations

import base64
from typing import ClassVar, Final, Literal, cast

import msgspec

from gemqueue.records import BATCH

_decode: Final = msgspec.json.Decoder().decode
_REPR_CHARS_MAX: Final = 60


class _Answered(msgspec.Struct, eq=False):
    key: str
    raw: bytes
    name: str | None = None
    tag: object = None


class Answer(_Answered, eq=False, kw_only=True):
    """One prompt's answer.

    ``key`` is the prompt's address, ``name`` the caller's idempotency key if there was one, ``tag`` whatever the caller
    hung on the row. ``service`` is how it was bought: batch, flex or standard. ``raw`` is the response's JSON as the
    provider sent it. Where that was no strict JSON (half of a surrogate pair, NaN, other bytes than UTF-8), ``raw`` is
    what could be read of it, and ``original`` the whole row in the provider's bytes; else that is empty. Views raise
    ``ValueError`` if ``raw`` is not JSON, which the resolver has ruled out for answers that come from a queue.
    ``emulated`` says whether an emulator made this up: what the queue knows of its account, else what the response
    says.
    """

    # A struct, because the garbage collector looks at none that holds only strings; a map's million would cost it 2 us
    # each.

    emulated: bool = cast("bool", None)  # None until it has looked
    service: str = BATCH
    original: bytes = b""
    _decoded: dict[str, object] | None = None

    ok: ClassVar[Literal[True]] = True
    failure: ClassVar[None] = None

    def __post_init__(self) -> None:
        if self.emulated is None:  # pyright: ignore[reportUnnecessaryComparison] - see the default
            self.emulated = self._says_emulated()

    @property
    def decoded(self) -> dict[str, object]:
        """The whole response as a dict; decoded at the first look and kept. Do not change it."""
        if self._decoded is None:
            try:
                self._decoded = _dict(_decode(self.raw))
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise ValueError(f"the response of {self.key} is not JSON: {type(error).__name__}") from error
        return self._decoded

    def json(self) -> dict[str, object]:
        """The whole response as a dict: the same as ``decoded``."""
        return self.decoded

    @property
    def candidates(self) -> list[dict[str, object]]:
        """All candidates, as the provider gave them; empty for an embedding."""
        return [_dict(candidate) for candidate in _list(self.decoded.get("candidates"))]

    @property
    def parts(self) -> list[dict[str, object]]:
        """The parts of the first candidate that has any, thoughts included; empty for an embedding."""
        return _parts(self._candidate)

    @property
    def text(self) -> str:
        """The text of that candidate without its thoughts; empty if there is none."""
        return "".join(_text(part) for part in self.parts if not part.get("thought"))

    @property
    def thoughts(self) -> str:
        """The text of the thoughts, if ``thinkingConfig.includeThoughts`` asked for them."""
        return "".join(_text(part) for part in self.parts if part.get("thought"))

    @property
    def images(self) -> list[tuple[str, bytes]]:
        """The images of that candidate as (MIME type, bytes); those of its thoughts only where there are no others."""
        found = [_image(part) for part in self.parts if not part.get("thought")]
        found = found if any(found) else [_image(part) for part in self.parts]
        return [image for image in found if image is not None]

    @property
    def function_calls(self) -> list[dict[str, object]]:
        """The function calls that the model asks for: dicts with ``name`` and ``args``."""
        return [_dict(part["functionCall"]) for part in self.parts if part.get("functionCall")]

    @property
    def finish_reason(self) -> str:
        """Why the model stopped: STOP, MAX_TOKENS ...; empty for an embedding."""
        return _str(self._candidate.get("finishReason"))

    @property
    def truncated(self) -> bool:
        """Whether the answer was cut off by ``maxOutputTokens``."""
        return self.finish_reason == "MAX_TOKENS"

    @property
    def usage_metadata(self) -> dict[str, object]:
        """The token counts as the provider gave them (``promptTokenCount`` ...)."""
        return _dict(self.decoded.get("usageMetadata"))

    @property
    def model_version(self) -> str:
        """The version of the model that answered; embeddings may have none."""
        return _str(self.decoded.get("modelVersion"))

    @property
    def values(self) -> list[float]:
        """The embedding's vector; empty for a generated answer."""
        return cast("list[float]", _list(_dict(self.decoded.get("embedding")).get("values")))

    @property
    def parsed(self) -> object:
        """The text decoded as JSON, for requests with a response schema.

        Raises:
            ValueError: the text is not JSON (look at ``truncated``).
        """
        try:
            return _decode(self.text)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            hint = "; it was cut off at maxOutputTokens" if self.truncated else ""
            raise ValueError(f"the text of {self.key} is not JSON{hint}") from error

    def _says_emulated(self) -> bool:
        if b'"emulator/' not in self.raw:
            return False
        # Text may quote those bytes; a response that names its model decides by that name.
        try:
            return self.model_version.startswith("emulator/") if self.model_version else True
        except ValueError:
            return True

    @property
    def _candidate(self) -> dict[str, object]:
        candidates = self.candidates
        return next((one for one in candidates if _says(one)), candidates[0] if candidates else {})

    def __repr__(self) -> str:
        try:
            shown = self._shown()
        except ValueError:
            shown = f"{len(self.raw)} bytes that are not JSON"
        name = f", name={self.name!r}" if self.name is not None else ""
        return f"Answer({self.key!r}{name}, {shown})"

    def _shown(self) -> str:
        if self.values:
            return f"{len(self.values)} values"
        text = self.text
        return repr(text) if len(text) <= _REPR_CHARS_MAX else repr(text[: _REPR_CHARS_MAX - 3] + "...")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Answer):
            return NotImplemented
        return self.key == other.key and self.raw == other.raw

    def __hash__(self) -> int:
        return hash((self.key, self.raw))


def _parts(candidate: dict[str, object]) -> list[dict[str, object]]:
    return [_dict(part) for part in _list(_dict(candidate.get("content")).get("parts"))]


def _says(candidate: dict[str, object]) -> bool:
    """Whether it has a part with more than a thought's text."""
    return any(not part.get("thought") and part.keys() - {"thought", "thoughtSignature"} for part in _parts(candidate))


def _image(part: dict[str, object]) -> tuple[str, bytes] | None:
    blob = _dict(part.get("inlineData"))
    mime_type = blob.get("mimeType")
    if not isinstance(mime_type, str) or not mime_type.startswith("image/"):
        return None
    return mime_type, _bytes(blob.get("data"))


def _dict(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _str(value: object) -> str:
    return value if isinstance(value, str) else ""


def _text(part: dict[str, object]) -> str:
    return _str(part.get("text"))


def _bytes(data: object) -> bytes:
    """Base64 in either alphabet, with or without its padding, as proto-JSON allows."""
    text = _str(data).replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(text + "=" * (-len(text) % 4))
