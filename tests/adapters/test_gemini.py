"""The Gemini adapter's calls over a real socket: paths, retries that must not happen, and what each reply leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue.errors import Ambiguous, ProviderError, Rejected, Transient
from gemqueue.provider import JobStatus
from gemqueue.states import JobState, Kind
from tests.adapters.wire import HANG_UP, KEY, Seen, error, operation, provider, reply, until, wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from gemqueue.provider import Provider
    from gemqueue_adapters.gemini import GeminiProvider

JOB = "batches/b1"
FILE = "files/in1"
MINE = "tok"
RESULT = "files/batch-b1"
PAGE = reply(b"<html>404 Not Found</html>", code=404, headers=["content-type: text/html"])
ANSWER = {"candidates": [{"content": {"parts": [{"text": "yes"}]}}]}
HOOK = "https://jobs.example.com/webhook"


def always(answer: bytes) -> Callable[[Seen], bytes]:
    """The probe succeeds, everything else gets this."""
    return lambda seen: reply({}) if seen.target.endswith("?pageSize=1") else answer


async def create(made: Provider, model: str = "gemini-3.8-flash", kind: Kind = Kind.GENERATE) -> str:
    return await made.create(model=model, kind=kind, file=FILE, token=MINE)


async def ask(made: Provider) -> bytes:
    line = b'{"key":"k","request":{"contents":[]}}'
    return await made.answer(line, model="gemini-3.8-flash", kind=Kind.GENERATE, service="standard", timeout_s=60.0)


async def rows(made: GeminiProvider, **fields: Any) -> list[bytes]:
    status = (await made.poll(JOB)) if not fields else status_with(**fields)
    return [line async for lines in made.results(status) for line in lines]


def status_with(**fields: Any) -> JobStatus:
    return JobStatus(job=JOB, state=JobState.SUCCEEDED, **fields)


@pytest.mark.parametrize(
    ("model", "kind", "path"),
    [
        ("gemini-3.8-flash", Kind.GENERATE, "/v1beta/models/gemini-3.8-flash:batchGenerateContent"),
        ("models/gemini-3.8-flash", Kind.GENERATE, "/v1beta/models/gemini-3.8-flash:batchGenerateContent"),
        ("tunedModels/mine-1", Kind.GENERATE, "/v1beta/tunedModels/mine-1:batchGenerateContent"),
        ("gemini-embedding-001", Kind.EMBED, "/v1beta/models/gemini-embedding-001:asyncBatchEmbedContent"),
    ],
)
async def test_what_a_create_sends(model: str, kind: Kind, path: str) -> None:
    """The path names model and kind, the body the token and the file, and the key is in the header only."""
    async with wire(always(reply(operation(JOB)))) as served, provider(served) as made:
        assert await create(made, model, kind) == JOB
    sent = served.seen[-1]
    assert (sent.method, sent.target) == ("POST", path)
    assert msgspec.json.decode(sent.body) == {"batch": {"displayName": MINE, "inputConfig": {"fileName": FILE}}}
    assert sent.headers["x-goog-api-key"] == KEY


@pytest.mark.parametrize(
    "model", ["", "../x", "a/b", "models/", "Gemini", "x?y", "x:batchGenerateContent", "models/a/../b"]
)
async def test_a_model_that_is_none_is_not_sent(model: str) -> None:
    """A model's name cannot change the path."""
    async with wire(always(reply(operation(JOB)))) as served, provider(served) as made:
        with pytest.raises(Rejected):
            await create(made, model)
    assert served.seen == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (HANG_UP, Ambiguous),
        (reply(b"<html>"), Ambiguous),
        (reply({"name": "operations/7"}), Ambiguous),
        (reply({}), Ambiguous),
        (reply(operation(JOB, displayName="another")), Ambiguous),
        (reply(operation(JOB, inputConfig={"fileName": "files/another"})), Ambiguous),
        (reply({"name": JOB, "metadata": {"name": "batches/b2"}}), Ambiguous),
        (reply({"error": {"code": 404, "status": "NOT_FOUND", "message": "no"}}), Ambiguous),
        (reply(operation(JOB), code=202), Ambiguous),
        (PAGE, Ambiguous),
        (reply({"error": {"message": "no", "type": "invalid_request_error"}}, code=400), Ambiguous),
        (reply({"message": "no Route matched"}, code=404), Ambiguous),
        (reply({"detail": "Forbidden"}, code=403), Ambiguous),
        (reply(b"", code=401), Ambiguous),
        (reply(b"", code=402), Ambiguous),
        (reply(b"slow down", code=429), Transient),
        (b"HTTP/1.1 200 X\r\ncontent-length: 999\r\nconnection: close\r\n\r\n{", Ambiguous),
        (error(503, "UNAVAILABLE"), Ambiguous),
        (error(409, "ABORTED"), Ambiguous),
        (error(429, "RESOURCE_EXHAUSTED"), Transient),
        (error(400, "FAILED_PRECONDITION", "The File files/in1 is not in an ACTIVE state."), Transient),
        (error(404, "NOT_FOUND"), Rejected),
        (error(400, "INVALID_ARGUMENT", "Error on line 3: invalid JSON"), Rejected),
    ],
)
async def test_a_create_is_sent_once(answer: bytes, kind: type[ProviderError]) -> None:
    """Whatever comes back, one create is one request; only a definite refusal is no doubt."""
    async with wire(always(answer)) as served, provider(served) as made:
        with pytest.raises(kind) as caught:
            await create(made)
    assert type(caught.value) is kind
    assert caught.value.call == "create"
    assert served.count("POST", ":batchGenerateContent") == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(404, "NOT_FOUND", "models/x is not found"), Transient),
        (error(400, "INVALID_ARGUMENT", "Error on line 3: no"), Transient),
        (error(403, "PERMISSION_DENIED"), Rejected),
        (PAGE, Transient),
    ],
)
async def test_a_refused_probe_refuses_no_prompt(answer: bytes, kind: type[ProviderError]) -> None:
    """The look before the first create is no create: whatever it is told, no batch is divided or failed for it."""
    async with wire(lambda _: answer) as served, provider(served) as made:
        for call in (create, ask):
            with pytest.raises(kind) as caught:
                await call(made)
            assert type(caught.value) is kind
    assert served.count("POST", "") == 0


