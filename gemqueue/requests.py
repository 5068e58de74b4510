"""An old module, for one release: pickles and imports of 0.2.0 name it."""

import warnings

from gemqueue.language.checks import check_kind, check_model, check_name, check_queue_name, check_size
from gemqueue.language.gemini.requests import RequestEncoder, embed_request, encoder_for, generate_request, rest_request
from gemqueue.language.lines import line, lines, token_estimate, token_estimates

__all__ = [
    "RequestEncoder",
    "check_kind",
    "check_model",
    "check_name",
    "check_queue_name",
    "check_size",
    "embed_request",
    "encoder_for",
    "generate_request",
    "line",
    "lines",
    "rest_request",
    "token_estimate",
    "token_estimates",
]

warnings.warn(
    "gemqueue.requests is going away: import public names from gemqueue; docs/moved.md says where the others are",
    DeprecationWarning,
    stacklevel=2,
)
