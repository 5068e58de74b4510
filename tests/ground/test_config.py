"""Settings: where they come from, what is refused, and which account a lane is bound to."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from gemqueue import Queue
from gemqueue.accounts import account_id, api_key_from_env
from gemqueue.config import Settings, as_given, data_dir, load_settings, unknown_env
from gemqueue.errors import ConfigError
from gemqueue.setting_values import BOUNDED, DERIVED, derived, is_callback
from gemqueue_workers.run.options import absolute

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "AIza-very-secret"


def load(env: Mapping[str, str] | None = None, **given: Any) -> Settings:
    """Settings without this process's environment."""
    return load_settings(env=dict(env or {}), **given)


def test_defaults_hold() -> None:
    """Nothing given is the defaults, and they keep every relation."""
    assert load() == Settings()


def test_later_beats_earlier(tmp_path: Path) -> None:
    """Keyword beats environment beats file beats default; ``None`` means not given, an empty variable too."""
    file = tmp_path / "gemqueue.toml"
    file.write_text('linger_s = 1\nsweep_s = 1.5\nheartbeat_s = 2\nqueue = "file"\n')
    env = {"GEMQUEUE_CONFIG": str(file), "GEMQUEUE_SWEEP_S": "2.5", "GEMQUEUE_HEARTBEAT_S": "3", "GEMQUEUE_QUEUE": ""}
    settings = load(env, heartbeat_s=4, linger_s=None)
    assert (settings.linger_s, settings.sweep_s, settings.heartbeat_s, settings.queue) == (1.0, 2.5, 4.0, "file")
    assert settings.poll_max_s == Settings().poll_max_s


def test_the_environment_is_text() -> None:
    """Numbers and flags are read from their text, and the SDK's variable for the address is known."""
    env = {"GEMQUEUE_EMBEDDED": "0", "GEMQUEUE_ATTEMPTS_MAX": "2", "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1"}
    settings = load(env)
    assert (settings.embedded, settings.attempts_max, settings.base_url) == (False, 2, "http://127.0.0.1:1")
    assert load(env | {"GEMQUEUE_BASE_URL": "http://127.0.0.1:2"}).base_url == "http://127.0.0.1:2"


@pytest.mark.parametrize(("name", "meant"), [("linger", "linger_s"), ("batch_prompt_max", "batch_prompts_max")])
def test_misspelt_names_are_refused_with_a_suggestion(name: str, meant: str) -> None:
    """A name that is no setting is an error that says which one was probably meant."""
    with pytest.raises(ConfigError, match=f'"{name}" is not a setting; did you mean "{meant}"'):
        load(None, **{name: 1})
    with pytest.raises(ConfigError, match=r'"zzz" is not a setting \('):
        load(zzz=1)


@pytest.mark.parametrize(("name", "meant"), [("LINGER", "LINGER_S"), ("REDISURL", "REDIS_URL"), ("EMULAT", "EMULATE")])
def test_misspelt_variables_are_refused_with_a_suggestion(name: str, meant: str) -> None:
    """A variable that is almost a setting's is an error that says which one was probably meant."""
    with pytest.raises(ConfigError, match=f"GEMQUEUE_{name} is not a setting; did you mean GEMQUEUE_{meant}"):
        load({f"GEMQUEUE_{name}": "1"})


def test_other_variables_are_left_alone() -> None:
    """What Kubernetes makes of a service called gemqueue, our own other variables, and unlike names change nothing."""
    theirs = ("SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_6379_TCP", "PORT_6379_TCP_ADDR", "VERSION", "URL", "IMAGE")
    ours = ("MODELS", "DEBUG", "TEST_CLOCK", "CRASH_AT")
    env = {f"GEMQUEUE_{name}": "x" for name in (*theirs, *ours)}
    assert load(env) == Settings()
    assert unknown_env(env) == sorted(f"GEMQUEUE_{name}" for name in theirs)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"GEMQUEUE_LINGER_S": "soon"}, "linger_s must be a number: look at GEMQUEUE_LINGER_S"),
        ({"GEMQUEUE_EMBEDDED": "perhaps"}, "embedded must be true or false: look at GEMQUEUE_EMBEDDED"),
        ({"GEMQUEUE_ATTEMPTS_MAX": "1.5"}, "attempts_max must be a whole number: look at GEMQUEUE_ATTEMPTS_MAX"),
    ],
)
def test_a_wrong_type_is_said_in_words(env: dict[str, str], said: str) -> None:
    """The message names the setting, what it must be, and where to look."""
    with pytest.raises(ConfigError) as caught:
        load(env)
    assert str(caught.value) == f"Settings: {said}"