async def test_a_job_tells_its_end_to_the_webhook() -> None:
    """A generate job carries the address, and the token for its events; an embed job does not, nor any without one."""
    async with wire(always(reply(operation(JOB)))) as served:
        for url, kind in ((HOOK, Kind.GENERATE), (HOOK, Kind.EMBED), ("", Kind.GENERATE)):
            async with provider(served, webhook_url=url) as made:
                await create(made, kind=kind)
        sent = [msgspec.json.decode(seen.body)["batch"].get("webhookConfig") for seen in served.seen if seen.body]
    assert sent == [{"uris": [HOOK], "userMetadata": {"gemqueue_token": MINE}}, None, None]


@pytest.mark.parametrize("message", ["no such field: 'webhookConfig'", "Request contains an invalid argument."])
async def test_a_refused_webhook_is_a_setting_to_mend(message: str) -> None:
    """The service does not take the address, in its message or in its details: later, with the setting's name."""
    violation = {"fieldViolations": [{"field": "batch.webhook_config.uris[0]"}]}
    answer = error(400, "INVALID_ARGUMENT", message, details=[violation])
    async with wire(always(answer)) as served:
        async with provider(served, webhook_url=HOOK) as made:
            with pytest.raises(Transient, match="webhook_url"):
                await create(made)
        async with provider(served) as made:
            with pytest.raises(Rejected):
                await create(made)


async def test_a_create_on_a_connection_just_closed_is_sent_once() -> None:
    """A kept connection that dies under the create is doubt, not a second try."""
    async with wire(always(reply(operation(JOB)))) as served, provider(served) as made:
        await create(made)
        served.handler = lambda _: HANG_UP
        with pytest.raises(Ambiguous):
            await create(made)
    assert served.count("POST", ":batchGenerateContent") == 2


