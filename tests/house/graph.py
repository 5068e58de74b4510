"""Who imports whom, and what shape that has: floors, circles, arrows that go up. Pure: texts in, names out.

Every import statement counts, also one inside a function. Those under ``if TYPE_CHECKING:`` are marked, so that they
can be counted or left out. ``from package import name`` goes to the module ``package.name`` where there is one, else to
``package``; that importing a module also runs the ``__init__`` of its folder counts for nothing.
"""

from __future__ import annotations

import ast
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Graph = dict[str, set[str]]
_EXACT_MAX = 12


class Import(NamedTuple):
    """An import of ``target`` by ``source``; ``typing`` when it stands under ``if TYPE_CHECKING:``."""

    source: str
    target: str
    typing: bool


def imports(trees: Mapping[str, ast.Module], packages: frozenset[str]) -> set[Import]:
    """Every import among the modules ``trees``; those in ``packages`` are folders with an ``__init__``."""
    return {
        Import(source, target, typing)
        for source, tree in trees.items()
        for named, typing in _named(tree, source if source in packages else source.rpartition(".")[0])
        if (target := _module(named, trees)) and target != source
    }


def _named(node: ast.AST, package: str, *, typing: bool = False) -> Iterator[tuple[str, bool]]:
    """What is imported below ``node``, by its full name."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, typing) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - child.level + 1] if child.level else []
            base = ".".join([*above, *([child.module] if child.module else [])])
            yield from ((f"{base}.{alias.name}", typing) for alias in child.names)
        elif isinstance(child, ast.If) and ast.unparse(child.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            for statements, under in ((child.body, True), (child.orelse, typing)):
                yield from _named(ast.Module(statements, []), package, typing=under)
        else:
            yield from _named(child, package, typing=typing)


def _module(named: str, trees: Mapping[str, ast.Module]) -> str:
    if named in trees:
        return named
    above = named.rpartition(".")[0]
    return above if above in trees else ""


def graph_of(found: set[Import], names: Mapping[str, str], *, typing: bool) -> Graph:
    """The arrows between what ``names`` calls the modules; with or without the imports for types alone."""
    graph: Graph = {name: set() for name in names.values()}
    for each in found:
        source, target = names[each.source], names[each.target]
        if source != target and (typing or not each.typing):
            graph[source].add(target)
    return graph


def arrows(graph: Graph) -> int:
    """How many pairs there are of one that imports and one that is imported."""
    return sum(map(len, graph.values()))


def components(graph: Graph) -> list[list[str]]:
    """What can be reached from each other, sorted, each before those that import it (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
            if target in stack:
                low[node] = min(low[node], low[target])
        if low[node] == index[node]:
            at = stack.index(node)
            found.append(sorted(stack[at:]))
            del stack[at:]

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def circles(graph: Graph) -> list[list[str]]:
    """The groups of two and more that import each other, directly or by others."""
    return sorted(group for group in components(graph) if len(group) > 1)


def floors(graph: Graph) -> int:
    """The longest path, in nodes, where a circle counts as one."""
    found = components(graph)
    group_of = {name: number for number, group in enumerate(found) for name in group}
    heights: list[int] = []
    for number, group in enumerate(found):
        below = {group_of[target] for name in group for target in graph[name]} - {number}
        heights.append(1 + max((heights[one] for one in below), default=0))
    return max(heights, default=0)


def back(graph: Graph) -> int:
    """The least number of arrows without which there is no circle; for large circles a bound."""
    return sum(_back(graph, group) for group in circles(graph))


def _back(graph: Graph, group: list[str]) -> int:
    if len(group) > _EXACT_MAX:
        place = {name: number for number, name in enumerate(group)}
        ways = [place[target] > place[name] for name in group for target in graph[name] if target in place]
        return min(sum(ways), len(ways) - sum(ways))
    least: dict[frozenset[str], int] = {frozenset(): 0}
    for size in range(1, len(group) + 1):
        for chosen in map(frozenset, combinations(group, size)):
            # ``last`` stands on the others: what they import of it goes up.
            least[chosen] = min(
                least[chosen - {last}] + sum(last in graph[other] for other in chosen - {last}) for last in chosen
            )
    return least[frozenset(group)]


def up(graph: Graph, floor_of: Mapping[str, int]) -> list[str]:
    """The arrows from a lower floor to a higher one; what has no floor has none that count."""
    return sorted(
        f"{name} > {target}"
        for name, targets in graph.items()
        for target in targets
        if name in floor_of and target in floor_of and floor_of[target] > floor_of[name]
    )
