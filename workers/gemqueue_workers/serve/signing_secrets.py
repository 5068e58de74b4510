"""The signing secrets of registered webhooks, as variable or file have them.

A file is read again when a signature does not verify, at most every five seconds: so a secret that was rotated counts
without a restart, and a flood of forgeries costs a few readings. One that cannot be read then changes nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog

from gemqueue.accounts import webhook_secrets_from_env
from gemqueue.errors import ConfigError
from gemqueue.variables import FILE, WEBHOOK_SECRETS_ENV, source_of
from gemqueue_adapters.webhooks import is_secret

if TYPE_CHECKING:
    from collections.abc import Callable

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.serve")

_AGAIN_S: Final = 5.0


class SigningSecrets:
    """Those that are known. Raises ConfigError where one is no secret, or the file cannot be read at the start."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.known = read_secrets()
        self._in_file = source_of(WEBHOOK_SECRETS_ENV).endswith(FILE)
        self._read_s = monotonic()

    def changed(self) -> bool:
        """Whether the file holds others than were known; they are known from now on."""
        if not self._in_file or self._monotonic() - self._read_s < _AGAIN_S:
            return False
        self._read_s = self._monotonic()
        before = self.known
        try:
            self.known = read_secrets()
        except ConfigError as error:
            log.warning("secrets.unreadable", error=str(error))
            return False
        if self.known != before:
            log.info("secrets.changed", secrets=len(self.known))
        return self.known != before


def read_secrets() -> tuple[str, ...]:
    """All of them. Raises ConfigError, which says which of them is none, and not what it is."""
    secrets = tuple(webhook_secrets_from_env())
    for number, secret in enumerate(secrets, 1):
        if not is_secret(secret):
            name = source_of(WEBHOOK_SECRETS_ENV)
            raise ConfigError(f"{name}: number {number} is no signing secret (whsec_ and base64)")
    return secrets
