"""Records of a later version are left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gemqueue.config import Settings
from gemqueue.errors import WrongState
from gemqueue.ids import new_producer_id, new_segment_id
from gemqueue.states import Step
from gemqueue.store.producer import SegmentWrite
from gemqueue.store.store import Store

if TYPE_CHECKING:
    from tests.valkey_server import ValkeyServer


async def test_a_record_of_a_later_version_is_not_claimed(valkey: ValkeyServer, queue_name: str) -> None:
    """A worker that meets a newer record refuses it, changes nothing in it, and says what to do."""
    store = Store(valkey.url, Settings(queue=queue_name, linger_s=0.001))
    lane = "acc/model/generate/batch"
    segment = SegmentWrite(id=new_segment_id(), lane=lane, producer=new_producer_id(), count=1, raw_bytes=1, tokens=1)
    await store.enqueue(segment, b"body")
    await store.redis.hset(store.key("lane", lane), "v", 2)
    await store.hasten(Step.PACK, lane, "acc")
    before = await store.redis.hgetall(store.key("lane", lane))
    with pytest.raises(WrongState, match="upgrade"):
        await store.claim(Step.PACK, lane, "acc")
    assert await store.redis.hgetall(store.key("lane", lane)) == before
    await store.redis.hset(store.key("lane", lane), "v", 1)
    assert await store.claim(Step.PACK, lane, "acc") is not None
    await store.aclose()
