"""What doctor makes of what was seen of a server: nothing that was not seen is called good."""

from __future__ import annotations

from typing import Any

import pytest

from gemqueue.config import Settings
from gemqueue_workers.inspection import Seen
from gemqueue_workers.server_notes import cluster, eviction, memory, restarts, role, version, written

THROUGH = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}


@pytest.mark.parametrize(
    ("config", "state", "said"),
    [
        (THROUGH, "ok", "writes through"),
        (THROUGH | {"appendfsync": "everysec"}, "warning", "two seconds"),
        ({"appendonly": "no"}, "warning", "a restart loses"),
        ({"appendonly": "yes"}, "warning", "cannot see how often its log reaches the disk"),
        ({}, "warning", "cannot see whether it writes a log"),
    ],
)
def test_what_is_said_of_the_log(config: dict[str, str], state: str, said: str) -> None:
    """A log that is not known to be written through is a warning, whether it is known to be absent or not."""
    found = written(config, "local")
    assert (found.state, said in found.said) == (state, True)


@pytest.mark.parametrize(
    ("config", "state", "said"),
    [
        ({"maxmemory": "9", "maxmemory-policy": "noeviction"}, "ok", "none"),
        ({"maxmemory": "0"}, "ok", "none"),
        ({"maxmemory": "0", "maxmemory-policy": "volatile-lru"}, "ok", "none"),
        ({"maxmemory": "9", "maxmemory-policy": "volatile-lru"}, "warning", "answers, names and records"),
        ({"maxmemory-policy": "allkeys-lfu"}, "warning", "prompts are lost"),
        ({"maxmemory": "9"}, "warning", "cannot see whether it evicts"),
        ({}, "warning", "cannot see whether it evicts"),
    ],
)
def test_what_is_said_of_eviction(config: dict[str, str], state: str, said: str) -> None:
    """Only a policy or a limit that was seen is good; what would be lost is said."""
    found = eviction(config)
    assert (found.state, said in found.said) == (state, True)


@pytest.mark.parametrize(
    ("url", "mode", "whole", "state"),
    [
        ("redis://h", "standalone", False, "ok"),
        ("redis://h", "", True, "ok"),
        ("redis://h", "", False, "warning"),
        ("redis://h", "cluster", False, "failed"),
        ("redis+cluster://h", "cluster", False, "ok"),
    ],
)
def test_what_is_said_of_a_cluster(url: str, mode: str, whole: bool, state: str) -> None:
    """Known by its own word, or by a transaction over several slots; else it is not known."""
    assert cluster(Seen(mode=mode), url, is_whole=whole).state == state


@pytest.mark.parametrize(
    ("word", "wrote", "state"),
    [("master", False, "ok"), ("slave", False, "failed"), ("", True, "ok"), ("", False, "warning")],
)
def test_what_is_said_of_the_role(word: str, wrote: bool, state: str) -> None:
    """A replica is a failure; without its own word a write shows it, and without either it is not known."""
    assert role(Seen(role=word), is_written=wrote).state == state


@pytest.mark.parametrize(
    ("info", "states"),
    [
        ({"used_memory": 1, "maxmemory": 0, "run_id": "a"}, ["ok", "ok"]),
        ({"used_memory": 1, "maxmemory": 10}, ["warning", "warning"]),
        ({}, ["warning", "warning"]),
    ],
)
def test_what_is_said_without_info(info: dict[str, Any], states: list[str]) -> None:
    """Memory and restarts are seen in INFO alone."""
    seen = Seen(info=info)
    assert [memory(seen, Settings()).state, restarts(seen).state] == states


@pytest.mark.parametrize(
    ("said", "state"), [("9.1.2", "ok"), ("6.2.0", "ok"), ("6.0.16", "failed"), ("7", "ok"), ("", "warning")]
)
def test_what_is_said_of_the_version(said: str, state: str) -> None:
    """Too old is a failure, unknown a warning."""
    assert version(Seen(version=said)).state == state
