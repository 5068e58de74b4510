"""Logs: one event per line on standard error, in words for a person and as JSON for a machine."""

from __future__ import annotations

import logging
import sys

import structlog


def set_up_logs(*, json: bool = False, verbose: bool = False) -> None:
    """Send gemqueue's events to standard error; ``verbose`` adds arq's own and the debug level."""
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(stream=sys.stderr, level=level, format="%(message)s", force=True)
    for noisy in ("arq", "httpx", "httpcore", "asyncio"):
        logging.getLogger(noisy).setLevel(level if verbose else logging.WARNING)
    # Plain tracebacks: the pretty ones show local variables, and prompts and keys are among them.
    words = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
    renderer = structlog.processors.JSONRenderer() if json else words
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if json else structlog.processors.StackInfoRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
