"""Webhooks end to end: the emulator tells, the server hears, the workers look; and what they do when it is not so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import msgspec
import pytest

from tests.cli.command import gemqueue
from tests.serve.door import Door
from tests.worlds.processes import DEADLINE_S, Processes, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.valkey_server import ValkeyServer

RARE: dict[str, Any] = {"poll_first_s": 2 * DEADLINE_S, "poll_max_s": 4 * DEADLINE_S}
"""Looks so rare that only an event explains that anything is answered before the test gives up."""


class Told:
    """A world whose jobs tell a server of their end."""

    def __init__(self, folder: Path, valkey: ValkeyServer, queue: str, **emulator: Any) -> None:
        self.world = Processes(folder, valkey, queue, RARE, **emulator)
        self.folder = folder

    async def __aenter__(self) -> Self:
        await self.world.__aenter__()
        self.door = Door(self.folder, self.world.env()).start()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.door.stop()
        await self.world.__aexit__(None, None, None)

    def own_webhooks(self, **changed: Any) -> None:
        """From here on jobs carry the server's address."""
        given = {"webhook_url": f"{self.door.url}/webhook"} | changed
        self.world.settings = msgspec.structs.replace(self.world.settings, **given)

    async def counts(self) -> dict[str, int]:
        """Every counter."""
        return await self.world.store.counts()


@pytest.fixture
def told(tmp_path: Path, valkey: ValkeyServer, queue_name: str) -> Told:
    return Told(tmp_path, valkey, queue_name)


@pytest.mark.parametrize("faults", [[], [{"on": "webhook", "do": "doubled"}], [{"on": "webhook", "do": "jwt"}]])
async def test_a_jobs_own_webhook_is_all_it_takes(told: Told, faults: list[dict[str, Any]]) -> None:
    """Signed with Ed25519, twice, or with the documented JWT: each batch is looked at as soon as it ends, and once."""
    async with told:
        told.world.emulator.faults(faults)
        told.own_webhooks()
        if faults and faults[0]["do"] == "jwt":  # its audience is the address that the server knows
            told.door.stop()
            told.door = Door(told.folder, told.world.env(), port=told.door.address[1]).start()
        told.world.start_worker()
        await told.world.submit([f"prompt {n}" for n in range(6)], segment_prompts=3)
        await told.world.drained()
        await told.world.judge()
        counts = await told.counts()
        assert counts["events"] == counts["created"]
        polls = [seen for seen in told.world.emulator.requests() if _is_poll(seen)]
        assert len(polls) <= 3 * counts["created"]  # the look at its end, and those of the resolver


def _is_poll(seen: dict[str, Any]) -> bool:
    return bool(seen["method"] == "GET" and "/batches/" in seen["path"])


async def test_a_registered_hook_is_all_it_takes(told: Told) -> None:
    """Made by ``gemqueue webhooks register``, verified by the secret that it showed, through a rotation."""
    async with told:
        env = told.world.env()
        made = gemqueue("webhooks", "register", f"{told.door.url}/webhook", "--json", **env)
        assert made.returncode == 0, made.stderr
        hook = msgspec.json.decode(made.stdout)
        rotated = gemqueue("webhooks", "rotate", hook["id"], "--json", **env)
        secrets = [hook["new_signing_secret"], msgspec.json.decode(rotated.stdout)["secret"]]
        listed = gemqueue("webhooks", "list", **env).stdout
        assert hook["id"] in listed
        assert not any(secret in listed for secret in secrets)
        told.door.stop()
        told.door = Door(
            told.folder, env | {"GEMQUEUE_WEBHOOK_SECRETS": " ".join(secrets)}, port=told.door.address[1]
        ).start()
        assert gemqueue("webhooks", "ping", hook["id"], **env).stdout == "a test event was asked for\n"
        told.world.start_worker()
        await told.world.submit(["one", "two"])
        await told.world.drained()
        await told.world.judge()
        assert (await told.counts())["events"] == 1
        assert gemqueue("webhooks", "delete", hook["id"], **env).stdout == "deleted\n"
        assert gemqueue("webhooks", "list", "--json", **env).stdout == "[]\n"
        assert "webhook.ping" in told.door.log


