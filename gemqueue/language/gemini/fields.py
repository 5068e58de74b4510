"""The request language of the Gemini API as tables: which message has which fields, of which basic type.

Names and split are those of protocol section 4 and of google-genai 3.4 (``batches.py``,
``_GenerateContentConfig_to_mldev`` and what it calls). A field that the provider does not know fails a whole batch (400
at create), so unknown names are refused at the door wherever a ``Message`` lists its fields; parts of the language that
move fast are ``LOOSE``.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

from gemqueue.errors import PromptInvalid
from gemqueue.language.gemini import choices
from gemqueue.language.gemini.choices import Bounds, Words

if TYPE_CHECKING:
    from collections.abc import Iterable


class Leaf(Enum):
    """A field that is not a listed message; the value says in words what it takes."""

    TEXT = "a string"
    NUMBER = "a number"
    INTEGER = "an integer"
    FLAG = "true or false"
    BYTES = "bytes or base64 text"
    MAP = "an object"
    LOOSE = "an object, whose inner names are not checked"
    SCHEMA = "a schema: a dict, a types.Schema or a model class"
    JSON_SCHEMA = "a JSON Schema: a dict or a model class"
    INSTRUCTION = "a string, a Part or a Content"
    SPEECH = "a voice name or a SpeechConfig"
    CACHE = "the name of a cached content"
    TOOL = "a Tool"
    PART = "a Part"
    CONTENT = "a Content"


@dataclass(frozen=True, slots=True)
class Repeated:
    """A list of ``item``; a single message in its place is taken as a list of one, as the provider does."""

    item: Leaf | Message | Words


@dataclass(frozen=True, slots=True)
class Message:
    """The fields of one message. ``refused`` maps further names to the reason; ``required`` must all be there."""

    name: str
    fields: dict[str, Kind]
    refused: dict[str, str] = field(default_factory=dict[str, str])
    required: tuple[str, ...] = ()
    spellings: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        names = [*self.fields, *self.refused]
        object.__setattr__(self, "spellings", {s: name for name in names for s in (name, snake(name))})


Kind: TypeAlias = Leaf | Message | Repeated | Words | Bounds
"""What a field may be of."""


def snake(name: str) -> str:
    """``maxOutputTokens`` as ``max_output_tokens``."""
    return re.sub(r"([A-Z])", lambda found: "_" + found[1].lower(), name)


@lru_cache(maxsize=1024)
def camel(name: str) -> str:
    """``max_output_tokens`` as ``maxOutputTokens``; other names as they are."""
    return re.sub(r"(?<=[a-z0-9])_([a-z0-9])", lambda found: found[1].upper(), name)


def unknown_field(path: str, given: str, names: Iterable[str]) -> PromptInvalid:
    """The error for a name that is not in ``names``, with the nearest one in the caller's own spelling."""
    shown = given if len(given) <= 40 else given[:37] + "..."
    near = difflib.get_close_matches(camel(given), list(names), n=1)
    if not near:
        return PromptInvalid(f"{path}.{shown} is not a field")
    meant = snake(near[0]) if "_" in given else near[0]
    return PromptInvalid(f'{path}.{shown} is not a field; did you mean "{meant}"?')


_SDK = "is refused: it steers the SDK's own call, a batch cannot honour it; leave it out"
_VERTEX = "is refused: only Vertex AI has it, not the Gemini API; leave it out"
_T, _F = Leaf.TEXT, Leaf.FLAG
_TEXTS = Repeated(_T)

BLOB = Message(
    "Blob", {"data": Leaf.BYTES, "mimeType": choices.MIME_TYPE, "displayName": _T}, required=("data", "mimeType")
)
FILE_DATA = Message(
    "FileData",
    {"fileUri": choices.FILE_URI, "mimeType": choices.MIME_TYPE, "displayName": _T},
    required=("fileUri",),
)
FUNCTION_CALL = Message(
    "FunctionCall",
    {"id": _T, "name": _T, "args": Leaf.MAP},
    {"partialArgs": _VERTEX, "willContinue": _VERTEX},
    ("name",),
)
FUNCTION_RESPONSE = Message(
    "FunctionResponse",
    {
        "id": _T,
        "name": _T,
        "response": Leaf.MAP,
        "parts": Repeated(Leaf.LOOSE),
        "willContinue": _F,
        "scheduling": choices.SCHEDULING,
    },
    required=("name",),
)
PART_DATA: dict[str, Kind] = {
    "text": _T,
    "inlineData": BLOB,
    "fileData": FILE_DATA,
    "functionCall": FUNCTION_CALL,
    "functionResponse": FUNCTION_RESPONSE,
    "executableCode": Leaf.LOOSE,
    "codeExecutionResult": Leaf.LOOSE,
    "toolCall": Leaf.LOOSE,
    "toolResponse": Leaf.LOOSE,
    "audioTranscription": Leaf.LOOSE,
}
"""What a part may carry; exactly one of these."""

