"""What values settings may have, where a type does not say it, and which follow from another setting."""

from __future__ import annotations

import math
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard
from urllib.parse import urlsplit

from gemqueue.errors import ConfigError
from gemqueue.urls import CLUSTER_SCHEMES, SENTINEL_SCHEMES, host_of, safe_url, shown_text, url_parts

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
_TENANT_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.@")
_TENANT_CHARS_MAX = 64
WEIGHT_MAX = 100  # at every priority: the scores that tenants have in Redis tell no smaller parts of a prompt apart


class DeleteFiles(StrEnum):
    """When files are deleted at the provider."""

    ENDED = "ended"
    """When the job has ended: no assumption is needed."""
    RUNNING = "running"
    """An input file as soon as its job runs: makes room, and assumes that the job does not need it any more."""
    NEVER = "never"
    """They go by themselves, 48 h after they were made."""


def waits_for_replica(durability: str, url: str) -> bool:
    """Whether a write counts once a replica has it: where that is said, or the URL names sentinels or a Cluster."""
    follows = url_parts(url).scheme in SENTINEL_SCHEMES | CLUSTER_SCHEMES
    return durability == "replicated" or (durability == "auto" and follows)


class RetryRows(StrEnum):
    """Which rows of a job that brought nothing usable are asked for again."""

    PROVIDER = "provider"
    """Those with an error of the provider's: they were not billed."""
    ALL = "all"
    """Also successes that nobody can use, as a malformed call: each is billed again."""


def provider_host(base_url: str) -> str:
    """The host that names the account, or an empty string. Raises ConfigError where it cannot be read."""
    host = None
    with suppress(ValueError):
        host = host_of(base_url)
    if host is None or "@" in base_url:  # where a password is not encoded, its beginning looks like the host
        raise ConfigError(
            f"base_url / GEMQUEUE_BASE_URL ({safe_url(base_url)}) cannot be read: write it as "
            "https://host[:port][/prefix], without a user, and with an IPv6 address in brackets"
        )
    return host


