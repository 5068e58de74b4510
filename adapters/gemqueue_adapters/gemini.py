"""The Gemini Batch API over its native REST surface: generate and embed batches by input file.

Section numbers are those of the protocol reference. Where sources conflict, this reads tolerantly and writes what the
official clients write.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from gemqueue.errors import Ambiguous, ConfigError, Rejected, Transient
from gemqueue.provider import JobStatus, Limits, Search, StoredFile
from gemqueue.states import Kind
from gemqueue_adapters.http import Http
from gemqueue_adapters.interactive import compact, interactive_request
from gemqueue_adapters.lines import LineSplitter, LineTooLong
from gemqueue_adapters.operations import FileInfo, file_of, files_of, inline_rows, page_of, status_of
from gemqueue_adapters.resource_names import FILE, FILE_CHARS_MAX, GENERATED_FILE, JOB, checked_name, model_path
from gemqueue_adapters.upload import CHUNKS_AT_ONCE, HEARTBEAT_S, ResumableUpload, no_progress
from gemqueue_adapters.webhooks import TOKEN_FIELD

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    import httpx

BASE_URL: Final = "https://generativelanguage.googleapis.com"
PAGE_SIZE: Final = 100  # always sent: without it a list was once empty (section 6)
PAGES_MAX: Final = 1_000
ROWS_PER_LIST: Final = 256

_VERBS: Final = {Kind.GENERATE: "batchGenerateContent", Kind.EMBED: "asyncBatchEmbedContent"}
_ERROR: Final = 400
_CALLS: Final = {Kind.GENERATE: "generateContent", Kind.EMBED: "embedContent"}
_VERSION = re.compile(r"v[0-9][a-z0-9]{0,15}")


class GeminiProvider:
    """One account at the Gemini API; implements ``gemqueue.provider.Provider``.

    ``base_url`` may carry a path prefix and must be https, or http on loopback. ``emulate`` says which kind of server
    is meant, and any reply of the other kind raises ``ConfigError`` unread. ``create_timeout_s`` bounds a create as a
    whole; ``timeout_s`` each wait for the other side. ``poll_file_s`` is the first pause between looks at a file that
    is still processing, ``processing_timeout_s`` the longest wait for it. ``webhook_url`` is told of each generate
    job's end.

    Raises ``ConfigError`` for a key or URL that cannot be right.
    """

    def __init__(
        self,
        *,
        api_key: str,
        account: str,
        base_url: str = BASE_URL,
        api_version: str = "v1beta",
        emulate: bool = False,
        timeout_s: float = 30.0,
        create_timeout_s: float = 20.0,
        poll_file_s: float = 0.5,
        processing_timeout_s: float = 900.0,
        webhook_url: str = "",
        limits: Limits | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not _VERSION.fullmatch(api_version):
            raise ConfigError("the API version must look like v1 or v1beta")
        self._http = Http(base_url=base_url, api_key=api_key, emulate=emulate, timeout_s=timeout_s)
        self._account = account
        self._key_print = hashlib.sha256(api_key.encode()).hexdigest()[:12]
        self._version = api_version
        self._create_timeout_s = create_timeout_s
        self._poll_file_s = poll_file_s
        self._processing_timeout_s = processing_timeout_s
        self._webhook_url = webhook_url
        self._limits = limits or Limits()
        self._sleep = sleep
        self._slots = asyncio.Semaphore(CHUNKS_AT_ONCE)
        self._results_stay = False

    def __repr__(self) -> str:
        return f"GeminiProvider({self._account!r}, {self._http.origin})"

    @property
    def account(self) -> str:
        """The account's id, as lanes carry it."""
        return self._account

    @property
    def key_print(self) -> str:
        """A fingerprint of the key."""
        return self._key_print

    @property
    def limits(self) -> Limits:
        """What the API takes (section 13)."""
        return self._limits

    @property
    def create_timeout_s(self) -> float:
        """The longest that ``create`` may stay in flight, its probe included."""
        return self._create_timeout_s

    async def upload(
        self,
        chunks: AsyncIterator[bytes],
        *,
        size_bytes: int,
        name: str,
        progress: Callable[[int], Awaitable[None]] | None = None,
    ) -> str:
        """Upload an input file and wait until it is ACTIVE (section 8.2). See ``Provider.upload``.

        Raises ``ValueError`` when ``chunks`` does not hold exactly ``size_bytes``.
        """
        await self._probe("upload")
        progress = progress or no_progress
        upload = ResumableUpload(
            self._http, size_bytes=size_bytes, name=name, progress=progress, sleep=self._sleep, slots=self._slots
        )
        body = await upload.run(f"/upload/{self._version}/files", chunks)
        info = _parsed_file(body)
        while_processing = _Waits(self._poll_file_s, self._processing_timeout_s)
        while info.state == "PROCESSING":
            await self._sleep(while_processing.next_s())
            await progress(size_bytes)
            info = await self._get_file(info)
        if info.state == "FAILED":
            raise Transient("upload: the service failed to process the file", call="upload")
        return info.name

    async def create(self, *, model: str, kind: Kind, file: str, token: str) -> str:
        """Create one job, sending exactly once (sections 4 and 15). See ``Provider.create``."""
        path = f"/{self._version}/{model_path(model)}:{_VERBS[kind]}"
        checked_name(FILE, file, "create")
        started_s = asyncio.get_running_loop().time()
        await self._probe("create", deadline_s=self._create_timeout_s / 2)
        batch = {"displayName": token, "inputConfig": {"fileName": file}} | self._webhook_config(kind, token)
        try:
            reply = await self._http.request(
                "create",
                "POST",
                self._http.url(path),
                content=msgspec.json.encode({"batch": batch}),
                headers={"content-type": "application/json"},
                risky=True,
                deadline_s=self._create_timeout_s - (asyncio.get_running_loop().time() - started_s),
            )
        except Rejected as exc:
            self._check_webhook_refused(exc)
            raise
        try:
            return checked_name(JOB, status_of(reply.body).job, "create")
        except (ValueError, Rejected):
            unread = Ambiguous("create: accepted, but the reply names no job", call="create", code=reply.status)
        raise unread

    async def answer(self, line: bytes, *, model: str, kind: Kind, service: str, timeout_s: float) -> bytes:
        """Ask for one line's answer at once. See ``Provider.answer``.

        The reply's body is what a batch has under ``response``. Flex is asked for by ``serviceTier`` in the request.
        """
        path = f"/{self._version}/{model_path(model)}:{_CALLS[kind]}"
        await self._probe("answer")
        reply = await self._http.request(
            "answer",
            "POST",
            self._http.url(path),
            content=interactive_request(line, kind, service),
            headers={"content-type": "application/json"},
            deadline_s=timeout_s,
            patient=True,
        )
        try:
            return compact(reply.body)
        except ValueError:
            unread = Ambiguous("answer: the reply cannot be read", call="answer", code=reply.status)
        raise unread

    async def find(self, *, tokens: frozenset[str], since_ms: int) -> Search:
        """Read the list to its end; what is found is looked at by name, but listed means created. See ``Provider``."""
        found: dict[str, JobStatus] = {}
        listed: set[str] = set()
        async with aclosing(self._jobs("find", since_ms)) as pages:
            async for jobs in pages:
                listed.update(job.job for job in jobs)
                found |= {job.job: job for job in jobs if job.display_name in tokens}
        newest = sorted(found.values(), key=lambda job: job.created_at_ms, reverse=True)
        looked_at = [await self._poll_if_there(job.job) or job for job in newest]
        return Search(jobs=tuple(looked_at), listed=frozenset(listed))

    async def jobs(self, *, since_ms: int) -> AsyncGenerator[list[JobStatus], None]:
        """Page the list, newest first, past ``since_ms`` (section 6)."""
        async with aclosing(self._jobs("jobs", since_ms)) as pages:
            async for jobs in pages:
                yield jobs

    async def files(self) -> AsyncGenerator[list[StoredFile], None]:
        """Page the list of files (section 8.3); of result files it need not hold any."""
        page_token = ""
        for _ in range(PAGES_MAX):
            body = await self._list("files", "files", page_token)
            try:
                files, page_token = files_of(body)
            except ValueError as exc:
                raise Transient(f"files: a page cannot be read: {exc}", call="files") from None
            yield files
            if not page_token:
                return
        raise Transient(f"files: the list did not end within {PAGES_MAX} pages", call="files")

    async def poll(self, job: str) -> JobStatus:
        """Look at a job by name (section 5)."""
        body = await self._operation(job, "poll")
        try:
            return status_of(body)
        except ValueError as exc:
            raise Transient(f"poll: the reply cannot be read: {exc}", call="poll") from None

    async def newest(self) -> list[JobStatus]:
        """One page of the list (section 6)."""
        reply = await self._http.request("list", "GET", self._url(f"batches?pageSize={PAGE_SIZE}"))
        try:
            return page_of(reply.body)[0]
        except ValueError as exc:
            raise Transient(f"list: the page cannot be read: {exc}", call="list") from None

    async def results(self, status: JobStatus) -> AsyncGenerator[list[bytes], None]:
        """Stream the rows from the result file or from inside the operation (sections 5, 8.4, 9)."""
        if status.output_file:
            async with aclosing(self._download(status.output_file)) as lists:
                async for lines in lists:
                    yield lines
        elif status.inline:
            rows = inline_rows(await self._operation(status.job, "results"))
            if rows is None:
                raise Rejected("results: the operation holds no rows any more", call="results", missing=True)
            for start in range(0, len(rows), ROWS_PER_LIST):
                yield rows[start : start + ROWS_PER_LIST]

    async def cancel(self, job: str) -> None:
        """Ask for cancellation (section 7); cancelling what is over or gone does nothing."""
        url = self._url(checked_name(JOB, job, "cancel") + ":cancel")
        await self._http.request("cancel", "POST", url, forgive=("NOT_FOUND", "FAILED_PRECONDITION"))

    async def delete_file(self, file: str) -> bool:
        """Delete a file (section 8.3). Result files that the service does not let go expire by themselves.

        Once it has refused one for its long name, which no uploaded file can have, it is asked for no other such one.
        """
        long = len(file) > FILE_CHARS_MAX and file.startswith(GENERATED_FILE)
        if long and self._results_stay:
            return False
        url = self._url(checked_name(FILE, file, "delete_file"))
        try:
            reply = await self._http.request("delete_file", "DELETE", url, forgive=("NOT_FOUND",))
        except Rejected as exc:
            stuck = exc.code == 400 and not exc.auth and file.startswith(GENERATED_FILE)
            self._results_stay = self._results_stay or (stuck and long)
            if exc.missing and exc.code != 403:  # a 404 that is not the API's own: no proof that the file is gone
                raise Transient(str(exc), call="delete_file", code=exc.code) from None
            if not (exc.missing or stuck):
                raise
            return False
        return reply.status < _ERROR

    async def delete_job(self, job: str) -> None:
        """Delete an ended job (section 7)."""
        url = self._url(checked_name(JOB, job, "delete_job"))
        await self._http.request("delete_job", "DELETE", url, forgive=("NOT_FOUND",))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _probe(self, call: str, *, deadline_s: float | None = None) -> None:
        await self._http.probe(f"{call} (probe)", f"/{self._version}/batches?pageSize=1", deadline_s=deadline_s)

    def _webhook_config(self, kind: Kind, token: str) -> dict[str, Any]:
        """A job's own webhook, with the token that names its batch; not offered for embeddings (sections 4, 11.5)."""
        if not self._webhook_url or kind is not Kind.GENERATE:
            return {}
        return {"webhookConfig": {"uris": [self._webhook_url], "userMetadata": {TOKEN_FIELD: token}}}

    def _check_webhook_refused(self, exc: Rejected) -> None:
        """A refusal of the webhook is a refusal of a setting: the prompts wait for it to be mended, and do not fail."""
        if self._webhook_url and exc.line is None and "webhook" in str(exc).lower():
            raise Transient(f"{exc} (see webhook_url)", call="create", code=exc.code) from None

    def _url(self, resource: str) -> httpx.URL:
        return self._http.url(f"/{self._version}/{resource}")

    async def _operation(self, job: str, call: str) -> bytes:
        return (await self._http.request(call, "GET", self._url(checked_name(JOB, job, call)))).body

    async def _poll_if_there(self, job: str) -> JobStatus | None:
        try:
            return await self.poll(job)
        except Rejected as exc:
            if exc.missing:
                return None
            raise

    async def _jobs(self, call: str, since_ms: int) -> AsyncGenerator[list[JobStatus], None]:
        page_token = ""
        for _ in range(PAGES_MAX):
            body = await self._list(call, "batches", page_token)
            try:
                jobs, page_token = page_of(body)
            except ValueError as exc:  # never skipped: a job overlooked is a job bought twice
                raise Transient(f"{call}: a page cannot be read: {exc}", call=call) from None
            yield jobs
            past = all(0 < job.created_at_ms < since_ms for job in jobs)
            if not page_token or past:  # an empty page is past, too
                return
        raise Transient(f"{call}: the list did not end within {PAGES_MAX} pages", call=call)

    async def _list(self, call: str, collection: str, page_token: str) -> bytes:
        query = f"{collection}?pageSize={PAGE_SIZE}"
        if page_token:
            query += f"&pageToken={quote(page_token, safe='')}"
        return (await self._http.request(call, "GET", self._url(query))).body

    async def _download(self, file: str) -> AsyncGenerator[list[bytes], None]:
        url = self._url(checked_name(FILE, file, "results") + ":download?alt=media")
        splitter = LineSplitter()
        async with self._http.stream("results", url) as pieces:
            try:
                async for piece in pieces:
                    if lines := splitter.feed(piece):
                        yield lines
            except LineTooLong as exc:
                raise Rejected(f"results: line {exc.number} of {file} is too long", call="results") from None
            if lines := splitter.end():
                yield lines

    async def _get_file(self, known: FileInfo) -> FileInfo:
        """The file's state now; a look that fails for a passing reason counts as no news."""
        try:
            reply = await self._http.request("upload", "GET", self._url(known.name))
        except Transient:
            return known
        except Rejected as exc:
            if exc.missing:
                raise Transient("upload: the file has vanished", call="upload", code=exc.code) from None
            raise
        return _parsed_file(reply.body)


class _Waits:
    """Pauses that grow by half up to a heartbeat, until ``total_s`` have passed."""

    def __init__(self, first_s: float, total_s: float) -> None:
        self._pause_s = first_s
        self._end_s = asyncio.get_running_loop().time() + total_s

    def next_s(self) -> float:
        if asyncio.get_running_loop().time() >= self._end_s:
            raise Transient("upload: the file is still being processed", call="upload")
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 1.5, HEARTBEAT_S)
        return pause_s


def _parsed_file(body: bytes) -> FileInfo:
    try:
        info = file_of(body)
    except ValueError:
        info = FileInfo(name="")
    if not FILE.fullmatch(info.name):
        raise Transient("upload: the reply names no file", call="upload")
    return info
