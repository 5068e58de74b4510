"""Identity: what was asked for, apart from what is sent for it.

Names and their digests outlive releases, so they are taken of the *identity form*: the canonical request, in which each
question has one spelling and a class is its JSON Schema. What is sent is made of it in ``wire``, and may change with
every release and every setting; this may not. Form 1 is that of 0.2.0 and is frozen: the tables and the walk that make
it, the JSON here and the salt. ``tests/language/test_identity.py`` holds recorded digests of it.

A digest without a number in front is of form 1. A later form writes its number in front: ``2:<hex>``.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from gemqueue.records import BATCH

as_json: Final = msgspec.json.Encoder().encode
"""The JSON of form 1: compact, on one line, in the order of the fields as they come."""

FORM: Final = 1
_HEX_DIGITS: Final = 32


def salt_of(model: str, kind: str) -> bytes:
    """What a digest is salted with.

    Its last word stands for every service class: where a prompt goes is no part of what it asks.
    """
    return f"{model}/{kind}/{BATCH}".encode()


def digest_of(salt: bytes, asked: bytes) -> str:
    """The digest of a request in its identity form, as it is stored beside a name."""
    return hashlib.sha256(salt + b"\0" + asked).hexdigest()[:_HEX_DIGITS]


def form_of(digest: str) -> int:
    """The number of the form that a stored digest was taken of; what is above ``FORM`` cannot be compared here."""
    number, numbered, _ = digest.partition(":")
    return int(number) if numbered else 1