async def test_a_create_that_was_never_sent_may_be_repeated() -> None:
    """A refused connection is Transient even for a create."""
    async with wire(always(reply(operation(JOB)))) as served, provider(served) as made:
        await create(made)
        await served.close()
        with pytest.raises(Transient):
            await create(made)


async def test_a_create_does_not_outlive_its_timeout() -> None:
    """A server that trickles keeps no create in flight beyond create_timeout_s."""
    trickle = b"HTTP/1.1 200 X\r\ncontent-length: 999\r\n\r\n{"
    async with wire(always(trickle)) as served, provider(served, create_timeout_s=0.2) as made:
        with pytest.raises(Ambiguous):
            await create(made)


async def test_a_line_that_a_create_refuses_is_named() -> None:
    """The line number of a 400 comes through."""
    async with wire(always(error(400, "INVALID_ARGUMENT", "Error on line 3: no"))) as served, provider(served) as made:
        with pytest.raises(Rejected) as caught:
            await create(made)
    assert caught.value.line == 3


def listing(total: int, wanted: dict[int, str]) -> Callable[[Seen], bytes]:
    """A list of ``total`` jobs, newest first; ``wanted`` gives some of them, by number, a display name."""

    def entry(number: int) -> dict[str, object]:
        created = f"2026-07-25T00:00:00.{(total - number) % 1000:03d}Z"
        return operation(f"batches/b{number}", displayName=wanted.get(number, "other"), createTime=created)

    def handle(seen: Seen) -> bytes:
        if "?" not in seen.target:
            return reply(entry(int(seen.target.rpartition("/b")[2])))
        start = int(seen.target.partition("pageToken=")[2] or 0)
        page: dict[str, object] = {"operations": [entry(number) for number in range(start, min(start + 100, total))]}
        if start + 100 < total:
            page["nextPageToken"] = str(start + 100)
        return reply(page)

    return handle


@pytest.mark.parametrize("number", [0, 99, 100, 855])
async def test_find_looks_deep(number: int) -> None:
    """A job is found by its token wherever it is in the list, and is looked at by name."""
    async with wire(listing(900, {number: MINE})) as served, provider(served) as made:
        found = (await made.find(tokens=frozenset({MINE}), since_ms=0)).newest
    assert found is not None
    assert found.job == f"batches/b{number}"
    assert served.seen[-1].target == f"/v1beta/batches/b{number}"
    assert all("pageSize=100" in seen.target for seen in served.seen[:-1])


async def test_find_takes_the_newest() -> None:
    """Of two jobs with the token the newer one is found."""
    async with wire(listing(50, {7: MINE, 20: MINE})) as served, provider(served) as made:
        found = (await made.find(tokens=frozenset({MINE}), since_ms=0)).newest
    assert found is not None
    assert found.job == "batches/b7"


async def test_find_stops_when_a_whole_page_is_too_old() -> None:
    """Pages older than since_ms are not read, whatever the token."""
    since_ms = 1_784_937_600_000 + 850
    async with wire(listing(900, {})) as served, provider(served) as made:
        assert (await made.find(tokens=frozenset({MINE}), since_ms=since_ms)).newest is None
    assert served.count("GET", "pageSize") == 2


@pytest.mark.parametrize("page", [{}, {"operations": []}])
async def test_find_stops_at_the_end_of_an_empty_list(page: object) -> None:
    """A page without a token is the end, also where it is the first and empty."""
    async with wire(lambda _: reply(page)) as served, provider(served) as made:
        assert (await made.find(tokens=frozenset({MINE}), since_ms=0)).newest is None
    assert len(served.seen) == 1


async def test_find_goes_on_past_an_empty_page() -> None:
    """While there is a token the list goes on, and what stands behind it is found."""
    behind = listing(3, {1: MINE})

    def handle(seen: Seen) -> bytes:
        first = "?" in seen.target and "pageToken" not in seen.target
        return reply({"nextPageToken": "0"}) if first else behind(seen)

    async with wire(handle) as served, provider(served) as made:
        found = (await made.find(tokens=frozenset({MINE}), since_ms=2_000_000_000_000)).newest
    assert found is not None
    assert found.job == "batches/b1"


