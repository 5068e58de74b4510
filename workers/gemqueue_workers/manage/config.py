"""``gemqueue config``: every setting that is in force, and where it comes from."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from rich.text import Text

from gemqueue.accounts import api_key_from_env, webhook_secrets_from_env
from gemqueue.config import CONFIG_ENV, Settings, data_dir, load_settings, shown_settings
from gemqueue.setting_values import BOUNDED, DERIVED
from gemqueue.variables import API_KEY_ENVS, REDIS_URL_ENV, WEBHOOK_SECRETS_ENV, source_of
from gemqueue_workers.model_table import MODELS_ENV
from gemqueue_workers.prices import DATED
from gemqueue_workers.screen import plain

if TYPE_CHECKING:
    from rich.console import Console


class Value(msgspec.Struct, frozen=True, omit_defaults=True):
    """A setting: its value, and its source (default, derived, a file's path, or a variable's name).

    ``rule`` is how it follows from another setting, where nobody has set it.
    """

    name: str
    value: Any
    source: str
    rule: str = ""


def effective() -> list[Value]:
    """All settings in force, then what else the environment says. Secrets are masked. Raises ConfigError."""
    settings = load_settings()
    shown = shown_settings(settings)
    file = os.environ.get(CONFIG_ENV, "")
    in_file = set(tomllib.loads(Path(file).read_text(encoding="utf-8"))) if file else set[str]()
    values = [_value(name, shown[name], _source(name, in_file, file)) for name in Settings.__struct_fields__]
    key = next((found for name in API_KEY_ENVS if (found := source_of(name))), "environment")
    values.append(Value("API key", "set (hidden)" if api_key_from_env() else "not set", key))
    hooks = source_of(WEBHOOK_SECRETS_ENV) or WEBHOOK_SECRETS_ENV
    values.append(Value("webhook secrets", f"{len(webhook_secrets_from_env())} set (hidden)", hooks))
    values.append(Value("data folder", str(data_dir(settings)), "data_dir and emulate"))
    table = os.environ.get(MODELS_ENV) or "config/models.toml"
    values.append(Value("price table", f"of {DATED}", table))
    return values


def _value(name: str, value: Any, source: str) -> Value:
    if source:
        return Value(name, value, source)
    is_default = value == getattr(Settings(), name)
    if name in DERIVED:
        return Value(name, value, "default" if is_default else "derived", DERIVED[name].rule)
    if name in BOUNDED and not is_default:
        return Value(name, value, "derived", f"at most {BOUNDED[name].rule}")
    return Value(name, value, "default" if is_default else "default with an emulator of one's own")


def _source(name: str, in_file: set[str], file: str) -> str:
    """Who set it; empty where nobody did."""
    variable = f"GEMQUEUE_{name.upper()}"
    if source := source_of(variable) if variable == REDIS_URL_ENV else os.environ.get(variable) and variable:
        return source
    if name == "base_url" and os.environ.get("GOOGLE_GEMINI_BASE_URL"):
        return "GOOGLE_GEMINI_BASE_URL"
    return file if name in in_file else ""


def show_config(console: Console, values: list[Value]) -> None:
    """For a person; what is not a default stands out."""
    width = max(len(value.name) for value in values)
    for value in values:
        style = "" if value.source == "default" else "bold"
        shown = msgspec.json.encode(value.value).decode()
        said = f"{value.source}: {value.rule}" if value.rule else value.source
        text = Text.assemble(f"{value.name:<{width}} = ", plain(f"{shown} ({said})"))
        console.print(text, style=style, soft_wrap=True)
