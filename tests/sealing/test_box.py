"""Sealed values and wrapped keys by themselves: what opens, and what does not."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from gemqueue.errors import SealError
from gemqueue.sealing import box
from gemqueue.sealing.wrapping import KEY_ENV, KEY_FILE_ENV, KeyTexts, key_id, new_key_text, wrapped_by, wrapper_of
from tests.cli.command import environment
from tests.worlds.sealed import key_text

if TYPE_CHECKING:
    from pathlib import Path

PLACE = "segment 00a"


def opened(value: bytes, place: str = PLACE, key: bytes = b"k" * 32) -> bytes:
    """The value's data."""
    head = box.head_of(value)
    assert head is not None
    return box.unlock(box.cipher_of(key), head, place, value)


def test_a_value_opens_where_it_belongs() -> None:
    """What was locked opens again, says whose key it needs, and is never locked twice into the same bytes."""
    cipher = box.cipher_of(b"k" * 32)
    first, second = (box.lock(cipher, "acme", 3, PLACE, b"data") for _ in range(2))
    assert first != second
    assert opened(first) == opened(second) == b"data"
    assert box.head_of(first) == box.Head("acme", 3, 4 + 4 + 1 + 4)
    assert (box.tenant_of(first), box.generation_in(first[:100])) == ("acme", 3)


def test_no_changed_value_opens() -> None:
    """Every byte changed, every length cut, another place, another key: it is refused, with its place in the text."""
    value = box.lock(box.cipher_of(b"k" * 32), "acme", 3, PLACE, b"data")
    changed = [value[:n] + bytes([value[n] ^ 1]) + value[n + 1 :] for n in range(len(box.MAGIC), len(value))]
    for broken in [*changed, *(value[:n] for n in range(len(box.MAGIC), len(value))), value + b"0"]:
        with pytest.raises(ValueError, match=r"does not open|cut short|decode"):
            opened(broken)
    with pytest.raises(ValueError, match="outcomes 00a does not open"):
        opened(value, "outcomes 00a")
    with pytest.raises(ValueError, match="does not open"):
        opened(value, key=b"l" * 32)


def test_what_is_not_sealed_is_seen() -> None:
    """A compressed value, text, and nothing at all are not sealed."""
    assert [box.head_of(value) for value in (b"", b"\x28\xb5\x2f\xfd..", b"text")] == [None] * 3
    assert box.from_text("a message") is None
    assert box.from_text(box.as_text(b"GQS1...")) == b"GQS1..."


def test_the_first_key_wraps_and_all_unwrap() -> None:
    """A new key in front wraps from then on; the old one behind it still opens; without it the id is named."""
    texts = [key_text("a")]
    keys = KeyTexts(lambda: "\n".join(texts), "FILE")
    old = keys.wrap(b"d" * 32, "acme")
    texts.insert(0, key_text("b"))
    assert list(keys.ids) == [key_id(b"b" * 32), key_id(b"a" * 32)]
    new = keys.wrap(b"d" * 32, "acme")
    assert [wrapped_by(each) for each in (old, new)] == [key_id(b"a" * 32), key_id(b"b" * 32)]
    assert keys.unwrap(old, "acme") == keys.unwrap(new, "acme") == b"d" * 32
    with pytest.raises(SealError, match="the wrapped key of other in Redis was changed"):
        keys.unwrap(new, "other")
    del texts[1]
    assert list(keys.ids) == [key_id(b"b" * 32)]
    with pytest.raises(SealError, match=f"wrapped by {key_id(b'a' * 32)}, and FILE holds {key_id(b'b' * 32)}"):
        keys.unwrap(old, "acme")


def test_where_keys_come_from(tmp_path: Path) -> None:
    """A file, a variable or a function; none, two at once, or what is no key is a sentence that shows no key."""
    file, text = tmp_path / "seal.key", new_key_text()
    file.write_text(f"{text}\n")
    wrapper = wrapper_of("", {KEY_FILE_ENV: str(file)})
    assert wrapper.unwrap(wrapper_of("", {KEY_ENV: text}).wrap(b"d" * 32, "t"), "t") == b"d" * 32
    file.write_text("not-a-key " + text)
    for entry, env, said in (
        ("", {}, "seal = true needs a key: set GEMQUEUE_SEAL_KEY_FILE"),
        ("", {KEY_ENV: text, KEY_FILE_ENV: str(file)}, "are both set"),
        ("own:kms", {KEY_ENV: text}, "are both set"),
        ("", {KEY_FILE_ENV: str(file)}, "word 1 is none"),
        ("", {KEY_FILE_ENV: str(tmp_path / "gone")}, "cannot be read: FileNotFoundError"),
        ("", {KEY_ENV: " "}, "holds no key"),
        ("no_such_module:kms", {}, "names no function"),
    ):
        with pytest.raises(SealError, match=said) as caught:
            wrapper_of(entry, env)
        assert text not in str(caught.value)


def test_who_seals_nothing_loads_no_cipher() -> None:
    """Neither a producer nor a worker that seals nothing imports a cipher; redis-py loads parts of cryptography."""
    code = "import sys, gemqueue.client.queue, gemqueue_workers.settings, gemqueue_workers.cli; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, env=environment(), capture_output=True, check=True, text=True).stdout.split()
    assert "gemqueue.store.seals.ring" in loaded
    assert "cryptography.hazmat.primitives.ciphers.aead" not in loaded