async def test_find_does_not_stop_at_entries_without_a_time() -> None:
    """A missing createTime counts as not older."""

    def handle(seen: Seen) -> bytes:
        more = "pageToken" in seen.target
        page = {"operations": [operation(f"batches/b{int(more)}")]}
        return reply(page if more else page | {"nextPageToken": "a b&c"})

    async with wire(handle) as served, provider(served) as made:
        assert (await made.find(tokens=frozenset({MINE}), since_ms=2_000_000_000_000)).newest is None
    assert served.seen[-1].target == "/v1beta/batches?pageSize=100&pageToken=a%20b%26c"


async def test_find_reads_a_list_that_is_oldest_first_to_its_end() -> None:
    """The order is believed only where the list shows it: here the old pages come first."""
    since_ms = 1_784_937_600_000 + 850

    def handle(seen: Seen) -> bytes:
        start = int(seen.target.partition("pageToken=")[2] or 0)
        entries = [
            operation(f"batches/b{n}", createTime=f"2026-07-25T00:00:00.{n:03d}Z") for n in range(start, start + 100)
        ]
        return reply({"operations": entries} | ({"nextPageToken": str(start + 100)} if start < 800 else {}))

    async with wire(handle) as served, provider(served) as made:
        assert len((await made.find(tokens=frozenset({MINE}), since_ms=since_ms)).listed) == 900


async def test_find_believes_the_list_that_a_job_exists() -> None:
    """A listed token proves that the create took effect, even where a look by name denies the job."""
    page = reply({"operations": [operation(displayName=MINE)]})
    async with (
        wire(lambda seen: page if "?" in seen.target else error(404, "NOT_FOUND")) as served,
        provider(served) as made,
    ):
        found = (await made.find(tokens=frozenset({MINE}), since_ms=0)).newest
        assert found is not None
        assert found.display_name == MINE


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"<html>"),
        reply(b'{"operations": [{}]}'),
        reply({"error": {"code": 503, "status": "UNAVAILABLE", "message": "try later"}}),
        reply({"status": "ok"}),
        reply({"operations": [operation()], "unreachable": ["locations/eu"]}),
        reply({"operations": [operation()], "nextPageToken": "again"}),
        reply({"nextPageToken": "again"}),
        PAGE,
        error(503),
        HANG_UP,
    ],
)
async def test_find_never_takes_a_broken_list_for_an_empty_one(answer: bytes) -> None:
    """A page that cannot be read is Transient: not found would buy the batch again."""
    async with wire(lambda _: answer) as served, provider(served) as made:
        with pytest.raises(Transient):
            await made.find(tokens=frozenset({MINE}), since_ms=0)


async def test_find_gives_up_on_an_endless_list() -> None:
    """A list that never ends is Transient after a bounded number of pages, not a false not-found."""

    def handle(_seen: Seen) -> bytes:
        number = len(served.seen)
        return reply({"operations": [operation(f"batches/b{number}")], "nextPageToken": f"t{number}"})

    async with wire(handle) as served, provider(served) as made:
        with pytest.raises(Transient, match="did not end"):
            await made.find(tokens=frozenset({MINE}), since_ms=0)
    assert len(served.seen) == 1000


async def test_find_is_not_told_two_names_of_one_job() -> None:
    """The list names it ours, the look by name another's: one of the two lies, so nothing is found."""
    page = reply({"operations": [operation(displayName=MINE)]})
    other = reply(operation(displayName="another"))
    async with wire(lambda seen: page if "?" in seen.target else other) as served, provider(served) as made:
        with pytest.raises(Transient, match="two display names"):
            await made.find(tokens=frozenset({MINE}), since_ms=0)


