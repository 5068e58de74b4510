"""The handlers of /_emulator: clock, faults, lies, ledger, expected answers, logs. No key, at most a token."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from gemqueue_adapters.emulator.answers.answers import answer
from gemqueue_adapters.emulator.faults import parse
from gemqueue_adapters.emulator.rows import Kind  # noqa: TC001 - msgspec reads the annotations
from gemqueue_adapters.emulator.service.lies import parse as lies
from gemqueue_adapters.emulator.service.models import HALF, usd
from gemqueue_adapters.emulator.service.runner import Tally
from gemqueue_adapters.emulator.webhooks.deliveries import is_loopback
from gemqueue_adapters.emulator.wire import ApiError, Json

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response

    from gemqueue_adapters.emulator.clock import Clock
    from gemqueue_adapters.emulator.faults import Faults
    from gemqueue_adapters.emulator.options import Options
    from gemqueue_adapters.emulator.routes.door import Door, Handler
    from gemqueue_adapters.emulator.routes.interactive import Interactive
    from gemqueue_adapters.emulator.routes.liar import Liar
    from gemqueue_adapters.emulator.service.batches import Batches
    from gemqueue_adapters.emulator.service.files import Files
    from gemqueue_adapters.emulator.service.jobs import Job
    from gemqueue_adapters.emulator.service.ledger import Ledger
    from gemqueue_adapters.emulator.webhooks.deliveries import Deliveries

Body = TypeVar("Body", bound=msgspec.Struct)


class _Advance(msgspec.Struct, forbid_unknown_fields=True):
    advance_s: float


class _Expect(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    request: msgspec.Raw
    kind: Kind = "generate"


class Control:
    """Handlers for tests and their tools."""

    def __init__(
        self,
        *,
        options: Options,
        clock: Clock,
        faults: Faults,
        files: Files,
        batches: Batches,
        ledger: Ledger,
        interactive: Interactive,
        deliveries: Deliveries,
        door: Door,
        liar: Liar,
    ) -> None:
        self._options = options
        self._clock = clock
        self._faults = faults
        self._files = files
        self._batches = batches
        self._ledger = ledger
        self._interactive = interactive
        self._deliveries = deliveries
        self._door = door
        self._liar = liar

    async def health(self, _request: Request) -> Response:
        """Say that the emulator is up, and in which mode."""
        options = self._options
        return Json({"ok": True, "answers": options.answers, "tier": options.tier, "seed": options.seed})

    async def show_clock(self, _request: Request) -> Response:
        """Virtual time."""
        return Json({"now_ms": self._clock.now_ms(), "offset_s": self._clock.offset_s})

    async def move_clock(self, request: Request) -> Response:
        """Push virtual time forward by `advance_s`."""
        self._clock.advance(_decoded(await request.body(), _Advance).advance_s)
        return await self.show_clock(request)

    async def show_faults(self, _request: Request) -> Response:
        """The faults in force with their counters."""
        return Json(self._faults.show())

    async def set_faults(self, request: Request) -> Response:
        """Put a list of faults in the place of the current ones."""
        try:
            self._faults.replace(parse(await request.body()))
        except ValueError as error:
            raise ApiError(400, str(error)) from error
        return Json(self._faults.show())

    async def show_lies(self, _request: Request) -> Response:
        """The lies in force with their counters."""
        return Json(self._liar.lies.show())

    async def set_lies(self, request: Request) -> Response:
        """Put a list of lies in the place of the current ones; their windows begin now."""
        try:
            self._liar.lies.replace(lies(await request.body()))
        except ValueError as error:
            raise ApiError(400, str(error)) from error
        return await self.show_lies(request)

    async def expect(self, request: Request) -> Response:
        """The response that a request gets from a model when no fault befalls it."""
        asked = _decoded(await request.body(), _Expect)
        raw = bytes(asked.request)
        model = self._options.answering(asked.model.removeprefix("models/"))
        response = answer(asked.kind, self._options.answers, model, raw, self._options.seed)
        return Json({"response": msgspec.Raw(response)})

    async def ledger(self, _request: Request) -> Response:
        """What has been bought: rows answered in jobs that ran, and keys that were answered in two of them."""
        jobs = list(self._batches.every())
        ran = await self._ran()
        states = [self._batches.status(job).state for job in jobs]
        twice = await asyncio.to_thread(self._ledger.bought_twice, list(ran.values()))
        shown: list[dict[str, Any]] = [
            {
                "name": f"batches/{job.id}",
                "display_name": job.display_name,
                "rows": job.rows,
                "state": state,
                "model": job.model,
                "kind": job.kind,
                "project": job.project,
                **_paid(job, state),
            }
            for job, state in zip(jobs, states, strict=True)
        ]
        return Json(
            {
                "rows_bought": sum(job.ran.tally.bought for job in jobs if job.id in ran and job.ran is not None),
                "prompt_tokens": sum(each["prompt_tokens"] for each in shown),
                "answer_tokens": sum(each["answer_tokens"] for each in shown),
                "interactive": self._interactive.bill(),
                "bought_twice": list(twice),
                "bought_again": sum(len(files) - 1 for files in twice.values()),
                "jobs": shown,
            }
        )

    async def rows(self, request: Request) -> Response:
        """Where a key appeared: every row that it got in a job that ran to its end, with the outcome."""
        key = request.query_params.get("key", "")
        found: list[dict[str, Any]] = []
        for job_id, path in (await self._ran()).items():
            outcomes = await asyncio.to_thread(self._ledger.find, key, path)
            found.extend({"job": f"batches/{job_id}", "outcome": outcome} for outcome in outcomes)
        return Json(found)

    async def bought(self, _request: Request) -> Response:
        """Every key that was answered, with the jobs in which it was: {key: [job]}."""
        names = {path: f"batches/{job_id}" for job_id, path in (await self._ran()).items()}
        found = await asyncio.to_thread(self._ledger.bought, list(names))
        return Json({key: [names[path] for path in files] for key, files in found.items()})

    async def _ran(self) -> dict[str, Path]:
        """The jobs that have brought results, whatever is told of them, with the file of their rows."""
        jobs = list(self._batches.every())
        await self._batches.settled(jobs)
        ran = [job.id for job in jobs if self._batches.status(job).state == "SUCCEEDED"]
        return {job_id: self._batches.store.path(job_id, "rows") for job_id in ran}

    async def requests(self, _request: Request) -> Response:
        """The last requests, oldest first; neither bodies nor keys."""
        return Json(list(self._door.requests))

    async def deliveries(self, _request: Request) -> Response:
        """The last attempts to deliver webhooks, oldest first."""
        return Json(list(self._deliveries.log))

    async def reset(self, _request: Request) -> Response:
        """Forget everything but the clock: jobs, files, webhooks, ledger, faults, lies, logs."""
        self._door.cancel()
        self._faults.replace([])
        self._liar.forget()
        await self._batches.reset()
        self._deliveries.reset()
        self._files.reset()
        self._interactive.reset()
        self._ledger.forget()
        self._door.requests.clear()
        return Json({})


def allowed(token: str | None, handler: Handler) -> Handler:
    """`handler` for those alone who bring the token; for everyone if there is none, but for pages of other places."""

    async def guarded(request: Request) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token is not None and not secrets.compare_digest(given.encode(), token.encode()):
            raise ApiError(403, "/_emulator needs the emulator's token here: Authorization: Bearer TOKEN.")
        own, origin = f"http://{request.headers.get('host')}", request.headers.get("origin")
        if token is None and (not is_loopback(own) or origin not in {None, own}):
            raise ApiError(403, "/_emulator is not for web pages of another place: their browser says Origin.")
        return await handler(request)

    return guarded


def _paid(job: Job, state: str) -> dict[str, Any]:
    tally = job.ran.tally if job.ran is not None and state == "SUCCEEDED" else Tally()
    return {
        "prompt_tokens": tally.prompt_tokens,
        "answer_tokens": tally.answer_tokens,
        "answered_by": tally.model or job.model,
        "usd": usd(
            tally.model or job.model,
            tally.prompt_tokens,
            tally.answer_tokens,
            job.create_ms,
            1.0 if job.fate.dear else HALF,
        ),
    }


def _decoded(body: bytes, kind: type[Body]) -> Body:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, str(error)) from error
