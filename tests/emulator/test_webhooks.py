"""Webhooks: the resource by the official client, deliveries by a real receiver, signatures by other people's code."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import standardwebhooks
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gemqueue_adapters.emulator.webhooks.signing import Keys, hmac_signature
from gemqueue_adapters.emulator.wire import ApiError
from tests.emulator.plain import MODEL, Plain, error_of, text_request, texts, until
from tests.emulator.receiver import Delivery, Receiver
from tests.emulator_process import EmulatorProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from google import genai

EVENTS = ["batch.succeeded", "batch.failed", "batch.expired"]
SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="  # noqa: S105 - a test vector of the protocol
pytestmark = pytest.mark.filterwarnings("ignore::google.genai.errors.ExperimentalWarning", "ignore:.*xperimental")


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[EmulatorProcess]:
    """A fresh one for each test: other people's code holds timestamps against the real clock."""
    with EmulatorProcess(tmp_path / "data", job_s=0) as process:
        yield process


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        yield server


def register(plain: Plain, receiver: Receiver, **fields: Any) -> dict[str, Any]:
    """A hook for all events of batches."""
    body = {"name": "n", "uri": receiver.url, "subscribed_events": EVENTS} | fields
    made: dict[str, Any] = plain.http.post("/v1/webhooks", json=body).raise_for_status().json()
    return made


def dynamic(plain: Plain, receiver: Receiver, *, text: str = "a") -> str:
    """A batch with a webhook of its own; its name."""
    rows = [{"request": text_request(text), "metadata": {"key": "k"}}]
    hook = {"uris": [receiver.url], "user_metadata": {"token": "t1"}}
    batch = {"inputConfig": {"requests": {"requests": rows}}, "webhookConfig": hook}
    return str(plain.post_batch(batch).raise_for_status().json()["name"])


def ed25519_keys(plain: Plain) -> list[Ed25519PublicKey]:
    """The published keys."""
    keys = plain.http.get("/.well-known/jwks.json").raise_for_status().json()["keys"]
    raw = [base64.urlsafe_b64decode(key["x"] + "=") for key in keys if key["kty"] == "OKP"]
    return [Ed25519PublicKey.from_public_bytes(each) for each in raw]


def is_signed(delivery: Delivery, keys: list[Ed25519PublicKey]) -> bool:
    """Whether any of the keys has made the v1a signature."""
    version, _, text = delivery.headers["webhook-signature"].partition(",")
    assert version == "v1a"
    head = f"{delivery.headers['webhook-id']}.{delivery.headers['webhook-timestamp']}."
    for key in keys:
        try:
            key.verify(base64.b64decode(text), head.encode() + delivery.body)
        except InvalidSignature:
            continue
        return True
    return False


def test_the_vector_of_the_protocol() -> None:
    """The HMAC is the one that the standardwebhooks package was held against."""
    body = (
        b'{"type":"batch.succeeded","version":"v1","timestamp":"2026-01-01T00:00:00Z",'
        b'"data":{"id":"batches/abc","output_file_uri":"files/batch-abc"}}'
    )
    found = hmac_signature(SECRET, "msg_5d1f0d5e-0000-4000-8000-000000000001", 1767225600, body)
    assert found == "v1,2DV7QYDEhUTs94SJqgvU98vNw2Wr8e1AIBOSvEwcKeg="


def test_the_resource_by_the_official_client(official: genai.Client, receiver: Receiver) -> None:
    """Create, get, list, update, ping, rotate and delete work unchanged; the secret shows only when it is new."""
    hooks = official.webhooks
    made = hooks.create(uri=receiver.url, subscribed_events=["batch.succeeded", "batch.failed"], name="Mine")
    assert str(made.new_signing_secret).startswith("whsec_")
    assert made.id is not None
    again = hooks.get(made.id)
    assert (again.name, again.state, again.new_signing_secret) == ("Mine", "enabled", None)
    assert [hook.id for hook in hooks.list(page_size=5).webhooks or []] == [made.id]
    assert hooks.update(made.id, state="disabled", update_mask="state").state == "disabled"
    assert hooks.update(made.id, name="n2", subscribed_events=["batch.expired"]).name == "n2"
    hooks.ping(made.id)
    assert receiver.wait()[0].event["type"] == "webhook.ping"
    rotated = hooks.rotate_signing_secret(made.id, revocation_behavior="revoke_previous_secrets_after_h24")
    assert str(rotated.secret).startswith("whsec_")
    assert len(hooks.get(made.id).signing_secrets or []) == 2
    hooks.delete(made.id)
    assert not hooks.list().webhooks


