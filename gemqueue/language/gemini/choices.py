"""Which values a field takes, where the service has a list or a range of them: the tables, and the check. Pure.

The lists are those of google-genai 3.4 (``types.py``) for the Gemini API and of protocol section 4. A closed list
refuses what is not in it, because an unknown value may refuse the whole batch. An open one is of words that grow: what
resembles a known word is taken for a slip, anything else goes through with a warning. ``GEMQUEUE_DOOR=lenient`` lets
every unknown value through, with the same warning, for the day on which the service knows more than this table.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
from dataclasses import dataclass
from typing import Final

from gemqueue.errors import PromptInvalid

log = logging.getLogger("gemqueue")

DOOR_ENV: Final = "GEMQUEUE_DOOR"
_LIKENESS: Final = 0.85
_SHOWN_MAX: Final = 60
_WARNED_MAX: Final = 256
_warned: Final[set[tuple[str, str]]] = set()


@dataclass(frozen=True, slots=True)
class Words:
    """A string out of a list. ``shape`` is what an unknown word of an open list looks like; empty for a closed list.

    ``any_case``: the service takes the words in small letters, too (its documentation writes them so).
    """

    words: frozenset[str]
    shape: str = ""
    any_case: bool = False


@dataclass(frozen=True, slots=True)
class Bounds:
    """A number of a range, both ends included; ``whole`` for an integer."""

    low: float
    high: float
    whole: bool = False


def _words(text: str, shape: str = "", *, any_case: bool = False) -> Words:
    return Words(frozenset(text.split()), shape, any_case)


_INT32: Final = 2**31 - 1
CATEGORY: Final = _words(
    "HARM_CATEGORY_UNSPECIFIED HARM_CATEGORY_HARASSMENT HARM_CATEGORY_HATE_SPEECH HARM_CATEGORY_SEXUALLY_EXPLICIT "
    "HARM_CATEGORY_DANGEROUS_CONTENT HARM_CATEGORY_CIVIC_INTEGRITY HARM_CATEGORY_JAILBREAK HARM_CATEGORY_IMAGE_HATE "
    "HARM_CATEGORY_IMAGE_DANGEROUS_CONTENT HARM_CATEGORY_IMAGE_HARASSMENT HARM_CATEGORY_IMAGE_SEXUALLY_EXPLICIT",
    r"HARM_CATEGORY_[A-Z][A-Z_]*",
)
THRESHOLD: Final = _words(
    "HARM_BLOCK_THRESHOLD_UNSPECIFIED BLOCK_LOW_AND_ABOVE BLOCK_MEDIUM_AND_ABOVE BLOCK_ONLY_HIGH BLOCK_NONE OFF"
)
CALLING_MODE: Final = _words("MODE_UNSPECIFIED AUTO ANY NONE VALIDATED")
BEHAVIOR: Final = _words("UNSPECIFIED BLOCKING NON_BLOCKING")
SCHEDULING: Final = _words("SCHEDULING_UNSPECIFIED SILENT WHEN_IDLE INTERRUPT")
MODALITY: Final = _words("MODALITY_UNSPECIFIED TEXT IMAGE AUDIO VIDEO", any_case=True)
RESOLUTION: Final = _words(
    "MEDIA_RESOLUTION_UNSPECIFIED MEDIA_RESOLUTION_LOW MEDIA_RESOLUTION_MEDIUM MEDIA_RESOLUTION_HIGH"
)
THINKING_LEVEL: Final = _words("THINKING_LEVEL_UNSPECIFIED MINIMAL LOW MEDIUM HIGH XHIGH", any_case=True)
SERVICE_TIER: Final = _words("unspecified standard flex priority", any_case=True)
TASK_TYPE: Final = _words(
    "TASK_TYPE_UNSPECIFIED RETRIEVAL_QUERY RETRIEVAL_DOCUMENT SEMANTIC_SIMILARITY CLASSIFICATION CLUSTERING "
    "QUESTION_ANSWERING FACT_VERIFICATION CODE_RETRIEVAL_QUERY"
)
ANSWER_TYPE: Final = _words("text/plain application/json text/x.enum application/xml application/yaml", r"\w+/[\w.+-]+")
MIME_TYPE: Final = _words("", r"[a-zA-Z0-9!#$&^_.+-]+/[a-zA-Z0-9!#$&^_.+-]+(?:\s*;.*)?")
ASPECT_RATIO: Final = _words("1:1 2:3 3:2 3:4 4:3 4:5 5:4 9:16 16:9 21:9 1:8 8:1 1:4 4:1", r"\d{1,2}:\d{1,2}")
IMAGE_SIZE: Final = _words("512 1K 2K 4K", r"\d+K?")
FILE_URI: Final = _words("", r"(?:https?|gs)://[^\s/?#]+(?:[/?#]\S*)?|files/[a-z0-9-]+")

TEMPERATURE: Final = Bounds(0, 2)
SHARE: Final = Bounds(0, 1)
PENALTY: Final = Bounds(-2, 2)
COUNT: Final = Bounds(1, _INT32, whole=True)
CANDIDATES: Final = Bounds(1, 8, whole=True)
LOGPROBS: Final = Bounds(0, 20, whole=True)
SEED: Final = Bounds(-_INT32 - 1, _INT32, whole=True)
TOP_K: Final = Bounds(0, _INT32, whole=True)
THINKING_BUDGET: Final = Bounds(-1, _INT32, whole=True)


def check_word(words: Words, value: str, path: str) -> str:
    """The value itself. Raises PromptInvalid for one that is not in the list, with the nearest that is."""
    if value in words.words or (words.any_case and {value.upper(), value.lower()} & words.words and value.islower()):
        return value
    shown = value if len(value) <= _SHOWN_MAX else value[: _SHOWN_MAX - 3] + "..."
    near = difflib.get_close_matches(value.strip().upper(), words.words, n=1, cutoff=_LIKENESS)
    if is_lenient() or (words.shape and not near and re.fullmatch(words.shape, value)):
        if words.words:
            _warn(path, shown)
        return value
    raise PromptInvalid(f"{path} {_wrong(words, shown, near)}")


def _wrong(words: Words, shown: str, near: list[str]) -> str:
    if not words.words:
        return f"is {shown!r}: {_MEANT[words]}"
    known = f'did you mean "{near[0]}"?' if near else f"it takes {', '.join(sorted(words.words))}"
    return f"is {shown!r}: {known} ({DOOR_ENV}=lenient lets new words pass)"


_MEANT: Final = {
    MIME_TYPE: 'a MIME type is written "image/png"',
    FILE_URI: "a URI begins with https:// (upload the file first, or give its bytes as inlineData)",
}


def check_bounds(bounds: Bounds, value: float, path: str) -> float:
    """The value itself. Raises PromptInvalid for one outside the range."""
    if bounds.low <= value <= bounds.high or is_lenient():
        return value
    most = f"from {bounds.low:g} to {bounds.high:g}" if bounds.high < _INT32 else f"{bounds.low:g} or more"
    raise PromptInvalid(f"{path} is {value:g}, and must be {most}")


def is_lenient() -> bool:
    """Whether unknown values pass the door, as ``GEMQUEUE_DOOR`` says."""
    return os.environ.get(DOOR_ENV, "") == "lenient"


def _warn(path: str, shown: str) -> None:
    """Once for each field and word, in a process."""
    field = re.sub(r"\[\d+\]", "", path).rpartition(".")[2]
    if (field, shown) in _warned or len(_warned) >= _WARNED_MAX:
        return
    _warned.add((field, shown))
    log.warning("%s is %r, which this version does not know; it goes out as it is", field, shown)
