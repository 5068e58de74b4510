"""Logs: one event per line on standard error, in words for a person and as JSON for a machine.

gemqueue's events, arq's lines and those of other libraries come in the same form, and those of a worker carry its id,
host and version. A failure that goes on is said once, and then at growing intervals with the number of times that it
was left out. ``arq`` sets up logs of its own after it has imported the settings; its first line puts ours back.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
import time
from collections import OrderedDict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

import structlog

from gemqueue.errors import GemqueueError
from gemqueue.store.scripts import ServerError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from structlog.typing import EventDict, Processor

_QUIET: Final = ("httpx", "httpcore", "asyncio")
"""Libraries that show addresses and headers below the level of a warning."""
_ARQ_HANDLER: Final = "arq.standard"
_FAILURES: Final = frozenset({"warning", "error"})
_AGAIN_FIRST_S: Final = 10.0
_AGAIN_MAX_S: Final = 600.0
_KINDS_MAX: Final = 256
_DIFFERS: Final = re.compile(r"[0-9a-f]{6,}|[0-9]+")
"""Numbers and ids, in which the same failure differs from time to time."""
_process: dict[str, str] = {}


@cache
def installed_version() -> str:
    """Gemqueue's version; empty for a checkout on the path."""
    try:
        return version("gemqueue")
    except PackageNotFoundError:
        return ""


def identify(worker: str) -> None:
    """Have every event of this process say which worker it is of, on which host, in which version."""
    _process.update(worker=worker, host=socket.gethostname(), version=installed_version())


def set_up_logs(*, json: bool = False, verbose: bool = False, arq_level: int = logging.WARNING) -> None:
    """Send all events to standard error; ``verbose`` adds arq's own lines and the debug level."""
    level = logging.DEBUG if verbose else logging.INFO
    chain, renderer = _chain(), _renderer(json=json)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *chain],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("arq").setLevel(level if verbose else arq_level)
    structlog.configure(
        processors=[*chain, Repeats(), *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def set_up_under_arq(*, json: bool) -> None:
    """The same in a process that ``arq`` runs; a process that has set up structlog itself is left as it is."""
    if structlog.is_configured():
        return
    set_up_logs(json=json, arq_level=logging.INFO)
    logging.getLogger("arq.worker").addFilter(_TakeBack(json=json))


class Repeats:
    """Leaves out failures that were said a while ago: what has an ``error`` and is about no single job."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._said: OrderedDict[tuple[str, str], _Said] = OrderedDict()

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        """The event, with ``repeated`` where others like it were left out. Raises DropEvent."""
        what = _what(event)
        if event.get("level") not in _FAILURES or not what or "job" in event:
            return event
        key = str(event["event"]), _DIFFERS.sub("#", what)[:200]
        said, now_s = self._said.pop(key, None), self._monotonic()
        if said is None or now_s - said.last_s > 2 * said.pause_s:
            said = _Said(now_s)
        self._said[key] = said
        if len(self._said) > _KINDS_MAX:
            self._said.popitem(last=False)
        return said.again(event, now_s)


def _what(event: EventDict) -> str:
    """What has failed: in words, or the kind of an exception; empty where nothing has."""
    if error := event.get("error"):
        return str(error)
    found: object = event.get("exc_info")
    found = sys.exception() if found is True else found
    return type(found).__name__ if isinstance(found, BaseException) else ""


class _Said:
    """One kind of failure: when it was said, when it was last seen, and how often it was left out since."""

    def __init__(self, now_s: float) -> None:
        self.pause_s = _AGAIN_FIRST_S
        self.last_s = now_s
        self._next_s = now_s
        self._left_out = 0

    def again(self, event: EventDict, now_s: float) -> EventDict:
        self.last_s = now_s
        if now_s < self._next_s:
            self._left_out += 1
            raise structlog.DropEvent
        if self._left_out:
            event["repeated"], self._left_out = self._left_out, 0
            self.pause_s = min(2 * self.pause_s, _AGAIN_MAX_S)
            event.pop("exc_info", None)  # its traceback was shown
        self._next_s = now_s + self.pause_s
        return event


class _TakeBack(logging.Filter):
    """Puts our form in the place of arq's own, where ``arq`` has set that up and nobody has asked for another."""

    def __init__(self, *, json: bool) -> None:
        super().__init__()
        self._json = json

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass every line."""
        arq = logging.getLogger("arq")
        for handler in [each for each in arq.handlers if each.name == _ARQ_HANDLER]:
            arq.removeHandler(handler)
            set_up_logs(json=self._json, verbose=arq.level == logging.DEBUG, arq_level=logging.INFO)
            sys.excepthook = _end_without_traceback
            if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
                signal.signal(signal.SIGHUP, _end_as_by_sigterm)
        return record.levelno >= arq.level


def _end_as_by_sigterm(_number: int, _frame: object) -> None:
    """``arq`` lets what runs end on SIGTERM alone."""
    os.kill(os.getpid(), signal.SIGTERM)


def _end_without_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """``arq`` ends when its server goes, which is no defect: a line, and a supervisor starts it again."""
    if issubclass(kind, (ServerError, GemqueueError, OSError)):
        structlog.get_logger("gemqueue.workers").error("worker.ended", error=f"{kind.__name__}: {error}")
    else:
        sys.__excepthook__(kind, error, trace)


def _chain() -> list[Processor]:
    """What every event goes through before it is written."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _of_this_process,
        _without_command,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _renderer(*, json: bool) -> list[Processor]:
    if json:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    # Plain tracebacks: the pretty ones show local variables, and prompts and keys are among them.
    plain = structlog.dev.plain_traceback
    return [
        structlog.processors.StackInfoRenderer(),
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain),
    ]


def _of_this_process(_logger: Any, _method: str, event: EventDict) -> EventDict:
    event.update({name: value for name, value in _process.items() if name not in event})
    return event


def _without_command(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """A failure in a pipeline begins with the whole command, which may hold a prompt's bytes."""
    if isinstance(error := event.get("error"), str) and "caused error: " in error:
        event["error"] = error.rpartition("caused error: ")[2]
    return event
