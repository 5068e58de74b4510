"""Who wraps the data keys: keys in a file or a variable, or a function of one's own, which may ask a KMS.

A file holds one key a line, as ``gemqueue admin seal key`` prints it, and a variable the same, apart by blanks or
commas. The first wraps; all of them unwrap. A key is known by four bytes of its digest, which each wrapped key carries.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib
import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from gemqueue.errors import SealError
from gemqueue.sealing.box import KEY_BYTES, cipher_of, new_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEY_ENV: Final = "GEMQUEUE_SEAL_KEY"
KEY_FILE_ENV: Final = "GEMQUEUE_SEAL_KEY_FILE"
_ID_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_HOW: Final = (
    f"set {KEY_FILE_ENV} to a file that `gemqueue admin seal key` has written, or {KEY_ENV} to what that prints, or "
    "seal_wrapper to module:function"
)


class KeyWrapper(Protocol):
    """Wraps data keys, 32 bytes each, and unwraps them. Either method may be async.

    ``tenant`` is whose key it is; names that begin with ``+`` are the queue's own. What ``unwrap`` raises is shown to
    whoever reads why prompts wait, so it must hold no secret.
    """

    def wrap(self, key: bytes, tenant: str) -> Any:
        """The key, wrapped."""
        ...

    def unwrap(self, wrapped: bytes, tenant: str) -> Any:
        """The key again."""
        ...


def new_key_text() -> str:
    """A new key as a file or a variable holds it."""
    return base64.b64encode(new_key()).decode()


def key_id(key: bytes) -> str:
    """What a wrapping key is called; it says nothing of the key."""
    return hashlib.sha256(b"gemqueue wrapping key" + key).digest()[:_ID_BYTES].hex()


def wrapped_by(wrapped: bytes) -> str:
    """The id of the key that wrapped this, where a file's or a variable's did."""
    return wrapped[:_ID_BYTES].hex()


class KeyTexts:
    """Keys from a file or a variable; ``read`` gives the text anew, so that a new key is found without a restart."""

    def __init__(self, read: Callable[[], str], where: str) -> None:
        self._read = read
        self._where = where
        self._keys = self._load()

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all keys; the first one wraps."""
        self._keys = self._load()
        return tuple(self._keys)

    def wrap(self, key: bytes, tenant: str) -> bytes:
        """The key under the first of ours."""
        self._keys = self._load()
        id_, own = next(iter(self._keys.items()))
        nonce = new_key()[:_NONCE_BYTES]
        head = bytes.fromhex(id_) + nonce
        return head + cipher_of(own).encrypt(nonce, key, tenant.encode())

    def unwrap(self, wrapped: bytes, tenant: str) -> bytes:
        """The key again. Raises SealError where none of ours opens it."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - who does not seal lacks it

        id_ = wrapped_by(wrapped)
        if id_ not in self._keys:
            self._keys = self._load()
        if id_ not in self._keys:
            raise SealError(
                f"the key of {tenant} is wrapped by {id_}, and {self._where} holds {', '.join(self._keys)}: add that "
                "key below the first, or correct the setting"
            )
        at = _ID_BYTES + _NONCE_BYTES
        try:
            return cipher_of(self._keys[id_]).decrypt(wrapped[_ID_BYTES:at], wrapped[at:], tenant.encode())
        except InvalidTag:
            raise SealError(f"the wrapped key of {tenant} in Redis was changed: it does not open") from None

    def _load(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for word in self._read().replace(",", " ").split():
            try:
                key = base64.b64decode(word, validate=True)
            except ValueError:
                key = b""
            if len(key) != KEY_BYTES:
                raise SealError(
                    f"{self._where}: a key is {KEY_BYTES} bytes in base64, and word {len(found) + 1} is none; "
                    "`gemqueue admin seal key` prints one"
                )
            found[key_id(key)] = key
        if not found:
            raise SealError(f"{self._where} holds no key; {_HOW}")
        return found


def has_key(entry: str) -> bool:
    """Whether anything says where keys come from."""
    return bool(entry or os.environ.get(KEY_FILE_ENV) or os.environ.get(KEY_ENV))


def wrapper_of(entry: str, env: Mapping[str, str] | None = None) -> KeyWrapper:
    """The wrapper that ``seal_wrapper`` names, else the file's or the variable's keys. Raises SealError."""
    environ = os.environ if env is None else env
    path, text = environ.get(KEY_FILE_ENV), environ.get(KEY_ENV)
    if (given := [name for name in (KEY_FILE_ENV, KEY_ENV) if environ.get(name)]) and (entry or len(given) > 1):
        raise SealError(
            f"{' and '.join([*given, *(['seal_wrapper'] if entry else [])])} are both set: leave one of them"
        )
    if entry:
        return _from_entry(entry)
    if path:
        return KeyTexts(lambda: _text_of(Path(path)), f"{KEY_FILE_ENV} ({path})")
    if text:
        return KeyTexts(lambda: text, KEY_ENV)
    raise SealError(f"seal = true needs a key: {_HOW}")


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise SealError(f"{KEY_FILE_ENV} ({path}) cannot be read: {type(error).__name__}; {_HOW}") from None


def _from_entry(entry: str) -> KeyWrapper:
    module, _, function = entry.partition(":")
    try:
        return cast("KeyWrapper", getattr(importlib.import_module(module), function)())
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise SealError(f"seal_wrapper = {entry!r} names no function without arguments: {error}") from error


async def unwrapped(wrapper: KeyWrapper, wrapped: bytes, tenant: str) -> bytes:
    """The data key. Raises SealError, with what the wrapper said."""
    key = await _asked(wrapper.unwrap, wrapped, tenant)
    if len(key) != KEY_BYTES:
        raise SealError(f"the wrapper gave {len(key)} bytes for the key of {tenant}, not {KEY_BYTES}")
    return key


async def wrapped(wrapper: KeyWrapper, key: bytes, tenant: str) -> bytes:
    """The wrapped key. Raises SealError, with what the wrapper said."""
    return await _asked(wrapper.wrap, key, tenant)


async def _asked(method: Callable[[bytes, str], Any], value: bytes, tenant: str) -> bytes:
    try:
        found = await asyncio.to_thread(method, value, tenant)
        if inspect.isawaitable(found):
            found = await found
    except SealError:
        raise
    except Exception as error:
        raise SealError(f"the key of {tenant} cannot be had: {type(error).__name__}: {error}") from error
    return bytes(found)
