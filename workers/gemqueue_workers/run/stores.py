"""The store that a run was begun on, as OUT.gemqueue remembers it, and whether the one at hand still knows the run.

What a run has bought is a list in its store, and nowhere else. A store without that list would have every row bought
again that OUT lacks: another queue, another server or data folder, one that was emptied or set back, or one whose time
of keeping is over. The run's record is known by its producer, which is drawn when the record is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gemqueue.config import data_dir
from gemqueue.urls import safe_url
from gemqueue_workers.screen import counted, duration

if TYPE_CHECKING:
    from gemqueue.config import Settings
    from gemqueue.store.operations import Server
    from gemqueue.store.runs import RunRecord
    from gemqueue_workers.run.index import Index


class Known(NamedTuple):
    """A run as one store knows it: the store's id and where it is, the run's record, how many entries its list has.

    ``home`` is that of the account's jobs there, and ``run_id`` the server's, once a worker has been there.
    """

    store: str = ""
    place: str = ""
    producer: str = ""
    entries: int = 0
    home: str = ""
    run_id: str = ""

    def forgotten_by(self, now: Known, keep_s: float) -> str:
        """What has become of this on the store at hand, in words; empty where that still knows all of it."""
        if not self.store or (now.producer == self.producer and now.entries >= self.entries):
            return ""
        if now.producer == self.producer:
            lost = counted(self.entries - now.entries, "segment", "segments")
            return f"on {self.place}, which has lost {lost} of the run since (it was set back to an earlier moment)"
        if now.store == self.store:
            return (
                f"on {now.place}, which knows nothing of it any more: it was purged, or ended longer ago than "
                f"outcomes are kept ({duration(keep_s)})"
            )
        if now.place == self.place:
            return f"on {now.place}, which was emptied since, or is another server now"
        return f"on {self.place}, and this is {now.place}"


def place_of(settings: Settings, url: str) -> str:
    """Where a store is, in words without secrets."""
    where = f"on {safe_url(url)}" if settings.redis_url else f"in {data_dir(settings).resolve()}"
    return f"the queue {settings.queue!r} {where}"


def known_by(settings: Settings, url: str, record: RunRecord, server: Server) -> Known:
    """The run as the store at hand knows it."""
    place = place_of(settings, url)
    return Known(record.store, place, record.producer, record.entries, server.home, server.run_id)


def noted_in(index: Index) -> Known:
    """The run as OUT.gemqueue remembers it; 0.2.0 wrote nothing of it."""
    return Known(
        index.get("store"),
        index.get("place"),
        index.get("producer"),
        int(index.get("entries") or 0),
        *(index.get(name) for name in ("home", "run_id")),
    )


def note_in(index: Index, known: Known) -> None:
    """OUT.gemqueue remembers it from now on."""
    for name, value in known._asdict().items():
        if value or name != "home":  # of a store that no worker has met yet
            index.set(name, str(value))


def way_out(home: str, here: str = "") -> str:
    """What to do about the jobs of a home that the store at hand does not know, as the end of a message."""
    if not home or home == here:
        return ""
    return f". Their jobs are of home {home}: `gemqueue admin reconcile --home {home}` says what they hold"