async def test_a_lost_create_is_found_by_its_event(told: Told) -> None:
    """The create's reply is lost and ``settle_s`` is minutes: the event names the job, and it is adopted at once."""
    async with told:
        told.own_webhooks(settle_s=600.0)
        told.world.emulator.faults([{"on": "create", "do": "lost_after", "nth": [1]}])
        told.world.start_worker()
        await told.world.submit(["one", "two"])
        await told.world.drained()
        await told.world.judge()
        counts = await told.counts()
        assert (counts["adopted"], counts.get("created", 0), counts["events"]) == (1, 0, 1)
        assert len(told.world.emulator.ledger()["jobs"]) == 1


async def test_an_event_that_lies_is_not_believed(told: Told) -> None:
    """An event with our token names another job: that is looked at by its name, and not adopted; the right one is."""
    async with told:
        told.own_webhooks(settle_s=3.0)
        told.world.emulator.faults([{"on": "create", "do": "lost_after", "nth": [1]}, {"on": "webhook", "do": "lost"}])
        told.world.start_worker("pack", "submit")
        await told.world.submit(["one"])
        batches: list[Any] = []

        async def in_doubt() -> bool:
            found = [await told.world.store.batch(id_) for id_ in await told.world.store.open_batches()]
            batches[:] = [batch for batch in found if batch is not None and batch.state == "submitting"]
            return bool(batches)

        await until(in_doubt, what="a batch in doubt")
        token = batches[0].intent_token
        assert await told.world.store.announce("msg_lie", "batches/nonsense", token) == ("submit", batches[0].id)
        told.world.start_worker("track", "resolve")

        async def adopted() -> bool:
            return (await told.counts()).get("adopted", 0) == 1

        await until(adopted, what="adopted")
        record = await told.world.store.batch(batches[0].id)
        assert record is not None
        assert record.job != "batches/nonsense"
        assert record.job in {job["name"] for job in told.world.emulator.ledger()["jobs"]}
        await told.world.store.announce("msg_true", record.job, "")
        await told.world.drained()
        await told.world.judge()


async def test_an_event_before_the_state_shows_is_waited_for(told: Told) -> None:
    """The event comes and the job still runs: it is looked at again soon, not half an hour later."""
    async with told:
        told.own_webhooks(poll_first_s=0.2)
        told.world.emulator.faults(
            [{"on": "job", "do": "pending", "seconds": 3}, {"on": "job", "do": "event_early", "seconds": 2.9}]
        )
        told.world.start_worker()
        await told.world.submit(["one"])
        await told.world.drained()
        await told.world.judge()


@pytest.mark.parametrize("do", ["lost", "bad_signature", "old_timestamp"])
async def test_without_events_polling_does_it(told: Told, do: str) -> None:
    """Lost, forged and stale events change nothing: the job is found by looking."""
    async with told:
        told.own_webhooks(poll_first_s=0.2, poll_max_s=1.0)
        told.world.emulator.faults([{"on": "webhook", "do": do}])
        told.world.start_worker()
        await told.world.submit(["one"])
        await told.world.drained()
        await told.world.judge()
        assert (await told.counts()).get("events", 0) == 0


async def test_a_webhook_that_is_refused_holds_the_batch_with_the_reason(told: Told) -> None:
    """When the service does not take the address, nothing fails: the prompts wait and say what to mend."""
    async with told:
        told.own_webhooks()
        refusal = "Invalid value at 'batch.webhook_config.uris[0]'"
        told.world.emulator.faults([{"on": "create", "do": "400", "times": 3, "message": refusal}])
        told.world.start_worker()
        await told.world.submit(["one", "two"])
        reasons: set[str] = set()

        async def held_then_finished() -> bool:
            found = [await told.world.store.batch(id_) for id_ in await told.world.store.open_batches()]
            reasons.update(batch.held_reason for batch in found if batch is not None and batch.held_reason)
            return await told.world.finished()

        await until(held_then_finished, what="finished")
        assert any("webhook_url" in reason for reason in reasons)
        await told.world.drained()
        assert all("response" in outcome for outcome in (await told.world.judge()).values())
