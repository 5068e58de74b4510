"""``gemqueue doctor --live``: the two named assumptions about the provider, put to the provider itself.

A-refused: a create that names a deleted input file is refused. A-survives: a job that was accepted goes on when its
input file is deleted afterwards. Nothing here touches the queue; one prompt is bought, and what was made is deleted.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from gemqueue.config import api_key_from_env, load_settings
from gemqueue.errors import Ambiguous, GemqueueError, ProviderError, Rejected
from gemqueue.requests import check_kind, check_model, generate_request, line
from gemqueue.states import JobState, Kind
from gemqueue_workers.manage.doctor import Finding
from gemqueue_workers.run.connection import connected
from gemqueue_workers.settings import make_provider

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from gemqueue.provider import JobStatus, Provider

_KEY: Final = "gemqueue-doctor"
_POLL_FIRST_S: Final = 0.5
_POLL_MAX_S: Final = 20.0


async def examine_live(model: str, *, emulate: bool | None, wait_s_max: float, job: str = "") -> list[Finding]:
    """Both assumptions, or with a ``job`` of an earlier try only how that one ended. Raises ConfigError."""
    settings = load_settings(emulate=emulate)
    check_kind(check_model(model), Kind.GENERATE)
    async with connected(settings, with_worker=False) as link:
        provider = make_provider(await link.provider_settings(), api_key_from_env())
        try:
            if job:
                return [await _ended(provider, job, wait_s_max)]
            return [finding async for finding in _assumptions(provider, model, wait_s_max)]
        except GemqueueError as error:
            return [Finding("live", "failed", f"the provider could not be asked: {error}")]
        finally:
            await provider.aclose()


async def _assumptions(provider: Provider, model: str, wait_s_max: float) -> AsyncGenerator[Finding]:
    yield await _refused(provider, model)
    token = f"{_KEY}-{secrets.token_hex(8)}"
    file = await _upload(provider, token)
    try:
        job = await provider.create(model=model, kind=Kind.GENERATE, file=file, token=token)
    except Ambiguous as error:
        said = f"nobody knows whether the job {token} was created: {error}; look for it in the console"
        yield Finding("A-survives", "warning", said)
        return
    finally:
        await provider.delete_file(file)
    yield await _ended(provider, job, wait_s_max)


async def _refused(provider: Provider, model: str) -> Finding:
    """A create over a file that is gone must be refused."""
    token = f"{_KEY}-{secrets.token_hex(8)}"
    file = await _upload(provider, token)
    await provider.delete_file(file)
    try:
        job = await provider.create(model=model, kind=Kind.GENERATE, file=file, token=token)
    except Rejected as error:
        return Finding("A-refused", "ok", f"a create that names a deleted file is refused ({error.code})")
    except ProviderError as error:
        return Finding("A-refused", "warning", f"the create was neither taken nor refused: {error}; try again")
    await provider.cancel(job)
    said = f"a create that names a deleted file was accepted ({job}, cancelled): a job in doubt could be bought twice"
    return Finding("A-refused", "failed", said)


async def _ended(provider: Provider, job: str, wait_s_max: float) -> Finding:
    """An accepted job must end with its answer though its input file is gone."""
    status = await _wait(provider, job, wait_s_max)
    if not status.state.terminal:
        said = f"{job} still runs after {wait_s_max:g} s; ask again later: gemqueue doctor --live --job {job}"
        return Finding("A-survives", "warning", said)
    rows = [row async for rows in provider.results(status) for row in rows] if status.has_output else []
    for file in filter(None, (status.output_file,)):
        with suppress(ProviderError):
            await provider.delete_file(file)
    with suppress(ProviderError):
        await provider.delete_job(job)
    if status.state is JobState.SUCCEEDED and any(b'"response"' in row for row in rows):
        return Finding("A-survives", "ok", f"{job} was answered after its input file had been deleted")
    why = status.error_message or f"{len(rows)} rows"
    said = f'{job} ended as {status.state} ({why}) after its input file had been deleted: keep delete_files = "ended"'
    return Finding("A-survives", "failed", said)


async def _wait(provider: Provider, job: str, wait_s_max: float) -> JobStatus:
    loop = asyncio.get_running_loop()
    deadline, pause_s = loop.time() + wait_s_max, _POLL_FIRST_S
    while True:
        status = await provider.poll(job)
        if status.state.terminal or loop.time() >= deadline:
            return status
        await asyncio.sleep(min(pause_s, max(0.0, deadline - loop.time())))
        pause_s = min(_POLL_MAX_S, pause_s * 2)


async def _upload(provider: Provider, name: str) -> str:
    body = line(_KEY, generate_request("Say ok."))

    async def chunks() -> AsyncIterator[bytes]:
        yield body

    return await provider.upload(chunks(), size_bytes=len(body), name=name)
