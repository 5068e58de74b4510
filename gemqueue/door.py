"""The door: a row, whatever the caller calls one, becomes a prompt with a ticket, or is refused with a clear error."""

from __future__ import annotations

import difflib
import hashlib
from typing import TYPE_CHECKING, NamedTuple, cast

from gemqueue.buffer import Prompt, Route
from gemqueue.errors import PromptInvalid, SubmitError
from gemqueue.models import Lane
from gemqueue.outcomes import refused
from gemqueue.requests import check_model, check_name, check_size, encoder_for
from gemqueue.states import FailureKind, Kind
from gemqueue.tickets import Sink, Ticket

if TYPE_CHECKING:
    from gemqueue.config import Settings
    from gemqueue.producer import Producer

_ROW_FIELDS = ("contents", "name", "config", "tag", "priority", "tenant")
_TENANT_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@")
_TENANT_CHARS_MAX = 64
_PRIORITY_MAX = 100


class Row(NamedTuple):
    """One prompt as the caller gave it; None means as the call says."""

    contents: object
    name: str | None = None
    config: object = None
    tag: object = None
    priority: int | None = None
    tenant: str | None = None


class Door:
    """The way in for the prompts of one call, which share a model, a kind and the defaults of everything else.

    Raises PromptInvalid for a model, config, priority or tenant that is not valid.
    """

    def __init__(
        self,
        producer: Producer,
        settings: Settings,
        account: str,
        *,
        model: str,
        kind: str = Kind.GENERATE,
        config: object = None,
        priority: int = 0,
        tenant: str = "default",
    ) -> None:
        if kind not in set(Kind):
            raise PromptInvalid(f'kind must be "generate" or "embed", not {kind!r}')
        self._producer = producer
        self._bytes_max = settings.prompt_bytes_max
        self._kind = Kind(kind)
        self._encoder = encoder_for(self._kind, config)
        self._lane = str(Lane(account, check_model(model), self._kind))
        self._salt = self._lane.partition("/")[2].encode()
        self._route = Route(self._lane, _check_tenant(tenant), _check_priority(priority))

    def prompt(self, row: Row, sink: Sink | None = None) -> tuple[Route, Prompt]:
        """The row as a prompt. Raises PromptInvalid, PromptTooLarge."""
        encoder = self._encoder if row.config is None else encoder_for(self._kind, row.config)
        request = encoder.encode(row.contents)
        check_size(request, self._bytes_max)
        route = self._route
        if row.priority is not None or row.tenant is not None:
            tenant = route.tenant if row.tenant is None else _check_tenant(row.tenant)
            priority = route.priority if row.priority is None else _check_priority(row.priority)
            route = Route(self._lane, tenant, priority)
        if row.name is None:
            return route, Prompt(Ticket(None, row.tag, sink), request)
        name = check_name(row.name)
        digest = hashlib.sha256(self._salt + b"\0" + request).hexdigest()[:32]
        return route, Prompt(Ticket(name, row.tag, sink), request, digest)

    async def submit(self, row: Row) -> Ticket:
        """Put one prompt of a single call on its way. Raises SubmitError."""
        route, prompt = self.prompt(row)
        await self._producer.take_space(len(prompt.request))
        self._producer.put(route, prompt)
        return prompt.ticket

    async def admit(self, given: object, sink: Sink) -> Ticket:
        """Put one row of a bulk call on its way, waiting for room; a row that is refused has its outcome at once."""
        name, tag = None, None
        try:
            row = row_of(given)
            name, tag = row.name, row.tag
            route, prompt = self.prompt(row, sink)
            if not self._producer.space.try_take(len(prompt.request)):
                await self._producer.space.take(len(prompt.request))
            self._producer.put(route, prompt)
        except SubmitError as error:
            ticket = Ticket(name, tag, sink)
            ticket.settle(refused(error, FailureKind.INVALID, name if isinstance(name, str) else None, tag))
            return ticket
        return prompt.ticket


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
    if not isinstance(tenant, str) or not 0 < len(tenant) <= _TENANT_CHARS_MAX or not set(tenant) <= _TENANT_CHARS:
        raise PromptInvalid("tenant must be 1 to 64 of letters, digits, - _ . @")
    return tenant


def _check_priority(priority: object) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int) or not -_PRIORITY_MAX <= priority <= _PRIORITY_MAX:
        raise PromptInvalid("priority must be a whole number from -100 to 100; higher goes first")
    return priority
