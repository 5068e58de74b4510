"""Every place that ends, reopens, restarts or gives back a batch goes through the table of beliefs, or says why not."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import gemqueue_workers

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(gemqueue_workers.__file__).parent
CONCLUDES = {"end", "reopen", "restart", "close", "requeue", "divert", "rescue"}
"""What may buy again, drop an answer or fail a prompt."""
OTHERWISE = {
    ("stages/submitter.py", "Submitter.handle", "end"): "an interactive lane has no job",
    ("stages/submitter.py", "Submitter._submit_rest", "end"): "nothing is left to buy",
    ("stages/submitter.py", "Submitter._submit_rest", "reopen"): "the worker itself has not sent the create",
    ("stages/submitter.py", "Submitter._begin", "reopen"): "the worker itself has not sent the create",
    ("stages/submitter.py", "Submitter._reopen", "reopen"): "the API itself refused the create (docs/promises.md)",
    ("stages/inputs.py", "restarted", "restart"): "its caller, the tracker, has looked",
    ("stages/tracker.py", "Tracker._end", "end"): "buys nothing: the resolver looks at the ended job",
    ("stages/resolver.py", "Resolver._close", "close"): "the looks at the ended job have concluded it",
    ("stages/retries.py", "RetryWriter.move", "requeue"): "rows that the service itself calls failed, or a look has",
    ("stages/rescuer.py", "_Round._divert", "divert"): "moves what no job has",
    ("stages/rescuer.py", "_Round._rescue", "rescue"): "deadline_policy allows to pay for both",
    ("manage/give_back.py", "_end", "end"): "only a batch without a job (policy.pools.why_kept)",
    ("manage/give_back.py", "_close", "close"): "only a batch without a job (policy.pools.why_kept)",
}


class _Places(ast.NodeVisitor):
    """Which functions conclude, and which of them look."""

    def __init__(self) -> None:
        self.within: list[str] = []
        self.concluding: set[tuple[str, str]] = set()
        self.looking: set[str] = set()

    def _inside(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.within.append(node.name)
        self.generic_visit(node)
        self.within.pop()

    visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _inside  # noqa: N815 - the names of ast

    def visit_Call(self, node: ast.Call) -> None:
        """A call of a store's verb, or of the look."""
        called, place = ast.unparse(node.func), ".".join(self.within)
        owner, _, verb = called.rpartition(".")
        if verb in CONCLUDES and owner.endswith("store"):
            self.concluding.add((place, verb))
        if called == "believing.look":
            self.looking.add(place)
        self.generic_visit(node)


def _places(path: Path) -> Iterator[tuple[str, str, str]]:
    places = _Places()
    places.visit(ast.parse(path.read_text()))
    for place, verb in places.concluding:
        if place not in places.looking:
            yield str(path.relative_to(ROOT)), place, verb


def test_what_concludes_has_looked() -> None:
    """A new place that concludes must look first, or be listed here with the reason why it need not; none is stale."""
    assert {found for path in ROOT.rglob("*.py") for found in _places(path)} == set(OTHERWISE)
