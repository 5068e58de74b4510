"""Settings: one frozen struct with a default for everything, filled from a TOML file and ``GEMQUEUE_*`` variables.

Later beats earlier: defaults, ``config/gemqueue.toml`` (the file that ``GEMQUEUE_CONFIG`` names), environment, keyword
arguments. Limits have relations, and they are checked here, once, before anything starts. The API key is not a
setting: it is read from the environment by whoever calls the provider, and never stored.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from gemqueue.errors import ConfigError
from gemqueue.setting_values import (
    BOUNDED,
    CHOICES,
    DERIVED,
    RetryRows,
    bounded,
    derived,
    expanded,
    is_callback,
    is_name,
    is_policy,
    read_old_words,
    too_large,
    too_short,
    waits_for_replica,
    wrong_weights,
)
from gemqueue.urls import HIDDEN, shown_text, shown_url
from gemqueue.variables import FILE, REDIS_URL_ENV, WEBHOOK_SECRETS_ENV, file_from_env, secret_from_env

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_BASE_URL = "https://generativelanguage.googleapis.com"
CONFIG_ENV = "GEMQUEUE_CONFIG"
_PREFIX = "GEMQUEUE_"
_OTHERS = ("MODELS", "DEBUG", "TEST_CLOCK", "CRASH_AT", "DOOR", "SEAL_KEY", "SEAL_KEY_FILE", "REDIS_URL_FILE")
OTHER_ENVS = frozenset(
    {CONFIG_ENV, WEBHOOK_SECRETS_ENV, WEBHOOK_SECRETS_ENV + FILE, *(f"{_PREFIX}{name}" for name in _OTHERS)}
)
"""Variables that are no settings."""
_LIKENESS = 0.8
_LOCAL_LINGER_S = 0.1
"""With an emulator of one's own: prompts that are submitted together share a batch, and a person waits."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting with its default: the ten that people set, then those that can stay as they are.

    ``config/gemqueue.toml`` says why each is there. Units are in the names.
    """

    redis_url: str = ""
    embedded: bool = True
    queue: str = "default"
    account: str = ""
    tier: str = ""
    durability: str = "auto"
    memory_bytes_max: int = 4_000_000_000
    linger_s: float = 5.0
    deadline_policy: str = "batch"
    webhook_url: str = ""

    data_dir: str = ""
    replicate_s: float = 1.0
    seal: bool = False
    seal_wrapper: str = ""

    pool: str = ""
    base_url: str = ""
    api_version: str = "v1beta"
    emulate: bool = False
    call_timeout_s: float = 60.0
    create_timeout_s: float = 30.0

    lease_s: float = 60.0
    settle_s: float = 90.0
    skew_s: float = 300.0
    drain_s: float = 45.0

    schema_dialect: str = "schema"
    prompt_bytes_max: int = 16_000_000
    segment_prompts_max: int = 1_000
    segment_bytes_max: int = 1_040_000
    flush_ms: float = 2.0
    flushes_max: int = 4
    buffer_bytes_max: int = 64_000_000
    submit_timeout_s: float = 60.0
    dead_bytes_max: int = 256_000_000
    window_prompts_max: int = 20_000
    watchdog_s: float = 5.0
    server_gone_s: float = 3600.0
    inbox_keep_s: float = 3600.0
    keep_delivered_s: float = 3600.0
    keep_outcome_s: float = 604_800.0

    batch_prompts_max: int = 50_000
    batch_bytes_max: int = 1_000_000_000
    batch_tokens_max: int = 2_500_000
    first_prompts_max: int = 5_000
    first_batches_max: int = 10
    tenant_weights: str = ""

    backoff_first_s: float = 1.0
    backoff_max_s: float = 300.0
    quota_backoff_s: float = 30.0
    refusals_max: int = 24
    open_jobs_max: int = 100
    model_jobs_max: int = 80
    enqueued_tokens_max: int = 1_000_000_000_000
    stored_bytes_max: int = 16_000_000_000
    quota_cool_s: float = 60.0

    poll_first_s: float = 0.2
    poll_max_s: float = 300.0
    cancel_settle_s: float = 600.0
    belief_s: float = 21_600.0
    slow_policy: str = "wait"
    slow_after_s: float = 169_200.0

    attempts_max: int = 4
    retry_rows: str = RetryRows.PROVIDER
    retry_first_s: float = 30.0
    retry_max_s: float = 3600.0
    requeues_max: int = 3
    resolve_buffer_bytes_max: int = 16_000_000
    delete_files: str = "ended"
    delete_jobs: bool = False

    webhook_jwks_url: str = ""
    webhook_tolerance_s: float = 300.0
    webhook_bytes_max: int = 65_536
    webhook_read_s: float = 5.0
    serve_connections_max: int = 512

    deadline_margin_s: float = 600.0
    flex_lead_s: float = 1800.0
    standard_lead_s: float = 180.0
    interactive_prompts_max: int = 200
    interactive_calls_max: int = 16
    interactive_per_min_max: int = 300
    interactive_timeout_s: float = 900.0

    sweep_s: float = 1.0
    steps_max: int = 10
    crashes_max: int = 5
    heartbeat_s: float = 5.0
    log_json: bool = False

    def __repr__(self) -> str:
        """As any struct's, without the secrets of its URLs."""
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown_settings(self).items())})"


