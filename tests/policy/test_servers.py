"""What a server's refusal means, and what INFO tells where CONFIG is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemqueue.policy.rights import OPTIONAL, Side, multi_rights, rights_of, why_missing
from gemqueue.policy.servers import cleaned, config_of, refusal

SERVERS = (Path(__file__).parents[2] / "docs" / "servers.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("NOPERM User gq has no permissions to run the 'set' command", "(NOPERM User gq has no permissions"),
        ("ERR ACL failure in script: No permissions to access a key script: on @user_script:1.", "refuses its user"),
        ("The user executing the script can't run this command or subcommand", "refuses its user"),
        ("unknown command 'EVALSHA', with args beginning with: '0a' ", "does not have a command"),
        ("ERR Unknown Redis command called from script script: 0a", "does not have a command"),
        ("WRONGTYPE Operation against a key", ""),
        ("CLUSTERDOWN Hash slot not served", ""),
    ],
)
def test_what_a_refusal_means(said: str, words: str) -> None:
    """What does not pass by itself has its own sentence with the way out; anything else has none."""
    found = refusal(said)
    assert (words in found, bool(found)) == (True, bool(words))


@pytest.mark.parametrize("quoted", ["('No permissions to access a key',)", "No permissions to access a key"])
def test_a_pipelines_command_is_not_quoted(quoted: str) -> None:
    """Of what redis-py says of a pipeline the server's words are left: no packed job, nothing unprintable, one line."""
    packed = "Command # 1 (PSETEX arq:job:x 9 \x84\ufffdt\x01\n caused error: ) of pipeline caused error: "
    assert cleaned(packed + quoted) == "No permissions to access a key"
    assert cleaned("a\x1b[2J\nb" + "c" * 200, 10) == "a [2J bccc..."


def test_what_info_tells_of_the_configuration() -> None:
    """INFO knows whether there is a log and what is evicted, and not how often the log reaches the disk."""
    info = {"aof_enabled": 0, "maxmemory": 1000, "maxmemory_policy": "allkeys-lru", "used_memory": 1}
    assert config_of(info) == {"appendonly": "no", "maxmemory": "1000", "maxmemory-policy": "allkeys-lru"}
    assert config_of({"aof_enabled": 1}) == {"appendonly": "yes"}
    assert config_of({}) == {}


@pytest.mark.parametrize("side", list(Side))
def test_the_lines_of_the_docs_are_the_table(side: Side) -> None:
    """docs/servers.md gives each side the rights that are checked, those of MULTI, and optional ones."""
    (line,) = [line for line in SERVERS.splitlines() if line.startswith(f"ACL SETUSER gemqueue-{side} ")]
    given = {word for word in line.split() if word[0] in "+~"}
    rights = rights_of(side, "default", "{gq:default:00}", replicated=False, by_arq=True)
    needed = {right.command for right in rights} | {right.place for right in rights}
    assert needed | set(multi_rights()) <= given
    assert given - needed - set(multi_rights()) <= {f"+{name}" for name in OPTIONAL}


def test_what_is_missing_is_a_line() -> None:
    """The way out can be pasted; with replication WAIT is needed, too."""
    assert why_missing(Side.WORKER, ["+wait", "~arq:abort"], "gq").endswith(": ACL SETUSER gq +wait ~arq:abort")
    names = [right.command for right in rights_of(Side.PRODUCER, "q", "{gq:q:00}", replicated=True, by_arq=True)]
    assert ("+wait" in names, "+scan" in names) == (True, False)
