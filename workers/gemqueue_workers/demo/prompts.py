"""Real text for the demo: questions about the docstrings of Python's own standard library.

The modules are parsed, never imported, so nothing in them runs. The order is fixed, so the same number of prompts is
always the same prompts on one version of Python.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import sysconfig
import warnings
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gemqueue.states import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    _Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

GENERATE_MODEL: Final = "gemini-3.8-flash"
EMBED_MODEL: Final = "gemini-embedding-2"
_DOC_CHARS_MIN: Final = 60
_DOC_CHARS_MAX: Final = 1_500
_EMBED_EVERY: Final = 25
_NAMED: Final = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)  # a type alias has a name too, and no docstring
_SKIPPED: Final = frozenset({"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__"})

_QUESTIONS: Final = (
    ("summary", "Summarise in one sentence"),
    ("beginner", "Explain to somebody who has programmed for a week"),
    ("pitfall", "Name the mistake that is easiest to make with this"),
    ("example", "Write the shortest useful example for this"),
    ("title", "Give this a title of at most five words"),
    ("german", "Translate into German"),
    ("test", "Describe in one sentence a test that this text calls for"),
    ("unclear", "What does this text leave open?"),
)
_SCHEMA_CONFIG: Final[dict[str, Any]] = {
    "response_mime_type": "application/json",
    "response_schema": {
        "type": "object",
        "properties": {"topic": {"type": "string"}, "difficulty": {"type": "integer"}},
        "required": ["topic", "difficulty"],
    },
}


class DemoPrompt(msgspec.Struct, frozen=True):
    """One prompt of the demo; ``label`` names it in the answers file, ``text`` is what is asked."""

    label: str
    kind: Kind
    text: str
    config: dict[str, Any] | None = None

    @property
    def model(self) -> str:
        """The model that is asked."""
        return EMBED_MODEL if self.kind is Kind.EMBED else GENERATE_MODEL


def demo_prompts(n: int) -> list[DemoPrompt]:
    """``n`` different prompts: most ask for text, one of 25 for an embedding, the second for JSON by a schema."""
    return list(islice(_prompts(), n))


def _prompts() -> Iterator[DemoPrompt]:
    """Every question about every docstring; after the last, all of them again for a second version, and so on."""
    docs: list[tuple[str, str]] = []
    for number, (name, doc) in enumerate(docstrings()):
        docs.append((name, doc))
        yield _prompt(number, name, doc, *_QUESTIONS[0])
    numbers = count(len(docs))
    for slug, question in _QUESTIONS[1:]:
        for name, doc in docs:
            yield _prompt(next(numbers), name, doc, slug, question)
    for version in count(2):
        for slug, question in _QUESTIONS:
            for name, doc in docs:
                yield _prompt(next(numbers), name, doc, f"{slug}-{version}", f"{question} (version {version})")


def _prompt(number: int, name: str, doc: str, slug: str, question: str) -> DemoPrompt:
    if number % _EMBED_EVERY == 2:
        return DemoPrompt(f"{name}/{slug}-embedding", Kind.EMBED, f"{question}: {doc}")
    config = _SCHEMA_CONFIG if number == 1 else None
    return DemoPrompt(f"{name}/{slug}", Kind.GENERATE, f"{question}:\n\n{doc}", config)


def docstrings() -> Iterator[tuple[str, str]]:
    """(dotted name, docstring) of public things in the standard library, each name and each text once."""
    seen: set[str] = set()
    for name, doc in _found():
        text = inspect.cleandoc(doc)
        if len(text) >= _DOC_CHARS_MIN and name not in seen and text not in seen:
            seen.update((name, text))
            yield name, text[:_DOC_CHARS_MAX]


def _found() -> Iterator[tuple[str, str]]:
    """The library's sources first; the built-ins are there even where the sources are not."""
    root = Path(sysconfig.get_path("stdlib"))
    for file in _files(root):
        parts = file.relative_to(root).with_suffix("").parts
        yield from _in_file(file, ".".join(part for part in parts if part != "__init__"))
    for name, value in sorted(vars(builtins).items()):
        if _is_public(name) and isinstance(doc := getattr(value, "__doc__", None), str):
            yield name, doc


def _files(folder: Path) -> Iterator[Path]:
    """The public modules of a folder and of the packages in it."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    for entry in entries:
        if entry.suffix == ".py" and _is_public(entry.stem):
            yield entry
        elif entry.name not in _SKIPPED and _is_public(entry.name) and (entry / "__init__.py").is_file():
            yield from _files(entry)


def _in_file(file: Path, module: str) -> Iterator[tuple[str, str]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in somebody else's strings
            tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    yield from _in_node(tree, module)


def _in_node(node: _Documented, name: str) -> Iterator[tuple[str, str]]:
    if (doc := ast.get_docstring(node)) is not None:
        yield name, doc
    if isinstance(node, ast.Module | ast.ClassDef):
        for child in node.body:
            if isinstance(child, _NAMED) and _is_public(child.name):
                yield from _in_node(child, f"{name}.{child.name}")


def _is_public(name: str) -> bool:
    return name == "__init__" or not name.startswith("_")