PART = Message(
    "Part",
    {
        **PART_DATA,
        "thought": _F,
        "thoughtSignature": Leaf.BYTES,
        "partMetadata": Leaf.MAP,
        "videoMetadata": Leaf.LOOSE,
        "mediaResolution": Leaf.LOOSE,
        "mediaProcessing": Leaf.LOOSE,
        "speechMetadata": Leaf.LOOSE,
        "documentMetadata": Leaf.LOOSE,
        "spreadsheetMetadata": Leaf.LOOSE,
        "audioMetadata": Leaf.LOOSE,
    },
)
CONTENT = Message("Content", {"parts": Repeated(Leaf.PART), "role": _T})

FUNCTION_DECLARATION = Message(
    "FunctionDeclaration",
    {
        "name": _T,
        "description": _T,
        "parameters": Leaf.SCHEMA,
        "parametersJsonSchema": Leaf.JSON_SCHEMA,
        "response": Leaf.SCHEMA,
        "responseJsonSchema": Leaf.JSON_SCHEMA,
        "behavior": choices.BEHAVIOR,
    },
    required=("name",),
)
TOOL = Message(
    "Tool",
    {
        "functionDeclarations": Repeated(FUNCTION_DECLARATION),
        "googleSearch": Leaf.LOOSE,
        "googleSearchRetrieval": Leaf.LOOSE,
        "googleMaps": Leaf.LOOSE,
        "codeExecution": Leaf.LOOSE,
        "urlContext": Leaf.LOOSE,
        "fileSearch": Leaf.LOOSE,
        "computerUse": Leaf.LOOSE,
        "mcpServers": Repeated(Leaf.LOOSE),
    },
    dict.fromkeys(("retrieval", "enterpriseWebSearch", "parallelAiSearch", "exaAiSearch"), _VERTEX),
)
TOOL_CONFIG = Message(
    "ToolConfig",
    {
        "functionCallingConfig": Message(
            "FunctionCallingConfig",
            {"mode": choices.CALLING_MODE, "allowedFunctionNames": _TEXTS},
            {"streamFunctionCallArguments": _VERTEX},
        ),
        "retrievalConfig": Leaf.LOOSE,
        "includeServerSideToolInvocations": _F,
    },
)
SAFETY_SETTING = Message(
    "SafetySetting",
    {"category": choices.CATEGORY, "threshold": choices.THRESHOLD},
    {"method": _VERTEX},
    ("category", "threshold"),
)
GENERATION = Message(
    "GenerationConfig",
    {
        "temperature": choices.TEMPERATURE,
        "topP": choices.SHARE,
        "topK": choices.TOP_K,
        "candidateCount": choices.CANDIDATES,
        "maxOutputTokens": choices.COUNT,
        "stopSequences": _TEXTS,
        "responseMimeType": choices.ANSWER_TYPE,
        "responseSchema": Leaf.SCHEMA,
        "responseJsonSchema": Leaf.JSON_SCHEMA,
        "presencePenalty": choices.PENALTY,
        "frequencyPenalty": choices.PENALTY,
        "seed": choices.SEED,
        "responseLogprobs": _F,
        "logprobs": choices.LOGPROBS,
        "responseModalities": Repeated(choices.MODALITY),
        "mediaResolution": choices.RESOLUTION,
        "speechConfig": Leaf.SPEECH,
        "thinkingConfig": Message(
            "ThinkingConfig",
            {
                "includeThoughts": _F,
                "thinkingBudget": choices.THINKING_BUDGET,
                "thinkingLevel": choices.THINKING_LEVEL,
            },
        ),
        "imageConfig": Message(
            "ImageConfig",
            {"aspectRatio": choices.ASPECT_RATIO, "imageSize": choices.IMAGE_SIZE},
            dict.fromkeys(
                (
                    "personGeneration",
                    "prominentPeople",
                    "outputMimeType",
                    "outputCompressionQuality",
                    "imageOutputOptions",
                ),
                _VERTEX,
            ),
        ),
        "enableEnhancedCivicAnswers": _F,
        "audioTranscriptionConfig": Leaf.LOOSE,
        "responseFormat": Repeated(Leaf.LOOSE),
        "translationConfig": Leaf.LOOSE,
    },
    dict.fromkeys(
        ("routingConfig", "modelSelectionConfig", "audioTimestamp", "modelArmorConfig", "generationOutputConfig"),
        _VERTEX,
    ),
)
_TOP: dict[str, Kind] = {
    "systemInstruction": Leaf.INSTRUCTION,
    "generationConfig": GENERATION,
    "safetySettings": Repeated(SAFETY_SETTING),
    "tools": Repeated(Leaf.TOOL),
    "toolConfig": TOOL_CONFIG,
    "cachedContent": Leaf.CACHE,
    "serviceTier": choices.SERVICE_TIER,
    "store": _F,
    "continuationToken": Leaf.BYTES,
}
_EMBED: dict[str, Kind] = {"taskType": choices.TASK_TYPE, "title": _T, "outputDimensionality": choices.COUNT}
_SDK_ONLY = dict.fromkeys(("httpOptions", "shouldReturnHttpResponse"), _SDK)
_NOT_EMBED = dict.fromkeys([*_TOP, *GENERATION.fields, "contents"], "is a field of generate, not of embed")
_NOT_GENERATE = dict.fromkeys([*_EMBED, "content"], "is a field of embed, not of generate")
_LABELS = {"labels": "is refused: the Gemini API's batches know no labels; leave it out (tag= stays with the prompt)"}
_MODEL = {"model": "is refused: a batch has one model, give it as the call's own argument"}
_OWN_ARGUMENT = dict.fromkeys(("contents", "content"), "is not a part of config; give it as the call's own argument")
_SPELLING = {
    "config": "is the SDK's spelling, not a row's: put generation parameters under generationConfig, "
    "and systemInstruction, tools and the like beside it"
}