def test_the_documented_path_of_rotation(plain: Plain, receiver: Receiver) -> None:
    """The other path and the upper-case name of the documentation rotate as well; `batch.cancelled` is refused."""
    hook = register(plain, receiver)
    body = {"revocation_behavior": "REVOKE_PREVIOUS_SECRETS_IMMEDIATELY"}
    rotated = plain.http.post(f"/v1beta/webhooks/{hook['id']}/rotate_secret", json=body).raise_for_status().json()
    assert rotated["secret"] != hook["new_signing_secret"]
    refused = plain.http.post("/v1/webhooks", json={"uri": receiver.url, "subscribed_events": ["batch.cancelled"]})
    assert error_of(refused)[:2] == (400, "INVALID_ARGUMENT")


def test_a_registered_hook_is_told(plain: Plain, receiver: Receiver) -> None:
    """A finished file batch is told once, with its id and output, signed so that the standard package agrees."""
    hook = register(plain, receiver)
    name = plain.create(texts("a"))
    delivery = receiver.wait()[0]
    assert delivery.event["type"] == "batch.succeeded"
    assert delivery.event["data"] == {"id": name, "output_file_uri": f"files/batch-{name.removeprefix('batches/')}"}
    assert delivery.headers["content-type"] == "application/json"
    standardwebhooks.Webhook(hook["new_signing_secret"]).verify(delivery.body, delivery.headers)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(SECRET).verify(delivery.body, delivery.headers)


def test_both_secrets_sign_for_a_day(plain: Plain, receiver: Receiver, emulator: EmulatorProcess) -> None:
    """After a rotation with a day's grace each delivery carries two signatures, and one when the day is over."""
    hook = register(plain, receiver)
    body = {"revocation_behavior": "revoke_previous_secrets_after_h24"}
    plain.http.post(f"/v1/webhooks/{hook['id']}:rotateSigningSecret", json=body).raise_for_status()
    plain.create(texts("a"))
    emulator_deliveries = receiver.wait()
    assert len(emulator_deliveries[0].headers["webhook-signature"].split()) == 2
    standardwebhooks.Webhook(hook["new_signing_secret"]).verify(receiver.got[0].body, receiver.got[0].headers)
    emulator.advance(25 * 3600)
    plain.create(texts("b"))
    assert len(receiver.wait(2)[1].headers["webhook-signature"].split()) == 1


@pytest.mark.parametrize(("do", "event"), [("failed", "batch.failed"), ("expired", "batch.expired")])
def test_other_ends(plain: Plain, receiver: Receiver, emulator: EmulatorProcess, do: str, event: str) -> None:
    """Failed and expired batches have events of their own."""
    register(plain, receiver)
    emulator.faults([{"on": "job", "do": do, "code": 8}])
    name = plain.create(texts("a"))
    told = receiver.wait()[0].event
    assert (told["type"], told["data"]["id"]) == (event, name)
    assert told["data"].get("error_code") == ("RESOURCE_EXHAUSTED" if do == "failed" else None)


def test_a_hook_of_a_job_alone(plain: Plain, receiver: Receiver) -> None:
    """It replaces the registered ones, carries the caller's metadata, and is signed by one of the published keys."""
    with Receiver() as registered:
        register(plain, registered)
        name = dynamic(plain, receiver)
        delivery = receiver.wait()[0]
        assert delivery.event["data"] == {"id": name, "user_metadata": {"token": "t1"}}
        keys = ed25519_keys(plain)
        assert len(keys) == 3
        assert is_signed(delivery, keys)
        assert not is_signed(Delivery(delivery.headers, delivery.body + b" "), keys)
        assert registered.got == []


