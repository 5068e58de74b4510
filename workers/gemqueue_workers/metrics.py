"""The counters and gauges as Prometheus reads them: for ``gemqueue admin metrics`` and for whoever serves /metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from gemqueue.config import data_dir, load_settings
from gemqueue.embedded.server import acquire
from gemqueue.store import metrics
from gemqueue.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gemqueue.config import Settings
    from gemqueue.store.metrics import Reading

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""What ``exposition`` returns, for an HTTP header."""
_UNLISTED: Final = "Counted by the queue's transitions."


class _Families:
    """A reading as prometheus-client wants to collect it."""

    def __init__(self, reading: Reading, queue: str) -> None:
        self._reading = reading
        self._queue = queue

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Every counter, then every gauge with all of its labels together."""
        counters = dict(self._reading.counters)
        for name in metrics.REASONS:
            yield self._by_reason(name, counters)
        for name, value in counters.items():
            counter = CounterMetricFamily(f"gemqueue_{name}", metrics.COUNTERS.get(name, _UNLISTED), labels=["queue"])
            counter.add_metric([self._queue], value)
            yield counter
        families: dict[str, GaugeMetricFamily] = {}
        for gauge in self._reading.gauges:
            family = families.get(gauge.name)
            if family is None:
                names = ["queue", *gauge.labels]
                family = families[gauge.name] = GaugeMetricFamily(f"gemqueue_{gauge.name}", gauge.help, labels=names)
            family.add_metric([self._queue, *gauge.labels.values()], gauge.value)
        yield from families.values()

    def _by_reason(self, name: str, counters: dict[str, int]) -> CounterMetricFamily:
        """One metric of what Redis counts by the reason's name; taken out of ``counters``, as is their sum."""
        family = CounterMetricFamily(f"gemqueue_{name}", metrics.COUNTERS[name], labels=["queue", "reason"])
        counters.pop(name, None)
        for each in [each for each in counters if each.startswith(f"{name}_")]:
            family.add_metric([self._queue, each.removeprefix(f"{name}_")], counters.pop(each))
        return family


async def exposition(store: Store, account: str = "") -> bytes:
    """Prometheus's text format of one look at the queue, and at one account's overdue steps or (empty) everybody's.

    Raises StoreUnavailable.
    """
    registry = CollectorRegistry()
    registry.register(_Families(await metrics.read(store, account), store.settings.queue))
    return generate_latest(registry)


async def exposition_once(*, emulate: bool | None) -> bytes:
    """The exposition of the queue that the environment names. Raises GemqueueError."""
    settings = load_settings(emulate=emulate)
    if settings.redis_url:
        return await _read(settings.redis_url, settings)
    server = await acquire(data_dir(settings))
    try:
        return await _read(server.url, settings)
    finally:
        await server.release()


async def _read(url: str, settings: Settings) -> bytes:
    store = Store(url, settings)
    try:
        return await exposition(store)
    finally:
        await store.aclose()
