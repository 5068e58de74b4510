"""Lines out of a byte stream, whatever the network's cuts: the result files of a job are JSONL of any size."""

from __future__ import annotations

LINE_BYTES_MAX = 64 * 1024 * 1024


class LineTooLong(Exception):  # noqa: N818 - the fact is the name
    """A line is longer than the limit; ``number`` counts from 1."""

    def __init__(self, number: int) -> None:
        super().__init__(f"line {number} is too long")
        self.number = number


class LineSplitter:
    r"""Cuts at ``\n`` only, strips one ``\r`` before it, drops empty lines; no byte is copied more than thrice."""

    def __init__(self, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self._line_bytes_max = line_bytes_max
        self._parts: list[bytes] = []  # of the line that has not ended yet
        self._parts_bytes = 0
        self._lines_seen = 0
        self._returns = False
        """Whether a carriage return has come; JSON needs none, so most files are spared the look at each line."""

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes. Raises ``LineTooLong``."""
        self._returns = self._returns or b"\r" in data
        known_bytes = self._parts_bytes + len(data)
        lines = data.split(b"\n")
        tail = lines.pop()
        if lines:
            lines[0] = b"".join((*self._parts, lines[0]))
            self._parts, self._parts_bytes = [], 0
        if known_bytes > self._line_bytes_max:
            self._check(lines)
        self._lines_seen += len(lines)
        self._keep(tail)
        if self._returns:
            lines = [line.removesuffix(b"\r") for line in lines]
        return list(filter(None, lines))

    def end(self) -> list[bytes]:
        """The last line, when the stream did not end with a line end."""
        last = b"".join(self._parts).removesuffix(b"\r")
        self._parts, self._parts_bytes = [], 0
        return [last] if last else []

    def _check(self, lines: list[bytes]) -> None:
        if max(map(len, lines), default=0) > self._line_bytes_max:
            raise LineTooLong(
                next(n for n, line in enumerate(lines, self._lines_seen + 1) if len(line) > self._line_bytes_max)
            )

    def _keep(self, tail: bytes) -> None:
        if tail:
            self._parts.append(tail)
            self._parts_bytes += len(tail)
        if self._parts_bytes > self._line_bytes_max:
            raise LineTooLong(self._lines_seen + 1)