def test_the_documented_signature(plain: Plain, receiver: Receiver, emulator: EmulatorProcess) -> None:
    """On request the header holds a JWT, which verifies with the published RSA key, and is bound to the body."""
    emulator.faults([{"on": "webhook", "do": "jwt"}])
    dynamic(plain, receiver)
    delivery = receiver.wait()[0]
    token = delivery.headers["webhook-signature"]
    published = plain.http.get("/.well-known/jwks.json").json()
    keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(published).keys}
    kid = jwt.get_unverified_header(token)["kid"]
    claims = jwt.decode(
        token, keys[kid].key, algorithms=["RS256"], audience=receiver.url, options={"verify_iat": False}
    )
    assert claims["sha256"] == hashlib.sha256(delivery.body).hexdigest()


def test_a_receiver_that_fails_is_tried_again(plain: Plain, receiver: Receiver, emulator: EmulatorProcess) -> None:
    """The same message comes again, later in virtual time, with a new timestamp, until it is taken."""
    register(plain, receiver)
    receiver.answers = [500, 302]
    plain.create(texts("a"))
    receiver.wait(1)
    until(lambda: [entry["status"] for entry in emulator.deliveries()] == [500])
    emulator.advance(6)
    receiver.wait(2)
    until(lambda: [entry["status"] for entry in emulator.deliveries()] == [500, 302])
    emulator.advance(11)
    receiver.wait(3)
    assert len({delivery.headers["webhook-id"] for delivery in receiver.got}) == 1
    assert len({delivery.headers["webhook-timestamp"] for delivery in receiver.got}) == 3
    until(lambda: [entry["status"] for entry in emulator.deliveries()] == [500, 302, 200])


def test_a_hook_that_fails_for_a_day_is_disabled(plain: Plain, receiver: Receiver, emulator: EmulatorProcess) -> None:
    """After a day of failures the hook gives up, says so, and is not told of anything more."""
    hook = register(plain, receiver)
    receiver.answers = [500] * 100
    plain.create(texts("a"))

    def state() -> str:
        return str(plain.http.get(f"/v1/webhooks/{hook['id']}").json()["state"])

    for attempts in range(1, 60):
        until(lambda: state() != "enabled" or len(emulator.deliveries()) >= attempts)  # noqa: B023 - used at once
        if state() != "enabled":
            break
        emulator.advance(3601)
    assert state() == "disabled_due_to_failed_deliveries"
    tried = len(receiver.got)
    plain.ended(plain.create(texts("b")))
    assert len(receiver.got) == tried


def test_faults_of_deliveries(plain: Plain, receiver: Receiver, emulator: EmulatorProcess) -> None:
    """Events are lost, late and doubled, as ordered; late ones arrive out of order."""
    register(plain, receiver)
    emulator.faults(
        [
            {"on": "webhook", "do": "late", "seconds": 3600, "nth": [1]},
            {"on": "webhook", "do": "lost", "nth": [1]},
            {"on": "webhook", "do": "doubled", "nth": [1]},
        ]
    )
    late, lost, doubled = (plain.create(texts(text)) for text in "abc")
    for name in (late, lost, doubled):
        plain.ended(name)
    receiver.wait(2)
    emulator.advance(3601)
    got = [delivery.event["data"]["id"] for delivery in receiver.wait(3)]
    assert got == [doubled, doubled, late]
    assert receiver.got[0].headers["webhook-id"] == receiver.got[1].headers["webhook-id"]
    assert lost not in got
    assert emulator.fault_hits() == [1, 1, 1]


