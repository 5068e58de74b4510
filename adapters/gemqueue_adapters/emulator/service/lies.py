"""Lies: replies that say of a thing what is not so, or not yet, or no longer.

Gateways, caches, proxies and lagging replicas tell them. A fault changes what happens; a lie changes only what is told:
jobs, files and the ledger stay as they are.

    {"route": "download", "kind": "html", "status": 404, "share": 0.3, "from_s": 10, "for_s": 30}
    {"route": "get", "kind": "back", "how": "PENDING", "nth": 5, "times": 1}

All here is pure: a lie and an exchange give another reply, or None where the lie would change nothing. When one is told
is up to `Lies` in `service/lying.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from gemqueue_adapters.emulator.faults import ROUTES
from gemqueue_adapters.emulator.service import tales
from gemqueue_adapters.emulator.service.tales import LISTS, Exchange, Lie, Reply, of_entries

if TYPE_CHECKING:
    from gemqueue_adapters.emulator.service.tales import Tell

READS = ("get", "download", "get_file", "models", "count_tokens", *LISTS)
"""Routes without an effect: what is there is looked up even if something else is told."""


class Kind(NamedTuple):
    """A kind of lie: what it tells, at which routes, in which variants, and whether requests have their effect."""

    tell: Tell
    routes: tuple[str, ...]
    how: tuple[str, ...] = ("",)
    status: int | None = None
    """The one that it has by default, 0 if that depends on the route; None if it has no other."""
    effect: bool = True


_JOBS, _FILES = ("operations", ""), ("files", "file")
_UPLOADS = ("upload_start", "upload", "get_file", "list_files")
_DENIED = ("create", "get", "cancel", "delete", "update", "download", "get_file", "delete_file")

KINDS: dict[str, Kind] = {
    "stale": Kind(tales.stale, ("get", "get_file", *LISTS)),
    "blank": Kind(tales.blank, ROUTES),
    "repeated": Kind(tales.repeated, LISTS),
    "empty_token": Kind(tales.empty_token, LISTS),
    "unreachable": Kind(tales.unreachable, LISTS),
    "error_page": Kind(tales.error_page, ROUTES),
    "html": Kind(tales.html, ROUTES, status=502, effect=False),
    "foreign": Kind(tales.foreign, ROUTES, ("other", "own_words"), status=404, effect=False),
    "denied": Kind(tales.denied, _DENIED, status=0, effect=False),
    "reply_lost": Kind(tales.reply_lost, ROUTES),
    "short": Kind(tales.short, ("download",), ("line", "byte")),
    "back": Kind(of_entries(_JOBS, tales.back), ("get", "list"), ("RUNNING", "PENDING")),
    "failed": Kind(of_entries(_JOBS, tales.failed), ("get", "list"), ("FAILED", "EXPIRED", "CANCELLED")),
    "no_output_yet": Kind(of_entries(_JOBS, tales.no_output_yet), ("get",)),
    "counters": Kind(of_entries(_JOBS, tales.counters), ("get", "list"), ("stale", "zero", "more")),
    "processing": Kind(of_entries(_FILES, tales.processing), _UPLOADS),
    "upload_failed": Kind(of_entries(_FILES, tales.upload_failed), _UPLOADS),
}
"""The table of lies; docs/emulator.md says the same in words."""


def gets_through(lie: Lie, point: str) -> bool:
    """Whether the request reaches the service, and has its effect there."""
    return point in READS or lie.effect is not False


def told(lie: Lie, seen: Exchange) -> Reply | None:
    """What the lie makes of an exchange; None where that is the truth, or cannot be told of it."""
    reply = KINDS[lie.kind].tell(lie, seen)
    truth = reply is not None and not reply.cut and (reply.status, reply.body) == (seen.status, seen.body)
    return None if truth else reply


def checked(lie: Lie) -> Lie:
    """The lie with what its kind decides filled in.

    Raises:
        ValueError: it cannot be told: which field is wrong, and what that may be.
    """
    kind = KINDS.get(lie.kind)
    if kind is None:
        raise ValueError(f"there is no kind {lie.kind!r} of lies; kinds are {', '.join(KINDS)}")
    if lie.route not in (*kind.routes, "any"):
        raise ValueError(f"{lie.kind!r} is not told on the route {lie.route!r}; take any, {', '.join(kind.routes)}")
    if lie.how and lie.how not in kind.how:
        raise ValueError(f"{lie.kind!r} has no how={lie.how!r}; it has {', '.join(kind.how) or 'none'}")
    if lie.status and (kind.status is None or not 200 <= lie.status <= 599):
        raise ValueError(f"status={lie.status} of {lie.kind!r}: html, foreign and denied have one, from 200 to 599")
    if not 0 <= lie.share <= 1:
        raise ValueError(f"share={lie.share} of {lie.kind!r} is not from 0 to 1")
    return msgspec.structs.replace(
        lie,
        how=lie.how or kind.how[0],
        status=lie.status or kind.status or 0,
        effect=kind.effect if lie.effect is None else lie.effect,
    )


def parse(raw: bytes) -> list[Lie]:
    """Lies out of JSON.

    Raises:
        ValueError: it is not a list of lies (msgspec's errors are ValueErrors).
    """
    return [checked(lie) for lie in msgspec.json.decode(raw, type=list[Lie])]


def parse_words(text: str) -> Lie:
    """A lie out of `route=download kind=html status=404`, as on the command line.

    Raises:
        ValueError: it is none.
    """
    pairs = [word.partition("=") for word in text.split()]
    if bad := [name for name, mark, _ in pairs if not mark]:
        raise ValueError(f"lie {text!r}: {bad[0]!r} is no NAME=VALUE; write route=ROUTE kind=KIND and more")
    try:
        return checked(msgspec.convert({name: value for name, _, value in pairs}, Lie, strict=False))
    except ValueError as error:
        raise ValueError(f"lie {text!r}: {error}") from error
