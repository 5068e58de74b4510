"""How a command ends: one line on standard error and an exit code, never a traceback (``--debug`` for that)."""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from gemqueue.errors import ConfigError, GemqueueError
from gemqueue.extras import need
from gemqueue_workers.worker.memory import imported

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")
DEBUG_ENV = "GEMQUEUE_DEBUG"
_BROKEN_PIPE_EXIT = 141


class Exit(click.ClickException):
    """The end of a command with one line on standard error, never a traceback."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        vars(self)["exit_code"] = exit_code  # click declares it on the class

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        click.echo(f"gemqueue: {self.message}", file=file, err=True)


def need_extra(extra: str, what: str) -> None:
    """Raise Exit where an extra that the command needs is not installed, before anything of it is imported."""
    try:
        need(extra, what)
    except ConfigError as error:
        raise Exit(str(error)) from error


def run_main(main: Coroutine[Any, Any, T]) -> T:
    """Run the command, which has imported what it needs, on uvloop where there is one. Raises Exit."""
    import asyncio  # noqa: PLC0415 - 20 ms that help and completion do without

    try:
        import uvloop  # noqa: PLC0415 - not on every platform

        factory = uvloop.new_event_loop
    except ImportError:
        factory = None
    imported()
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main)
    except BrokenPipeError:
        end_quietly()
    except KeyboardInterrupt:
        raise Exit("stopped", 130) from None
    except asyncio.CancelledError:
        raise Exit("stopped", 143) from None
    except GemqueueError as error:
        if os.environ.get(DEBUG_ENV):
            raise
        raise Exit(str(error)) from error
    except Exception as error:
        if os.environ.get(DEBUG_ENV):
            raise
        raise Exit(
            f"{type(error).__name__}: {error}. This is a defect of gemqueue; `gemqueue --debug` shows where"
        ) from error
    raise AssertionError("unreachable")


def end_quietly() -> None:
    """Whoever read our output has left, as ``head`` does: end as a program that SIGPIPE ended."""
    let_go_of_stdout()
    sys.exit(_BROKEN_PIPE_EXIT)


def let_go_of_stdout() -> None:
    """What is still buffered for it would raise once more when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