def test_an_emulator_of_ones_own_does_not_linger(tmp_path: Path) -> None:
    """The embedded emulator's prompts hardly linger, unless somebody says so in any place, or an address is given."""
    assert load({"GEMQUEUE_EMULATE": "1"}).linger_s == load(None, emulate=True).linger_s == 0.1
    (tmp_path / "own.toml").write_text("linger_s = 5.0")
    for own in (
        load({"GEMQUEUE_EMULATE": "1", "GEMQUEUE_LINGER_S": "5"}),
        load(None, emulate=True, linger_s=5.0),
        load(path=tmp_path / "own.toml", emulate=True),
        load(None, emulate=True, redis_url="redis://x"),
        load({"GEMQUEUE_EMULATE": "1", "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1"}),
        load(),
    ):
        assert own.linger_s == 5.0


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """A file that is not there or is no TOML is an error with its path."""
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load(path=tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("queue = ")
    with pytest.raises(ConfigError, match=r"bad\.toml"):
        load(path=tmp_path / "bad.toml")


def test_wrong_types_name_the_setting_and_not_the_value() -> None:
    """A value that is no number is refused by the setting's name and not repeated: it may be a secret."""
    with pytest.raises(ConfigError, match="linger_s") as caught:
        load({"GEMQUEUE_LINGER_S": KEY})
    assert KEY not in str(caught.value)


VIOLATIONS: list[tuple[dict[str, object], str]] = [
    ({"sweep_s": 0}, "sweep_s must be a number above 0"),
    ({"linger_s": -1}, "linger_s must be a number, 0 or above"),
    ({"sweep_s": float("nan")}, "sweep_s must be a number above 0"),
    ({"sweep_s": float("inf")}, "sweep_s must be a number above 0"),
    ({"steps_max": 0}, "steps_max must be a number above 0"),
    ({"lease_s": 45.0}, "lease_s must be above"),
    ({"settle_s": 30.0}, "settle_s must be above create_timeout_s"),
    ({"drain_s": 30.0}, "drain_s must be above create_timeout_s"),
    ({"segment_prompts_max": 1_001}, "segment_prompts_max must be at most 1000"),
    ({"segment_bytes_max": 1_040_001}, "segment_bytes_max must be at most"),
    ({"batch_bytes_max": 2_000_000_001}, "batch_bytes_max must be at most"),
    ({"batch_prompts_max": 0}, "batch_prompts_max must be"),
    ({"prompt_bytes_max": 2_000_000_000}, "prompt_bytes_max must be at most batch_bytes_max"),
    ({"prompt_bytes_max": 64_000_001}, "prompt_bytes_max must be at most buffer_bytes_max"),
    ({"keep_delivered_s": 604_801}, "keep_delivered_s must be at most keep_outcome_s"),
    ({"submit_timeout_s": 3_601}, "keep_delivered_s must be at least submit_timeout_s"),
    ({"watchdog_s": 700_000}, "watchdog_s must be below keep_outcome_s"),
    ({"inbox_keep_s": 0.9}, "inbox_keep_s must be at least 1"),
    ({"poll_max_s": 86_401}, "poll_max_s must be at most 86400"),
    ({"backoff_max_s": 86_401}, "backoff_max_s must be at most 86400"),
    ({"backoff_first_s": 301}, "backoff_first_s must be at most"),
    ({"poll_first_s": 301}, "poll_first_s must be at most"),
    ({"retry_first_s": 3_601}, "retry_first_s must be at most"),
    ({"durability": "sure"}, 'durability must be "auto", "local" or "replicated"'),
    ({"durability": "replicated"}, "needs redis_url: the embedded server has no replica"),
    (
        {"durability": "replicated", "redis_url": "redis://x", "replicate_s": 11},
        "replicate_s must be at most lease_s / 6",
    ),
    ({"redis_url": "redis+cluster://x", "replicate_s": 11}, "replicate_s must be at most lease_s / 6"),
    ({"api_version": "v2"}, "api_version must be"),
    ({"queue": ""}, "queue must be 1 to 64"),
    ({"queue": "a:b"}, "queue must be 1 to 64"),
    ({"account": "A"}, "account must be 1 to 64"),
    ({"account": "a/b"}, "account must be 1 to 64"),
]


@pytest.mark.parametrize(("given", "message"), VIOLATIONS)
def test_relations_are_held(given: dict[str, object], message: str) -> None:
    """Each relation between settings is checked at the door, in words that name the setting."""
    with pytest.raises(ConfigError, match=message):
        load(None, **given)


CREATES_S = [0.5, 20.0, 30.0, 39.0, 41.0, 120.0, 3600.0]


def test_defaults_of_0_2_0_still_hold() -> None:
    """What follows from ``create_timeout_s`` is by default what it was when it did not follow."""
    recorded = {"lease_s": 60.0, "settle_s": 90.0, "skew_s": 300.0, "drain_s": 45.0}
    assert derived(Settings().create_timeout_s) == recorded
    assert {name: getattr(load(), name) for name in DERIVED} == recorded
    assert {type(getattr(load(), name)) for name in DERIVED} == {float}


@pytest.mark.parametrize("create_s", CREATES_S)
def test_settings_follow_from_the_create_s_timeout(tmp_path: Path, create_s: float) -> None:
    """``create_timeout_s`` alone, from any source, gives settings that fit together, and none below its default."""
    (tmp_path / "own.toml").write_text(f"create_timeout_s = {create_s}")
    settings = load(None, create_timeout_s=create_s)
    assert settings == load({"GEMQUEUE_CREATE_TIMEOUT_S": str(create_s)}) == load(path=tmp_path / "own.toml")
    found = {name: getattr(settings, name) for name in DERIVED}
    assert found == derived(create_s)
    assert all(value >= getattr(Settings(), name) for name, value in found.items())


def test_what_follows_is_what_its_rule_says() -> None:
    """Two creates for the lease, a minute more than one for the listing, ten for clocks, a little more for SIGTERM."""
    settings = load(None, create_timeout_s=120)
    assert (settings.lease_s, settings.settle_s, settings.skew_s, settings.drain_s) == (240.0, 180.0, 1200.0, 135.0)


@pytest.mark.parametrize(("name", "least_s"), [("lease_s", 180), ("settle_s", 120), ("drain_s", 120)])
def test_what_is_set_wins_and_is_checked(name: str, least_s: float) -> None:
    """A setting that is set does not follow; where it is too short the error names both and the way out."""
    settings = load({"GEMQUEUE_CREATE_TIMEOUT_S": "120", f"GEMQUEUE_{name.upper()}": str(least_s + 1)})
    assert getattr(settings, name) == least_s + 1
    assert all(getattr(settings, other) == derived(120)[other] for other in DERIVED if other != name)
    with pytest.raises(
        ConfigError, match=f"{name} must be above .*create_timeout_s = {least_s}, and is 100:"
    ) as caught:
        load(None, create_timeout_s=120, **{name: 100})
    assert f"leave {name} out, and it is {derived(120)[name]:g}" in str(caught.value)


def test_a_file_with_every_setting_still_holds(tmp_path: Path) -> None:
    """A whole copy of 0.2.0's file is read as before; where it names another create, the error names the way out."""
    file = tmp_path / "all.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in msgspec.structs.asdict(Settings()).items()]
    file.write_text("\n".join(sorted(lines)))
    assert load(path=file) == Settings()
    file.write_text(file.read_text().replace("create_timeout_s = 30.0", "create_timeout_s = 50.0"))
    with pytest.raises(ConfigError, match=r"lease_s must be above .* leave lease_s out, and it is 100$"):
        load(path=file)


def test_settings_of_another_process_follow_again() -> None:
    """Settings that are handed on follow the ``create_timeout_s`` of the end, where nobody had set them otherwise."""
    wanted = load(None, create_timeout_s=120, drain_s=200)
    assert load(None, **as_given(load(None, drain_s=200)) | {"create_timeout_s": 120}) == wanted
    assert load(None, **as_given(Settings(create_timeout_s=120, drain_s=200))) == wanted
    assert load(None, **as_given(wanted)) == wanted


async def test_a_producer_s_settings_follow_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """``Queue.connect(settings=..., create_timeout_s=...)`` finds nothing wrong with them, and goes on to the key."""
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="No API key"):
        await Queue.connect(settings=Settings(), create_timeout_s=120.0)
    with pytest.raises(ConfigError, match="lease_s must be above"):
        await Queue.connect(settings=Settings(lease_s=70.0), create_timeout_s=120.0)


