"""Safe by default: loopback, a token for the control API elsewhere, projects apart from each other."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import httpx
import pytest

from gemqueue_adapters.emulator import Options, serve
from tests.emulator.plain import Plain, error_of, texts
from tests.emulator_process import EmulatorProcess

if TYPE_CHECKING:
    from pathlib import Path


async def test_an_open_address_needs_a_token(tmp_path: Path) -> None:
    """Without a token the emulator does not start on an address that others can reach."""
    stop = asyncio.Event()
    stop.set()
    for host in ("0.0.0.0", "::", socket.gethostname()):  # noqa: S104 - refused, which is what is shown here
        with pytest.raises(ValueError, match="needs a token"):
            await serve(Options(host=host, data=tmp_path), stop=stop)
    for host in ("127.0.0.1", "localhost"):
        await serve(Options(host=host, data=tmp_path), stop=stop)


def test_pages_of_other_places_do_not_reach_the_control_api(tmp_path: Path) -> None:
    """A web page in a browser on this host may not reset the emulator, not even by a name that leads here."""
    with EmulatorProcess(tmp_path / "data", job_s=0) as emulator:
        own, port = emulator.url, httpx.URL(emulator.url).port
        strange: list[dict[str, str]] = [
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": f"http://evil.example:{port}", "host": f"evil.example:{port}"},
        ]
        for headers in strange:
            refused = httpx.post(f"{own}/_emulator/reset", headers=headers)
            assert error_of(refused)[:2] == (403, "PERMISSION_DENIED")
        for headers in ({}, {"origin": own}, {"host": f"localhost:{port}", "origin": f"http://localhost:{port}"}):
            assert httpx.post(f"{own}/_emulator/reset", headers=headers).status_code == 200


def test_the_token_guards_the_control_api(tmp_path: Path) -> None:
    """With a token, /_emulator is closed to those without it; the API itself is not."""
    with EmulatorProcess(tmp_path / "data", host="0.0.0.0", token="s3cret", job_s=0) as open_to_all:  # noqa: S104, S106
        assert open_to_all.ledger()["rows_bought"] == 0
        url = open_to_all.url.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        for path in ("health", "ledger", "requests"):
            assert error_of(httpx.get(f"{url}/_emulator/{path}"))[:2] == (403, "PERMISSION_DENIED")
            wrong = httpx.get(f"{url}/_emulator/{path}", headers={"Authorization": "Bearer s3cret2"})
            assert wrong.status_code == 403
        assert httpx.get(f"{url}/v1/batches?key=k").json() == {}


def test_the_default_is_loopback(emulator: EmulatorProcess) -> None:
    """By default nobody outside reaches it."""
    assert emulator.url.startswith("http://127.0.0.1:")


def test_projects_are_apart(plain: Plain, emulator: EmulatorProcess) -> None:
    """Another project's key gets 404 for batches, 403 for files, 404 for a create, and empty lists."""
    file = plain.upload(texts("a"))
    name = plain.create(texts("b"))
    operation = plain.ended(name)
    result = operation["metadata"]["output"]["responsesFile"]
    other = Plain(emulator.url, key="another")
    with other.http:
        assert error_of(other.http.get(f"/v1/{name}"))[:2] == (404, "NOT_FOUND")
        assert error_of(other.http.post(f"/v1/{name}:cancel"))[0] == 404
        assert error_of(other.http.delete(f"/v1/{name}"))[0] == 404
        body = {"priority": 1}
        assert error_of(other.http.patch(f"/v1/{name}:updateGenerateContentBatch", json=body))[0] == 404
        assert error_of(other.http.get(f"/v1/{file}"))[:2] == (403, "PERMISSION_DENIED")
        assert error_of(other.http.delete(f"/v1/{file}"))[0] == 403
        assert error_of(other.http.get(f"/v1/{result}:download"))[0] == 404
        assert error_of(other.post_batch({"inputConfig": {"fileName": file}}))[:2] == (404, "NOT_FOUND")
        assert other.http.get("/v1/batches").json() == {}
        assert other.http.get("/v1/files").json() == {}


def test_two_keys_of_one_project(emulator: EmulatorProcess) -> None:
    """Keys with the same @name share a project, so that rotating a key can be played."""
    first, second = Plain(emulator.url, key="old@shop"), Plain(emulator.url, key="new@shop")
    with first.http, second.http:
        name = first.create(texts("a"))
        assert second.get(name)["name"] == name
