"""Pickles: what a program kept of its answers can be read after an upgrade, and says nothing of where a file lies."""

from __future__ import annotations

import base64
import importlib
import pickle
import sys
import warnings

import pytest

import gemqueue
from gemqueue import Answer, Failed, Failure, FailureKind

OLD_ANSWER = (
    "gASVFQEAAAAAAACMDm1zZ3NwZWMuX3V0aWxzlIwHcmVidWlsZJSTlIwQZ2VtcXVldWUuYW5zd2Vyc5SMBkFuc3dlcpSTlH2UKIwD"
    "a2V5lIwYMDBhYmNkZWZhYmNkZWZhYmNkZWZhYi4wlIwDcmF3lENfeyJjYW5kaWRhdGVzIjpbeyJjb250ZW50Ijp7InBhcnRzIjpb"
    "eyJ0ZXh0IjoiYmx1ZSJ9XX19XSwidXNhZ2VNZXRhZGF0YSI6eyJwcm9tcHRUb2tlbkNvdW50IjozfX2UjARuYW1llIwDc2t5lIwD"
    "dGFnlH2UjANyb3eUSwdzjAhlbXVsYXRlZJSJjAdzZXJ2aWNllIwFYmF0Y2iUjAhfZGVjb2RlZJROdYaUUpQu"
)
OLD_FAILED = (
    "gASVKgEAAAAAAACMEWdlbXF1ZXVlLm91dGNvbWVzlIwGRmFpbGVklJOUKYGUTn2UKIwGX2NhdXNllE6MB2ZhaWx1cmWUjA5tc2dz"
    "cGVjLl91dGlsc5SMB3JlYnVpbGSUk5SMD2dlbXF1ZXVlLm1vZGVsc5SMB0ZhaWx1cmWUk5R9lCiMA2tleZSMGDAwYWJjZGVmYWJj"
    "ZGVmYWJjZGVmYWIuMZSMBGtpbmSUjA9nZW1xdWV1ZS5zdGF0ZXOUjAtGYWlsdXJlS2luZJSTlIwHaW52YWxpZJSFlFKUjAdtZXNz"
    "YWdllIwIdG9vIGxvbmeUjARjb2RllEsDjAhhdHRlbXB0c5RLAowEbmFtZZSMA3NlYZSMA3Jhd5RDAJR1hpRSlGgOaA9oG2gcjAN0"
    "YWeUTnWGlGIu"
)
OLD_FAILURE = (
    "gASV3QAAAAAAAACMDm1zZ3NwZWMuX3V0aWxzlIwHcmVidWlsZJSTlIwPZ2VtcXVldWUubW9kZWxzlIwHRmFpbHVyZZSTlH2UKIwD"
    "a2V5lIwYMDBhYmNkZWZhYmNkZWZhYmNkZWZhYi4xlIwEa2luZJSMD2dlbXF1ZXVlLnN0YXRlc5SMC0ZhaWx1cmVLaW5klJOUjAdp"
    "bnZhbGlklIWUUpSMB21lc3NhZ2WUjAh0b28gbG9uZ5SMBGNvZGWUSwOMCGF0dGVtcHRzlEsCjARuYW1llIwDc2VhlIwDcmF3lEMA"
    "lHWGlFKULg=="
)
"""Written at 201880f, when the modules were called ``gemqueue.answers``, ``outcomes`` and ``models``."""
OLD_MODULES = {
    "answers": ["Answer"],
    "futures": ["Future"],
    "models": ["Failure", "Lane", "split_key"],
    "outcomes": ["Failed", "Outcome"],
    "queue": ["Queue"],
    "requests": ["RequestEncoder", "check_model", "line"],
}


def _forget(name: str) -> None:
    sys.modules.pop(f"gemqueue.{name}", None)


def _unpickled(text: str) -> object:
    return pickle.loads(base64.b64decode(text))  # noqa: S301 - our own


def test_an_answer_of_0_2_0_is_read() -> None:
    """An Answer that 0.2.0 pickled is an Answer here, with all that it had."""
    _forget("answers")
    with pytest.warns(DeprecationWarning, match=r"gemqueue\.answers is going away: import public names from gemqueue"):
        answer = _unpickled(OLD_ANSWER)
    assert isinstance(answer, Answer)
    assert (answer.text, answer.name, answer.tag, answer.key) == ("blue", "sky", {"row": 7}, f"00{'abcdef' * 3}ab.0")


@pytest.mark.parametrize(("text", "old"), [(OLD_FAILED, "outcomes"), (OLD_FAILURE, "models")])
def test_a_failure_of_0_2_0_is_read(text: str, old: str) -> None:
    """A Failed and a Failure that 0.2.0 pickled are read with their kind, code and words."""
    for name in ("outcomes", "models"):
        _forget(name)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = _unpickled(text)
    assert f"gemqueue.{old} is going away" in "".join(str(each.message) for each in said)
    failure = found.failure if isinstance(found, Failed) else found
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.message, failure.code, failure.attempts) == (FailureKind.INVALID, "too long", 3, 2)


@pytest.mark.parametrize("name", [name for name in gemqueue.__all__ if isinstance(getattr(gemqueue, name), type)])
def test_a_public_class_says_that_it_is_of_gemqueue(name: str) -> None:
    """Where a class is defined may change; what it says of itself, and a pickle names, does not."""
    found = getattr(gemqueue, name)
    assert (found.__module__, found.__qualname__) == ("gemqueue", name)


def test_a_new_pickle_names_no_inner_module() -> None:
    """What is pickled now names ``gemqueue`` alone."""
    failure = Failure(key="00.0", kind=FailureKind.EXPIRED)
    for value in (failure, Failed(failure)):
        written = pickle.dumps(value)
        assert b"gemqueue." not in written
        assert b"gemqueue" in written


@pytest.mark.parametrize("old", OLD_MODULES)
def test_the_old_modules_give_the_same_names(old: str) -> None:
    """For one release an import of 0.2.0 goes on, with a warning that says where the name is now."""
    _forget(old)
    with pytest.warns(DeprecationWarning, match=f"gemqueue.{old} is going away: import public names from gemqueue"):
        module = importlib.import_module(f"gemqueue.{old}")
    for name in OLD_MODULES[old]:
        assert getattr(module, name) is getattr(gemqueue, name, getattr(module, name))
