"""Variables that hold secrets: given by themselves or in files, and never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.accounts import api_key_from_env, webhook_secrets_from_env
from gemqueue.config import load_settings, unknown_env
from gemqueue.embedded.local import worker_env
from gemqueue.errors import ConfigError
from gemqueue.variables import FILE, REDIS_URL_ENV, SECRET_ENVS, secret_from_env, source_of

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2"  # noqa: S105 - nobody's


@pytest.mark.parametrize("name", SECRET_ENVS)
def test_a_file_counts_as_its_variable(name: str, tmp_path: Path) -> None:
    """Its text, without the line end that editors add; what is set is known, and nothing unknown is."""
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\r\n")
    env = {name + FILE: str(file)}
    assert secret_from_env(name, env) == SECRET == secret_from_env(name, {name: f" {SECRET}\n"})
    assert (source_of(name, env), source_of(name, {name: SECRET}), source_of(name, {})) == (name + FILE, name, "")
    assert unknown_env(env) == []
    assert secret_from_env(name, {name: "", name + FILE: ""}) == ""


def test_they_reach_those_who_ask(tmp_path: Path) -> None:
    """The URL as a setting, which a keyword beats; keys in the SDK's order; webhook secrets a line each."""
    url, key, hooks = tmp_path / "url", tmp_path / "key", tmp_path / "hooks"
    url.write_text("redis://h:1/0\n")
    key.write_text("AIza\n")
    hooks.write_text("whsec_a\nwhsec_b,whsec_c\n")
    env = {REDIS_URL_ENV + FILE: str(url)}
    assert load_settings(env=env).redis_url == "redis://h:1/0"
    assert load_settings(env=env, redis_url="redis://other").redis_url == "redis://other"
    assert api_key_from_env({"GEMINI_API_KEY_FILE": str(key)}) == "AIza"
    assert api_key_from_env({"GEMINI_API_KEY_FILE": str(key), "GOOGLE_API_KEY": "first"}) == "first"
    assert webhook_secrets_from_env({"GEMQUEUE_WEBHOOK_SECRETS_FILE": str(hooks)}) == ["whsec_a", "whsec_b", "whsec_c"]


@pytest.mark.parametrize("name", SECRET_ENVS)
def test_what_is_wrong_with_a_file_is_said(name: str, tmp_path: Path) -> None:
    """Variable and path are named, and what to do; no value is, not even where it stands in the path's place."""
    empty, binary, several = tmp_path / "empty", tmp_path / "binary", tmp_path / "several"
    empty.write_text("\n")
    binary.write_bytes(b"\xff" + SECRET.encode())
    several.write_text(f"{SECRET} {SECRET}")
    wrong: dict[str, str] = {
        str(tmp_path / "nowhere"): "cannot be read (No such file or directory): correct the path",
        str(tmp_path): "cannot be read (Is a directory)",
        str(empty): "is empty: write the value into it",
        str(binary): "is no text",
        f"redis://u:{SECRET}@h": "must be the absolute path of a file; a value itself belongs into",
        SECRET: "must be the absolute path",
    }
    if name != "GEMQUEUE_WEBHOOK_SECRETS":
        wrong[str(several)] = "holds more than one value"
    for path, words in wrong.items():
        with pytest.raises(ConfigError) as caught:
            secret_from_env(name, {name + FILE: path})
        said = str(caught.value)
        assert said.startswith(name + FILE)
        assert words in said
        assert (path in said) is path.startswith("/")
        assert SECRET not in said
    with pytest.raises(ConfigError, match=f"{name} and {name}_FILE are both set: keep one of them"):
        secret_from_env(name, {name: SECRET, name + FILE: str(empty)})


def test_a_companion_has_each_once() -> None:
    """The embedded worker gets URL and key by themselves, and not also the files of its starter."""
    env = worker_env(load_settings(env={}), "unix:///s", "AIza")
    assert (env[REDIS_URL_ENV], env["GOOGLE_API_KEY"]) == ("unix:///s", "AIza")
    assert [env[name + FILE] for name in (REDIS_URL_ENV, "GOOGLE_API_KEY", "GEMINI_API_KEY")] == ["", "", ""]
