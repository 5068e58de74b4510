"""The dialect of webhooks: the protocol's vectors, every byte changed, forged tokens, and garbage."""

from __future__ import annotations

import base64
import hashlib
import hmac
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from gemqueue_adapters.webhooks import (
    TOKEN_FIELD,
    Delivery,
    Event,
    PublicKeys,
    Reason,
    Refused,
    check_time,
    delivery_of,
    event_of,
    is_secret,
    keys_of,
    signed_by_published,
    signed_by_secret,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# Protocol section 11.6, test vectors.
ID = "msg_5d1f0d5e-0000-4000-8000-000000000001"
TIMESTAMP = "1767225600"
NOW_S = float(TIMESTAMP)
BODY = (
    b'{"type":"batch.succeeded","version":"v1","timestamp":"2026-01-01T00:00:00Z",'
    b'"data":{"id":"batches/abc","output_file_uri":"files/batch-abc"}}'
)
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="  # noqa: S105 - a published test vector
V1 = "v1,2DV7QYDEhUTs94SJqgvU98vNw2Wr8e1AIBOSvEwcKeg="
SEED = bytes(range(32))
X = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
V1A = "v1a,nhd0H66iGS8UpfOINsfRKpXublPcyBZ57aR9CBZtIR1wiAoHyALu1GZAg+rK658rS5mm23SEfLmbnJciPgitAA=="
JWKS = b'{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"}]}'
AUDIENCE = "https://jobs.example.com/webhook"
RSA_KEY = rsa.generate_private_key(65537, 2048)


def url64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def rsa_jwks(key: rsa.RSAPrivateKey = RSA_KEY, kid: str = "r1") -> bytes:
    numbers = key.public_key().public_numbers()
    n, e = (url64(value.to_bytes((value.bit_length() + 7) // 8)) for value in (numbers.n, numbers.e))
    return msgspec.json.encode({"keys": [{"kty": "RSA", "kid": kid, "n": n, "e": e}]})


KEYS = keys_of(JWKS)
ALL_KEYS = PublicKeys(KEYS.ed25519, keys_of(rsa_jwks()).rsa)
CLAIMS: dict[str, Any] = {
    "aud": AUDIENCE,
    "iat": int(TIMESTAMP),
    "exp": int(TIMESTAMP) + 300,
    "jti": ID,
    "sha256": hashlib.sha256(BODY).hexdigest(),
}


def jwt(claims: dict[str, Any] = CLAIMS, *, key: rsa.RSAPrivateKey = RSA_KEY, **head: Any) -> str:
    """A JWT as the documentation describes it."""
    parts: list[Any] = [{"alg": "RS256", "typ": "JWT", "kid": "r1"} | head, claims]
    text = ".".join(url64(msgspec.json.encode(part)) for part in parts)
    return f"{text}.{url64(key.sign(text.encode(), PKCS1v15(), SHA256()))}"


def headers(signature: str = V1, **changed: str) -> list[tuple[bytes, bytes]]:
    """The three headers, and others as every request has them."""
    values = {"host": "h", "webhook-id": ID, "webhook-timestamp": TIMESTAMP, "webhook-signature": signature} | changed
    return [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in values.items()]


def delivery(signature: str = V1, body: bytes = BODY, **changed: str) -> Delivery:
    return delivery_of(headers(signature, **changed), body)


def genuine(found: list[tuple[bytes, bytes]], body: bytes) -> bool:
    """What a receiver says of a request, with all keys and secrets at hand."""
    try:
        made = delivery_of(found, body)
        check_time(made, NOW_S, 300)
        event_of(body)
    except Refused:
        return False
    return signed_by_secret(made, [SECRET]) or signed_by_published(made, ALL_KEYS, audience=AUDIENCE, now_s=NOW_S)


def test_the_vectors_of_the_protocol() -> None:
    """Both signatures of protocol section 11 verify, and the JWK is the public half of its seed."""
    assert signed_by_secret(delivery(V1), [SECRET])
    assert signed_by_published(delivery(V1A), KEYS, audience="", now_s=NOW_S)
    assert Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw() == KEYS.ed25519[0]
    assert event_of(BODY) == Event("batch.succeeded", "batches/abc")


@pytest.mark.parametrize("signature", [V1, V1A, jwt()], ids=["v1", "v1a", "jwt"])
def test_no_byte_can_be_another(signature: str) -> None:
    """Each byte of the body, the signature and the id, changed to each other one, is refused; so for the timestamp.

    A JWT brings its own time and is not over the header's, which is held against the tolerance alone.
    """
    assert genuine(headers(signature), BODY)
    for changed in mutations(BODY):
        assert not genuine(headers(signature), changed), changed
    for changed in mutations(signature.encode()):
        assert not genuine(headers(changed.decode("latin-1")), BODY), changed
    for changed in mutations(ID.encode()):
        assert not genuine(headers(signature, webhook_id=changed.decode("latin-1")), BODY), changed
    for place, (name, value) in enumerate(headers(signature)):
        others = headers(signature)
        for changed in mutations(name) if name != b"host" else ():
            others[place] = (changed, value)
            assert not genuine(others, BODY), changed
    if "," in signature:
        for changed in mutations(TIMESTAMP.encode()):
            assert not genuine(headers(signature, webhook_timestamp=changed.decode("latin-1")), BODY), changed


def mutations(text: bytes) -> Iterator[bytes]:
    """Every bit turned, some bytes that mean something, each byte doubled, each left out."""
    for place in range(len(text)):
        others = {text[place] ^ 1 << bit for bit in range(8)} | set(b" ,.=\x00A0{")
        for other in others - {text[place]}:
            yield text[:place] + bytes([other]) + text[place + 1 :]
        yield text[:place] + text[place : place + 1] + text[place:]
        yield text[:place] + text[place + 1 :]


def test_any_of_several_secrets_and_items_is_enough() -> None:
    """During a rotation there are several signatures, and several secrets; unknown versions are nothing."""
    other = "whsec_" + base64.b64encode(b"another secret of 32 characters!").decode()
    assert signed_by_secret(delivery(f"v1,AAAA {V1}"), [SECRET])
    assert signed_by_secret(delivery(f"v1a,AAAA v9,x {V1}"), [other, SECRET])
    assert not signed_by_secret(delivery(V1), [other])
    assert not signed_by_secret(delivery(V1.replace("v1,", "v2,")), [SECRET])
    assert not signed_by_secret(delivery(V1), [])
    assert not signed_by_secret(delivery(V1A), [SECRET])


def test_the_wrong_kind_of_key_verifies_nothing() -> None:
    """An HMAC made with the empty secret, or with a public key as the secret, is worth nothing."""
    for secret in (b"", KEYS.ed25519[0], JWKS):
        digest = hmac.new(secret, delivery().signed, hashlib.sha256).digest()
        forged = delivery(f"v1,{base64.b64encode(digest).decode()}")
        assert not signed_by_secret(forged, ["", "whsec_", SECRET])
        assert not signed_by_published(forged, ALL_KEYS, audience=AUDIENCE, now_s=NOW_S)


@pytest.mark.parametrize(
    "signature",
    [
        jwt(CLAIMS | {"aud": "https://elsewhere.example.com/webhook"}),
        jwt({name: value for name, value in CLAIMS.items() if name != "aud"}),
        jwt({name: value for name, value in CLAIMS.items() if name != "exp"}),
        jwt(CLAIMS | {"exp": int(TIMESTAMP) - 61}),
        jwt(CLAIMS | {"iat": int(TIMESTAMP) + 61}),
        jwt(CLAIMS | {"exp": "never"}),
        jwt(CLAIMS | {"jti": "msg_other"}),
        jwt(CLAIMS | {"sha256": "0" * 64}),
        jwt(kid="r2"),
        jwt(kid=None),
        jwt(alg="none"),
        jwt(alg="HS256"),
        jwt(alg="RS512"),
        jwt(key=rsa.generate_private_key(65537, 2048)),
        jwt().rpartition(".")[0] + ".",
        jwt().rpartition(".")[0] + ".AAAA",
    ],
)
def test_a_token_that_must_not_pass(signature: str) -> None:
    """Another audience, time, message, body, key or algorithm, or no signature at all: refused."""
    assert not genuine(headers(signature), BODY)


def test_a_token_as_documented() -> None:
    """It passes for its audience, alone or in a list, bound to the body or not; never where we have no address."""
    plain = {name: CLAIMS[name] for name in ("aud", "exp")}
    for claims in (CLAIMS, plain, plain | {"aud": ["x", AUDIENCE]}):
        made = delivery(jwt(claims))
        assert signed_by_published(made, ALL_KEYS, audience=AUDIENCE, now_s=NOW_S)
        assert not signed_by_published(made, ALL_KEYS, audience="", now_s=NOW_S)


def test_the_time_is_held_against_both_sides() -> None:
    """Five minutes early or late are the last that pass."""
    made = delivery()
    for off_s in (-300, 0, 300):
        check_time(made, NOW_S + off_s, 300)
    for off_s in (-301, 301, 10**9):
        with pytest.raises(Refused) as caught:
            check_time(made, NOW_S + off_s, 300)
        assert caught.value.reason is Reason.TIME


@pytest.mark.parametrize(
    "changed",
    [
        {"webhook_id": ""},
        {"webhook_id": "a.1"},
        {"webhook_id": "x" * 129},
        {"webhook_id": "a b"},
        {"webhook_timestamp": ""},
        {"webhook_timestamp": "-1"},
        {"webhook_timestamp": "1e9"},
        {"webhook_timestamp": "\u0661"},
        {"webhook_timestamp": "1" * 13},
        {"webhook_signature": ""},
        {"webhook_signature": "v1," + "A" * 9000},
    ],
)
def test_headers_that_are_refused(changed: dict[str, str]) -> None:
    """Missing, malformed, ambiguous (a dot in the id could shift what is signed) and huge headers are refused."""
    plain = {"webhook_id": ID, "webhook_timestamp": TIMESTAMP, "webhook_signature": V1} | changed
    found = [(name.replace("_", "-").encode(), value.encode("utf-8")) for name, value in plain.items()]
    with pytest.raises(Refused) as caught:
        delivery_of(found, BODY)
    assert caught.value.reason is Reason.HEADERS


def test_a_doubled_header_is_refused() -> None:
    """Which of two would have been signed?"""
    for name, value in headers()[1:]:
        with pytest.raises(Refused):
            delivery_of([*headers(), (name, value)], BODY)


@pytest.mark.parametrize("spelling", ["user_metadata", "userMetadata"])
@pytest.mark.parametrize("inside", [True, False])
def test_our_token_is_found_wherever_it_stands(spelling: str, inside: bool) -> None:
    """The documentation does not say where the metadata is, or how it is spelt (protocol section 11.5)."""
    metadata = {spelling: {TOKEN_FIELD: "gq-x-1"}}
    data: dict[str, Any] = {"id": "abc"} | (metadata if inside else {})
    whole = {"type": "batch.failed", "data": data} | ({} if inside else metadata)
    assert event_of(msgspec.json.encode(whole)) == Event("batch.failed", "batches/abc", "gq-x-1")


@pytest.mark.parametrize(
    ("whole", "event"),
    [
        ({"type": "webhook.ping", "data": {"id": "h1"}}, Event("webhook.ping")),
        ({"type": "video.generated", "data": {"id": "batches/abc"}}, Event("video.generated")),
        ({"type": "batch.succeeded", "data": {"id": "../../x"}}, Event("batch.succeeded")),
        ({"type": "batch.succeeded", "data": {"id": 7, "user_metadata": [1]}}, Event("batch.succeeded")),
        (
            {"type": "batch.succeeded", "data": {"id": "b", "user_metadata": {TOKEN_FIELD: 1}}},
            Event("batch.succeeded", "batches/b"),
        ),
    ],
)
def test_events_of_something_else(whole: dict[str, Any], event: Event) -> None:
    """What is of no batch, or names none that could be one, is taken and says nothing."""
    assert event_of(msgspec.json.encode(whole)) == event


@given(st.binary(max_size=200) | st.sampled_from([b"[" * 5000, b'{"a":' * 5000, b'{"type":1,"data":{}}', b"null"]))
def test_garbage_is_no_event(raw: bytes) -> None:
    """Whatever the bytes, they are an event or are refused, and a key set or a ValueError."""
    with suppress(Refused):
        assert isinstance(event_of(raw), Event)
    with suppress(ValueError):
        assert isinstance(keys_of(raw), PublicKeys)


NAMES = st.sampled_from([b"webhook-id", b"webhook-timestamp", b"webhook-signature", b"x"])


@given(st.lists(st.tuples(NAMES, st.binary(max_size=60)), max_size=5), st.binary(max_size=60))
def test_garbage_is_not_genuine(found: list[tuple[bytes, bytes]], body: bytes) -> None:
    """No headers and body that were not signed are believed, and none makes the verifier fail."""
    assert not genuine(found, body)


@given(st.text(alphabet="v1a,. =+/AQgw-_", max_size=120))
def test_a_strange_signature_is_not_genuine(signature: str) -> None:
    """Whatever is made of the characters of signatures is refused without an error."""
    assert not genuine(headers(signature or "x"), BODY)


def test_keys_that_are_no_good_are_passed_over() -> None:
    """Short, long, misspelt and weak keys, and other kinds, are no keys; sixteen entries are looked at."""
    entries: list[dict[str, Any]] = [
        {"kty": "OKP", "crv": "Ed25519", "x": X[:-1]},
        {"kty": "OKP", "crv": "Ed25519", "x": X + "="},
        {"kty": "OKP", "crv": "X25519", "x": X},
        {"kty": "OKP", "crv": "Ed25519", "x": 7},
        {"kty": "RSA", "kid": "weak", "n": "AQAB", "e": "AQAB"},
        {"kty": "RSA", "kid": "odd", "n": url64(b"\xff" * 256), "e": "AQ"},
        {"kty": "oct", "k": "AAAA"},
    ]
    assert keys_of(msgspec.json.encode({"keys": entries})) == PublicKeys()
    good = {"kty": "OKP", "crv": "Ed25519", "x": X}
    assert len(keys_of(msgspec.json.encode({"keys": [good] * 100})).ed25519) == 16


def test_what_is_a_secret() -> None:
    """``whsec_`` and canonical base64 of at least 16 bytes."""
    assert is_secret(SECRET)
    assert not any(
        is_secret(text) for text in ("", "whsec_", "whsec_AAAA", SECRET[6:], SECRET + "x", "whsec_" + "é" * 40)
    )
