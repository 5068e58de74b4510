"""The setting ``tenant_weights``: what the real packer makes of it, on a real server."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from gemqueue.config import Settings, load_settings
from gemqueue.errors import ConfigError
from gemqueue.setting_values import tenant_weights
from gemqueue_adapters.gemini import GeminiProvider
from gemqueue_workers.stages.loop import Kit, run_step
from gemqueue_workers.stages.packer import Packer
from tests.worlds.bench import ACCOUNT, LANE, Bench, bench

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

BATCH_PROMPTS = 30


@pytest.fixture
async def here(redis_url: str, queue_name: str, no_leaks: None) -> AsyncGenerator[Bench]:  # noqa: ARG001
    """A queue whose alice and Bob@b have weights."""
    limits: dict[str, Any] = {"batch_prompts_max": BATCH_PROMPTS, "first_prompts_max": BATCH_PROMPTS}
    async with bench(redis_url, queue_name, tenant_weights="alice=3  Bob@b=2", **limits) as made:
        yield made


async def packed(here: Bench, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have the packer pack what is pending; the batches in the order in which they were filled."""
    batches: dict[str, None] = {}
    pack = here.store.pack

    async def noted(claim: Any, batch: str, *args: Any, **limits: Any) -> tuple[str, int, int]:
        batches[batch] = None
        return await pack(claim, batch, *args, **limits)

    monkeypatch.setattr(here.store, "pack", noted)
    provider = GeminiProvider(api_key="none", account=ACCOUNT, base_url="http://127.0.0.1:9", emulate=True)
    kit = Kit(store=here.store, provider=provider, settings=here.settings, clock=here.clock, pool="")
    try:
        assert await run_step(kit, Packer(kit), LANE)
    finally:
        await provider.aclose()
    return list(batches)


async def shares(here: Bench, batches: list[str]) -> Counter[str]:
    """The prompts that each tenant has in these batches."""
    found: Counter[str] = Counter()
    for batch in batches:
        for meta in await here.store.segment_metas(await here.store.manifest(batch)):
            assert meta is not None
            found[meta.tenant] += meta.count
    return found


@pytest.mark.parametrize("priority", [0, 100])
@pytest.mark.parametrize("count", [1, 5])
async def test_shares_are_by_weight(here: Bench, monkeypatch: pytest.MonkeyPatch, count: int, priority: int) -> None:
    """While all have something pending each has its weight's share of the prompts, and who is not in the setting 1."""
    for tenant in ("alice", "Bob@b", "carol"):
        for _ in range(300 // count):
            await here.enqueue(count, tenant=tenant, priority=priority)
    here.advance(1)
    found = await shares(here, (await packed(here, monkeypatch))[: 300 // (BATCH_PROMPTS // 2)])
    total = found.total()
    assert total == 600
    for tenant, part in (("alice", 3), ("Bob@b", 2), ("carol", 1)):
        assert found[tenant] / total == pytest.approx(part / 6, abs=0.02)


async def test_who_waits_alone_has_it_all(here: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight is a share among those that wait: a tenant without any fills batches when nobody else is there."""
    for _ in range(4):
        await here.enqueue(BATCH_PROMPTS // 2, tenant="carol")
    here.advance(1)
    assert await shares(here, await packed(here, monkeypatch)) == {"carol": 2 * BATCH_PROMPTS}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("alice", "word 1 must be tenant=weight"),
        ("=3", "word 1 must be tenant=weight"),
        ("al/ice=3", "word 1 must be tenant=weight"),
        (f"{'a' * 65}=3", "must be tenant=weight"),
        ("alice=0", "the weight of 'alice' must be a whole number from 1 to 100"),
        ("bob=2 alice=101", "the weight of 'alice' must be a whole number"),
        ("alice=1.5", "the weight of 'alice' must be a whole number"),
        ("alice=-1", "the weight of 'alice' must be a whole number"),
        ("alice=", "word 1 must be tenant=weight"),
        ("alice=²", "must be a whole number"),
        ("alice=1 bob=2 alice=3", "'alice' is there twice"),
    ],
)
def test_weights_that_are_none_are_refused(text: str, complaint: str) -> None:
    """Before anything starts, with the setting, the word, what is wrong with it and the way out."""
    with pytest.raises(ConfigError, match=r"Settings: tenant_weights: ") as caught:
        load_settings(env={"GEMQUEUE_TENANT_WEIGHTS": text})
    assert complaint in str(caught.value)


def test_weights_are_read() -> None:
    """By tenant; none is the default."""
    assert tenant_weights(Settings().tenant_weights) == {}
    assert tenant_weights(" alice=3\tbob.x@y-z_0=100 ") == {"alice": 3, "bob.x@y-z_0": 100}