def test_the_key_comes_from_the_environment_in_the_sdk_s_order() -> None:
    """GOOGLE_API_KEY, then GEMINI_API_KEY; blanks are nothing."""
    assert api_key_from_env({"GOOGLE_API_KEY": "a", "GEMINI_API_KEY": "b"}) == "a"
    assert api_key_from_env({"GOOGLE_API_KEY": "  ", "GEMINI_API_KEY": " b\n"}) == "b"
    assert api_key_from_env({}) == ""


def test_accounts_bind_lanes() -> None:
    """Host and name, so that rotating a key strands nothing; else host and a fingerprint; never the key itself."""
    host = "generativelanguage.googleapis.com"
    assert account_id(Settings(account="prod"), "one") == account_id(Settings(account="prod"), "two") == f"{host}.prod"
    by_key = account_id(Settings(), KEY)
    assert by_key == f"{host}.{hashlib.sha256(KEY.encode()).hexdigest()[:12]}"
    assert by_key != account_id(Settings(), "another")
    assert account_id(Settings(base_url="https://proxy.example/x"), KEY).startswith("proxy.example.")
    with pytest.raises(ConfigError, match="GOOGLE_API_KEY"):
        account_id(Settings(), "")


def test_an_account_may_be_at_an_address_in_brackets() -> None:
    """It is called by the address; what stands beside brackets, or is no address in them, is refused in words."""
    assert account_id(Settings(base_url="https://[2001:DB8::1]:8443/v", account="prod"), "") == "2001:db8::1.prod"
    for wrong in ("[::1", "::1]", "[::1]one:1", "one[::1]", "[one]", "[::1],[::2]", "[]"):
        url = f"https://user:secret@{wrong}/v"
        with pytest.raises(ConfigError, match=r"base_url / GEMQUEUE_BASE_URL \(https://.*\) cannot be read") as caught:
            account_id(Settings(base_url=url), KEY)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "taken"),
    [
        ("https://[2001:db8::1]/hook", True),
        ("http://[::1]:8080/hook", True),
        ("https://[::1]one/hook", False),
        ("https://one[::1]/hook", False),
        ("https://[::1/hook", False),
        ("https://[one]/hook", False),
    ],
)
def test_a_callback_may_be_an_address_in_brackets(url: str, taken: bool) -> None:
    """Every Python takes and refuses the same ones."""
    assert is_callback(url) is taken


