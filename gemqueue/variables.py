"""Variables that hold a secret: each is given by itself, or as the path of a file in the variable ``<name>_FILE``.

Kubernetes, Docker and systemd mount secrets as files, so that they stand in no environment that a crash report or
``/proc`` shows. A file is read whenever its variable would be.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gemqueue.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE: Final = "_FILE"
"""What the name of a variable ends in that names a file."""
REDIS_URL_ENV: Final = "GEMQUEUE_REDIS_URL"
WEBHOOK_SECRETS_ENV: Final = "GEMQUEUE_WEBHOOK_SECRETS"
API_KEY_ENVS: Final = ("GOOGLE_API_KEY", "GEMINI_API_KEY")
SECRET_ENVS: Final = (REDIS_URL_ENV, WEBHOOK_SECRETS_ENV, *API_KEY_ENVS)
_BYTES_MAX: Final = 65_536


def secret_from_env(name: str, env: Mapping[str, str] | None = None) -> str:
    """The variable's value, or what the file holds that ``<name>_FILE`` names, without blanks and line ends around it.

    Empty where neither is set. Raises ConfigError, which names variable and path and shows no value, where both are,
    or where the file is missing, unreadable, empty or no text.
    """
    environ = os.environ if env is None else env
    value, path = environ.get(name, "").strip(), environ.get(name + FILE, "").strip()
    if value and path:
        raise ConfigError(f"{name} and {name}{FILE} are both set: keep one of them")
    return _read(name, path) if path else value


def file_from_env(name: str, env: Mapping[str, str] | None = None) -> Path | None:
    """The file that a variable names, if it is set. Raises ConfigError for a URL, which may hold a secret."""
    path = (os.environ if env is None else env).get(name, "")
    if "://" in path:
        raise ConfigError(f"{name} must be a file's path, and is a URL")
    return Path(path) if path else None


def source_of(name: str, env: Mapping[str, str] | None = None) -> str:
    """Which of the two variables is set; empty where neither is."""
    environ = os.environ if env is None else env
    return next((each for each in (name, name + FILE) if environ.get(each, "").strip()), "")


def _read(name: str, path: str) -> str:
    variable = name + FILE
    if not path.startswith("/"):  # it is not shown, for it may be the secret itself
        raise ConfigError(f"{variable} must be the absolute path of a file; a value itself belongs into {name}")
    try:
        with Path(path).open("rb") as file:
            text = file.read(_BYTES_MAX + 1).decode().strip()
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigError(f"{variable}: {path} cannot be read ({why}): correct the path, or let us read it") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{variable}: {path} is no text: write the value into it, and nothing else") from None
    if not text:
        raise ConfigError(f"{variable}: {path} is empty: write the value into it")
    if len(text) > _BYTES_MAX or (name != WEBHOOK_SECRETS_ENV and len(text.split()) > 1):
        raise ConfigError(f"{variable}: {path} holds more than one value: write that alone into it")
    return text