def test_an_event_before_the_state_shows(plain: Plain, receiver: Receiver, emulator: EmulatorProcess) -> None:
    """The event has come, and get still says PENDING."""
    register(plain, receiver)
    emulator.faults(
        [{"on": "job", "do": "pending", "seconds": 600}, {"on": "job", "do": "event_early", "seconds": 600}]
    )
    name = plain.create(texts("a"))
    assert receiver.wait()[0].event["type"] == "batch.succeeded"
    assert plain.get(name)["metadata"]["state"] == "BATCH_STATE_PENDING"


def test_signatures_that_must_not_pass(plain: Plain, receiver: Receiver, emulator: EmulatorProcess) -> None:
    """A bad signature and an old timestamp are refused by the standard package, each for its own reason."""
    hook = register(plain, receiver)
    emulator.faults(
        [
            {"on": "webhook", "do": "bad_signature", "nth": [1]},
            {"on": "webhook", "do": "old_timestamp", "seconds": 900, "nth": [1]},
        ]
    )
    verifier = standardwebhooks.Webhook(hook["new_signing_secret"])
    for count, reason in ((1, "No matching signature"), (2, "too old")):
        plain.create(texts("a"))
        delivery = receiver.wait(count)[-1]
        with pytest.raises(standardwebhooks.WebhookVerificationError, match=reason):
            verifier.verify(delivery.body, delivery.headers)


def test_only_loopback_is_called(plain: Plain, emulator: EmulatorProcess) -> None:
    """An address elsewhere can be registered, but nothing is sent to it; the log says so."""
    body = {"uri": "https://my-api.example/hook", "subscribed_events": EVENTS}
    plain.http.post("/v1/webhooks", json=body).raise_for_status()
    plain.create(texts("a"))
    log = until(emulator.deliveries)
    assert [(entry["status"], entry["note"]) for entry in log] == [(None, "not a loopback address")]


def test_hooks_belong_to_a_project(plain: Plain, receiver: Receiver, emulator: EmulatorProcess) -> None:
    """Another key does not see a hook, nor does its batch ring it."""
    hook = register(plain, receiver)
    other = Plain(emulator.url, key="another")
    with other.http:
        assert error_of(other.http.get(f"/v1/webhooks/{hook['id']}"))[:2] == (404, "NOT_FOUND")
        assert other.http.get("/v1/webhooks").json() == {}
        other.ended(other.create(texts("a")))
    plain.create(texts("b"))
    assert len(receiver.wait()) == 1


def test_what_is_under_way_outlives_a_restart(plain: Plain, receiver: Receiver, emulator: EmulatorProcess) -> None:
    """A hook, its secret and an undelivered message are there after a kill."""
    hook = register(plain, receiver)
    receiver.answers = [500]
    plain.create(texts("a"))
    receiver.wait()
    until(emulator.deliveries)
    emulator.kill()
    emulator.start()
    emulator.advance(60)
    headers, body = receiver.wait(2)[1]
    assert headers["webhook-id"] == receiver.got[0].headers["webhook-id"]
    standardwebhooks.Webhook(hook["new_signing_secret"]).verify(body, headers)


def test_webhook_config_of_the_official_client(official: genai.Client, receiver: Receiver, plain: Plain) -> None:
    """The client's own spelling of a job's webhooks rings them."""
    job = official.batches.create(
        model=MODEL,
        src=plain.upload(texts("a")),
        config={"webhook_config": {"uris": [receiver.url], "user_metadata": {"a": "b"}}},
    )
    data = receiver.wait()[0].event["data"]
    assert (data["id"], data["user_metadata"]) == (job.name, {"a": "b"})


def test_without_the_extra_the_refusal_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `cryptography` is not installed, a job's own webhooks are refused with the command that installs it."""
    monkeypatch.setattr("gemqueue_adapters.emulator.webhooks.signing.find_spec", dict[str, object]().get)
    with pytest.raises(ApiError, match=r"pip install 'gemqueue\[webhooks\]'") as caught:
        Keys(0, tmp_path / "rsa.pem").available()
    assert caught.value.status == "FAILED_PRECONDITION"