async def test_files_are_listed_past_an_empty_page() -> None:
    """The list of files is read like that of jobs, and refused like it."""
    whole = reply({"files": [{"name": FILE, "sizeBytes": "3"}]})

    def handle(seen: Seen) -> bytes:
        return whole if "pageToken" in seen.target else reply({"nextPageToken": "t"})

    async with wire(handle) as served, provider(served) as made:
        assert [[file.file for file in page] async for page in made.files()] == [[], [FILE]]
        for lie in (reply({"error": {}}), reply(b'{"files": [{}]}'), reply({"nextPageToken": "t"}), PAGE):
            served.handler = lambda _, lie=lie: lie  # type: ignore[misc]
            with pytest.raises(Transient):
                _ = [page async for page in made.files()]


@pytest.mark.parametrize(
    "answer",
    [
        reply(operation("batches/b2")),
        reply({"name": JOB, "metadata": {"name": "batches/b2"}}),
        reply({"status": "ok"}),
        PAGE,
        reply({"error": {"code": 404, "message": "no"}}, code=404),
        reply({"error": "unknown job"}, code=404),
        reply(b"", code=410),
        reply(b"", code=401),
        reply({"detail": "Forbidden"}, code=403),
        reply({"error": {"message": "no", "type": "auth"}}, code=400),
        reply(operation(), code=203),
    ],
)
async def test_a_poll_that_somebody_else_answers_is_no_look(answer: bytes) -> None:
    """Another job's name, a page, or a refusal in other words than the API's: later, and nothing is concluded."""
    async with wire(lambda _: answer) as served, provider(served) as made:
        with pytest.raises(Transient):
            await made.poll(JOB)


async def test_poll_says_when_a_job_is_unknown() -> None:
    """404 is missing; a reply that is no job is Transient."""
    async with wire(lambda _: error(404, "NOT_FOUND")) as served, provider(served) as made:
        with pytest.raises(Rejected) as caught:
            await made.poll(JOB)
        assert caught.value.missing
        served.handler = lambda _: reply(b"[]")
        with pytest.raises(Transient):
            await made.poll(JOB)


@pytest.mark.parametrize("job", ["", "b1", "batches/", "batches/../files/x", "batches/a/b", "batches/a?x", "files/a"])
async def test_names_of_something_else_are_not_sent(job: str) -> None:
    """A job's name cannot become another path."""
    async with wire(lambda _: reply()) as served, provider(served) as made:
        for call in (made.poll, made.cancel, made.delete_job, made.delete_file):
            with pytest.raises(Rejected):
                await call(job.replace("files/a", "nothing"))
    assert served.seen == []


async def test_results_stream_whatever_the_cuts() -> None:
    """Lines come out whole from a chunked download, the last one without a line end, too."""
    body = (
        b"\r\n".join(b"%x\r\n" % len(part) + part for part in (b'{"a":', b'1}\n\n{"b":2}\r\n{"c"', b":3}", b""))
        + b"\r\n"
    )
    answer = b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n" + body
    async with wire(lambda _: answer) as served, provider(served) as made:
        assert await rows(made, output_file=RESULT) == [b'{"a":1}', b'{"b":2}', b'{"c":3}']
    assert served.seen[-1].target == f"/v1beta/{RESULT}:download?alt=media"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 X\r\ncontent-length: 99\r\nconnection: close\r\n\r\n{}\n",
        b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n3\r\n{}\n\r\n",
        HANG_UP,
        error(503),
        PAGE,
        reply(b"<html>Down for maintenance</html>", headers=["content-type: text/html; charset=utf-8"]),
        reply({"error": "not found"}, code=404),
        reply({"message": "no Route matched"}, code=404),
        reply(b"or it may not exist", code=403),
        reply(b"", code=410),
        reply(b"{}", code=206),
    ],
)
async def test_a_download_that_is_not_the_services_whole_is_transient(answer: bytes) -> None:
    """A body shorter than announced or without its end, somebody's page, and a refusal in other words deny nothing."""
    async with wire(lambda _: answer) as served, provider(served) as made:
        with pytest.raises(Transient):
            await rows(made, output_file=RESULT)


