"""Webhooks as the service sends them: whether a delivery is genuine, and what it says (protocol section 11).

Pure functions over bytes. What the signature header holds decides how it is verified (section 11.6): ``v1`` items are
HMACs with the secret of a registered hook, ``v1a`` items Ed25519 signatures with one of the published keys, and a bare
token is the JWT that the documentation describes. Encodings must be canonical, so that no byte of a header or of the
body can be another one. The asymmetric kinds need the package ``cryptography`` (the extra ``webhooks``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TOKEN_FIELD: Final = "gemqueue_token"  # noqa: S105 - the name of a field of userMetadata
EVENTS: Final = ("batch.succeeded", "batch.failed", "batch.expired")
"""What a hook of ours subscribes to: ``batch.cancelled`` is documented, but the live service refuses it."""

_ITEMS_MAX: Final = 4  # a rotation has two; each is tried with each key, and that is CPU for whoever asks
_KEYS_MAX: Final = 16
_HEADER_CHARS_MAX: Final = 8192
SECRETS_MAX: Final = 16
_RSA_BITS: Final = range(2048, 8193)
_JWT_LEEWAY_S: Final = 60
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")  # no dot: the signed text must have one reading
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_JOB = re.compile(r"(?:batches/)?([A-Za-z0-9][A-Za-z0-9._-]{0,127})")
_JWT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class Reason(StrEnum):
    """Why a delivery is refused; each is a counter of its own."""

    HEADERS = "headers"
    """A header is missing, doubled or malformed."""
    TIME = "time"
    """It was signed too long ago, or in the future."""
    SIGNATURE = "signature"
    """No signature in it verifies."""
    KEYS = "keys"
    """There is nothing to verify it with: no secret, no published key, or no package for it."""
    BODY = "body"
    """It is genuine, and cannot be read."""


class Refused(Exception):  # noqa: N818 - as the provider's errors
    """A delivery that is not believed."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Delivery(msgspec.Struct, frozen=True):
    """One request as it came: the three headers, and the very bytes of the body."""

    id: str
    timestamp: str
    signature: str
    body: bytes

    @property
    def signed(self) -> bytes:
        """What the signature is over."""
        return f"{self.id}.{self.timestamp}.".encode() + self.body

    def items(self, version: str) -> list[str]:
        """The signatures of this version, still in base64."""
        items = self.signature.split(" ")[:_ITEMS_MAX]
        return [item.removeprefix(f"{version},") for item in items if item.startswith(f"{version},")]

    @property
    def jwt(self) -> str:
        """The JWT, where the header holds one."""
        return self.signature if _JWT.fullmatch(self.signature) else ""

    @property
    def asymmetric(self) -> bool:
        """Whether only the published keys can verify it."""
        return bool(self.jwt or self.items("v1a"))


class PublicKeys(msgspec.Struct, frozen=True):
    """What a JWKS publishes: raw Ed25519 keys, and RSA keys (modulus and exponent) by their id."""

    ed25519: tuple[bytes, ...] = ()
    rsa: dict[str, tuple[int, int]] = {}


class _KeySet(msgspec.Struct, frozen=True):
    keys: list[dict[str, Any]]


class Event(msgspec.Struct, frozen=True):
    """What a delivery says. ``job`` is a resource name, or empty where the event is of no batch; ``token`` is ours."""

    type: str
    job: str = ""
    token: str = ""


