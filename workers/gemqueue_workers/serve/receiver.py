"""The receiver of webhooks: a genuine event makes its batch's next look due now, and nothing else.

A delivery's life: its body is read, bounded in bytes and in time; its headers are checked, then its timestamp, then its
signature, and only then is it looked into. An event of a batch goes to the store, which hears each one once, whichever
server it came to. Whatever is wrong with a delivery is answered with 4xx and counted; the counts are gathered here and
written about once a second, so that a flood of forgeries costs Redis nothing. When the store is away the answer is
503, and the provider tries again, for a day (protocol section 11.4).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Final

import structlog

from gemqueue.effects import Effect, effect
from gemqueue.errors import GemqueueError
from gemqueue.store.scripts import ServerError
from gemqueue.tasks import end_tasks, ending
from gemqueue_adapters import webhooks
from gemqueue_adapters.webhooks import Delivery, Reason, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gemqueue.clock import Clock
    from gemqueue.config import Settings
    from gemqueue.store.store import Store
    from gemqueue_adapters.jwks import KeySource
    from gemqueue_workers.serve.signing_secrets import SigningSecrets

log: structlog.stdlib.BoundLogger = structlog.get_logger("gemqueue.serve")

_FLUSH_S: Final = 1.0
_NO_KEYS: Final = (
    "a job's own webhooks cannot be verified here: pip install 'gemqueue[webhooks]' (cryptography), and where "
    "an emulator sends them, set base_url to it"
)
_STATUS: Final = {
    Reason.HEADERS: 400,
    Reason.TIME: 401,
    Reason.SIGNATURE: 401,
    Reason.KEYS: 401,
    Reason.BODY: 400,
}


class Tally:
    """Counts of what was refused, on their way to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: Counter[str] = Counter()
        self._last: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write them."""
        self._task = asyncio.create_task(self._flush_forever())

    def refuse(self, reason: str, message: str) -> None:
        """Count one delivery that was refused."""
        self._counts[f"events_refused_{reason}"] += 1
        self._last[str(reason)] = message

    async def stop(self) -> None:
        """Write the rest."""
        await end_tasks([self._task] if self._task else [])
        await self._flush()

    async def _flush_forever(self) -> None:
        while not ending():
            await asyncio.sleep(_FLUSH_S)
            await self._flush()

    async def _flush(self) -> None:
        if not self._counts:
            return
        counts, self._counts = self._counts, Counter()
        log.warning("events.refused", counts=dict(counts), why=self._last)
        self._last = {}
        try:
            await self._store.add_counts({**counts, "events_refused": counts.total()})
        except (GemqueueError, ServerError):
            self._counts += counts


class Receiver:
    """Decides on deliveries. ``secrets`` are those of registered hooks; without ``keys`` a job's own are refused."""

    def __init__(
        self, *, store: Store, settings: Settings, clock: Clock, secrets: SigningSecrets, keys: KeySource | None
    ) -> None:
        self.tally = Tally(store)
        self._store = store
        self._settings = settings
        self._clock = clock
        self._secrets = secrets
        self._keys = keys

    async def take(self, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> int:
        """The HTTP status for a delivery. Raises StoreUnavailable."""
        try:
            delivery = webhooks.delivery_of(headers, body)
            await self._check(delivery)
            event = webhooks.event_of(body)
        except Refused as error:
            self.tally.refuse(error.reason, str(error))
            return _STATUS[error.reason]
        if not event.job:
            log.info("event.of_no_batch", event_type=event.type)
            return 204
        with effect(Effect.SERVE_ANNOUNCE):
            word, batch = await self._store.announce(delivery.id, event.job, event.token)
        level = log.error if word == "stray" else log.info
        level("event.taken", event_type=event.type, job=event.job, batch=batch, then=word)
        return 204

    async def _check(self, delivery: Delivery) -> None:
        webhooks.check_time(delivery, self._now_s, self._settings.webhook_tolerance_s)
        if not (self._by_secret(delivery) or await self._published(delivery)):
            raise Refused(Reason.SIGNATURE, "no signature in webhook-signature verifies")

    def _by_secret(self, delivery: Delivery) -> bool:
        return webhooks.signed_by_secret(delivery, self._secrets.known) or (
            self._secrets.changed() and webhooks.signed_by_secret(delivery, self._secrets.known)
        )

    @property
    def _now_s(self) -> float:
        return self._clock.now_ms() / 1000

    async def _published(self, delivery: Delivery) -> bool:
        """Whether one of the service's published keys signed it; unknown ones are asked for, at a bounded rate."""
        if not delivery.asymmetric:
            if not self._secrets.known:
                raise Refused(Reason.KEYS, "GEMQUEUE_WEBHOOK_SECRETS is not set, so no registered hook can be verified")
            return False
        if self._keys is None:
            raise Refused(Reason.KEYS, _NO_KEYS)
        if self._verifies(delivery, await self._keys.keys()):
            return True
        if await self._keys.refresh():
            return self._verifies(delivery, await self._keys.keys())
        if self._keys.error:
            raise Refused(Reason.KEYS, f"the published keys cannot be had: {self._keys.error}")
        return False

    def _verifies(self, delivery: Delivery, keys: webhooks.PublicKeys) -> bool:
        audience = self._settings.webhook_url
        return webhooks.signed_by_published(delivery, keys, audience=audience, now_s=self._now_s)