def shown_settings(settings: Settings) -> dict[str, Any]:
    """Every setting as it may be printed, in order: URLs without their secrets, and no text that would be refused."""
    values = msgspec.structs.asdict(settings)
    return {name: _shown(name, value) if isinstance(value, str) else value for name, value in values.items()}


def _shown(name: str, value: str) -> str:
    if name.endswith("_url"):
        return shown_url(value)
    if name in CHOICES:
        return value if value in CHOICES[name][0] else HIDDEN
    is_fine = _FINE.get(name)
    return shown_text(value) if is_fine is None or not value or is_fine(value) else HIDDEN


_FINE: dict[str, Callable[[str], bool]] = {
    "queue": lambda text: is_name(text, 64),
    "account": lambda text: is_name(text, 64),
    "pool": lambda text: is_name(text, 64),
    "tenant_weights": lambda text: not wrong_weights(text),
    "slow_policy": is_policy,
    "seal_wrapper": lambda text: re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text) is not None,
}
"""What a text must be to be no secret in the wrong place."""


def load_settings(path: Path | None = None, env: dict[str, str] | None = None, **overrides: object) -> Settings:
    """Settings from defaults, file, environment and ``overrides`` (``None`` means not given).

    What nobody sets may follow from what somebody did: ``DERIVED`` from ``create_timeout_s``, ``BOUNDED`` from other
    limits, and ``linger_s`` from the embedded emulator, with which nothing lingers for longer than a moment.

    Raises ConfigError that names the setting, what is wrong with its value, and a suggestion for a misspelt name.
    """
    environ = dict(os.environ) if env is None else env
    _check_env(environ)
    file = path or file_from_env(CONFIG_ENV, environ)
    values: dict[str, object] = _from_file(file) if file else {}
    values.update(_from_env(environ))
    values.update({name: value for name, value in overrides.items() if value is not None})
    _check_names(values)
    read_old_words(values)
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        _refuse_type(str(error), environ)
    if "linger_s" not in values and settings.emulate and not (settings.redis_url or settings.base_url):
        settings = msgspec.structs.replace(settings, linger_s=min(settings.linger_s, _LOCAL_LINGER_S))
    follow = {name: value for name, value in derived(settings.create_timeout_s).items() if name not in values}
    settings = _with_bounds(msgspec.structs.replace(settings, **follow), values)
    check_settings(settings)
    return settings


def _with_bounds(settings: Settings, values: dict[str, object]) -> Settings:
    """What is bounded by others follows them, where it is not in ``values``."""
    given = msgspec.structs.asdict(settings)
    default = {name: value for name, value in msgspec.structs.asdict(Settings()).items() if name in BOUNDED}
    default |= {name: given[name] for name in BOUNDED if name in values}
    follow = bounded(given, default)
    return msgspec.structs.replace(settings, **{name: follow[name] for name in BOUNDED if name not in values})


def as_given(settings: Settings) -> dict[str, Any]:
    """``settings`` as keyword arguments of ``load_settings``, without what may follow from another setting."""
    plain, given = msgspec.structs.asdict(Settings()), msgspec.structs.asdict(settings)
    follow = {*derived(settings.create_timeout_s).items(), *derived(Settings().create_timeout_s).items()}
    follow |= {*bounded(given, plain).items(), *bounded(plain, plain).items()}
    return {name: value for name, value in msgspec.structs.asdict(settings).items() if (name, value) not in follow}