GENERATE_CONFIG = Message(
    "GenerateContentConfig",
    {**GENERATION.fields, **_TOP},
    {
        **_NOT_GENERATE,
        **GENERATION.refused,
        **_SDK_ONLY,
        **dict.fromkeys(("automaticFunctionCalling", "automaticContinuation"), _SDK),
        **_MODEL,
        **_LABELS,
        **_OWN_ARGUMENT,
    },
)
"""What google-genai calls GenerateContentConfig: generation parameters and top-level fields mixed."""

EMBED_CONFIG = Message(
    "EmbedContentConfig",
    _EMBED,
    {
        **_NOT_EMBED,
        **_SDK_ONLY,
        **dict.fromkeys(("mimeType", "autoTruncate", "documentOcr", "audioTrackExtraction"), _VERTEX),
        **_MODEL,
        **_OWN_ARGUMENT,
    },
)
GENERATE_REQUEST = Message(
    "GenerateContentRequest",
    {"contents": Repeated(Leaf.CONTENT), **_TOP},
    {
        **dict.fromkeys(GENERATION.fields, "belongs under generationConfig"),
        **_NOT_GENERATE,
        **_MODEL,
        **_LABELS,
        **_SPELLING,
    },
    ("contents",),
)
EMBED_REQUEST = Message(
    "EmbedContentRequest",
    {"content": Leaf.CONTENT, **_EMBED, "embedContentConfig": Message("EmbedContentConfig", _EMBED)},
    {**_NOT_EMBED, **_MODEL, **_SPELLING},
    ("content",),
)

SCHEMA_FIELDS = frozenset(
    re.findall(
        r"\w+",
        "type format title description nullable enum maxItems minItems properties required minProperties "
        "maxProperties minLength maxLength pattern example anyOf propertyOrdering default items minimum maximum",
    )
)
"""The fields of the provider's own Schema message (an OpenAPI 3.0 subset)."""

JSON_SCHEMA_WORDS = frozenset(
    re.findall(
        r"\w+",
        "additionalProperties allOf const contains definitions dependentRequired exclusiveMaximum "
        "exclusiveMinimum examples if then else multipleOf not oneOf patternProperties prefixItems uniqueItems "
        "readOnly writeOnly deprecated contentEncoding contentMediaType",
    )
)
"""Words that only JSON Schema has; a schema that uses one is sent as the ``...JsonSchema`` field instead."""

JSON_TWIN = {
    "responseSchema": "responseJsonSchema",
    "parameters": "parametersJsonSchema",
    "response": "responseJsonSchema",
}
"""Where a schema goes that only JSON Schema can say."""

OPAQUE = frozenset({"args", "response", "labels", "headers", "customMetadata"})
"""Inside a LOOSE message: fields whose inner names are the caller's own."""
