"""The table of extras is that of pyproject.toml, and whoever names an extra names one that there is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gemqueue import ConfigError
from gemqueue.extras import EXTRAS, missing, need

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _names(requirements: list[str]) -> set[str]:
    """The modules of requirements, with what an extra of ours that they name brings."""
    extras: dict[str, list[str]] = PROJECT["optional-dependencies"]
    found: set[str] = set()
    for requirement in requirements:
        own = re.match(r"gemqueue\[(.*)\]", requirement)
        within = [name for extra in own[1].split(",") for name in _names(extras[extra])] if own else []
        found |= set(within) or {re.split(r"[^\w.-]", requirement)[0].replace("-", "_")}
    return found


def test_the_table_is_that_of_the_package() -> None:
    """Each extra installs the modules by which it is known, the base installs none of them, and ``all`` is all."""
    extras: dict[str, list[str]] = PROJECT["optional-dependencies"]
    assert set(extras) == {*EXTRAS, "all"}
    for extra, modules in EXTRAS.items():
        assert set(modules) <= _names(extras[extra])
        assert not set(modules) & _names(PROJECT["dependencies"])
    assert _names(extras["all"]) == {name for extra in EXTRAS for name in _names(extras[extra])}


def _texts() -> Iterator[tuple[Path, str]]:
    folders = ("gemqueue", "workers", "adapters", "docs", "config", "examples")
    for file in [*ROOT.glob("*.md"), *(file for folder in folders for file in (ROOT / folder).rglob("*"))]:
        if file.suffix in {".py", ".md", ".toml"}:
            yield file, file.read_text(encoding="utf-8")


def test_whoever_names_an_extra_names_one_that_there_is() -> None:
    """Sentences and documents name extras of the package only, and install them the one way that works everywhere."""
    named = {
        extra for _, text in _texts() for many in re.findall(r"gemqueue\[([\w,]+)\]", text) for extra in many.split(",")
    }
    assert named <= {*EXTRAS, "all"}
    old = [file.name for file, text in _texts() if re.search(r"pip install -e '\.\[(?!all)", text)]
    assert old == []


def test_a_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lacks modules says which, and the line for pip; what lacks none says nothing."""
    assert missing("worker", "It") == ""
    monkeypatch.setitem(EXTRAS, "worker", ("no_such_module", "json"))
    with pytest.raises(ConfigError) as caught:
        need("worker", "It")
    assert str(caught.value) == "It needs no_such_module: pip install 'gemqueue[worker]'"
