"""What ``gemqueue doctor`` and ``gemqueue status`` say of input files."""

from __future__ import annotations

import msgspec
from rich.console import Console

from gemqueue.config import Settings
from gemqueue.store.store import Store
from gemqueue_workers.manage.status import read_status, show_status
from tests.cli.command import gemqueue

ACCOUNT = "emulated.local"


def found(url: str, queue: str, chosen: str) -> tuple[str, str]:
    """The state of the finding, and what it says."""
    env = {"GEMQUEUE_REDIS_URL": url, "GEMQUEUE_QUEUE": queue, "GEMQUEUE_EMULATE": "1", "GEMQUEUE_DELETE_FILES": chosen}
    findings = msgspec.json.decode(gemqueue("doctor", "--json", **env).stdout)
    (finding,) = (each for each in findings if each["what"] == "input files")
    return finding["state"], finding["said"]


def test_the_risk_of_an_early_deletion_is_said(redis_url: str, queue_name: str) -> None:
    """The default and "never" are fine; "running" is a warning with the reason and the way to find out."""
    assert found(redis_url, queue_name, "ended") == ("ok", 'delete_files = "ended"')
    assert found(redis_url, queue_name, "false") == ("ok", 'delete_files = "never"')
    state, said = found(redis_url, queue_name, "running")
    assert (state, "rests on one report" in said, "doctor --live" in said) == ("warning", True, True)


async def test_what_an_account_has_taught_is_said(redis_url: str, queue_name: str) -> None:
    """How many jobs missed their input, since when it is known that they need it, and what follows."""
    settings = Settings(queue=queue_name, redis_url=redis_url, emulate=True)
    store = Store(redis_url, settings)
    await store.add_count("inputs_missed", 2)
    await store.redis.hset(store.key("account", ACCOUNT), "input_needed_at", store.clock.now_ms())
    state, said = found(redis_url, queue_name, "ended")
    assert (state, "2 jobs failed because their input file was gone" in said) == ("warning", True)
    assert (f"{ACCOUNT} needs them to the end, since " in said, said.endswith("they are kept")) == (True, True)
    await store.redis.sadd(store.key("lanes"), f"{ACCOUNT}/m/generate/batch")
    console = Console(record=True, width=200)
    show_status(console, await read_status(settings))
    text = console.export_text()
    assert f"{ACCOUNT}: a job failed because its input file was deleted" in text
    assert "inputs_missed 2" in text
    await store.aclose()
