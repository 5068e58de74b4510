"""``api.py`` is complete: whoever makes something public says there what type it has."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import gemqueue
from gemqueue_adapters import emulator
from gemqueue_adapters.emulator.process import EmulatorProcess

API = ast.parse((Path(__file__).parent / "api.py").read_text(encoding="utf-8"))
USED = {node.id for node in ast.walk(API) if isinstance(node, ast.Name)}
ATTRIBUTES = {node.attr for node in ast.walk(API) if isinstance(node, ast.Attribute)}
CLASSES = [found for name in gemqueue.__all__ if inspect.isclass(found := getattr(gemqueue, name))]


def imported(module: str) -> set[str]:
    """What ``api.py`` imports from a module."""
    found = [node for node in ast.walk(API) if isinstance(node, ast.ImportFrom) and node.module == module]
    return {alias.name for node in found for alias in node.names}


def members(public: type) -> set[str]:
    """The public attributes of a class of ours, also those that only its instances have."""
    ours = [each for each in public.__mro__ if each.__module__.startswith("gemqueue")]
    named = {name for each in ours for name in vars(each) if not name.startswith("_")}
    made = [
        inspect.getsource(vars(each)["__init__"]) for each in ours if inspect.isfunction(vars(each).get("__init__"))
    ]
    return named | {name for text in made for name in re.findall(r"self\.([a-z]\w*)(?:: [^=]+)? = ", text)}


@pytest.mark.parametrize("module", [gemqueue, emulator], ids=lambda module: module.__name__)
def test_every_public_name_is_there(module: object) -> None:
    """Each name of ``__all__`` is imported by ``api.py`` from where callers do, and used."""
    public = set(vars(module)["__all__"])
    assert imported(str(vars(module)["__name__"])) == public
    assert public - USED == set()


@pytest.mark.parametrize("public", [*CLASSES, EmulatorProcess], ids=lambda public: public.__name__)
def test_every_public_member_is_there(public: type) -> None:
    """Each public attribute of a public class, setting or word of an enum is named in ``api.py``."""
    assert members(public) - ATTRIBUTES == set()


def test_members_are_found() -> None:
    """Methods, properties, fields, words and what ``__init__`` sets count as members; what is Python's own does not."""
    assert {"connect", "map", "settings", "account"} <= members(gemqueue.Queue)
    assert {"text", "raw", "tag"} <= members(gemqueue.Answer)
    assert {"linger_s", "queue"} <= members(gemqueue.Settings)
    assert members(gemqueue.Kind) == {"GENERATE", "EMBED"}
    assert members(gemqueue.NameConflict) == {"name", "key"}