def _from_file(path: Path) -> dict[str, object]:
    try:
        return dict(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"Settings file {path}: {error}") from error


def _from_env(environ: dict[str, str]) -> dict[str, object]:
    values: dict[str, object] = {}
    if environ.get("GOOGLE_GEMINI_BASE_URL"):
        values["base_url"] = environ["GOOGLE_GEMINI_BASE_URL"]
    for name in Settings.__struct_fields__:
        variable = f"{_PREFIX}{name.upper()}"
        text = secret_from_env(variable, environ) if variable == REDIS_URL_ENV else environ.get(variable)
        if text:
            values[name] = text
    return values


def _check_env(environ: dict[str, str]) -> None:
    """Refuse what looks like a misspelt setting, and only that: Kubernetes makes variables of a service's name."""
    if environ.get("GEMQUEUE_DOOR", "") not in {"", "lenient"}:
        raise ConfigError('GEMQUEUE_DOOR must be "lenient", or not set: it lets unknown values pass the door')
    known = [name.removeprefix(_PREFIX) for name in _known_env()]
    for name in unknown_env(environ):
        close = difflib.get_close_matches(name.removeprefix(_PREFIX), known, 1, _LIKENESS)
        if close:
            raise ConfigError(f"{name} is not a setting; did you mean {_PREFIX}{close[0]}?")


def unknown_env(environ: dict[str, str]) -> list[str]:
    """The GEMQUEUE_ variables that mean nothing here, sorted."""
    return sorted({name for name in environ if name.startswith(_PREFIX)} - _known_env())


def _known_env() -> frozenset[str]:
    return OTHER_ENVS | {f"{_PREFIX}{field.upper()}" for field in Settings.__struct_fields__}


_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}


def _refuse_type(complaint: str, environ: dict[str, str]) -> NoReturn:
    """A value of the wrong type, in words; the value is not shown, for it may be a secret in the wrong place."""
    found = re.search(r"Expected `(\w+)`.*`\$\.(\w+)`", complaint)
    if found is None:
        raise ConfigError(f"Setting {complaint}")
    variable = f"{_PREFIX}{found[2].upper()}"
    where = f": look at {variable}" if environ.get(variable) else ""
    raise ConfigError(f"Settings: {found[2]} must be {_WORDS.get(found[1], found[1])}{where}")


def _check_names(values: dict[str, object]) -> None:
    known = Settings.__struct_fields__
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f'; did you mean "{close[0]}"?' if close else ""
            raise ConfigError(f'"{name}" is not a setting{hint} (config/gemqueue.toml lists them all)')


def check_settings(settings: Settings) -> None:
    """Raise ConfigError for the first relation between settings that does not hold."""
    for holds, message in _relations(settings):
        if not holds:
            raise ConfigError(f"Settings: {message}")


