"""The door: a row, whatever the caller calls one, becomes a prompt with a ticket, or is refused with a clear error."""

from __future__ import annotations

import copy
import difflib
from typing import TYPE_CHECKING, NamedTuple, cast

from gemqueue.client.names import warn_of_names
from gemqueue.client.tickets import Prompt, Route, Ticket
from gemqueue.errors import PromptInvalid, SubmitError
from gemqueue.language.checks import check_kind, check_model, check_name, check_size
from gemqueue.language.gemini.configs import ConfigMode, known_mode
from gemqueue.language.gemini.requests import encoder_for
from gemqueue.language.identity import digest_of, salt_of
from gemqueue.language.outcomes import refused
from gemqueue.policy.deadlines import deadline_at_ms
from gemqueue.records import Lane
from gemqueue.setting_values import is_tenant
from gemqueue.states import FailureKind, Kind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gemqueue.client.producer import Producer
    from gemqueue.client.tickets import Sink
    from gemqueue.config import Settings
    from gemqueue.language.gemini.requests import RequestEncoder

_ROW_FIELDS = ("contents", "name", "config", "tag", "priority", "tenant", "deadline")
_PRIORITY_MAX = 100
_KINDS = {str(kind): kind for kind in Kind}
_DOORS_MAX = 64


class Row(NamedTuple):
    """One prompt as the caller gave it; None means as the call says."""

    contents: object
    name: str | None = None
    config: object = None
    tag: object = None
    priority: int | None = None
    tenant: str | None = None
    deadline: object = None


class Door:
    """The way in for prompts that share a model, a kind and the defaults of everything else.

    Raises PromptInvalid for a model, priority or tenant that is not valid.
    """

    def __init__(
        self,
        producer: Producer,
        settings: Settings,
        account: str,
        encoder: RequestEncoder,
        *,
        model: str,
        priority: int,
        tenant: str,
        deadline_at: int = 0,
    ) -> None:
        self._producer = producer
        self._settings = settings
        self._account = account
        self._bytes_max = settings.prompt_bytes_max
        self._dialect = settings.schema_dialect
        self._kind = encoder.kind
        self._encoder = encoder
        self._under = encoder  # what rows' own configs are laid over
        bare = check_model(model)
        check_kind(bare, self._kind)
        self._lane = str(Lane(account, bare, self._kind))
        self._salt = salt_of(bare, self._kind)
        self._route = Route(self._lane, _check_tenant(tenant), _check_priority(priority), deadline_at)

    def in_mode(self, config_mode: str) -> Door:
        """The door whose rows' own configs are laid over its config ("merge"), or take its place ("replace").

        Raises PromptInvalid for another mode.
        """
        if known_mode(config_mode) is ConfigMode.MERGE:
            return self
        other = copy.copy(self)
        other._under = encoder_for(self._kind, dialect=self._dialect)  # noqa: SLF001 - a door of our own making
        return other

    def single(self, row: Row) -> tuple[Route, Prompt, Ticket]:
        """A row of no bulk call as a prompt, and its ticket. Raises PromptInvalid, PromptTooLarge."""
        route, prompt = self.prompt(row)
        assert prompt.ticket is not None  # noqa: S101 - without a sink it has one
        return route, prompt, prompt.ticket

    def prompt(self, row: Row, sink: Sink | None = None, position: int = 0) -> tuple[Route, Prompt]:
        """The row as a prompt, which has a ticket where it has a name or no sink.

        Raises PromptInvalid, PromptTooLarge.
        """
        encoder = self._encoder if row.config is None else encoder_for(self._kind, row.config, over=self._under)
        request, asked = (encoder.encode(row.contents), b"") if row.name is None else encoder.identified(row.contents)
        if len(request) > self._bytes_max:
            check_size(request, self._bytes_max)
        route = self._route
        if row.priority is not None or row.tenant is not None or row.deadline is not None:
            tenant = route.tenant if row.tenant is None else _check_tenant(row.tenant)
            priority = route.priority if row.priority is None else _check_priority(row.priority)
            deadline_at = deadline_at_ms(row.deadline, self._producer.now_ms()) or route.deadline_at
            route = Route(self._lane, tenant, priority, deadline_at)
        if row.name is None and sink is not None:
            if row.tag is not None:
                sink.tags[position] = row.tag
            return route, Prompt(None, request, (), sink, position)
        if row.name is None:
            return route, Prompt(Ticket(None, row.tag), request)
        ticket = Ticket(check_name(row.name), row.tag, sink, position)
        warn_of_names(self._settings, self._account)
        return route, Prompt(ticket, request, (digest_of(self._salt, asked), *self._digest_before(row)))

    def _digest_before(self, row: Row) -> tuple[str, ...]:
        """By what 0.2.0 knew a named row whose config is laid over the call's: by the row's own config alone."""
        if row.config is None or self._under is encoder_for(self._kind, dialect=self._dialect):
            return ()
        return (digest_of(self._salt, encoder_for(self._kind, row.config, self._dialect).identified(row.contents)[1]),)

    def admit(self, given: object, sink: Sink, position: int) -> Awaitable[None] | None:
        """Put a row of a bulk call on its way; a row that is refused has its outcome at once.

        Where there is no room for it, returns what waits for room and then does the rest.
        """
        try:
            if type(given) is str:
                request = self._encoder.encode(given)
                if len(request) > self._bytes_max:
                    check_size(request, self._bytes_max)
                route, prompt = self._route, Prompt(None, request, (), sink, position)
            else:
                route, prompt = self.prompt(row_of(given), sink, position)
            if not self._producer.try_put(route, prompt):
                return self._put(route, prompt, lambda error: _refuse(error, given, sink, position))
        except SubmitError as error:
            _refuse(error, given, sink, position)
        return None

    async def _put(self, route: Route, prompt: Prompt, refuse: Callable[[SubmitError], None]) -> None:
        """The same, with patience: however long it takes until there is room."""
        try:
            await self._producer.put(route, prompt)
        except SubmitError as error:
            refuse(error)


