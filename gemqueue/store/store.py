"""The store: one method per transition, each one Lua script; the only door to Redis.

Redis holds the truth, and whatever a process keeps in memory can be read again from here. ``producer`` has the
producer's transitions, ``batches`` those of the stages, ``base`` what they share; every other mixin is one concern of
its own.
"""

from __future__ import annotations

from gemqueue.store.dead import DeadStore
from gemqueue.store.deadlines import DeadlineStore
from gemqueue.store.operations import OperationsStore
from gemqueue.store.pools import PoolStore
from gemqueue.store.producer import ProducerStore
from gemqueue.store.quota import InputStore, QuotaStore
from gemqueue.store.turnaround import TurnaroundStore
from gemqueue.store.webhooks import WebhookStore


class Store(
    ProducerStore,
    OperationsStore,
    QuotaStore,
    InputStore,
    DeadStore,
    TurnaroundStore,
    WebhookStore,
    DeadlineStore,
    PoolStore,
):
    """One queue in one Redis or Valkey: every transition that there is."""
