"""The names of prompts that are on their way: one prompt a name, until the store knows who has it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from gemqueue.accounts import made_of_key
from gemqueue.errors import NameConflict
from gemqueue.language.identity import FORM, form_of
from gemqueue.store.base import names_go_with_key

if TYPE_CHECKING:
    from gemqueue.client.tickets import Ticket
    from gemqueue.config import Settings

log = logging.getLogger("gemqueue")
warned: set[str] = set()
"""The accounts of which this process has been told that their names go with the key."""


def warn_of_key(account: str, warning: str) -> None:
    """Say it once in this process."""
    if warning and account not in warned:
        warned.add(account)
        log.warning(warning)


def warn_of_names(settings: Settings, account: str) -> None:
    """A prompt of the account has a name: say once what becomes of that with a new key."""
    if account not in warned and made_of_key(settings, account):
        warn_of_key(account, names_go_with_key(account))


class _Holder:
    """Who has a name, by what it asks, and who wants the same prompt under it."""

    __slots__ = ("digest", "twins")

    def __init__(self, digest: str) -> None:
        self.digest = digest
        self.twins: list[Ticket] = []


class Names:
    """The names that this process is just submitting."""

    def __init__(self) -> None:
        self._holders: dict[str, _Holder] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def claim(self, name: str, ticket: Ticket, digest: str) -> bool:
        """Whether the ticket has the name now; else it waits for the same prompt of another's.

        Raises NameConflict when another body under the same name is on its way.
        """
        holder = self._holders.get(name)
        if holder is None:
            self._holders[name] = _Holder(digest)
            return True
        if holder.digest != digest:
            raise conflict(name, "", holder.digest)
        holder.twins.append(ticket)
        return False

    def release(self, name: str) -> list[Ticket]:
        """The name's prompt has a place, or was refused: those that waited for it."""
        holder = self._holders.pop(name, None)
        return holder.twins if holder is not None else []


def conflict(name: str, key: str, digest: str) -> NameConflict:
    """What a prompt is told whose name belongs to another one, with its ``key`` where that has one."""
    whose = f"prompt {key}" if key else "a prompt that is just being submitted"
    why = "with another body, model or config; give this prompt another name, or submit exactly the same one"
    if form_of(digest) > FORM:
        why = (
            "of a newer gemqueue, which this one cannot compare; upgrade this program, or give the prompt another name"
        )
    return NameConflict(f"the name {name!r} belongs to {whose} {why}", name=name, key=key)
