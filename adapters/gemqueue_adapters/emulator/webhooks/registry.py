"""The webhooks resource: registered hooks of a project, in snake_case throughout (protocol sections 11.1 to 11.3)."""

from __future__ import annotations

import base64
import secrets
import string
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from gemqueue_adapters.emulator.service.bodies import payload_error, read
from gemqueue_adapters.emulator.wire import (
    NOT_FOUND,
    ApiError,
    Json,
    page_size,
    page_start,
    page_token,
    project_of,
    timestamp,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from gemqueue_adapters.emulator.clock import Clock
    from gemqueue_adapters.emulator.service.store import Store

EVENTS = frozenset(
    {
        "batch.succeeded",
        "batch.failed",
        "batch.expired",
        "interaction.requires_action",
        "interaction.completed",
        "interaction.failed",
        "video.generated",
    }
)
"""What can be subscribed to; `batch.cancelled` is documented, but the service refuses it."""

DAY_MS = 24 * 3600 * 1000
BODY_MAX_BYTES = 64 << 10
ID_CHARS = string.ascii_lowercase + string.digits
Body = TypeVar("Body", bound=msgspec.Struct)
State = Literal["enabled", "disabled", "disabled_due_to_failed_deliveries"]


class Secret(msgspec.Struct, omit_defaults=True):
    """A signing secret; the old ones of a rotation live on for a while."""

    text: str
    expire_ms: int | None = None


class Webhook(msgspec.Struct, omit_defaults=True):
    """One registered hook."""

    id: str
    number: int
    project: str
    uri: str
    events: list[str]
    secrets: list[Secret]
    create_ms: int
    update_ms: int
    name: str | None = None
    state: State = "enabled"


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    """The writable fields; the others are accepted and have no effect, as of any output field."""

    name: str | None = None
    uri: str | None = None
    subscribed_events: list[str] | None = None
    state: State | None = None
    id: str | None = None
    create_time: str | None = None
    update_time: str | None = None
    signing_secrets: object = None
    new_signing_secret: object = None


class _Rotate(msgspec.Struct, forbid_unknown_fields=True):
    revocation_behavior: str = "revoke_previous_secrets_immediately"


class Webhooks:
    """The hooks of all projects, in memory and on disk, and their handlers."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._hooks: dict[str, Webhook] = {}
        self._number = 0

    def load(self) -> None:
        """Take up what is on disk."""
        for hook in sorted((hook for _, hook in self._store.load(Webhook)), key=lambda hook: hook.number):
            self._hooks[hook.id] = hook
            self._number = hook.number

    def reset(self) -> None:
        """Forget all hooks."""
        self._hooks.clear()
        self._store.clear()

    def subscribed(self, project: str, event: str) -> list[Webhook]:
        """The enabled hooks of a project that want this event."""
        mine = [hook for hook in self._hooks.values() if hook.project == project]
        return [hook for hook in mine if hook.state == "enabled" and event in hook.events]

    def find(self, hook_id: str) -> Webhook | None:
        """A hook by its id."""
        return self._hooks.get(hook_id)

    def live_secrets(self, hook: Webhook) -> list[str]:
        """The secrets that sign a delivery now, the newest first."""
        now_ms = self._clock.now_ms()
        return [each.text for each in hook.secrets if each.expire_ms is None or each.expire_ms > now_ms]

    def disable(self, hook: Webhook) -> None:
        """Give a hook up after deliveries that failed for too long."""
        hook.state = "disabled_due_to_failed_deliveries"
        self._save(hook)

    async def create(self, request: Request) -> Response:
        """Register a hook; the only answer that shows its secret."""
        project = project_of(request)
        asked = _decoded(await read(request, BODY_MAX_BYTES), _Asked)
        if not asked.uri or not asked.subscribed_events:
            raise ApiError(400, "uri and subscribed_events are required.")
        _check(asked)
        self._number += 1
        now_ms = self._clock.now_ms()
        hook = Webhook(
            id="".join(secrets.choice(ID_CHARS) for _ in range(36)),
            number=self._number,
            project=project,
            uri=asked.uri,
            events=asked.subscribed_events,
            secrets=[Secret(_new_secret())],
            create_ms=now_ms,
            update_ms=now_ms,
            name=asked.name,
        )
        self._hooks[hook.id] = hook
        self._save(hook)
        return Json(_shown(hook) | {"new_signing_secret": hook.secrets[0].text})

    async def list(self, request: Request) -> Response:
        """A page of the project's hooks, newest first."""
        project, size, below = project_of(request), page_size(request, 50, 1000), page_start(request)
        mine = [hook for hook in reversed(self._hooks.values()) if hook.project == project]
        rest = [hook for hook in mine if below is None or hook.number < below]
        shown = {"webhooks": [_shown(hook) for hook in rest[:size]]} if rest else {}
        return Json(shown | ({"next_page_token": page_token(rest[size - 1].number)} if len(rest) > size else {}))

    async def get(self, request: Request) -> Response:
        """One hook."""
        return Json(_shown(self.named(request)))

    async def update(self, request: Request) -> Response:
        """Change what the body gives, or what the mask names."""
        hook = self.named(request)
        asked = _decoded(await read(request, BODY_MAX_BYTES), _Asked)
        _check(asked)
        mask = request.query_params.get("update_mask") or request.query_params.get("updateMask") or ""
        names = {each.strip() for each in mask.split(",") if each.strip()}
        writable = {"name": "name", "uri": "uri", "subscribed_events": "events", "state": "state"}
        if unknown := names - set(writable):
            raise ApiError(400, f"Invalid field mask: {', '.join(sorted(unknown))[:80]}")
        for name, field in writable.items():
            value = getattr(asked, name)
            if value is not None and (not names or name in names):
                setattr(hook, field, value)
        hook.update_ms = self._clock.now_ms()
        self._save(hook)
        return Json(_shown(hook))

    async def delete(self, request: Request) -> Response:
        """Remove a hook; what is under way to it is not sent any more."""
        hook = self.named(request)
        del self._hooks[hook.id]
        self._store.drop(hook.id, "json")
        return Json({})

    async def rotate(self, request: Request) -> Response:
        """A new secret; the old ones end at once, or after a day in which deliveries carry both signatures."""
        hook = self.named(request)
        body = await read(request, BODY_MAX_BYTES)
        behavior = _decoded(body or b"{}", _Rotate).revocation_behavior.lower()
        if behavior not in {"revoke_previous_secrets_immediately", "revoke_previous_secrets_after_h24"}:
            raise ApiError(400, "Unknown revocation_behavior.")
        if behavior.endswith("immediately"):
            hook.secrets.clear()
        expire_ms = self._clock.now_ms() + DAY_MS
        for old in hook.secrets:
            old.expire_ms = min(old.expire_ms or expire_ms, expire_ms)
        hook.secrets.insert(0, Secret(_new_secret()))
        hook.update_ms = self._clock.now_ms()
        self._save(hook)
        return Json({"secret": hook.secrets[0].text})

    def named(self, request: Request) -> Webhook:
        """The hook that a request names.

        Raises:
            ApiError: 404, also for another project's hook.
        """
        project, hook = project_of(request), self._hooks.get(request.path_params["id"])
        if hook is None or hook.project != project:
            raise ApiError(404, NOT_FOUND)
        return hook

    def _save(self, hook: Webhook) -> None:
        self._store.put(hook.id, hook)


def _check(asked: _Asked) -> None:
    if asked.uri is not None and not asked.uri.startswith(("https://", "http://")):
        raise ApiError(400, "uri must be an HTTP or HTTPS address.")
    if unknown := set(asked.subscribed_events or ()) - EVENTS:
        raise ApiError(400, f"Invalid value at 'subscribed_events': {min(unknown)[:80]}")


def _decoded(body: bytes, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise payload_error(error) from error


def _new_secret() -> str:
    letters = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(32))
    return f"whsec_{base64.b64encode(letters.encode()).decode()}"


def _shown(hook: Webhook) -> dict[str, Any]:
    live = [
        {"truncated_secret": f"whsec_...{each.text[-4:]}"}
        | ({} if each.expire_ms is None else {"expire_time": timestamp(each.expire_ms)})
        for each in hook.secrets
    ]
    return {
        "id": hook.id,
        **({} if hook.name is None else {"name": hook.name}),
        "uri": hook.uri,
        "subscribed_events": hook.events,
        "state": hook.state,
        "signing_secrets": live,
        "create_time": timestamp(hook.create_ms, hook.number),
        "update_time": timestamp(hook.update_ms, hook.number),
    }