def delivery_of(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> Delivery:
    """The delivery that a request carries; header names come in lower case. Raises Refused."""
    found = [(name, value) for name, value in headers if name.startswith(b"webhook-")]
    values = {name: value.decode("latin-1") for name, value in found}
    id_, timestamp = values.get(b"webhook-id", ""), values.get(b"webhook-timestamp", "")
    signature = values.get(b"webhook-signature", "")
    if len(found) != len(values) or not signature or len(signature) > _HEADER_CHARS_MAX:
        raise Refused(Reason.HEADERS, "webhook-id, webhook-timestamp and webhook-signature must be there, once each")
    if not _ID.fullmatch(id_) or not _TIMESTAMP.fullmatch(timestamp):
        raise Refused(Reason.HEADERS, "webhook-id or webhook-timestamp is malformed")
    return Delivery(id_, timestamp, signature, body)


def check_time(delivery: Delivery, now_s: float, tolerance_s: float) -> None:
    """Raise Refused when it was signed more than ``tolerance_s`` from now, on either side (section 11.4)."""
    if abs(int(delivery.timestamp) - now_s) > tolerance_s:
        raise Refused(Reason.TIME, f"webhook-timestamp is more than {tolerance_s:.0f} s from now")


def is_secret(text: str) -> bool:
    """Whether it looks like a signing secret: ``whsec_`` and base64 of 16 bytes or more."""
    return text.startswith("whsec_") and len(_decoded(text.removeprefix("whsec_")) or b"") >= 16


def signed_by_secret(delivery: Delivery, secrets: Sequence[str]) -> bool:
    """Whether any ``v1`` item is the HMAC with any of the secrets; several live during a rotation."""
    given = [item.encode("latin-1") for item in delivery.items("v1")]
    signed = delivery.signed
    genuine = False
    for secret in secrets[:SECRETS_MAX]:
        key = _decoded(secret.removeprefix("whsec_")) or b""
        digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
        for item in given:  # all of them, always: how long it takes says nothing
            genuine |= hmac.compare_digest(digest, item) and bool(key)
    return genuine


def signed_by_published(delivery: Delivery, keys: PublicKeys, *, audience: str, now_s: float) -> bool:
    """Whether one of the published keys has signed it: ``v1a`` names none, so each is tried; a JWT names its own.

    A JWT must be meant for ``audience`` and be of now. The documentation binds it neither to the message nor to the
    body; where its claims do (``jti``, ``sha256``), they are held against both.
    """
    if delivery.jwt:
        return _jwt_verifies(delivery, keys, audience, now_s)
    return any(_ed25519_verifies(delivery, item, key) for item in delivery.items("v1a") for key in keys.ed25519)


def _ed25519_verifies(delivery: Delivery, item: str, key: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    signature = _decoded(item)
    if signature is None or len(signature) != 64:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, delivery.signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _jwt_verifies(delivery: Delivery, keys: PublicKeys, audience: str, now_s: float) -> bool:
    head, claims, tail = delivery.jwt.split(".")
    fields, signature = _json_of(head), _decoded_url(tail)
    number = keys.rsa.get(str(fields.get("kid", "")))
    if fields.get("alg") != "RS256" or number is None or signature is None:
        return False
    return _rsa_verifies(number, signature, f"{head}.{claims}".encode()) and _claims_hold(
        _json_of(claims), delivery, audience, now_s
    )


def _rsa_verifies(number: tuple[int, int], signature: bytes, text: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

    try:
        RSAPublicNumbers(number[1], number[0]).public_key().verify(signature, text, PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


def _claims_hold(claims: dict[str, Any], delivery: Delivery, audience: str, now_s: float) -> bool:
    named: Any = claims.get("aud")
    ends, issued = claims.get("exp"), claims.get("iat", now_s)
    digest = hashlib.sha256(delivery.body).hexdigest()
    return (
        bool(audience)
        and (named == audience or (isinstance(named, list) and audience in named))
        and isinstance(ends, int | float)
        and isinstance(issued, int | float)
        and issued - _JWT_LEEWAY_S <= now_s <= ends + _JWT_LEEWAY_S
        and claims.get("jti", delivery.id) == delivery.id
        and claims.get("sha256", digest) == digest
    )


def keys_of(raw: bytes) -> PublicKeys:
    """The keys of a JWKS that can verify anything; others are passed over. Raises ValueError when it is none."""
    try:
        listed = msgspec.json.decode(raw, type=_KeySet).keys
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("the key set has no list of keys") from error
    ed25519: list[bytes] = []
    rsa: dict[str, tuple[int, int]] = {}
    for entry in listed[:_KEYS_MAX]:
        text: dict[str, str] = {name: value for name, value in entry.items() if isinstance(value, str)}
        if (text.get("kty"), text.get("crv")) == ("OKP", "Ed25519"):
            key = _decoded_url(text.get("x", "")) or b""
            ed25519 += [key] if len(key) == 32 else []
        elif text.get("kty") == "RSA" and "kid" in text:
            n, e = (int.from_bytes(_decoded_url(text.get(name, "")) or b"") for name in ("n", "e"))
            if n.bit_length() in _RSA_BITS and e in range(3, 1 << 32):
                rsa[text["kid"]] = (n, e)
    return PublicKeys(tuple(ed25519), rsa)


def event_of(body: bytes) -> Event:
    """What a genuine delivery says; anything that is not of a batch has no job. Raises Refused when it is no event."""
    try:
        found = _json(body)
    except ValueError as error:
        raise Refused(Reason.BODY, "the body is no JSON object") from error
    kind: Any = found.get("type")
    data = _object(found.get("data"))
    if not isinstance(kind, str) or data is None:
        raise Refused(Reason.BODY, "the body is no event: type and data are missing")
    id_: Any = data.get("id")
    job = _JOB.fullmatch(id_) if kind.startswith("batch.") and isinstance(id_, str) else None
    return Event(kind[:100], f"batches/{job[1]}" if job else "", _token_in(data) or _token_in(found))


def _token_in(place: dict[str, Any]) -> str:
    """Where ``userMetadata`` stands in an event is not documented, nor how it is spelt (section 11.5)."""
    for name in ("user_metadata", "userMetadata"):
        token: Any = (_object(place.get(name)) or {}).get(TOKEN_FIELD)
        if isinstance(token, str):
            return token[:200]
    return ""


def _json(raw: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("no JSON object") from error


def _object(value: object) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _json_of(part: str) -> dict[str, Any]:
    try:
        return _json(_decoded_url(part) or b"")
    except ValueError:
        return {}


def _decoded(text: str) -> bytes | None:
    """Base64 in its one canonical spelling; None for anything else."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if base64.b64encode(raw).decode() == text else None


def _decoded_url(text: str) -> bytes | None:
    """The same for the unpadded alphabet of JWT and JWKS."""
    plain = text.translate(str.maketrans("-_", "+/"))
    return _decoded(plain + "=" * (-len(plain) % 4)) if not set("+/=") & set(text) else None