def _relations(s: Settings) -> tuple[tuple[bool, str], ...]:
    positive = (name for name in s.__struct_fields__ if name.endswith(("_s", "_ms", "_max")) and name != "linger_s")
    below = next((name for name in positive if not 0 < getattr(s, name) < math.inf), None)
    return (
        (below is None, f"{below} must be a number above 0"),
        (0 <= s.linger_s < math.inf, "linger_s must be a number, 0 or above"),
        *((not (short := too_short(name, getattr(s, name), s.create_timeout_s)), short) for name in DERIVED),
        *((not (wide := too_large(name, msgspec.structs.asdict(s))), wide) for name in BOUNDED),
        *((getattr(s, name) in words, f"{name} must be {said}") for name, (words, said) in CHOICES.items()),
        (s.segment_prompts_max <= 1_000, "segment_prompts_max must be at most 1000: one script handles a segment"),
        (s.segment_bytes_max <= 1_040_000, "segment_bytes_max must be at most 1040000: the allocator's class"),
        (s.batch_bytes_max <= 2_000_000_000, "batch_bytes_max must be at most 2000000000: the Files API takes no more"),
        (s.batch_prompts_max >= 1, "batch_prompts_max must be at least 1"),
        (
            s.stored_bytes_max <= 20_000_000_000,
            "stored_bytes_max must be at most 20000000000: the Files API stores no more for a project",
        ),
        (s.prompt_bytes_max <= s.batch_bytes_max, "prompt_bytes_max must be at most batch_bytes_max"),
        (s.prompt_bytes_max <= s.buffer_bytes_max, "prompt_bytes_max must be at most buffer_bytes_max"),
        *_times(s),
        (
            not s.webhook_url or is_callback(s.webhook_url),
            "webhook_url must be https://host[:port]/path (http only on loopback), without user, query or fragment",
        ),
        (
            s.durability != "replicated" or bool(s.redis_url),
            'durability = "replicated" needs redis_url: the embedded server has no replica',
        ),
        (
            not waits_for_replica(s.durability, s.redis_url) or s.replicate_s <= min(s.lease_s / 6, s.submit_timeout_s),
            "replicate_s must be at most lease_s / 6 and submit_timeout_s: a step waits for it under its lease",
        ),
        (
            is_policy(s.slow_policy),
            'slow_policy must be "wait", "cancel" or "split", with exceptions as in "wait gemini-2.5-pro=split"',
        ),
        (not (wrong := wrong_weights(s.tenant_weights)), f"tenant_weights: {wrong}"),
        (s.slow_after_s < 48 * 3600, "slow_after_s must be below the 48 hours after which a job expires by itself"),
        (s.standard_lead_s < s.flex_lead_s, "standard_lead_s must be below flex_lead_s: standard is what follows flex"),
        (s.interactive_calls_max <= 48, "interactive_calls_max must be at most 48: a process has 64 connections"),
        (
            is_name(s.queue, 64) and "." not in s.queue and s.queue[0] not in "-_",
            "queue must be 1 to 64 of a-z 0-9 - _, beginning with a letter or digit",
        ),
        ("://" not in s.data_dir, "data_dir must be a folder, and is a URL: a server's belongs into redis_url"),
        (not s.account or is_name(s.account, 64), "account must be 1 to 64 of a-z 0-9 - _ ."),
        (not s.pool or (is_name(s.pool, 64) and "." not in s.pool), "pool must be 1 to 64 of a-z 0-9 - _"),
        (not s.account.startswith("pool."), 'account must not begin with "pool.": pools are called so'),
        (
            not s.pool or s.deadline_policy == "batch",
            'deadline_policy must be "batch" with a pool: submit what may leave its batch lane without pool',
        ),
    )


def _times(s: Settings) -> tuple[tuple[bool, str], ...]:
    return (
        (s.keep_delivered_s <= s.keep_outcome_s, "keep_delivered_s must be at most keep_outcome_s"),
        (
            s.keep_delivered_s >= max(1, s.submit_timeout_s),
            "keep_delivered_s must be at least submit_timeout_s: a segment that is forgotten could be submitted again",
        ),
        (
            1 <= s.belief_s <= 86_400,
            "belief_s must be from 1 to 86400: results are kept for 48 hours, of which something must be left",
        ),
        (
            s.watchdog_s < s.keep_outcome_s,
            "watchdog_s must be below keep_outcome_s, or what no notice told of is gone",
        ),
        (s.inbox_keep_s >= 1, "inbox_keep_s must be at least 1: the server keeps it for whole seconds"),
        *(
            (getattr(s, name) <= 86_400, f"{name} must be at most 86400: results are kept for 48 hours")
            for name in ("poll_max_s", "backoff_max_s", "retry_max_s", "cancel_settle_s", "quota_cool_s")
        ),
        (s.backoff_first_s <= s.backoff_max_s, "backoff_first_s must be at most backoff_max_s"),
        (s.poll_first_s <= s.poll_max_s, "poll_first_s must be at most poll_max_s"),
        (s.retry_first_s <= s.retry_max_s, "retry_first_s must be at most retry_max_s"),
    )


def data_dir(settings: Settings) -> Path:
    """Where the embedded server keeps its data; emulated data lives in a folder of its own.

    Raises ConfigError where it would be below the home directory of a user who has none.
    """
    base = settings.data_dir or str(Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "gemqueue")
    way_out = "set GEMQUEUE_DATA_DIR to a folder of this user's own"
    return expanded(base, way_out) / ("emulated" if settings.emulate else "real")
