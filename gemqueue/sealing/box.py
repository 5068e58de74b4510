"""A sealed value: who can open it, where it belongs, and its bytes under AES-256-GCM.

``GQS1``, the generation of the data key (4 bytes), the length of the tenant's name (1), the name, a nonce (12), then
the encrypted bytes with their tag (16). The head is bound to the rest, and so are the value's kind and id: moved to
another place, a value does not open. What does not begin so is not sealed: compressed values begin otherwise.
"""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC: Final = b"GQS1"
"""``is_sealed`` of ``store/lua/_core.lua`` has it a second time."""
KEY_BYTES: Final = 32
_TEXT: Final = "GQS1:"
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16


class Head(NamedTuple):
    """Whose key opens a value, which of its generations, and how long the head is."""

    tenant: str
    generation: int
    size: int


def new_key() -> bytes:
    """A key that nobody can guess."""
    return secrets.token_bytes(KEY_BYTES)


def cipher_of(key: bytes) -> AESGCM:
    """The cipher under a key; the extra ``seal`` must be there."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - who does not seal lacks it

    return AESGCM(key)


def is_sealed(value: bytes) -> bool:
    """Whether the value is sealed."""
    return value.startswith(MAGIC)


def head_of(value: bytes) -> Head | None:
    """The head of a sealed value; None for one that is not sealed. Raises ValueError where it is cut short."""
    if not is_sealed(value):
        return None
    at = len(MAGIC)
    size = at + 5 + (value[at + 4] if len(value) > at + 4 else 0)
    if len(value) < size + _NONCE_BYTES + _TAG_BYTES:
        raise ValueError("a sealed value is cut short")
    return Head(value[at + 5 : size].decode(), int.from_bytes(value[at : at + 4], "big"), size)


def generation_in(begin: bytes) -> int:
    """Which generation of a key the value that begins so is sealed with; 0 for one that is not sealed."""
    at = len(MAGIC)
    return int.from_bytes(begin[at : at + 4], "big") if is_sealed(begin) else 0


def tenant_of(value: bytes) -> str:
    """Whose key a value is sealed with; empty for one that is not sealed. Raises ValueError where it is cut short."""
    head = head_of(value)
    return head.tenant if head is not None else ""


def lock(cipher: AESGCM, tenant: str, generation: int, place: str, data: bytes) -> bytes:
    """``data`` under the key of a tenant, for one ``place``: what the value is, and of what."""
    name = tenant.encode()
    head = MAGIC + generation.to_bytes(4, "big") + bytes([len(name)]) + name
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return head + nonce + cipher.encrypt(nonce, data, head + place.encode())


def unlock(cipher: AESGCM, head: Head, place: str, value: bytes) -> bytes:
    """The data. Raises ValueError where the value was changed, cut short, or moved here from elsewhere."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - as above

    start = head.size + _NONCE_BYTES
    try:
        return cipher.decrypt(value[head.size : start], value[start:], value[: head.size] + place.encode())
    except InvalidTag:
        raise ValueError(f"{place} does not open: it was changed, cut short, or moved there from elsewhere") from None


def is_sealed_text(text: str) -> bool:
    """Whether a field of text is sealed."""
    return text.startswith(_TEXT)


def as_text(value: bytes) -> str:
    """A sealed value where a record wants text."""
    return _TEXT + base64.b64encode(value).decode()


def from_text(text: str) -> bytes | None:
    """The sealed value in a text; None where the text is not sealed. Raises ValueError where it is damaged."""
    return base64.b64decode(text.removeprefix(_TEXT), validate=True) if is_sealed_text(text) else None
