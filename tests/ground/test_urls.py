"""No secret of a URL is printed, wherever it stands in it and whatever prints it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemqueue import Settings
from gemqueue.urls import safe_url, shown_url


@pytest.mark.parametrize(
    ("url", "shown", "safe"),
    [
        ("redis://user:hush@host:1/0", "redis://***@host:1/0", "redis://host:1/0"),
        ("redis://:hush@host", "redis://***@host", "redis://host"),
        ("redis://host:1/0?db=2&password=hush", "redis://host:1/0?db=2&password=***", "redis://host:1/0"),
        (
            "rediss+sentinel://u:hush@a:1,b/orders/0?sentinel_password=hush&ssl_ca_certs=/ca.pem",
            "rediss+sentinel://***@a:1,b/orders/0?sentinel_password=***&ssl_ca_certs=/ca.pem",
            "rediss+sentinel://a:1,b/orders/0",
        ),
        ("redis+cluster://u:hush@a:1,b", "redis+cluster://***@a:1,b", "redis+cluster://a:1,b"),
        ("unix:///a/b.sock?db=1", "unix:///a/b.sock?db=1", "unix:///a/b.sock"),
        ("https://api.example/v1?key=hush", "https://api.example/v1?***", "https://api.example/v1"),
        ("redis://u:p?x@host/0", "redis://***", "redis://***"),
        ("hush", "***", "***"),
        ("", "", ""),
    ],
)
def test_the_rest_is_shown(url: str, shown: str, safe: str) -> None:
    """What is no secret stands as it was written: hosts, path, user, and the parameters that are known to be plain."""
    assert (shown_url(url), safe_url(url)) == (shown, safe)


SECRETS = st.text("abc:/?#@&=%!", min_size=6, max_size=12).filter(lambda text: "***" not in text)


@given(
    secret=SECRETS, form=st.sampled_from(["redis://u:{}@host:1/0", "redis://host:1/0?password={}", "redis://{}@host"])
)
def test_no_text_shows_a_secret_whole(secret: str, form: str) -> None:
    """However a secret is written, percent-encoded or not, it is not shown as a whole."""
    url = form.format(secret)
    assert secret not in shown_url(url).removeprefix("redis://u:").replace("host:1/0", "").replace("host", "")
    assert secret not in safe_url(url)


def test_settings_are_shown_with_their_urls() -> None:
    """A ``Settings`` prints as before but for the secrets."""
    text = repr(Settings(redis_url="redis://u:hush@h:1/0"))
    assert text.startswith("Settings(redis_url='redis://***@h:1/0', embedded=True, queue='default'")
    assert text.endswith("log_json=False)")
