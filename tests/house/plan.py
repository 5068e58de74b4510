"""The plan of a package: its rooms, their order, and what the graphs of rooms and of modules look like."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from tests.house import graph

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = {
    "gemqueue": "gemqueue",
    "gemqueue_workers": "workers/gemqueue_workers",
    "gemqueue_adapters": "adapters/gemqueue_adapters",
}
FACE = ("", "__main__", "answers", "futures", "models", "outcomes", "queue", "requests")
"""The package itself, and the old places of public names: above all rooms, so that no room leans on them."""
ROOMS = ("client", "embedded", "store", "sealing", "connections", "policy", "language")
"""From above to below: a room may import the rooms behind it, and the ground."""
GROUND = (
    *(
        "accounts",
        "clock",
        "config",
        "effects",
        "errors",
        "extras",
        "ids",
        "provider",
        "records",
        "setting_values",
        "states",
        "tasks",
        "urls",
        "variables",
    ),
)
ORDER: dict[str, tuple[tuple[str, ...], ...]] = {"gemqueue": (FACE, *((room,) for room in ROOMS), GROUND)}
"""The floors of a package from above to below; a package that is not here has no declared order."""


class Package(NamedTuple):
    """The modules of a package by their full names, parsed; ``folders`` are those that are an ``__init__``."""

    name: str
    texts: dict[str, str]
    trees: dict[str, ast.Module]
    folders: frozenset[str]


@dataclass(frozen=True)
class Shape:
    """A graph in numbers, and its circles by their members."""

    nodes: int
    floors: int
    arrows: int
    up: int
    circles: list[list[str]]


@dataclass(frozen=True)
class Plan:
    """A package: its rooms and its modules, each with the imports for types and as they run, without those."""

    modules: int
    widest: int
    widest_folder: str
    ordered: bool
    rooms_typed: Shape
    rooms_run: Shape
    modules_typed: Shape
    modules_run: Shape


def read_package(root: Path, name: str) -> Package:
    """A package of the tree at ``root``."""
    top = root / PACKAGES[name]
    texts: dict[str, str] = {}
    folders: set[str] = set()
    for file in sorted(top.rglob("*.py")):
        parts = (name, *file.relative_to(top).with_suffix("").parts)
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if parts[-1] == "__init__":
            folders.add(module)
        texts[module] = file.read_text(encoding="utf-8")
    return Package(name, texts, {module: ast.parse(text) for module, text in texts.items()}, frozenset(folders))


def folder_of(package: Package, module: str) -> str:
    """The folder that a module lies in, as a package's name; an ``__init__`` lies in its own."""
    return module if module in package.folders else module.rpartition(".")[0]


def widths(package: Package) -> dict[str, int]:
    """How many modules each folder has, its ``__init__`` among them."""
    folders = [folder_of(package, module) for module in package.texts]
    return {folder: folders.count(folder) for folder in folders}


def floors_of(package: Package) -> tuple[tuple[str, ...], ...]:
    """The declared order, from the day on which each of its rooms is a folder."""
    order = ORDER.get(package.name, ())
    return order if all(f"{package.name}.{room}" in package.folders for room in ROOMS) else ()


def rooms_of(package: Package) -> dict[str, str]:
    """The room of each module.

    A folder is a room; what lies beside folders, or directly in the package, is a room of its own. A room of the
    declared order holds all that is below it.
    """
    order = floors_of(package)
    parents = {package.name, *(folder.rpartition(".")[0] for folder in package.folders)}
    found: dict[str, str] = {}
    for module in package.texts:
        folder = folder_of(package, module)
        first = ".".join(module.split(".")[:2])
        if order and first in package.folders:
            found[module] = first
        else:
            found[module] = module if folder in parents else folder
    return found


def places_of(package: Package) -> dict[str, int]:
    """The declared floor of each room, the ground being 0; empty without a declared order."""
    return {
        f"{package.name}.{room}" if room else package.name: number
        for number, floor in enumerate(reversed(floors_of(package)))
        for room in floor
    }


def unplaced(package: Package) -> list[str]:
    """The rooms that the declared order does not name."""
    places = places_of(package)
    return sorted(set(rooms_of(package).values()) - set(places)) if places else []


def going_up(package: Package, *, typing: bool = True) -> list[str]:
    """The arrows between modules that contradict the declared order; without one, none is known by name."""
    places, rooms = places_of(package), rooms_of(package)
    floors = {module: places[room] for module, room in rooms.items() if room in places}
    return graph.up(graph.graph_of(imported(package), _each(package), typing=typing), floors)


def circles(package: Package, *, typing: bool = True) -> list[list[str]]:
    """The circles of modules."""
    return graph.circles(graph.graph_of(imported(package), _each(package), typing=typing))


def _each(package: Package) -> dict[str, str]:
    return {module: module for module in package.texts}


def imported(package: Package) -> set[graph.Import]:
    """Every import inside the package."""
    return graph.imports(package.trees, package.folders)


def plan_of(package: Package) -> Plan:
    """The package measured."""
    found, rooms, places, wide = imported(package), rooms_of(package), places_of(package), widths(package)

    def shape(names: dict[str, str], *, typing: bool) -> Shape:
        drawn = graph.graph_of(found, names, typing=typing)
        floors = {names[module]: places[room] for module, room in rooms.items() if room in places}
        up = len(graph.up(drawn, floors)) if places else graph.back(drawn)
        return Shape(len(drawn), graph.floors(drawn), graph.arrows(drawn), up, graph.circles(drawn))

    widest = max(wide, key=lambda folder: (wide[folder], folder))
    shapes = [shape(names, typing=typing) for names in (rooms, _each(package)) for typing in (True, False)]
    return Plan(len(package.texts), wide[widest], widest, bool(places), *shapes)
