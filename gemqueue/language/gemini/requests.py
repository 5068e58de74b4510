"""The door of the queue: ``contents`` and ``config`` become one request's JSON, validated while the caller is there.

The JSON is a GenerateContentRequest or an EmbedContentRequest in the REST spelling (protocol sections 4 and 9), compact
and on one line, and it is never looked into again on its way to the provider. The provider refuses a whole batch for
one field that it does not know, so unknown fields are refused here, with a suggestion. The same request always gives
the same bytes, whatever spelling it came in.
"""

from __future__ import annotations

import copy
import marshal
from typing import TYPE_CHECKING, Final, TypeVar, cast

import msgspec

from gemqueue.errors import PromptInvalid
from gemqueue.language.gemini.configs import checked_generate, config_fields, flat_embed, given_fields
from gemqueue.language.gemini.fields import EMBED_REQUEST, GENERATE_REQUEST
from gemqueue.language.gemini.values import plain
from gemqueue.language.gemini.walk import Walk, has_substance, is_content
from gemqueue.language.gemini.wire import DIALECTS, SCHEMA, sent
from gemqueue.language.identity import as_json
from gemqueue.states import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")
_REQUEST: Final = {Kind.GENERATE: GENERATE_REQUEST, Kind.EMBED: EMBED_REQUEST}
_HEAD: Final = {Kind.GENERATE: b'{"contents":[{"parts":[{"text":', Kind.EMBED: b'{"content":{"parts":[{"text":'}
_FOOT: Final = {Kind.GENERATE: b'}],"role":"user"}]', Kind.EMBED: b"}]}"}
_BLANKS: Final[tuple[object, ...]] = ("", [], ())
_EMPTY: Final = "is empty: there is nothing to ask; give at least one character or another part"


class RequestEncoder:
    """Requests of one kind that share a config, which is validated and encoded once, here.

    ``dialect`` is the setting ``schema_dialect``. With ``over``, the config is laid over that encoder's, and goes out
    in its dialect. Later changes to the ``config`` object are not seen. Raises
    ``PromptInvalid`` for a config that is not valid. ``given`` are its canonical fields.
    """

    __slots__ = ("_asked_tail", "_foot", "_head", "_tail", "dialect", "given", "kind")

    def __init__(
        self, kind: Kind, config: object | None = None, dialect: str = SCHEMA, *, over: RequestEncoder | None = None
    ) -> None:
        self.kind = kind
        self.dialect: Final[str] = over.dialect if over is not None else dialect
        self._head = _HEAD[kind]
        base: dict[str, object] = over.given if over is not None else {}
        self.given: Final[dict[str, object]] = _guard(
            lambda given, path: given_fields(kind, given, path, base), config, "config"
        )
        self._asked_tail, self._tail = _guard(
            lambda given, path: _tails(kind, given, path, self.dialect), self.given, "config"
        )
        self._foot = _FOOT[kind] + self._tail

    def identified(self, contents: object) -> tuple[bytes, bytes]:
        """The request as ``encode`` gives it, and its identity form: what names are compared by (``identity``).

        Raises PromptInvalid, as ``encode``.
        """
        request = self.encode(contents)
        if self._tail is self._asked_tail:
            return request, request
        return request, request.removesuffix(self._tail) + self._asked_tail

    def encode(self, contents: object) -> bytes:
        """One request as compact JSON on one line, as it is sent.

        Raises:
            PromptInvalid: the contents are empty, of no known shape, or hold what JSON cannot carry.
        """
        if type(contents) is str and contents and not contents.isspace():
            try:
                return b"".join((self._head, as_json(contents), self._foot))
            except UnicodeEncodeError:
                pass  # the walk below says where
        if self.kind is Kind.GENERATE:
            return b'{"contents":' + _guard_json(_generate_contents, contents, "contents") + self._tail
        return b'{"content":' + _guard_json(_embed_content, contents, "content") + self._tail


def generate_request(contents: object, config: object | None = None) -> bytes:
    """A GenerateContentRequest as compact JSON: what google-genai takes as ``contents`` and ``config``.

    Raises:
        PromptInvalid: contents or config are not valid; the message names the field and the way out.
    """
    return encoder_for(Kind.GENERATE, config).encode(contents)


def embed_request(content: object, config: object | None = None) -> bytes:
    """An EmbedContentRequest as compact JSON, for exactly one text or Content.

    Raises:
        PromptInvalid: content or config are not valid, or there are several texts.
    """
    return encoder_for(Kind.EMBED, config).encode(content)


def rest_request(kind: Kind, request: object, dialect: str = SCHEMA) -> bytes:
    """A request that is already in the REST form (either spelling), validated and in its one canonical form.

    Raises:
        PromptInvalid: an unknown or misplaced field, ``model`` or ``config`` in the row, nothing to ask.
    """
    return _guard_json(lambda given, path: sent(_rest(kind, given, path), dialect), request, "request")


def identified_request(kind: Kind, request: object, dialect: str = SCHEMA) -> tuple[bytes, bytes]:
    """What ``rest_request`` gives, and the request's identity form. Raises PromptInvalid."""
    return _guard(lambda given, path: _both(_rest(kind, given, path), dialect), request, "request")


def _guard_json(make: Callable[[object, str], object], value: object, path: str) -> bytes:
    return _guard(lambda given, where: as_json(make(given, where)), value, path)