@pytest.mark.parametrize(
    "answer",
    [
        error(404, "NOT_FOUND"),
        error(403, "PERMISSION_DENIED", "You do not have permission to access the File x or it may not exist."),
    ],
)
async def test_results_that_are_gone(answer: bytes) -> None:
    """Both ways of saying so are missing."""
    async with wire(lambda _: answer) as served, provider(served) as made:
        with pytest.raises(Rejected) as caught:
            await rows(made, output_file=RESULT)
    assert caught.value.missing


async def test_inline_results() -> None:
    """Rows inside the operation come as lines; a success without output has none."""
    items = [{"response": {"n": n}, "metadata": {"key": f"k{n}"}} for n in range(600)]
    body = operation(state="BATCH_STATE_SUCCEEDED", output={"inlinedResponses": {"inlinedResponses": items}})
    async with wire(lambda _: reply(body)) as served, provider(served) as made:
        lines = await rows(made)
        assert lines == [b'{"key":"k%d","response":{"n":%d}}' % (n, n) for n in range(600)]
        served.handler = lambda _: reply(operation(state="BATCH_STATE_SUCCEEDED"))
        assert await rows(made) == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (operation(state="BATCH_STATE_SUCCEEDED"), Rejected),
        (operation(state="BATCH_STATE_RUNNING"), Transient),
        (operation("batches/b2", state="BATCH_STATE_SUCCEEDED"), Transient),
        ({"error": {"code": 404}}, Transient),
    ],
)
async def test_inline_results_that_are_not_there(body: object, kind: type[ProviderError]) -> None:
    """Gone only where the ended job itself shows none; a job that runs again, or another one, is no news."""
    async with wire(lambda _: reply(body)) as served, provider(served) as made:
        with pytest.raises(kind):
            await rows(made, inline=True)


async def test_a_reader_that_stops_early_leaves_no_connection() -> None:
    """Closing the stream of results half-way closes the download."""
    answer = b"HTTP/1.1 200 X\r\ncontent-length: 9999\r\n\r\n{}\n"
    async with wire(lambda _: answer) as served, provider(served) as made:
        lists = made.results(status_with(output_file=RESULT))
        assert await anext(lists) == [b"{}"]
        assert served.open_connections == 1
        await lists.aclose()
        await until(lambda: served.open_connections == 0)


ELSEWHERE = [
    PAGE,
    reply({"error": "NOT_FOUND"}, code=404),
    reply({"error": {"code": 404, "message": "no", "status": "NOT_FOUND"}}, code=403),
    reply({"error": {"message": "the File x or it may not exist"}}, code=403),
    reply(b"", code=410),
    reply(b"<html>Welcome</html>"),
    reply({"error": {"code": 404, "message": "no", "status": "NOT_FOUND"}}),
    reply(b""),
    HANG_UP,
]
"""What others answer to a deletion: nothing that the API says of itself."""
GONE = error(403, "PERMISSION_DENIED", "You do not have permission to access the File x or it may not exist.")


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("cancel", reply({})),
        ("cancel", error(404, "NOT_FOUND")),
        ("cancel", error(400, "FAILED_PRECONDITION", "The batch is already finished.")),
        ("delete_job", error(404, "NOT_FOUND")),
        ("delete_file", error(404, "NOT_FOUND")),
        ("delete_file", GONE),
    ],
)
async def test_what_is_gone_or_over_is_no_error(call: str, answer: bytes) -> None:
    """Cancelling and deleting may be repeated."""
    async with wire(lambda _: answer) as served, provider(served) as made:
        await getattr(made, call)(FILE if call == "delete_file" else JOB)


