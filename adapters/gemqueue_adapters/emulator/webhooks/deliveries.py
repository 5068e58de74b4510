"""Telling webhooks that jobs have ended: at least once, in no order, again and again for a day (protocol section 11.4).

Waiting goes by virtual time. What is under way is on disk, so a restarted emulator goes on. Only loopback addresses
are called unless the options say otherwise; the log shows what was not sent, and why.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import uuid
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import msgspec

from gemqueue_adapters.emulator.faults import Fault  # noqa: TC001 - msgspec reads the annotations
from gemqueue_adapters.emulator.webhooks.signing import Keys, hmac_signature
from gemqueue_adapters.emulator.wire import CODE_NAMES, Json, timestamp

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from gemqueue_adapters.emulator.clock import Clock
    from gemqueue_adapters.emulator.faults import Faults
    from gemqueue_adapters.emulator.options import Options
    from gemqueue_adapters.emulator.service.batches import Batches
    from gemqueue_adapters.emulator.service.jobs import Job, Status
    from gemqueue_adapters.emulator.service.store import Store
    from gemqueue_adapters.emulator.webhooks.registry import Webhooks

log = logging.getLogger("gemqueue.emulator")
POLL_S = 0.02
ANSWER_S = 5.0
"""How long a receiver may take to answer, in real seconds."""

RETRY_FIRST_S, RETRY_MAX_S, GIVE_UP_S = 5.0, 3600.0, 24 * 3600.0
OLD_S = 600.0
LOG_MAX = 5000
TYPES = {"SUCCEEDED": "batch.succeeded", "FAILED": "batch.failed", "EXPIRED": "batch.expired"}


class Message(msgspec.Struct, omit_defaults=True):
    """One event on its way to one address; `hook` is the registered hook, None for a job's own address."""

    id: str
    uri: str
    event: str
    body: str
    first_ms: int
    due_ms: int
    hook: str | None = None
    attempts: int = 0
    fault: Fault | None = None


