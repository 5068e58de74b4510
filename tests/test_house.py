"""The plan of the house is a test: rooms in their order, no circles, no folder that nobody can take in.

``python -m tests.house`` measures the same, for any commit.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.house.plan import PACKAGES, circles, floors_of, going_up, plan_of, read_package, unplaced, widths

ROOT = Path(__file__).parents[1]
FOLDER_MODULES_MAX = 24
HOUSE = {name: read_package(ROOT, name) for name in PACKAGES}


@pytest.mark.parametrize("name", PACKAGES)
def test_no_circle(name: str) -> None:
    """No modules import each other in a circle, not even for types: each can be read before those that need it."""
    assert circles(HOUSE[name]) == []


@pytest.mark.parametrize("name", PACKAGES)
def test_no_circle_of_rooms(name: str) -> None:
    """No rooms import each other in a circle either, though no module of theirs does."""
    assert plan_of(HOUSE[name]).rooms_typed.circles == []


@pytest.mark.parametrize("name", PACKAGES)
def test_folders_are_small(name: str) -> None:
    """No folder has more than 24 modules."""
    assert {folder: n for folder, n in widths(HOUSE[name]).items() if n > FOLDER_MODULES_MAX} == {}


def test_no_arrow_up() -> None:
    """Every room of ``gemqueue`` imports only what is below it, also for types, and every module has its place."""
    package = HOUSE["gemqueue"]
    assert floors_of(package) != (), "a room of the order is missing: look at ROOMS in tests/house/plan.py"
    assert unplaced(package) == [], "give it a place in tests/house/plan.py, or move it into a room"
    assert going_up(package) == []


def test_folders_of_tests_are_small() -> None:
    """No folder of tests has more than 24 modules either."""
    modules = [file.parent.relative_to(ROOT) for file in (ROOT / "tests").rglob("*.py")]
    assert {str(folder): n for folder in modules if (n := modules.count(folder)) > FOLDER_MODULES_MAX} == {}
