"""What the stages rely on, shown for every adapter against its emulator over real HTTP (design section 8)."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import msgspec
import pytest

from gemqueue.errors import Ambiguous, Rejected, Transient
from gemqueue.states import JobState, Kind
from tests.adapters.subjects import SUBJECTS, Subject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from gemqueue.provider import JobStatus, Provider, StoredFile

DEADLINE_S = 60.0


@pytest.fixture(scope="module", params=SUBJECTS)
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    with SUBJECTS[request.param](tmp_path_factory.mktemp("conformance")) as made:
        yield made


@pytest.fixture
async def provider(subject: Subject) -> AsyncIterator[Provider]:
    made = subject.connect()
    yield made
    await made.aclose()


@pytest.fixture
def token() -> str:
    """A display name of this test alone."""
    return secrets.token_hex(8)


def lines_of(subject: Subject, kind: Kind, keys: list[str]) -> bytes:
    return b"".join(subject.line(kind, key) for key in keys)


async def upload(provider: Provider, content: bytes, piece_bytes: int = 1000) -> str:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(content), piece_bytes):
            yield content[start : start + piece_bytes]

    return await provider.upload(pieces(), size_bytes=len(content), name="conformance")


async def uploaded(
    subject: Subject, provider: Provider, kind: Kind = Kind.GENERATE, keys: tuple[str, ...] = ("a",)
) -> str:
    return await upload(provider, lines_of(subject, kind, list(keys)))


async def create(subject: Subject, provider: Provider, file: str, token: str, kind: Kind = Kind.GENERATE) -> str:
    return await provider.create(model=subject.models[kind], kind=kind, file=file, token=token)


async def ended(provider: Provider, job: str) -> JobStatus:
    async with asyncio.timeout(DEADLINE_S):
        while not (status := await provider.poll(job)).state.terminal:  # noqa: ASYNC110 - the server has no event
            await asyncio.sleep(0.02)
    return status


async def rows_of(provider: Provider, status: JobStatus) -> list[dict[str, object]]:
    return [msgspec.json.decode(line) async for lines in provider.results(status) for line in lines]


@pytest.mark.parametrize("kind", Kind)
async def test_a_whole_life(subject: Subject, provider: Provider, token: str, kind: Kind) -> None:
    """Upload, create, poll and read: each key comes back exactly once, with a response; then all can be deleted."""
    keys = [f"key-{number}" for number in range(300)]
    file = await upload(provider, lines_of(subject, kind, keys))
    job = await create(subject, provider, file, token, kind)
    running = await provider.poll(job)
    assert (running.job, running.display_name, running.input_file) == (job, token, file)
    assert running.created_at_ms > 0
    status = await ended(provider, job)
    assert (status.state, status.has_output, status.rows, status.rows_ok) == (JobState.SUCCEEDED, True, 300, 300)
    assert token.encode() in status.raw
    rows = await rows_of(provider, status)
    assert sorted(str(row["key"]) for row in rows) == sorted(keys)
    assert all("response" in row for row in rows)
    await provider.delete_file(file)
    await provider.delete_file(status.output_file)
    await provider.delete_job(job)
    with pytest.raises(Rejected) as caught:
        await provider.poll(job)
    assert caught.value.missing


async def test_the_account_and_its_limits_are_known(provider: Provider) -> None:
    """Lanes and leases are computed from these."""
    assert provider.account
    assert provider.create_timeout_s > 0
    assert provider.limits.file_bytes_max > 0
    assert provider.limits.open_jobs_max > 0


async def test_a_create_that_names_a_deleted_file_is_refused(subject: Subject, provider: Provider, token: str) -> None:
    """The input file is the fence: once it is gone, no forgotten create can succeed."""
    if not provider.limits.fenceable:
        return
    file = await uploaded(subject, provider)
    await provider.delete_file(file)
    with pytest.raises(Rejected):
        await create(subject, provider, file, token)
    assert subject.jobs(token) == 0


async def test_a_job_outlives_its_input_file(subject: Subject, provider: Provider, token: str) -> None:
    """Raising the fence does not hurt a job that was accepted before."""
    if not provider.limits.fenceable:
        return
    file = await uploaded(subject, provider)
    job = await create(subject, provider, file, token)
    await provider.delete_file(file)
    status = await ended(provider, job)
    assert status.state is JobState.SUCCEEDED
    assert len(await rows_of(provider, status)) == 1


async def test_the_newest_jobs_come_in_one_page(subject: Subject, provider: Provider, token: str) -> None:
    """A job that was just created is among them, by its name and its token."""
    file = await uploaded(subject, provider)
    job = await create(subject, provider, file, token)
    assert {listed.job: listed.display_name for listed in await provider.newest()}[job] == token


async def test_a_lost_reply_is_doubt_and_the_job_is_found(subject: Subject, provider: Provider, token: str) -> None:
    """A create whose reply is lost after the effect raises Ambiguous, made one job, and find knows it."""
    file = await uploaded(subject, provider)
    subject.fault("create", "lost_after")
    with pytest.raises(Ambiguous):
        await create(subject, provider, file, token)
    assert subject.jobs(token) == 1
    found = (await provider.find(tokens=frozenset({token}), since_ms=0)).newest
    assert found is not None
    assert (found.display_name, found.input_file) == (token, file)


async def test_a_lost_request_is_doubt_and_nothing_is_found(subject: Subject, provider: Provider, token: str) -> None:
    """A create that is dropped before the effect raises Ambiguous as well; it is not sent again, and find says None."""
    file = await uploaded(subject, provider)
    subject.fault("create", "lost_before")
    with pytest.raises(Ambiguous):
        await create(subject, provider, file, token)
    assert subject.jobs(token) == 0
    assert (await provider.find(tokens=frozenset({token}), since_ms=0)).newest is None


async def test_a_server_error_on_create_is_doubt(subject: Subject, provider: Provider, token: str) -> None:
    """503 says nothing about the effect."""
    file = await uploaded(subject, provider)
    subject.fault("create", "503")
    with pytest.raises(Ambiguous):
        await create(subject, provider, file, token)


async def test_a_quota_on_create_is_no_doubt(subject: Subject, provider: Provider, token: str) -> None:
    """429 means not created, later; then the same call succeeds."""
    file = await uploaded(subject, provider)
    subject.fault("create", "429")
    with pytest.raises(Transient) as caught:
        await create(subject, provider, file, token)
    assert caught.value.quota
    assert await create(subject, provider, file, token)
    assert subject.jobs(token) == 1


async def test_a_refused_line_is_named(subject: Subject, provider: Provider, token: str) -> None:
    """A create that is refused for one row says which line of the input it was."""
    content = subject.line(Kind.GENERATE, "a") + subject.bad_line + subject.line(Kind.GENERATE, "c")
    file = await upload(provider, content)
    with pytest.raises(Rejected) as caught:
        await create(subject, provider, file, token)
    assert caught.value.line == 2
    assert (caught.value.missing, caught.value.auth) == (False, False)


async def test_find_among_others(subject: Subject, provider: Provider, token: str) -> None:
    """Find tells jobs apart by their token alone, as far back as since_ms."""
    file = await uploaded(subject, provider)
    jobs = [await create(subject, provider, file, f"{token}-{number}") for number in range(3)]
    for number, job in enumerate(jobs):
        found = (await provider.find(tokens=frozenset({f"{token}-{number}"}), since_ms=0)).newest
        assert found is not None
        assert found.job == job
    created_at_ms = (await provider.poll(jobs[0])).created_at_ms
    recent = (await provider.find(tokens=frozenset({f"{token}-0"}), since_ms=created_at_ms)).newest
    assert recent is not None
    assert (await provider.find(tokens=frozenset({token}), since_ms=0)).newest is None


async def test_every_job_is_listed(subject: Subject, provider: Provider, token: str) -> None:
    """More jobs than a page holds are all listed, once and newest first, with the name and time they were given."""
    file = await uploaded(subject, provider)
    names = [f"{token}-{number}" for number in range(105)]
    jobs = [await create(subject, provider, file, name) for name in names]
    listed = [job async for page in provider.jobs(since_ms=0) for job in page if job.display_name.startswith(token)]
    assert [(job.display_name, job.job) for job in reversed(listed)] == list(zip(names, jobs, strict=True))
    assert [job.created_at_ms for job in listed] == sorted((job.created_at_ms for job in listed), reverse=True)
    later = listed[0].created_at_ms + 1
    assert len([job async for page in provider.jobs(since_ms=later) for job in page]) < len(jobs)


async def test_every_file_is_listed(subject: Subject, provider: Provider) -> None:
    """What was uploaded is listed under the name it was given, until it is deleted."""
    content = lines_of(subject, Kind.GENERATE, ["a"])

    async def listed() -> dict[str, StoredFile]:
        return {stored.file: stored async for page in provider.files() for stored in page}

    made = [await upload(provider, content) for _ in range(105)]
    found = await listed()
    assert set(made) <= set(found)
    one = found[made[0]]
    assert (one.display_name, one.size_bytes, one.generated) == ("conformance", len(content), False)
    assert one.created_at_ms > 0
    await provider.delete_file(made[0])
    assert made[0] not in await listed()


async def test_cancelling(subject: Subject, provider: Provider, token: str) -> None:
    """A running job may be cancelled, again and after its end; what is unknown may be, too."""
    job = await create(subject, provider, await uploaded(subject, provider), token)
    await provider.cancel(job)
    await provider.cancel(job)
    status = await ended(provider, job)
    assert status.state in {JobState.CANCELLED, JobState.SUCCEEDED, JobState.FAILED}
    await provider.cancel(job)
    await provider.cancel(subject.unknown_job)


async def test_deleting_what_is_gone(subject: Subject, provider: Provider) -> None:
    """Deletions may be repeated."""
    await provider.delete_job(subject.unknown_job)
    await provider.delete_file(subject.unknown_file)


async def test_what_is_unknown_is_missing(subject: Subject, provider: Provider, token: str) -> None:
    """A look at a job, and the results of a job, that the provider does not know."""
    with pytest.raises(Rejected) as caught:
        await provider.poll(subject.unknown_job)
    assert caught.value.missing
    job = await create(subject, provider, await uploaded(subject, provider), token)
    status = await ended(provider, job)
    await provider.delete_job(job)
    with pytest.raises(Rejected) as caught:
        await rows_of(provider, msgspec.structs.replace(status, output_file=status.output_file + "0"))
    assert caught.value.missing


@pytest.mark.parametrize("deed", ["lost_before", "503", "429", "cut"])
async def test_a_download_that_breaks_is_begun_again(
    subject: Subject, provider: Provider, token: str, deed: str
) -> None:
    """A broken or refused stream of results is Transient, and the next one is whole."""
    job = await create(subject, provider, await uploaded(subject, provider), token)
    status = await ended(provider, job)
    subject.fault("download", deed)
    with pytest.raises(Transient):
        await rows_of(provider, status)
    assert len(await rows_of(provider, status)) == 1


@pytest.mark.parametrize("point", ["get", "list", "list_files"])
@pytest.mark.parametrize("deed", ["lost_before", "503", "429"])
async def test_looks_that_fail_are_transient(
    subject: Subject, provider: Provider, token: str, point: str, deed: str
) -> None:
    """A look that fails says so, and never that a job is not there."""
    looks: dict[str, Callable[[], Awaitable[object]]] = {
        "get": lambda: provider.poll(job),
        "list": lambda: provider.find(tokens=frozenset({token}), since_ms=0),
        "list_files": lambda: anext(aiter(provider.files())),
    }
    job = await create(subject, provider, await uploaded(subject, provider), token)
    subject.fault(point, deed)
    with pytest.raises(Transient):
        await looks[point]()
    subject.fault("list", deed)
    with pytest.raises(Transient):
        await anext(aiter(provider.jobs(since_ms=0)))


@pytest.mark.parametrize("deed", ["lost_before", "lost_after", "503"])
async def test_an_upload_survives_a_broken_request(subject: Subject, provider: Provider, token: str, deed: str) -> None:
    """One broken request of an upload costs at most a Transient; a file that is returned is whole."""
    subject.fault("upload", deed)
    keys = ("a", "b", "c")
    try:
        file = await uploaded(subject, provider, keys=keys)
    except Transient:
        file = await uploaded(subject, provider, keys=keys)
    status = await ended(provider, await create(subject, provider, file, token))
    assert {row["key"] for row in await rows_of(provider, status)} == set(keys)


async def test_an_upload_tells_its_progress_and_can_be_stopped(provider: Provider) -> None:
    """Progress hears of every 8 MiB; what it raises ends the upload."""
    size_bytes = 17 * 1024 * 1024
    heard: list[int] = []

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(17):
            yield b" " * (1024 * 1024 - 1) + b"\n"

    async def progress(sent_bytes: int) -> None:
        heard.append(sent_bytes)
        if sent_bytes > size_bytes // 2:
            raise KeyError

    with pytest.raises(KeyError):
        await provider.upload(pieces(), size_bytes=size_bytes, name="x", progress=progress)
    assert heard == sorted(heard)
    assert 0 < len([sent for sent in heard if sent > 0]) <= 3
    assert max(heard) < size_bytes


@pytest.mark.parametrize("announced", [-1, 1])
async def test_an_upload_of_a_wrong_size_is_refused(subject: Subject, provider: Provider, announced: int) -> None:
    """A source that does not hold what was announced is the caller's error."""
    line = subject.line(Kind.GENERATE, "a")

    async def pieces() -> AsyncIterator[bytes]:
        yield line

    with pytest.raises(ValueError, match=r"."):
        await provider.upload(pieces(), size_bytes=len(line) + announced, name="x")


async def test_many_calls_at_once(subject: Subject, provider: Provider, token: str) -> None:
    """One provider serves all stages of a process at the same time."""
    file = await uploaded(subject, provider)
    names = [f"{token}-{number}" for number in range(20)]
    jobs = await asyncio.gather(*(create(subject, provider, file, name) for name in names))
    states = await asyncio.gather(*(ended(provider, job) for job in jobs))
    assert [status.display_name for status in states] == names