class Deliveries:
    """The sender: watches the jobs, keeps what is under way, tries until it is taken or too old."""

    def __init__(
        self,
        *,
        options: Options,
        store: Store,
        clock: Clock,
        faults: Faults,
        webhooks: Webhooks,
        batches: Batches,
        keys: Keys,
    ) -> None:
        self.log: deque[dict[str, Any]] = deque(maxlen=LOG_MAX)
        self._anywhere = options.webhooks_anywhere
        self._store = store
        self._clock = clock
        self._faults = faults
        self._webhooks = webhooks
        self._batches = batches
        self._keys = keys
        self._http = httpx.AsyncClient(timeout=ANSWER_S, trust_env=False, follow_redirects=False)
        self._sending: dict[str, asyncio.Task[None]] = {}
        self._watching: asyncio.Task[None] | None = None

    def load(self) -> None:
        """Go on with what is on disk, and begin to watch the jobs."""
        for _, message in list(self._store.load(Message)):
            self._send(message)
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop; what is under way stays on disk."""
        tasks = [*self._sending.values(), *([self._watching] if self._watching else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.aclose()

    def reset(self) -> None:
        """Forget everything that is under way, and the hooks."""
        for task in self._sending.values():
            task.cancel()
        self._store.clear()
        self._webhooks.reset()
        self.log.clear()

    async def ping(self, request: Request) -> Response:
        """Send a test event to a hook, whatever its state is."""
        hook = self._webhooks.named(request)
        await request.body()
        self._tell("webhook.ping", {"id": hook.id}, [(hook.uri, hook.id)])
        return Json({})

    async def jwks(self, _request: Request) -> Response:
        """The public keys, with which the signatures of a job's own webhooks are verified."""
        return Json(self._keys.jwks())

    async def _watch(self) -> None:
        while True:
            await self._batches.untold.wait()
            for job, at in self._batches.ended():
                try:
                    self._tell_of(job, at)
                    self._batches.told(job)
                except Exception:
                    log.exception("the end of a job could not be told")
            await asyncio.sleep(POLL_S)

    def _tell_of(self, job: Job, at: Status) -> None:
        event = TYPES.get(at.state)
        if event is None:
            return
        data: dict[str, Any] = {"id": f"batches/{job.id}"}
        if event == "batch.succeeded" and not job.inline_output:
            data["output_file_uri"] = f"files/batch-{job.id}"
        if event == "batch.failed" and at.error is not None:
            data |= {"error_code": CODE_NAMES.get(at.error["code"], "UNKNOWN"), "error_message": at.error["message"]}
        if job.hook is not None:
            if job.hook.metadata:
                data["user_metadata"] = job.hook.metadata
            self._tell(event, data, [(uri, None) for uri in job.hook.uris])
        else:
            self._tell(event, data, [(hook.uri, hook.id) for hook in self._webhooks.subscribed(job.project, event)])

    def _tell(self, event: str, data: dict[str, Any], to: list[tuple[str, str | None]]) -> None:
        now_ms = self._clock.now_ms()
        whole = {"type": event, "version": "v1", "timestamp": timestamp(now_ms)[:19] + "Z", "data": data}
        for uri, hook in to:
            message = Message(
                f"msg_{uuid.uuid4()}", uri, event, msgspec.json.encode(whole).decode(), now_ms, now_ms, hook
            )
            message.fault = self._faults.at_webhook(event, uri)
            if message.fault is not None and message.fault.do == "late":
                message.due_ms += int(message.fault.seconds * 1000)
            self._store.put(message.id, message)
            self._send(message)

    def _send(self, message: Message) -> None:
        task = asyncio.create_task(self._deliver(message))
        self._sending[message.id] = task
        task.add_done_callback(lambda _: self._sending.pop(message.id, None))

    async def _deliver(self, message: Message) -> None:
        while not await self._attempt(message):
            message.attempts += 1
            wait_s = min(RETRY_FIRST_S * 2 ** min(message.attempts - 1, 20), RETRY_MAX_S)
            message.due_ms = self._clock.now_ms() + int(wait_s * 1000)
            if message.due_ms - message.first_ms > GIVE_UP_S * 1000:
                hook = self._webhooks.find(message.hook or "")
                if hook is not None:
                    self._webhooks.disable(hook)
                break
            self._store.put(message.id, message)
        self._store.drop(message.id, "json")

    async def _attempt(self, message: Message) -> bool:
        """Wait until it is time, then send; whether the message is done with."""
        while self._clock.now_ms() < message.due_ms:  # noqa: ASYNC110 - the clock may be moved by another process
            await asyncio.sleep(POLL_S)
        if message.hook is not None and self._webhooks.find(message.hook) is None:
            return True
        do = message.fault.do if message.fault is not None else ""
        if do == "lost":
            self._note(message, None, "lost by a fault")
            return True
        if not self._anywhere and not is_loopback(message.uri):
            self._note(message, None, "not a loopback address")
            return True
        done = await self._post(message)
        if do == "doubled" and done:
            await self._post(message)
        return done

    async def _post(self, message: Message) -> bool:
        body = message.body.encode()
        headers = {"content-type": "application/json", **self._signed(message, body)}
        status, note = None, ""
        try:
            status = (await self._http.post(message.uri, content=body, headers=headers)).status_code
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            note = type(error).__name__
        self._note(message, status, note)
        return status is not None and 200 <= status < 300

    def _signed(self, message: Message, body: bytes) -> dict[str, str]:
        fault = message.fault
        do = fault.do if fault is not None else ""
        seconds = self._clock.now_ms() // 1000
        if fault is not None and do == "old_timestamp":
            seconds -= int(fault.seconds or OLD_S)
        text = body + b" " if do == "bad_signature" else body
        hook = self._webhooks.find(message.hook or "")
        if hook is not None:
            secrets = self._webhooks.live_secrets(hook)
            signature = " ".join(hmac_signature(secret, message.id, seconds, text) for secret in secrets)
        elif do == "jwt":
            signature = self._keys.jwt(message.id, seconds, text, message.uri)
        else:
            signature = self._keys.ed25519_signature(message.id, seconds, text)
        return {"webhook-id": message.id, "webhook-timestamp": str(seconds), "webhook-signature": signature}

    def _note(self, message: Message, status: int | None, note: str) -> None:
        entry: dict[str, Any] = {
            "time_ms": self._clock.now_ms(),
            "message": message.id,
            "event": message.event,
            "uri": message.uri,
            "attempt": message.attempts + 1,
            "status": status,
        }
        self.log.append(entry | ({"note": note} if note else {}))


def is_loopback(uri: str) -> bool:
    """Whether an address names this machine for certain: localhost, or an address of the loopback network."""
    with suppress(ValueError):
        host = urlsplit(uri).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    return False
