"""What the conformance suite runs: one subject per adapter, each with a server of its own.

A new adapter adds a function to ``SUBJECTS`` that starts its emulator once and says how to make a provider, write an
input line and declare a fault. The suite itself (``test_conformance.py``) knows no dialect.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from gemqueue.states import Kind
from gemqueue_adapters.gemini import GeminiProvider
from tests.emulator_process import EmulatorProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from gemqueue.provider import Provider

JOB_S = 0.3


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter under test.

    ``fault(point, deed)`` makes the server's next reply at a point go wrong, once. Points: create, get, list,
    list_files, upload, download. Deeds: "lost_before" and "lost_after" the effect (the connection drops), an HTTP
    status, and for downloads "cut". ``jobs(token)`` counts the jobs that the server holds under a display name, past
    the port.
    """

    connect: Callable[[], Provider]
    models: dict[Kind, str]
    line: Callable[[Kind, str], bytes]
    bad_line: bytes
    unknown_job: str
    unknown_file: str
    fault: Callable[[str, str], None]
    jobs: Callable[[str], int]


@contextmanager
def gemini(folder: Path) -> Generator[Subject, None, None]:
    """The Gemini adapter against this project's emulator."""
    with EmulatorProcess(folder / "data", job_s=JOB_S) as server:
        yield Subject(
            connect=lambda: connect(server),
            models={Kind.GENERATE: "gemini-3.8-flash", Kind.EMBED: "gemini-embedding-001"},
            line=gemini_line,
            bad_line=b'{"key":"x","request":{"surprise":1}}\n',
            unknown_job="batches/" + "0" * 36,
            unknown_file="files/no-such-file",
            fault=lambda point, deed: server.faults([{"on": point, "do": deed, "times": 1}]),
            jobs=lambda token: sum(job["display_name"] == token for job in server.ledger()["jobs"]),
        )


SUBJECTS: dict[str, Callable[[Path], AbstractContextManager[Subject]]] = {"gemini": gemini}


def connect(server: EmulatorProcess, **settings: Any) -> GeminiProvider:
    """The Gemini adapter, talking to the emulator."""
    common: dict[str, Any] = {"api_key": "key", "account": "test", "base_url": server.url, "emulate": True}
    common["poll_file_s"] = 0.02
    return GeminiProvider(**(common | settings))


def gemini_line(kind: Kind, key: str) -> bytes:
    """One input line (protocol sections 9.1 and 9.2)."""
    content = {"parts": [{"text": f"text of {key}"}]}
    request: dict[str, object] = {"contents": [content]} if kind is Kind.GENERATE else {"content": content}
    return msgspec.json.encode({"key": key, "request": request}) + b"\n"