@pytest.mark.parametrize(
    ("call", "answer", "kind"),
    [
        ("cancel", error(403, "PERMISSION_DENIED"), Rejected),
        ("cancel", error(503), Transient),
        ("delete_job", error(400, "FAILED_PRECONDITION", "still running"), Rejected),
        ("delete_file", error(403, "PERMISSION_DENIED", "The key lacks access."), Rejected),
        ("delete_file", error(400, "INVALID_ARGUMENT"), Rejected),
        ("delete_file", reply({}, code=204), Transient),
        *[(call, answer, Transient) for call in ("delete_file", "delete_job", "cancel") for answer in ELSEWHERE],
    ],
)
async def test_a_deletion_is_only_believed_from_the_service(
    call: str, answer: bytes, kind: type[ProviderError]
) -> None:
    """Deleting the input file is the fence: a wrong key, a page and other services' words do not count as gone."""
    async with wire(lambda _: answer) as served, provider(served) as made:
        with pytest.raises(kind):
            await getattr(made, call)(FILE if call == "delete_file" else JOB)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply({"status": "ok"}), Ambiguous),
        (reply({"error": {"code": 503, "status": "UNAVAILABLE"}}), Ambiguous),
        (reply(operation()), Ambiguous),
        (reply(b"<html>Welcome</html>"), Ambiguous),
        (reply(b"<html>Gateway Time-out</html>", code=504), Ambiguous),
        (reply({"message": "The upstream server is timing out"}, code=504), Ambiguous),
        (reply({"error": {"message": "no", "type": "x"}}, code=400), Ambiguous),
        (reply(b"", code=403), Ambiguous),
        (reply(ANSWER, code=202), Ambiguous),
        (reply(b"", code=429), Transient),
        (error(504, "DEADLINE_EXCEEDED"), Transient),
        (error(503, "UNAVAILABLE"), Transient),
        (error(400, "INVALID_ARGUMENT"), Rejected),
    ],
)
async def test_a_call_that_somebody_else_answers_may_have_been_paid_for(
    answer: bytes, kind: type[ProviderError]
) -> None:
    """Only the API knows whether it answered: a gateway that gave up waiting has sent the prompt on."""
    async with wire(always(answer)) as served, provider(served) as made:
        with pytest.raises(kind) as caught:
            await ask(made)
    assert type(caught.value) is kind


@pytest.mark.parametrize("body", [ANSWER, {"promptFeedback": {"blockReason": "SAFETY"}}, {"usageMetadata": {}}])
async def test_what_an_answer_may_look_like(body: object) -> None:
    """An answer, a blocked prompt, and one that says only what it cost."""
    async with wire(always(reply(body))) as served, provider(served) as made:
        assert msgspec.json.decode(await ask(made)) == body


async def test_a_result_file_that_cannot_be_deleted_expires_by_itself() -> None:
    """The service's 400 about a result file's long name is no error, a bad key is."""
    async with wire(lambda _: error(400, "INVALID_ARGUMENT", "id too long")) as served, provider(served) as made:
        await made.delete_file(RESULT)
        served.handler = lambda _: error(400, "INVALID_ARGUMENT", details=[{"reason": "API_KEY_INVALID"}])
        with pytest.raises(Rejected):
            await made.delete_file(RESULT)
        served.handler = lambda _: reply(b"<html>Bad Request</html>", code=400)
        with pytest.raises(Transient):
            await made.delete_file(RESULT)


async def test_result_files_that_stay_are_not_asked_about_again() -> None:
    """The service refuses every name that is too long, so one refusal speaks for all; other files are asked about."""
    long = [f"files/batch-{n}{'x' * 40}" for n in range(3)]
    async with wire(lambda _: error(400, "INVALID_ARGUMENT", "id too long")) as served, provider(served) as made:
        for file in long:
            assert not await made.delete_file(file)
        assert served.count("DELETE", "files/batch-") == 1
        assert not await made.delete_file(RESULT)
        assert served.count("DELETE", RESULT) == 1
        with pytest.raises(Rejected):
            await made.delete_file(FILE)


async def test_version_and_prefix_of_the_base_url() -> None:
    """v1 and a gateway's path prefix are kept in every path."""
    async with (
        wire(lambda _: reply(operation())) as served,
        provider(served, base_url=served.base_url + "/gw/", api_version="v1") as made,
    ):
        await made.poll(JOB)
    assert served.seen[-1].target == "/gw/v1/batches/b1"
