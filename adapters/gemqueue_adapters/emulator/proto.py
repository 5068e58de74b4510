"""The request messages of the API as msgspec types, strict and bilingual.

Proto-JSON accepts every field in lowerCamelCase and in snake_case, mixed at will (protocol section 2), and the
service refuses unknown fields. One typed decode checks all of that: each message holds every field under both names.
"""

from __future__ import annotations

import math
import re
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

INT32_MAX = 2**31 - 1
NumberText = Annotated[str, msgspec.Meta(pattern=r"^-?\d+(\.\d+)?$", max_length=20)]
Number = int | float | NumberText
"""Proto-JSON takes a number as a string, too."""

Free = dict[str, Any]


def words(text: str) -> Any:
    """One of these words, or the number that stands for it in proto-JSON."""
    return Literal[tuple(text.split())] | int


def bounded(low: float, high: float) -> Any:
    """A number of this range, both ends included, or a string that holds a number."""
    limits = msgspec.Meta(ge=low, le=high)
    whole = msgspec.Meta(ge=math.ceil(low), le=math.floor(high))
    return Annotated[int, whole] | Annotated[float, limits] | NumberText


CATEGORIES = (
    "HARM_CATEGORY_UNSPECIFIED HARM_CATEGORY_HARASSMENT HARM_CATEGORY_HATE_SPEECH HARM_CATEGORY_SEXUALLY_EXPLICIT "
    "HARM_CATEGORY_DANGEROUS_CONTENT HARM_CATEGORY_CIVIC_INTEGRITY HARM_CATEGORY_JAILBREAK HARM_CATEGORY_IMAGE_HATE "
    "HARM_CATEGORY_IMAGE_DANGEROUS_CONTENT HARM_CATEGORY_IMAGE_HARASSMENT HARM_CATEGORY_IMAGE_SEXUALLY_EXPLICIT"
)
THRESHOLDS = (
    "HARM_BLOCK_THRESHOLD_UNSPECIFIED BLOCK_LOW_AND_ABOVE BLOCK_MEDIUM_AND_ABOVE BLOCK_ONLY_HIGH BLOCK_NONE OFF"
)
TASK_TYPES = (
    "TASK_TYPE_UNSPECIFIED RETRIEVAL_QUERY RETRIEVAL_DOCUMENT SEMANTIC_SIMILARITY CLASSIFICATION CLUSTERING "
    "QUESTION_ANSWERING FACT_VERIFICATION CODE_RETRIEVAL_QUERY"
)
LEVELS = "THINKING_LEVEL_UNSPECIFIED MINIMAL LOW MEDIUM HIGH XHIGH minimal low medium high xhigh"
RESOLUTIONS = "MEDIA_RESOLUTION_UNSPECIFIED MEDIA_RESOLUTION_LOW MEDIA_RESOLUTION_MEDIUM MEDIA_RESOLUTION_HIGH"


def camel(name: str) -> str:
    """`max_output_tokens` -> `maxOutputTokens`."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def snake(name: str) -> str:
    """`maxOutputTokens` -> `max_output_tokens`."""
    return re.sub(r"(?<!^)([A-Z])", lambda found: "_" + found[1].lower(), name)


def message(name: str, /, **fields: Any) -> Any:
    """A message type whose fields may all be left out or null; a type given as a string may name a later message."""
    both: list[tuple[str, Any, Any]] = []
    for field, kind in fields.items():
        optional = f"{kind} | None" if isinstance(kind, str) else kind | None
        both.extend((spelling, optional, None) for spelling in dict.fromkeys((field, camel(field))))
    return msgspec.defstruct(name, both, forbid_unknown_fields=True, module=__name__, gc=False)


def repeated(kind: Any) -> Any:
    """A list of these messages."""
    return GenericAlias(list, (kind,))


def fields(value: Any) -> dict[str, Any]:
    """A decoded JSON object; an empty one in the place of anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """A decoded JSON array; an empty one in the place of anything else."""
    return list(cast("Iterable[Any]", value)) if isinstance(value, list) else []


def pick(value: dict[str, Any], *names: str) -> Any:
    """The first of these fields that is there and not null, under either spelling; names are in snake_case."""
    found = (value.get(spelling) for name in names for spelling in (camel(name), name))
    return next((each for each in found if each is not None), None)


def either(value: Any, field: str) -> Any:
    """A field of a message, under whichever of its two names it came."""
    found = getattr(value, field)
    return getattr(value, camel(field)) if found is None else found


