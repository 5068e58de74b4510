"""The Gemini Batch API over its native REST surface: generate and embed batches by input file.

Section numbers are those of the protocol reference. Where sources conflict, this reads tolerantly and writes what the
official clients write.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from gemqueue.errors import Ambiguous, ConfigError, Rejected, Transient
from gemqueue.provider import JobStatus, Limits, Search, StoredFile
from gemqueue.states import Kind
from gemqueue_adapters.http import Http
from gemqueue_adapters.interactive import interactive_request
from gemqueue_adapters.lines import LineSplitter, LineTooLong
from gemqueue_adapters.listing import Entry, pages
from gemqueue_adapters.operations import files_of, inline_rows, page_of
from gemqueue_adapters.processing import UploadedFile
from gemqueue_adapters.replies import check_done, created_job, one_line, polled_job, uploaded_file
from gemqueue_adapters.resource_names import FILE, FILE_CHARS_MAX, GENERATED_FILE, JOB, checked_name, model_path
from gemqueue_adapters.upload import CHUNKS_AT_ONCE, ResumableUpload, no_progress
from gemqueue_adapters.webhooks import TOKEN_FIELD

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    import httpx

BASE_URL: Final = "https://generativelanguage.googleapis.com"
PAGE_SIZE: Final = 100  # always sent: without it a list was once empty (section 6)
ROWS_PER_LIST: Final = 256

_VERBS: Final = {Kind.GENERATE: "batchGenerateContent", Kind.EMBED: "asyncBatchEmbedContent"}
_REFUSED: Final = 400
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

        A file that does not become usable, or that nobody waits for any more, is deleted. Raises ``ValueError`` when
        ``chunks`` does not hold exactly ``size_bytes``.
        """
        await self._probe("upload")
        progress = progress or no_progress
        upload = ResumableUpload(
            self._http, size_bytes=size_bytes, name=name, progress=progress, sleep=self._sleep, slots=self._slots
        )
        try:
            await upload.run(f"/upload/{self._version}/files", chunks)
            file = self._uploaded(upload.body, name, size_bytes)
            return await file.until_usable(lambda: progress(size_bytes))
        except BaseException:  # a lease that was lost and a cancellation, too
            with suppress(Transient):
                await self._uploaded(upload.body, name, size_bytes).discard()
            raise

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
            return created_job(reply.body, token=token, file=file)
        except ValueError as exc:
            unread = Ambiguous(f"create: answered, but by what? {exc}", call="create", code=reply.status)
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
            return one_line(reply.body)
        except ValueError as exc:
            unread = Ambiguous(f"answer: the reply is no answer: {exc}", call="answer", code=reply.status)
        raise unread

    async def find(self, *, tokens: frozenset[str], since_ms: int) -> Search:
        """Read the list to its end; what is found is looked at by name, but listed means created. See ``Provider``."""
        found: dict[str, JobStatus] = {}
        listed: set[str] = set()
        async with aclosing(self._jobs("find", since_ms)) as whole:
            async for jobs in whole:
                listed.update(job.job for job in jobs)
                found |= {job.job: job for job in jobs if job.display_name in tokens}
        newest = sorted(found.values(), key=lambda job: job.created_at_ms, reverse=True)
        looked_at = [await self._poll_listed(job) for job in newest]
        return Search(jobs=tuple(looked_at), listed=frozenset(listed))

    async def jobs(self, *, since_ms: int) -> AsyncGenerator[list[JobStatus], None]:
        """Page the list, newest first, past ``since_ms`` (section 6)."""
        async with aclosing(self._jobs("jobs", since_ms)) as found:
            async for jobs in found:
                yield jobs

    async def files(self) -> AsyncGenerator[list[StoredFile], None]:
        """Page the list of files (section 8.3); of result files it need not hold any."""
        listed = pages(
            "files",
            lambda token: self._list("files", "files", token),
            files_of,
            lambda file: Entry(file.file, file.created_at_ms),
        )
        async with aclosing(listed) as found:
            async for files in found:
                yield files

    async def poll(self, job: str) -> JobStatus:
        """Look at a job by name (section 5)."""
        body = await self._operation(job, "poll")
        try:
            return polled_job(body, job)
        except ValueError as exc:
            raise Transient(f"poll: the reply cannot be believed: {exc}", call="poll") from None

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
            rows = await self._inline_rows(status.job)
            for start in range(0, len(rows), ROWS_PER_LIST):
                yield rows[start : start + ROWS_PER_LIST]

    async def cancel(self, job: str) -> None:
        """Ask for cancellation (section 7); cancelling what is over or gone does nothing."""
        await self._end("cancel", "POST", checked_name(JOB, job, "cancel") + ":cancel", ("FAILED_PRECONDITION",))

    async def delete_file(self, file: str) -> bool:
        """Delete a file (section 8.3). Result files that the service does not let go expire by themselves.

        Once it has refused one for its long name, which no uploaded file can have, it is asked for no other such one.
        """
        long = len(file) > FILE_CHARS_MAX and file.startswith(GENERATED_FILE)
        if long and self._results_stay:
            return False
        try:
            return await self._end("delete_file", "DELETE", checked_name(FILE, file, "delete_file"))
        except Rejected as exc:
            stuck = exc.code == _REFUSED and not exc.auth and file.startswith(GENERATED_FILE)
            self._results_stay = self._results_stay or (stuck and long)
            if not (exc.missing or stuck):
                raise
            return False

    async def delete_job(self, job: str) -> None:
        """Delete an ended job (section 7)."""
        await self._end("delete_job", "DELETE", checked_name(JOB, job, "delete_job"))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _probe(self, call: str, *, deadline_s: float | None = None) -> None:
        """What is refused here says nothing of what was to be sent."""
        try:
            await self._http.probe(f"{call} (probe)", f"/{self._version}/batches?pageSize=1", deadline_s=deadline_s)
        except Rejected as exc:
            if exc.auth:
                raise
            raise Transient(str(exc), call=exc.call, code=exc.code) from None

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

    async def _end(self, call: str, method: str, resource: str, over: tuple[str, ...] = ()) -> bool:
        """Delete or cancel; False where the API says that there is nothing, or by ``over`` that it is so already."""
        reply = await self._http.request(call, method, self._url(resource), forgive=("NOT_FOUND", *over))
        if reply.status >= _REFUSED:
            return False
        try:
            check_done(reply.body)
        except ValueError as exc:
            raise Transient(f"{call}: the reply cannot be believed: {exc}", call=call) from None
        return True

    async def _poll_listed(self, listed: JobStatus) -> JobStatus:
        """The job by name, as listed where that is denied; a lookup under another display name proves nothing."""
        try:
            looked_at = await self.poll(listed.job)
        except Rejected as exc:
            if exc.missing:
                return listed
            raise
        if looked_at.display_name not in {"", listed.display_name}:
            raise Transient(f"find: {listed.job} has two display names", call="find")
        return looked_at

    async def _inline_rows(self, job: str) -> list[bytes]:
        body = await self._operation(job, "results")
        try:
            status, rows = polled_job(body, job), inline_rows(body)
        except ValueError as exc:
            raise Transient(f"results: the reply cannot be believed: {exc}", call="results") from None
        if rows is None and not status.state.terminal:
            raise Transient("results: the operation shows no end any more", call="results")
        if rows is None:
            raise Rejected("results: the operation holds no rows any more", call="results", missing=True)
        return rows

    def _jobs(self, call: str, since_ms: int) -> AsyncGenerator[list[JobStatus], None]:
        return pages(
            call,
            lambda token: self._list(call, "batches", token),
            page_of,
            lambda job: Entry(job.job, job.created_at_ms),
            since_ms,
        )

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

    def _uploaded(self, body: bytes, name: str, size_bytes: int) -> UploadedFile:
        """The file that the last reply of an upload describes."""
        try:
            info = uploaded_file(body, name=name, size_bytes=size_bytes)
        except ValueError as exc:
            raise Transient(f"upload: the reply cannot be believed: {exc}", call="upload") from None
        return UploadedFile(
            info,
            look=self._file,
            delete=self.delete_file,
            sleep=self._sleep,
            poll_s=self._poll_file_s,
            timeout_s=self._processing_timeout_s,
        )

    async def _file(self, name: str) -> bytes:
        return (await self._http.request("upload", "GET", self._url(name))).body