def _guard(make: Callable[[_Given, str], _Made], value: _Given, path: str) -> _Made:
    """``make``'s result; whatever goes wrong on the way is a PromptInvalid."""
    try:
        return make(value, path)
    except RecursionError as error:
        raise PromptInvalid(f"{path} is nested too deeply") from error
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
        raise PromptInvalid(f"{path} cannot be written as JSON: {type(error).__name__}") from error


def _generate_contents(value: object, path: str) -> list[dict[str, object]]:
    given = plain(value, path)
    _refuse_whole_request(given, path)
    if given is None or given in _BLANKS:
        raise PromptInvalid(f"{path} {_EMPTY}")
    contents = Walk().contents(given, path)
    _need_substance(contents, path)
    return contents


def _embed_content(value: object, path: str) -> dict[str, object]:
    given = plain(value, path)
    _refuse_whole_request(given, path)
    if isinstance(given, list | tuple):
        items = cast("list[object]", given)
        if len(items) > 1:
            raise PromptInvalid(
                f"{path} holds {len(items)} texts, and a request embeds one; pass them one by one "
                '(queue.embed does), or as one {"parts": [...]} for one vector of all'
            )
        given = plain(items[0], path) if items else None
    if given is None or given == "":
        raise PromptInvalid(f"{path} {_EMPTY}")
    content = Walk().content(given, path)
    _need_substance([content], path)
    return content if is_content(given) else {"parts": content["parts"]}


def _refuse_whole_request(value: object, path: str) -> None:
    if isinstance(value, dict) and ("contents" in value or "content" in value or "request" in value):
        raise PromptInvalid(f"{path} is a whole request; give its contents and its config as arguments of their own")


def _need_substance(contents: list[dict[str, object]], path: str) -> None:
    if not any(map(has_substance, contents)):
        raise PromptInvalid(f"{path} {_EMPTY}")


def _tails(kind: Kind, given: dict[str, object], path: str, dialect: str) -> tuple[bytes, bytes]:
    """A config as the rest of a request object, in its identity form and as it is sent; the same object where equal."""
    fields = config_fields(kind, given, path)
    going = sent(fields, dialect)
    asked = _tail(fields)
    return asked, asked if going is fields else _tail(going)


def _both(fields: dict[str, object], dialect: str) -> tuple[bytes, bytes]:
    return as_json(sent(fields, dialect)), as_json(fields)


def _tail(fields: dict[str, object]) -> bytes:
    """``,"generationConfig":{...},"systemInstruction":{...}}``."""
    return b"," + as_json(fields)[1:] if fields else b"}"


def _rest(kind: Kind, request: object, path: str) -> dict[str, object]:
    fields = Walk().message(_REQUEST[kind], request, path)
    if kind is Kind.EMBED:
        content = fields.pop("content")
        _need_substance([cast("dict[str, object]", content)], f"{path}.content")
        return {"content": content, **flat_embed(fields, path)}
    contents = cast("list[dict[str, object]]", fields.pop("contents"))
    _need_substance(contents, f"{path}.contents")
    if not fields.get("generationConfig", True):
        del fields["generationConfig"]
    return {"contents": contents, **checked_generate(fields, path)}


_ENCODERS_MAX: Final = 64
_FINGERPRINT_BYTES_MAX: Final = 65_536
_plain: Final = {(kind, dialect): RequestEncoder(kind, None, dialect) for kind in Kind for dialect in DIALECTS}
_by_value: Final[dict[tuple[RequestEncoder, bytes], RequestEncoder]] = {}
_by_object: Final[dict[tuple[RequestEncoder, int], tuple[object, object, RequestEncoder]]] = {}


def encoder_for(
    kind: Kind, config: object | None = None, dialect: str = SCHEMA, *, over: RequestEncoder | None = None
) -> RequestEncoder:
    """The encoder for a config, remembered: by value for dicts of plain data, by identity and state for objects.

    ``dialect`` and ``over`` are as for ``RequestEncoder``.

    Raises:
        PromptInvalid: the config is not valid, or cannot be laid over the other.
    """
    base = over if over is not None else _plain[kind, dialect]
    if config is None:
        return base
    if isinstance(config, dict):
        return _dict_encoder(base, cast("dict[object, object]", config))
    return _object_encoder(base, config)


def _dict_encoder(base: RequestEncoder, config: dict[object, object]) -> RequestEncoder:
    try:
        # Equal bytes mean equal values of equal types (1, 1.0 and True differ). Version 4 refers back to what it has
        # written, so a structure that holds itself many times over stays small.
        fingerprint = marshal.dumps(config, 4)
    except ValueError:
        return RequestEncoder(base.kind, config, over=base)  # it holds classes or objects
    encoder = _by_value.get((base, fingerprint))
    if encoder is None:
        encoder = RequestEncoder(base.kind, config, over=base)
        if len(fingerprint) <= _FINGERPRINT_BYTES_MAX:
            if len(_by_value) >= _ENCODERS_MAX:
                _by_value.clear()
            _by_value[base, fingerprint] = encoder
    return encoder


def _object_encoder(base: RequestEncoder, config: object) -> RequestEncoder:
    state: object = getattr(config, "__dict__", None)
    known = _by_object.get((base, id(config)))
    if known is not None and known[0] is config and known[1] == state:
        return known[2]
    encoder = RequestEncoder(base.kind, config, over=base)
    if state is not None:
        try:
            snapshot = copy.deepcopy(state)
        except Exception:  # noqa: BLE001 - a foreign object's own code; it is then encoded each time
            return encoder
        if len(_by_object) >= _ENCODERS_MAX:
            _by_object.clear()
        _by_object[base, id(config)] = (config, snapshot, encoder)  # holds config, so its id stays its own
    return encoder
