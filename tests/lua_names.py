"""Names in Lua that nobody reads: a small reader of Lua 5.1, for ``tests/test_lua.py``.

It knows blocks and which names each of them sees, and nothing of types or of what runs. In doubt a name counts as read:
a read counts for every declaration of the name in sight, also for those that another one hides.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKENS = re.compile(
    r"""
    (?P<skip> --\[(?P<level>=*)\[ .*? \](?P=level)\] | --[^\n]* | \s+
            | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' | \[(?P<long>=*)\[ .*? \](?P=long)\]
            | (?:0[xX][0-9a-fA-F]+ | \d+(?:\.(?!\.)\d*)? | \.\d+)(?:[eE][+-]?\d+)? )
    | (?P<name> [A-Za-z_]\w*)
    | (?P<sign> \.\.\. | \.\. | == | ~= | <= | >= | [^\w\s])
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_WORDS = {"break", "do", "else", "elseif", "end", "for", "function", "if", "in", "local", "repeat", "return"}
_KEYWORDS = _BLOCK_WORDS | {"and", "false", "nil", "not", "or", "then", "true", "until", "while"}


class Token(NamedTuple):
    """A name, a keyword or a sign, and the line that it is in; strings and numbers are left out."""

    text: str
    line: int


class Local(msgspec.Struct, eq=False):
    """A local, a loop variable or a parameter. ``outer`` is declared at the top of its file."""

    name: str
    line: int
    outer: bool
    read: bool = False


class Names(msgspec.Struct):
    """The locals of a file, and the names that it reads and does not declare."""

    declared: list[Local]
    free: set[str]

    def unread(self, *, elsewhere: frozenset[str] = frozenset()) -> list[str]:
        """``name:line`` of what nobody reads. ``elsewhere``: read by the scripts that this file stands before."""
        return [
            f"{one.name}:{one.line}"
            for one in self.declared
            if not one.read and not one.name.startswith("_") and not (one.outer and one.name in elsewhere)
        ]


class _Block(msgspec.Struct):
    locals: list[Local] = []
    owner: Local | None = None
    """The local function whose body it is: what it reads of itself does not make it used."""


def tokens(text: str) -> list[Token]:
    """The file in tokens, without comments, strings and numbers."""
    found: list[Token] = []
    line = 1
    for match in _TOKENS.finditer(text):
        if match.lastgroup is not None and not match["skip"]:
            found.append(Token(match[0], line))
        line += match[0].count("\n")
    return found


def names_in(text: str) -> Names:
    """What a file declares, and what it reads of itself and of others."""
    return _Reader(tokens(text)).run()


class _Reader:
    def __init__(self, found: list[Token]) -> None:
        self._tokens = [*found, Token("", 0)]
        self._at = 0
        self._blocks = [_Block()]
        self._next: list[Local] = []
        """Loop variables and parameters, until the block begins that they are for."""
        self._names = Names([], set())

    def run(self) -> Names:
        while self._at < len(self._tokens) - 1:
            token = self._tokens[self._at]
            self._at += 1
            if token.text == "local":
                self._local()
            elif token.text == "for":
                self._next += self._declared(until=("=", "in"))
            elif token.text == "function":
                self._function(None)
            elif token.text in _KEYWORDS:
                self._keyword(token.text)
            elif token.text.isidentifier():
                self._read(token.text)
        return self._names

    def _keyword(self, word: str) -> None:
        if word in {"elseif", "else", "end", "until"}:
            ended = self._blocks.pop()
            if word == "until":  # its condition still sees them
                self._blocks[-1].locals += ended.locals
        if word in {"do", "then", "else", "repeat"}:
            self._open(None)

    def _open(self, owner: Local | None) -> None:
        self._blocks.append(_Block(self._next, owner))
        self._next = []

    def _local(self) -> None:
        if self._tokens[self._at].text == "function":
            self._at += 1
            (name,) = self._declared(until=("(",))
            self._blocks[-1].locals.append(name)
            self._at -= 1
            self._function(name)
        else:
            self._blocks[-1].locals += self._declared(until=None)

    def _function(self, owner: Local | None) -> None:
        while self._tokens[self._at].text != "(":
            self._at += 1  # the name of a global function
        self._next = self._declared(until=(")",))
        self._open(owner)

    def _declared(self, *, until: tuple[str, ...] | None) -> list[Local]:
        """The names from here on, to one of the signs ``until``, or as long as commas stand between them."""
        found: list[Local] = []
        while True:
            token = self._tokens[self._at]
            if token.text.isidentifier() and token.text not in _KEYWORDS:
                found.append(Local(token.text, token.line, len(self._blocks) == 1 and until in {None, ("(",)}))
            self._at += 1
            if until is None:
                if self._tokens[self._at].text != ",":
                    break
                self._at += 1
            elif token.text in until or not token.text:
                break
        self._names.declared += found
        return found

    def _read(self, name: str) -> None:
        before = self._tokens[self._at - 2].text if self._at > 1 else ""
        if before in {".", ":"} or self._tokens[self._at].text == "=":
            return  # a field; or written, and a table's key
        seen = [one for block in self._blocks for one in block.locals if one.name == name]
        if not seen:
            self._names.free.add(name)
        within = [block.owner for block in self._blocks]
        for one in seen:
            one.read = one.read or not any(one is owner for owner in within)


def lines_over(text: str, chars_max: int) -> Iterator[int]:
    """The lines that are too long."""
    return (number for number, line in enumerate(text.splitlines(), 1) if len(line) > chars_max)
