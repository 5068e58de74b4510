"""Signatures of webhooks (protocol section 11.6): HMAC of registered hooks, Ed25519 or a JWT of a job's own.

The asymmetric ones need the package `cryptography` (the extra `webhooks`); everything else works without it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from gemqueue_adapters.emulator.wire import ApiError

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

KEYS_COUNT = 3
"""How many Ed25519 keys the service was seen to publish; it does not say which of them it used."""

RSA_KEY_ID = "emulator-rsa"


def hmac_signature(secret: str, message_id: str, seconds: int, body: bytes) -> str:
    """The `v1` item of the signature header; the secret is `whsec_` and base64."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, signed(message_id, seconds, body), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def signed(message_id: str, seconds: int, body: bytes) -> bytes:
    """The bytes that are signed."""
    return b"%b.%d.%b" % (message_id.encode(), seconds, body)


class Keys:
    """The emulator's own key pairs: Ed25519 out of the seed, RSA made once and kept in the data folder."""

    def __init__(self, seed: int, rsa_path: Path) -> None:
        self._seed = seed
        self._rsa_path = rsa_path

    def available(self) -> None:
        """Say whether it can be signed.

        Raises:
            ApiError: 400, if `cryptography` is not installed.
        """
        if find_spec("cryptography") is None:
            install = "pip install 'gemqueue[webhooks]'"
            message = f"This emulator cannot sign a job's own webhooks without cryptography: {install}"
            raise ApiError(400, message, status="FAILED_PRECONDITION")

    def ed25519_signature(self, message_id: str, seconds: int, body: bytes) -> str:
        """The `v1a` item of the signature header, by the second of the published keys."""
        signature = self._ed25519[1].sign(signed(message_id, seconds, body))
        return f"v1a,{base64.b64encode(signature).decode()}"

    def jwt(self, message_id: str, seconds: int, body: bytes, audience: str) -> str:
        """The documented variant: a JWT (RS256) whose claims name the message and the digest of its body."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

        head = {"alg": "RS256", "typ": "JWT", "kid": RSA_KEY_ID}
        claims = {
            "iss": "https://generativelanguage.googleapis.com",
            "aud": audience,
            "iat": seconds,
            "exp": seconds + 300,
            "jti": message_id,
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        text = ".".join(_url64(json.dumps(part).encode()) for part in (head, claims))
        return f"{text}.{_url64(self._rsa.sign(text.encode(), PKCS1v15(), SHA256()))}"

    def jwks(self) -> dict[str, Any]:
        """The public keys, as `/.well-known/jwks.json` shows them.

        Raises:
            ApiError: 400, if `cryptography` is not installed.
        """
        self.available()
        shown: list[dict[str, Any]] = [
            {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": f"emulator-{place}", "x": _url64(raw)}
            for place, raw in enumerate(key.public_key().public_bytes_raw() for key in self._ed25519)
        ]
        numbers = self._rsa.public_key().public_numbers()
        rsa = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": RSA_KEY_ID}
        return {"keys": [*shown, rsa | {"n": _number(numbers.n), "e": _number(numbers.e)}]}

    @cached_property
    def _ed25519(self) -> list[Ed25519PrivateKey]:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        seeds = [hashlib.sha256(f"emulator:{self._seed}:{place}".encode()).digest() for place in range(KEYS_COUNT)]
        return [Ed25519PrivateKey.from_private_bytes(each) for each in seeds]

    @cached_property
    def _rsa(self) -> RSAPrivateKey:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

        if self._rsa_path.exists():
            key = serialization.load_pem_private_key(self._rsa_path.read_bytes(), None)
            if isinstance(key, rsa.RSAPrivateKey):
                return key
        made = rsa.generate_private_key(65537, 2048)
        self._rsa_path.touch(0o600)
        self._rsa_path.write_bytes(
            made.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return made


def _number(value: int) -> str:
    return _url64(value.to_bytes((value.bit_length() + 7) // 8))


def _url64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