def test_emulated_accounts_are_never_real_ones() -> None:
    """An emulated account needs no key and differs from every real one, whatever the address and the name."""
    for settings in (Settings(emulate=True), Settings(emulate=True, account="prod", base_url="https://real.example")):
        assert account_id(settings, KEY).startswith("emulated.")
    assert account_id(Settings(emulate=True), "") == "emulated.local"


def test_emulated_data_lies_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real and emulated data never share a folder, wherever the folder is."""
    assert data_dir(Settings(data_dir=str(tmp_path))) == tmp_path / "real"
    assert data_dir(Settings(data_dir=str(tmp_path), emulate=True)) == tmp_path / "emulated"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert data_dir(Settings()) == tmp_path / "gemqueue" / "real"
    monkeypatch.delenv("XDG_DATA_HOME")
    assert data_dir(Settings()) == Path.home() / ".local" / "share" / "gemqueue" / "real"
    assert data_dir(Settings(data_dir="~/data")) == Path.home() / "data" / "real"


def test_without_a_home_the_error_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random user of a container has no HOME and no entry in passwd: a ConfigError, which names the setting."""

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    for settings in (Settings(), Settings(data_dir="~/data")):
        with pytest.raises(ConfigError, match=r"~/.*no home directory.*GEMQUEUE_DATA_DIR"):
            data_dir(settings)
    with pytest.raises(ConfigError, match=r"~/in\.jsonl: this user has no home.*whole path"):
        absolute("~/in.jsonl")
    assert data_dir(Settings(data_dir="/srv/data")) == Path("/srv/data/real")


FOLLOWING: list[tuple[dict[str, Any], str, float]] = [
    ({"batch_prompts_max": 100}, "segment_prompts_max", 100),
    ({"batch_prompts_max": 100, "first_prompts_max": 10}, "segment_prompts_max", 10),
    ({"stored_bytes_max": 100_000_000}, "batch_bytes_max", 100_000_000),
    ({"batch_bytes_max": 500_000, "prompt_bytes_max": 500_000}, "segment_bytes_max", 500_000),
    ({"batch_tokens_max": 1_000}, "segment_bytes_max", 4_000),
    ({"memory_bytes_max": 1_000_000}, "dead_bytes_max", 250_000),
    ({"backoff_max_s": 10}, "quota_backoff_s", 10),
]
"""What somebody sets, and what follows it unless somebody sets it, too."""


@pytest.mark.parametrize(("given", "name", "value"), FOLLOWING)
def test_a_limit_follows_what_bounds_it(given: dict[str, Any], name: str, value: float) -> None:
    """A bounded setting that nobody set is no more than its bound; one that was set above it is refused with both."""
    settings = load(None, **given)
    assert getattr(settings, name) == value
    assert type(getattr(settings, name)) is type(getattr(Settings(), name))
    assert load(None, **as_given(settings)) == settings
    assert load(None, **as_given(settings) | {other: getattr(Settings(), other) for other in given}) == Settings()
    with pytest.raises(ConfigError, match=f"{name} must be at most .* = .*, and is ") as caught:
        load(None, **given, **{name: value + 1})
    assert f"leave {name} out, and it follows" in str(caught.value)


def test_every_bounded_setting_is_tried() -> None:
    """Each has a row above."""
    assert {name for _, name, _ in FOLLOWING} == set(BOUNDED)
