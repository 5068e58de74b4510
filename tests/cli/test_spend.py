"""What the command line says of an account that is refused for want of money."""

from __future__ import annotations

import msgspec

from gemqueue.client.queue import Queue
from gemqueue.config import Settings
from gemqueue.policy.quota import Limits
from gemqueue.records import Batch, Hold
from gemqueue.states import Step
from gemqueue.store.store import Store
from tests.cli.command import gemqueue
from tests.cli.test_status import asked, sealed

ACCOUNT = "emulated.local"
WHY = "Your project has exceeded its monthly spending cap."


async def _refused(settings: Settings, batch: str) -> None:
    """The batch's create is refused for want of money."""
    store = Store(settings.redis_url, settings)
    taken = await store.claim(Step.SUBMIT, batch, ACCOUNT)
    assert taken is not None
    assert isinstance(taken[1], Batch)
    assert await store.reserve(taken[0], Limits(100, 10**9)) == "ok"
    claim = await store.begin(taken[0], "token", "files/f")
    hold_s = await store.suspend(claim, WHY, None)
    await store.reopen(claim, "token", delay_s=hold_s, hold=Hold(text=f"spend (create): {WHY}"))
    await store.aclose()


async def test_status_and_doctor_say_that_money_is_wanted(redis_url: str, queue_name: str) -> None:
    """Status has the reason and the counter; doctor says what to do, with the provider's words and the time."""
    env = {"GEMQUEUE_REDIS_URL": redis_url, "GEMQUEUE_QUEUE": queue_name, "GEMQUEUE_EMULATE": "1"}
    settings = Settings(redis_url=redis_url, queue=queue_name, emulate=True, linger_s=0.001)
    healthy = msgspec.json.decode(gemqueue("doctor", "--json", **env).stdout)
    assert {finding["state"] for finding in healthy if finding["what"] == "spend"} == {"ok"}
    async with Queue.connect(redis_url, queue=queue_name, emulate=True, linger_s=0) as queue:
        await queue.submit("q", model="gemini-3.8-flash")
        await _refused(settings, await sealed(settings))
    found = asked(**env)
    assert found["counts"]["spend_refused"] == 1
    assert [batch["held_reason"] for batch in found["batches"]] == [f"spend (create): {WHY}"]
    sick = gemqueue("doctor", "--json", **env)
    (finding,) = [finding for finding in msgspec.json.decode(sick.stdout) if finding["what"] == "spend"]
    assert finding["state"] == "failed"
    assert f"{WHY.rstrip('.')}; raise the cap or pay" in finding["said"]
    assert "it is tried again in 60 min" in finding["said"]
    assert sick.returncode == 2
