"""What the texts say of the code is held to the code; run as a program, it prints the states and the beliefs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gemqueue.policy.beliefs import RULES, Belief
from gemqueue.states import SEGMENT_TRANSITIONS, STEP_OF, TRANSITIONS, BatchState, SegmentState
from gemqueue_workers.prove.assumptions import ASSUMPTIONS
from tests.proofs.mutations import MUTANTS

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[1]
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
REDIS = (ROOT / "docs" / "redis.md").read_text(encoding="utf-8")
PROMISES = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
TEXTS = sorted(
    file for file in ROOT.rglob("*.md") if not any(part.startswith(".") for part in file.relative_to(ROOT).parts)
)
SETTINGS = (ROOT / "config" / "gemqueue.toml").read_text(encoding="utf-8")
PACKAGES = ("gemqueue", "workers", "adapters")
STARTS = ("gemqueue", "workers", "workers/gemqueue_workers", "adapters")
OF_THE_PAST = {"CHANGELOG.md", "moved.md"}


def picture(transitions: Iterable[tuple[str | None, str, str | None]]) -> str:
    """A machine as a Mermaid diagram: one arrow for each pair of states, with every verb that takes it."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for before, verb, after in transitions:
        verbs.setdefault((before or "[*]", after or "[*]"), []).append(verb)
    arrows = [f"    {before} --> {after}: {', '.join(names)}" for (before, after), names in verbs.items()]
    return "\n".join(["stateDiagram-v2", *arrows])


def states_picture() -> str:
    """The states of a batch."""
    return f"{picture([(None, 'pack', TRANSITIONS[0][0]), *TRANSITIONS])}\n    {BatchState.CLOSED} --> [*]"


def segment_states_picture() -> str:
    """The states of a segment; when its TTL is over, nothing is known of it either."""
    return f"{picture(SEGMENT_TRANSITIONS)}\n    {SegmentState.CLOSED} --> [*]"


def beliefs_table() -> str:
    """What is believed of the provider, a row for each belief."""
    rows = [("belief", "what is concluded", "costs, if wrong", "evidence", "pace", "end", "setting"), ("---",) * 7]
    rows += [(f"`{b}`", r.concludes, r.costs, r.evidence, r.pace, r.ends, r.setting) for b, r in RULES.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def keys_in_code() -> set[str]:
    """The first word of every key that the scripts and the store name."""
    lua = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "gemqueue" / "store" / "lua").glob("*.lua"))
    files = [*(ROOT / "gemqueue").glob("store/*.py"), ROOT / "workers" / "gemqueue_workers" / "inspection.py"]
    python = "".join(file.read_text(encoding="utf-8") for file in files)
    found = re.findall(r"\bkey\('(\w+)'", lua) + re.findall(r"\bT \.\. ':(\w+)'", lua)
    return {*found, *re.findall(r'self(?:\._store)?\.key\("(\w+)"', python)} - {"nothing"}


def drawn(mark: str) -> str:
    """The picture in ARCHITECTURE.md between two marks."""
    found = re.search(rf"<!-- {mark} -->\n```mermaid\n(.*?)\n?```\n<!-- /{mark} -->", ARCHITECTURE, re.DOTALL)
    assert found is not None
    return found[1]


def test_states_are_drawn_from_the_tables() -> None:
    """The pictures of the states in ARCHITECTURE.md are those that the tables of transitions make."""
    assert drawn("states") == states_picture()
    assert drawn("segment states") == segment_states_picture()


def test_beliefs_are_told_from_the_table() -> None:
    """The table of beliefs in docs/promises.md is that of the code."""
    assert f"<!-- beliefs -->\n\n{beliefs_table()}\n\n<!-- /beliefs -->" in PROMISES