class Doors:
    """The doors of one ``Queue``, remembered: single calls come with the same model and config over and over."""

    def __init__(self, producer: Producer, settings: Settings, account: str) -> None:
        self._producer = producer
        self._settings = settings
        self._account = account
        self._known: dict[tuple[object, ...], Door] = {}

    def door(
        self,
        *,
        model: str,
        kind: str,
        config: object,
        priority: int,
        tenant: str,
        deadline: object = None,
        mode: str = ConfigMode.MERGE,
    ) -> Door:
        """The door for these defaults; ``mode`` is what becomes of rows' own configs.

        Raises PromptInvalid for one that is not valid.
        """
        encoder = encoder_for(known_kind(kind), config, self._settings.schema_dialect)
        deadline_at = deadline_at_ms(deadline, self._producer.now_ms()) if deadline is not None else 0
        key = (model, encoder, priority, tenant, deadline_at)
        plain = type(model) is type(tenant) is str and type(priority) is int  # anything else may not even have a hash
        door = self._known.get(key) if plain else None
        if door is None:
            door = Door(
                self._producer, self._settings, self._account, encoder,
                model=model, priority=priority, tenant=tenant, deadline_at=deadline_at,
            )  # fmt: skip
            if len(self._known) >= _DOORS_MAX:
                self._known.clear()
            if plain:
                self._known[key] = door
        return door if mode == ConfigMode.MERGE else door.in_mode(mode)


def known_kind(kind: str) -> Kind:
    """The kind. Raises PromptInvalid."""
    known = _KINDS.get(kind) if isinstance(kind, str) else None  # pyright: ignore[reportUnnecessaryIsInstance] - callers may not type-check
    if known is None:
        raise PromptInvalid(f'kind must be "generate" or "embed", not {kind!r}')
    return known


def _refuse(error: SubmitError, given: object, sink: Sink, position: int) -> None:
    fields = cast("dict[str, object]", given) if isinstance(given, dict) and "contents" in given else {}
    name, tag = fields.get("name"), fields.get("tag")
    outcome = refused(error, FailureKind.INVALID, name if isinstance(name, str) else None, tag)
    sink.tags.pop(position, None)
    sink.refused(position, outcome)


def row_of(given: object) -> Row:
    """A row from what ``map`` and ``stream`` take: a dict with ``contents`` and more, or just contents.

    Raises PromptInvalid for a field that rows do not have.
    """
    if not isinstance(given, dict) or "contents" not in given:
        return Row(given)
    fields = cast("dict[str, object]", given)
    for field in fields:
        if field not in _ROW_FIELDS:
            close = difflib.get_close_matches(str(field), _ROW_FIELDS, 1)
            hint = f'; did you mean "{close[0]}"?' if close else ""
            raise PromptInvalid(f"{field!r} is not a field of a row{hint} (a row has {', '.join(_ROW_FIELDS)})")
    return Row(**fields)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - each is checked where it is used


def _check_tenant(tenant: object) -> str:
    if not is_tenant(tenant):
        raise PromptInvalid("tenant must be 1 to 64 of letters, digits, - _ . @")
    return tenant


def _check_priority(priority: object) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int) or not -_PRIORITY_MAX <= priority <= _PRIORITY_MAX:
        raise PromptInvalid("priority must be a whole number from -100 to 100; higher goes first")
    return priority
