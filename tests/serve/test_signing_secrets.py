"""The signing secrets of a server: read at the start, and from a file again when they were rotated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.errors import ConfigError
from gemqueue_workers.serve.signing_secrets import SigningSecrets
from tests.serve.door import SECRET, Door, event, signed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.valkey_server import ValkeyServer

OTHER = "whsec_YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk="
FILE = "GEMQUEUE_WEBHOOK_SECRETS_FILE"


def test_a_rotated_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read again five seconds after it was read, and not before; one that cannot be read changes nothing."""
    file, now_s = tmp_path / "secrets", 0.0
    file.write_text(SECRET)
    monkeypatch.setenv(FILE, str(file))
    secrets = SigningSecrets(lambda: now_s)
    file.write_text(f"{SECRET}\n{OTHER}\n")
    now_s = 4.9
    assert (secrets.changed(), secrets.known) == (False, (SECRET,))
    now_s = 5.0
    assert (secrets.changed(), secrets.known) == (True, (SECRET, OTHER))
    file.write_text("")
    now_s = 10.0
    assert (secrets.changed(), secrets.known) == (False, (SECRET, OTHER))


def test_a_variable_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no file does not change; what is no secret is refused by its number, and not shown."""
    monkeypatch.setenv("GEMQUEUE_WEBHOOK_SECRETS", SECRET)
    assert not SigningSecrets(iter((0.0, 99.0)).__next__).changed()
    monkeypatch.setenv("GEMQUEUE_WEBHOOK_SECRETS", f"{SECRET}, hunter2")
    with pytest.raises(ConfigError, match=r"^GEMQUEUE_WEBHOOK_SECRETS: number 2 is no signing secret") as caught:
        SigningSecrets()
    assert "hunter2" not in str(caught.value)


def test_the_server_takes_them_from_a_file(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> None:
    """A delivery that the file's secret has signed is taken."""
    (tmp_path / "secrets").write_text(f"{SECRET}\n")
    env = {"GEMQUEUE_REDIS_URL": valkey.url, "GEMQUEUE_QUEUE": queue_name, FILE: str(tmp_path / "secrets")}
    body = event("batches/abc")
    with Door(tmp_path, env, "--webhook-only") as door:
        assert (door.post(body, signed(body)), door.post(body, signed(body, secret=OTHER))) == (204, 401)
