"""The names of prompts that are on their way: one prompt a name, until the store knows who has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.errors import NameConflict
from gemqueue.language.identity import FORM, form_of

if TYPE_CHECKING:
    from gemqueue.client.tickets import Ticket


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
