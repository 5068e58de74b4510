"""``gemqueue admin seal``: the keys of a sealed queue are shown, rotated, exported, brought back."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from gemqueue.errors import ConfigError
from gemqueue.sealing.wrapping import KeyTexts
from gemqueue.store.seals.ring import Generations
from gemqueue_workers.screen import plain

if TYPE_CHECKING:
    from rich.console import Console

    from gemqueue.store.seals.ring import Seals
    from gemqueue_workers.run.connection import Link


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's keys: the newest generation, how many there are, who has wrapped them, up to which are destroyed."""

    tenant: str
    newest: int
    count: int
    wrapped_by: list[str]
    destroyed: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of all tenants; ``unused`` wrapping keys wrap nothing here any more."""

    wrapping: list[str]
    unused: list[str]
    tenants: list[Keys]


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's keys as an export holds them: wrapped, and so of no use without the wrapping key."""

    tenant: str
    wrapped: dict[str, str]
    shredded: int = 0
    by: str = ""


async def _seals(link: Link) -> Seals:
    seals = link.store.seals
    if not seals.on:
        raise ConfigError("seal = false here: set GEMQUEUE_SEAL=1 and give this command the key (docs/sealing.md)")
    await seals.begin()
    return seals


async def status(link: Link) -> Status:
    """Who has keys, and who wraps them. Raises ConfigError, SealError."""
    seals = await _seals(link)
    wrapping = list(seals.wrapper.ids) if isinstance(seals.wrapper, KeyTexts) else []
    found = {tenant: await seals.generations(tenant) for tenant in await seals.tenants()}
    keys = [
        Keys(
            tenant=tenant,
            newest=each.newest,
            count=len(each.wrapped),
            wrapped_by=seals.wrappers_of(Generations(wrapped=each.wrapped)),
            destroyed=each.shredded,
        )
        for tenant, each in found.items()
    ]
    used = {id_ for each in keys for id_ in each.wrapped_by}
    return Status(wrapping=wrapping, unused=[id_ for id_ in wrapping if id_ not in used], tenants=keys)


async def rotate(link: Link) -> Status:
    """Wrap every key by the first wrapping key, and give new values new keys. Raises ConfigError, SealError."""
    seals = await _seals(link)
    for tenant in await seals.tenants():
        await seals.rotate(tenant)
        await seals.rewrap(tenant)
    return await status(link)


async def export(link: Link) -> list[Kept]:
    """All keys, wrapped. Raises ConfigError, SealError."""
    seals = await _seals(link)
    kept: list[Kept] = []
    for tenant in await seals.tenants():
        found = await seals.generations(tenant)
        wrapped = {str(number): base64.b64encode(value).decode() for number, value in found.wrapped.items()}
        kept.append(Kept(tenant=tenant, wrapped=wrapped, shredded=found.shredded, by=found.by))
    return kept


async def bring_back(link: Link, exported: bytes) -> int:
    """Keys from an export that are not here, or do not open here; how many. Raises ConfigError, SealError."""
    seals = link.store.seals
    if not seals.on:
        raise ConfigError("seal = false here: set GEMQUEUE_SEAL=1 and give this command the key (docs/sealing.md)")
    try:
        found = msgspec.json.decode(exported, type=list[Kept])
        kept = {
            each.tenant: Generations(
                wrapped={int(number): base64.b64decode(value) for number, value in each.wrapped.items()},
                shredded=each.shredded,
                by=each.by,
            )
            for each in found
        }
    except ValueError as error:
        raise ConfigError(f"FILE is no export of `gemqueue admin seal export`: {error}") from error
    return sum([await seals.bring_back(tenant, each) for tenant, each in kept.items()])


def show_status(console: Console, found: Status) -> None:
    """For a person."""
    table = Table("tenant", "newest", "keys", "wrapped by", "destroyed", box=box.SIMPLE_HEAD)
    for each in found.tenants:
        gone = f"up to {each.destroyed}" if each.destroyed else ""
        cells = (each.tenant, str(each.newest), str(each.count), " ".join(each.wrapped_by), gone)
        table.add_row(*(Text(str(plain(cell))) for cell in cells))
    console.print(table)
    if found.wrapping:
        console.print(f"{found.wrapping[0]} wraps new keys.")
    for id_ in found.unused:
        console.print(f"{id_} wraps nothing here: it can go, and with it what older backups hold under it alone.")