def test_each_belief_has_a_mutant_and_a_test() -> None:
    """For each belief docs/promises.md names mutants that take its evidence away, and a test that each is caught by."""
    section = PROMISES.partition("### What holds each belief")[2].partition("\n#")[0]
    rows = [re.findall(r"`([^`]+)`", row) for row in section.splitlines() if row.startswith("| `")]
    assert [belief for belief, *_ in rows] == list(Belief)
    for belief, *named in rows:
        mutants = [MUTANTS[name] for name in named if name in MUTANTS]
        tests = {name for name in named if name not in MUTANTS}
        assert mutants, belief
        assert {file for mutant in mutants for file in mutant.tests} <= {name.partition("::")[0] for name in tests}
        for file, _, test in (name.partition("::") for name in tests):
            assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), test


def test_every_state_has_its_row() -> None:
    """The table under the picture names, for each state, the step that moves it on."""
    rows = dict(re.findall(r"^\| ([a-z, ]+) \| (\w+)", ARCHITECTURE, re.MULTILINE))
    said = {state: step for states, step in rows.items() for state in states.split(", ") if state in set(BatchState)}
    steps = {state: STEP_OF[state] or "none" for state in BatchState}
    assert said == steps | {BatchState.PACKING: "pack"}  # its step is the lane's


def test_every_key_is_described() -> None:
    """The table of Redis keys in docs/redis.md lists exactly the keys that the code uses."""
    section = REDIS.partition("## What is in Redis")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)", section, re.MULTILINE)) == keys_in_code()


def shown(file: Path) -> str:
    """A text by its path in the repository."""
    return str(file.relative_to(ROOT))


def headings(text: str) -> set[str]:
    """The anchors of a text: its headings as they stand in an address, without what is code."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("file", TEXTS, ids=shown)
def test_links_lead_somewhere(file: Path) -> None:
    """Every link in every text names a file or folder that is there, and a heading that is in it."""
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", file.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        linked = file.parent / path if path else file
        assert linked.exists(), target
        assert not anchor or anchor in headings(linked.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("file", [file for file in TEXTS if file.name not in OF_THE_PAST], ids=shown)
def test_files_are_where_the_texts_say(file: Path) -> None:
    """A file of ours that a text names by its path is there: whole, or from a package or the text's own folder on."""
    starts = (ROOT, file.parent, *(ROOT / start for start in STARTS))
    named = re.findall(r"`([\w.]+/[\w./]+\.(?:py|lua|toml))`", file.read_text(encoding="utf-8"))
    gone = [path for path in named if not any((start / path).is_file() for start in starts)]
    assert [path for path in gone if Path(path).stem not in {"NAME", "VERB"}] == []  # which stand for any


def test_every_room_is_in_the_picture() -> None:
    """The table of rooms in ARCHITECTURE.md names every folder of the three packages."""
    section = ARCHITECTURE.partition("## The rooms")[2].partition("\n## ")[0]
    named = {word for path in re.findall(r"`([\w./]+/)`", section) for word in path.split("/")}
    assert {file.parent.name for top in PACKAGES for file in (ROOT / top).rglob("__init__.py")} <= named


def test_the_ledger_names_code_and_probes_that_are_there() -> None:
    """The ledger of assumptions names code that is there, and each assumption that ``gemqueue prove`` tries."""
    section = PROMISES.partition("## What we assume of the provider")[2].partition("\n## ")[0]
    rows = [row.split(" | ") for row in section.splitlines() if row.startswith("| ")][2:]
    assert len(rows) > 20
    assert {name for *_, tried in rows for name in re.findall(r"`([\w-]+)`", tried)} == {a.name for a in ASSUMPTIONS}
    for *_, places, _ in rows:
        for module, name in re.findall(r"`(\w+)(?:\.(\w+))?`", places):
            files = [file for top in PACKAGES for file in (ROOT / top).rglob(f"{module}.py")]
            texts = [file.read_text(encoding="utf-8") for file in files] or [SETTINGS * (module in SETTINGS)]
            assert any(name in text and text for text in texts), (module, name)


if __name__ == "__main__":
    print(states_picture(), segment_states_picture(), beliefs_table(), sep="\n\n")  # noqa: T201 - this is what it is for
