"""What is sent for a canonical request. Every release may send something else; ``identity`` does not look here."""

from __future__ import annotations


def sent(fields: dict[str, object]) -> dict[str, object]:
    """The fields of a canonical config or request as the provider gets them.

    It changes nothing in ``fields``, and gives ``fields`` itself back where they go as they are. A schema that was
    asked for as a class, or in words that only JSON Schema has, is a ``schemas.Twin``.
    """
    return fields