def expanded(path: str, way_out: str) -> Path:
    """The path, with the home directory in the place of ``~``. Raises ConfigError with ``way_out`` where there is none.

    A container's random user has no entry in passwd, and may have no HOME.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"{shown_text(path)}: this user has no home directory (HOME is not set): {way_out}") from None


CHOICES: Final = {
    "durability": (("auto", "local", "replicated"), '"auto", "local" or "replicated"'),
    "tier": (("", "1", "2", "3"), '"1", "2" or "3", or empty where it is not known'),
    "deadline_policy": (
        ("batch", "flex", "standard"),
        '"batch", "flex" or "standard": the dearest way that a prompt may go',
    ),
    "schema_dialect": (
        ("schema", "json_schema"),
        '"schema" or "json_schema": how a class goes out as a response schema',
    ),
    "api_version": (("v1", "v1beta"), '"v1" or "v1beta"'),
    "retry_rows": (tuple(RetryRows), '"provider" or "all": "all" also buys again what was billed and is unusable'),
    "delete_files": (tuple(DeleteFiles), '"ended", "running" or "never": when files are deleted'),
}
"""The settings that are one of a few words: which, and how to say so."""


class Derived(NamedTuple):
    """A setting that follows from ``create_timeout_s`` unless somebody sets it."""

    times: float
    plus_s: float
    at_least_s: float
    above: float = 0.0
    """How many ``create_timeout_s`` it must be above if somebody sets it; 0 where nothing depends on that."""
    why: str = ""

    def value_s(self, create_timeout_s: float) -> float:
        """What it is where nobody sets it."""
        return max(self.at_least_s, self.times * create_timeout_s + self.plus_s)

    @property
    def rule(self) -> str:
        """How it follows, in words."""
        product = f"{self.times:g} x create_timeout_s" if self.times != 1 else "create_timeout_s"
        return f"{product}{f' + {self.plus_s:g}' if self.plus_s else ''}, at least {self.at_least_s:g}"


DERIVED: Final = {
    "lease_s": Derived(2, 0, 60.0, 1.5, "a create is only begun when it ends within its lease"),
    "settle_s": Derived(1, 60, 90.0, 1, "a job in doubt needs time to show in the provider's list"),
    "skew_s": Derived(10, 0, 300.0),
    "drain_s": Derived(1, 15, 45.0, 1, "a create is never cut off"),
}
"""By name. With the default ``create_timeout_s``, or a smaller one, each is its default."""


class Bound(NamedTuple):
    """A setting that others bound. Unless somebody sets it, it is its default or the least bound; above it is refused.

    ``of`` says by how much the others are taken.
    """

    of: Mapping[str, float]
    why: str

    @property
    def rule(self) -> str:
        """The bounds, in words."""
        return ", ".join(name if times == 1 else f"{times:g} x {name}" for name, times in self.of.items())

    def least(self, values: Mapping[str, Any]) -> tuple[float, str]:
        """The least of the bounds with these values, and what it is in words; infinite where none is a number."""
        bounds = [(values[name] * times, name, times) for name, times in self.of.items() if values[name] > 0]
        bound, name, times = min(bounds, default=(math.inf, "", 1.0))
        return bound, f"{name} = {values[name]:g}" if times == 1 else f"{times:g} x {name} = {bound:g}"


BOUNDED: Final = {
    "batch_bytes_max": Bound({"stored_bytes_max": 1}, "its file would never find room"),
    "segment_prompts_max": Bound(
        {"batch_prompts_max": 1, "first_prompts_max": 1}, "a batch is made of whole segments, and would hold more"
    ),
    "segment_bytes_max": Bound(
        {"batch_bytes_max": 1, "batch_tokens_max": 4}, "a batch is made of whole segments, and would hold more"
    ),
    "dead_bytes_max": Bound({"memory_bytes_max": 0.25}, "dead letters never take more than a quarter"),
    "quota_backoff_s": Bound({"backoff_max_s": 1}, "no pause is longer than that"),
}
"""By name, in an order in which each comes after those that it follows."""


def bounded(values: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """What each bounded setting is where nobody sets it; ``default`` holds all of their defaults."""
    found: dict[str, Any] = {}
    for name, bound in BOUNDED.items():
        least, _ = bound.least({**values, **{other: min(values[other], n) for other, n in found.items()}})
        found[name] = min(default[name], type(default[name])(max(1, least) if name.endswith("_max") else least))
    return found


def too_large(name: str, values: Mapping[str, Any]) -> str:
    """What is wrong with a bounded setting that somebody set, and the way out; empty where nothing is."""
    least, words = BOUNDED[name].least(values)
    if values[name] <= max(least, name.endswith("_max")):  # of what is counted there is at least one
        return ""
    wrong = f"{name} must be at most {words}, and is {values[name]:g}: {BOUNDED[name].why}"
    return f"{wrong}; lower it, or leave {name} out, and it follows"


def derived(create_timeout_s: float) -> dict[str, float]:
    """What each derived setting is with this ``create_timeout_s``."""
    return {name: setting.value_s(create_timeout_s) for name, setting in DERIVED.items()}


def too_short(name: str, value_s: float, create_timeout_s: float) -> str:
    """What is wrong with a derived setting that somebody set, and the way out; empty where nothing is."""
    setting = DERIVED[name]
    if value_s > setting.above * create_timeout_s:
        return ""
    least = f"{setting.above:g} x create_timeout_s" if setting.above != 1 else "create_timeout_s"
    wrong = f"{name} must be above {least} = {setting.above * create_timeout_s:g}, and is {value_s:g}: {setting.why}"
    return f"{wrong}; leave {name} out, and it is {setting.value_s(create_timeout_s):g}"


def is_callback(url: str) -> bool:
    """Whether the provider can call it: https (http on loopback), with a host, without user, query or fragment."""
    try:
        parts = urlsplit(url)
        host, _ = host_of(url), parts.port
    except ValueError:
        return False
    is_plain = not any(char in url for char in "@?#\\ ") and url.isascii() and url.isprintable()
    local = parts.scheme == "http" and host in {"localhost", "127.0.0.1", "::1"}
    return bool(host) and is_plain and (parts.scheme == "https" or local)


def is_policy(text: str) -> bool:
    """Whether it says what to do about slow jobs: a word, and ``model=word`` where that differs."""
    words = [word.rpartition("=") for word in text.split()]
    return bool(words) and all(
        policy in {"wait", "cancel", "split"} and bool(sep) == bool(model) for model, sep, policy in words
    )


def tenant_weights(text: str) -> dict[str, int]:
    """The weights of tenants, as in "alice=3 bob=2"; whoever is not in it counts as 1.

    Raises ValueError that names the tenant, or the number of the word, what is wrong with it and the way out.
    """
    found: dict[str, int] = {}
    for number, word in enumerate(text.split(), 1):
        tenant, _, weight = word.rpartition("=")
        if not is_tenant(tenant) or not weight:  # it is not shown, for it may be a secret in the wrong place
            raise ValueError(
                f'word {number} must be tenant=weight, a tenant of letters, digits, - _ . @, as in "alice=3"'
            )
        if not weight.isascii() or not weight.isdigit() or not 1 <= int(weight) <= WEIGHT_MAX:
            raise ValueError(
                f"the weight of {tenant!r} must be a whole number from 1 to {WEIGHT_MAX}: leave out who shall have 1"
            )
        if tenant in found:
            raise ValueError(f"{tenant!r} is there twice: keep one of its weights")
        found[tenant] = int(weight)
    return found


def wrong_weights(text: str) -> str:
    """What is wrong with the weights of tenants; empty when nothing is."""
    try:
        tenant_weights(text)
    except ValueError as error:
        return str(error)
    return ""


def is_tenant(name: object) -> TypeGuard[str]:
    """Whether a tenant can be called so: 1 to 64 of letters, digits, - _ . @."""
    return isinstance(name, str) and 0 < len(name) <= _TENANT_CHARS_MAX and set(name) <= _TENANT_CHARS


def is_name(text: str, length_max: int) -> bool:
    """Whether Redis keys can carry it: a-z 0-9 - _ . and not longer than that."""
    return 0 < len(text) <= length_max and set(text) <= _NAME_CHARS


_OLD_DELETE_FILES = {"true": "ended", "1": "ended", "false": "never", "0": "never"}


def read_old_words(values: dict[str, object]) -> None:
    """What 0.2.0 wrote: ``delete_files`` was true or false."""
    if "delete_files" in values:
        word = str(values["delete_files"])
        values["delete_files"] = _OLD_DELETE_FILES.get(word.lower(), word)