Schema = message(
    "Schema",
    type=str,
    format=str,
    title=str,
    description=str,
    nullable=bool,
    enum=list[str],
    max_items=Number,
    min_items=Number,
    properties="dict[str, Schema]",
    required=list[str],
    min_properties=Number,
    max_properties=Number,
    min_length=Number,
    max_length=Number,
    pattern=str,
    example=object,
    any_of="list[Schema]",
    property_ordering=list[str],
    default=object,
    items="Schema",
    minimum=Number,
    maximum=Number,
)
Part = message(
    "Part",
    text=str,
    inline_data=message("Blob", mime_type=str, data=str, display_name=str),
    file_data=message("FileData", mime_type=str, file_uri=str, display_name=str),
    function_call=message("FunctionCall", id=str, name=str, args=Free),
    function_response=Free,
    executable_code=Free,
    code_execution_result=Free,
    tool_call=Free,
    tool_response=Free,
    audio_transcription=Free,
    video_metadata=Free,
    media_resolution=object,
    thought=bool,
    thought_signature=str,
    part_metadata=Free,
    media_processing=object,
    speech_metadata=Free,
    document_metadata=Free,
    spreadsheet_metadata=Free,
    audio_metadata=Free,
)
PART_DATA_COUNT = 19
"""How many of Part's first slots are the members of its oneof, in both spellings: a part holds one of them at most."""

Content = message("Content", role=str, parts=repeated(Part))
GenerationConfig = message(
    "GenerationConfig",
    stop_sequences=list[str],
    response_mime_type=str,
    response_schema=Schema,
    response_json_schema=object,
    response_modalities=list[str],
    response_format=object,
    candidate_count=bounded(1, 8),
    max_output_tokens=bounded(1, INT32_MAX),
    temperature=bounded(0, 2),
    top_p=bounded(0, 1),
    top_k=bounded(0, INT32_MAX),
    seed=bounded(-INT32_MAX - 1, INT32_MAX),
    presence_penalty=bounded(-2, 2),
    frequency_penalty=bounded(-2, 2),
    response_logprobs=bool,
    logprobs=bounded(0, 20),
    enable_enhanced_civic_answers=bool,
    speech_config=Free,
    audio_transcription_config=Free,
    translation_config=Free,
    thinking_config=message(
        "ThinkingConfig", include_thoughts=bool, thinking_budget=bounded(-1, INT32_MAX), thinking_level=words(LEVELS)
    ),
    image_config=Free,
    media_resolution=words(RESOLUTIONS),
)
FunctionDeclaration = message(
    "FunctionDeclaration",
    name=str,
    description=str,
    behavior=words("UNSPECIFIED BLOCKING NON_BLOCKING"),
    parameters=Schema,
    parameters_json_schema=object,
    response=Schema,
    response_json_schema=object,
)
Tool = message(
    "Tool",
    function_declarations=repeated(FunctionDeclaration),
    google_search=Free,
    google_search_retrieval=Free,
    code_execution=Free,
    url_context=Free,
    computer_use=Free,
    file_search=Free,
    google_maps=Free,
    mcp_servers=list[Free],
)
GenerateContentRequest = message(
    "GenerateContentRequest",
    model=str,
    contents=repeated(Content),
    system_instruction=Content,
    generation_config=GenerationConfig,
    safety_settings=repeated(message("SafetySetting", category=words(CATEGORIES), threshold=words(THRESHOLDS))),
    tools=repeated(Tool),
    tool_config=message(
        "ToolConfig",
        function_calling_config=message(
            "FunctionCallingConfig",
            mode=words("MODE_UNSPECIFIED AUTO ANY NONE VALIDATED"),
            allowed_function_names=list[str],
        ),
        retrieval_config=Free,
        include_server_side_tool_invocations=bool,
    ),
    cached_content=str,
    continuation_token=str,
    service_tier=words("unspecified standard flex priority"),
    store=bool,
)
EMBED_CONFIG: dict[str, Any] = {
    "task_type": words(TASK_TYPES),
    "title": str,
    "output_dimensionality": bounded(1, INT32_MAX),
}
EmbedContentRequest = message(
    "EmbedContentRequest",
    model=str,
    content=Content,
    **EMBED_CONFIG,
    embed_content_config=message("EmbedContentConfig", **EMBED_CONFIG),
)
REQUESTS: dict[str, Any] = {"generate": GenerateContentRequest, "embed": EmbedContentRequest}
LINES: dict[str, Any] = {
    kind: msgspec.defstruct(
        f"{kind}_line", [("request", request), ("key", str | None, None)], forbid_unknown_fields=True, gc=False
    )
    for kind, request in REQUESTS.items()
}
"""One line of an input file, by kind (protocol sections 9.1 and 9.2)."""
