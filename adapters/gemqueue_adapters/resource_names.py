"""What the resources of the Gemini API are called, checked before a name becomes part of a URL."""

from __future__ import annotations

import re
from typing import Final

from gemqueue.errors import Rejected

MODEL = re.compile(r"(?:(models|tunedModels)/)?([a-z0-9][a-z0-9.\-_]{0,127})")
JOB = re.compile(r"batches/[A-Za-z0-9][A-Za-z0-9._\-]{0,127}")
FILE = re.compile(r"files/[A-Za-z0-9][A-Za-z0-9._\-]{0,127}")
GENERATED_FILE: Final = "files/batch-"
FILE_CHARS_MAX: Final = len("files/") + 40


def model_path(model: str) -> str:
    """The path of a model. Raises Rejected for what is no name of one."""
    found = MODEL.fullmatch(model)
    if not found:
        raise Rejected("create: the model's name is not one", call="create")
    return f"{found[1] or 'models'}/{found[2]}"


def checked_name(pattern: re.Pattern[str], name: str, call: str) -> str:
    """The name, if it is one of this kind of resource. Raises Rejected."""
    if not pattern.fullmatch(name):
        raise Rejected(f"{call}: {name[:80]!r} is not a resource name of this API", call=call)
    return name
