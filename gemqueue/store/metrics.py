"""Counters and gauges, read from the store: what a queue has done since it was made, and what stands in it now.

Every transition counts itself inside its script, so a counter is as true as what it counts, whichever process dies.
A reading is a look, not a snapshot: it takes several calls while the queue goes on, so its sums need not agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from gemqueue.policy.beliefs import Belief, evidence_of
from gemqueue.policy.workers import is_stuck, serves
from gemqueue.states import BatchState, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gemqueue.config import Settings
    from gemqueue.policy.tenants import Over, Tenant
    from gemqueue.records import Lane, LaneState, Worker
    from gemqueue.store.store import Store

COUNTERS: Final = {
    "accepted": "Prompts that were acknowledged as durable.",
    "answered": "Prompts that ended in an answer.",
    "failed": "Prompts that ended in a typed failure.",
    "cancelled": "Prompts that somebody cancelled.",
    "cancels_placed": "Prompts cancelled or rescued whose batch, if they were in one, was told.",
    "requeued": "Prompts that went on into a retry, because the provider failed, withheld or garbled their row.",
    "returned": "Prompts that went back to their lane, because their job came to nothing.",
    "sealed": "Batches whose prompts were chosen.",
    "submitted": "Prompts in jobs that were created or adopted.",
    "created": "Jobs that were created and recorded by the same call.",
    "adopted": "Jobs that were found at the provider by their token, after the reply to their create had been lost.",
    "rebuilt": "Batches whose record was lost and was made again from their job's results; adopted counts them, too.",
    "clock_back": "How often the server's clock went back; what was due later came forward by as much.",
    "server_changes": "How often the server was another one than before: started again, or a replica in its place.",
    "reconciled": "How often the provider's jobs were compared with the records after that, and the queue went on.",
    "forgotten": "How often a worker found that the server has forgotten the queue, or is another one: it is held.",
    "rehomed": "How often a person said how to go on after that.",
    "replayed": "Dead letters that were submitted again.",
    "fenced": "Creates in doubt: their input file was deleted, so that they can succeed no more.",
    "inputs_missed": "Jobs that failed because their input file was gone, and in whose place another was created.",
    "slow": "Jobs that took longer than 99 of 100 of their model; an alarm, nothing is done to them for it.",
    "quota_refused": "Creates refused for quota (429), those that were under way together counted once.",
    "spend_refused": "Refusals for lack of money (a spend cap, credits, billing); the account then waits.",
    "unreserved": "Entries of the quota ledger whose batch had no job any more.",
    "closed": "Batches of which every prompt is settled or has moved on.",
    "quarantined": "Rows that belong to nobody, or that cannot be read.",
    "bought_twice": "Prompts that have a job too many, as a create, a list or a comparison showed; must stay 0.",
    "unknown_jobs": "Jobs of ours that no record knows: seen twice, compared with the records, never cancelled.",
    "decided": "Batches of which a person said `gemqueue belief decide`.",
    "events": "Genuine webhook events of batches that were heard, each once.",
    "events_doubled": "Webhook events that had been heard before.",
    "events_early": "Webhook events of jobs that no batch has, or has not yet.",
    "events_stray": "Webhook events of jobs whose intent was given up: they may have been bought twice.",
    "events_refused": "Webhook deliveries that were not believed, by reason.",
    "diverted": "Prompts that went from the batch lane to an interactive one before they were bought.",
    "rescued": "Prompts that were taken out of an open batch for an interactive lane, and may be bought twice for it.",
    "late": "Answers of batches whose prompts had their outcomes already, and that were dropped.",
    "rerouted": "Answers by another model than was asked for, by their own word: they are billed at that one's price.",
    "account_refused": "Steps that were put back because the key was refused, or does not see the account's own.",
    "interactive_in_doubt": "Interactive calls at most that may have been billed though their answers were lost.",
    "lost_prompts": "Prompts that failed because Redis had lost their bodies; failed counts them, too. Must stay 0.",
    "lost_answers": "Answers that were bought and could not be had: the results of a job that succeeded were gone.",
    "bought_again": "Prompts asked again, or failed, because what may have been bought was denied or got no reply.",
    "concluded_by_age": "Batches that went on without results only because nothing can be left of them.",
    "found_after_all": "Jobs that were there although whole listings had lacked them.",
}
"""What each counter counts; a counter that is not listed here is exported all the same."""

REASONS: Final = {
    "events_refused": ("headers", "time", "signature", "keys", "body", "size", "slow"),
}
"""Counters of which each count has a reason: Redis has ``<counter>_<reason>`` beside the sum."""

_GAUGES_AMONG_COUNTS: Final = {
    "live_bytes": "Bytes of live bodies and kept outcomes, held against memory_bytes_max.",
    "dead_bytes": "Bytes of dead letters; live_bytes counts them, too.",
}
_UNREADABLE: Final = "Records that are malformed, and that nothing else here counts: gemqueue status names them."
_BELIEVING: Final = "Batches that wait because of what is being believed of them: gemqueue belief show."


class Gauge(msgspec.Struct, frozen=True):
    """One value that may fall as well as rise, with the labels that tell it from its siblings."""

    name: str
    help: str
    value: float
    labels: dict[str, str] = {}


class Reading(msgspec.Struct, frozen=True):
    """One look: ``counters`` by name, 0 where nothing was counted, and every gauge."""

    counters: dict[str, int]
    gauges: list[Gauge]


async def read(store: Store, account: str = "") -> Reading:
    """Look once; ``account`` says whose steps are counted as overdue, empty for everybody's.

    Raises StoreUnavailable.
    """
    counts = await store.counts()
    lanes = await store.lanes()
    overs = await store.passed_over(lane.lane for lane in lanes)
    accounts = {account} if account else {lane.lane.account for lane in lanes}
    among = [Gauge(name, text, counts.pop(name, 0)) for name, text in _GAUGES_AMONG_COUNTS.items()]
    gauges = [
        *among,
        *_lanes(lanes, overs, await store.server_now_ms()),
        *_tenants(await store.tenants()),
        *await _batches(store),
        *await _turnarounds(store, lanes),
    ]
    gauges += await _places(store, accounts)
    gauges.append(Gauge("unreadable_records", _UNREADABLE, len(store.unreadable.found)))
    by_reason = [f"{name}_{reason}" for name, reasons in REASONS.items() for reason in reasons]
    return Reading(dict.fromkeys((*COUNTERS, *by_reason), 0) | counts, gauges)


def _lanes(lanes: list[LaneState], overs: Mapping[Lane, list[Over]], now_ms: int) -> list[Gauge]:
    found: list[Gauge] = []
    for lane in lanes:
        labels = {"lane": str(lane.lane)}
        passed_over = sum(over.prompts for over in overs.get(lane.lane, ()))
        age_s = max(0, now_ms - lane.oldest) / 1000 if lane.oldest else 0.0
        found += [
            Gauge("pending_prompts", "Prompts that wait to be packed.", lane.prompts + passed_over, labels),
            Gauge("oldest_pending_seconds", "How long the oldest prompt waits to be packed.", age_s, labels),
        ]
    return found


_OF_TENANT: Final = {
    "waiting": "A tenant's prompts that wait to be packed.",
    "in_flight": "A tenant's prompts in batches that are not closed.",
    "accepted": "A tenant's prompts that were acknowledged as durable, since they are counted by tenant.",
    "answered": "A tenant's prompts that ended in an answer, since they are counted by tenant.",
    "failed": "A tenant's prompts that ended in a typed failure, since they are counted by tenant.",
}


def _tenants(tenants: list[Tenant]) -> list[Gauge]:
    """Some counts of each, of as many tenants as may have a label; the others are ``other``."""
    found: list[Gauge] = []
    for one in tenants:
        labels = {"account": one.account, "tenant": one.tenant}
        found += [
            Gauge(f"tenant_{what}_prompts", text, getattr(one, what), labels) for what, text in _OF_TENANT.items()
        ]
        text = "1 while a tenant is passed over, because it is over a limit of its own."
        found.append(Gauge("tenant_over_limit", text, int(bool(one.over)), labels))
    return found


async def _batches(store: Store) -> list[Gauge]:
    states = {str(state): 0 for state in BatchState if state is not BatchState.CLOSED}
    believing = {str(belief): 0 for belief in Belief}
    prompts = held = 0
    for batch in await store.open_records():
        if batch.state in states:
            states[batch.state] += 1
            prompts += batch.prompts
            held += bool(batch.held_reason)
            seen = evidence_of(batch)
            if seen.belief is not None and seen.n:
                believing[seen.belief] += 1
    by_state = [Gauge("open_batches", "Batches that are not closed.", n, {"state": s}) for s, n in states.items()]
    by_belief = [Gauge("believing_batches", _BELIEVING, n, {"what": what}) for what, n in believing.items()]
    return [
        *by_state,
        *by_belief,
        Gauge("batched_prompts", "Prompts in batches that are not closed, with and without an outcome.", prompts),
        Gauge("held_batches", "Batches that wait for a quota, an account or the provider.", held),
    ]


async def _turnarounds(store: Store, lanes: list[LaneState]) -> list[Gauge]:
    named = [lane.lane for lane in lanes]
    found: list[Gauge] = []
    for account, model in sorted({(lane.account, lane.model) for lane in named if not lane.interactive}):
        for prompts, known in (await store.turnarounds(account, model)).items():
            labels = {"account": account, "model": model, "prompts": prompts}
            text = "How long jobs took from their creation to their end, by their number of prompts."
            for share, seconds in ((50, known.p50_s), (90, known.p90_s), (99, known.p99_s)):
                found.append(Gauge("turnaround_seconds", text, round(seconds, 3), labels | {"percentile": str(share)}))
            found.append(Gauge("turnaround_jobs", "How many jobs that stands for.", known.jobs, labels))
    return found


async def _places(store: Store, accounts: set[str]) -> list[Gauge]:
    sizes = await store.sizes(accounts)
    workers = await store.workers()
    served = accounts.union(*(worker.accounts for worker in workers))
    holds = await store.pauses(sorted(served))
    paused = "Whether packing and submitting are held: the server has changed, or has forgotten the queue."
    return [
        *_workers(workers, served, store.settings),
        *_sweeps(workers, await store.server_now_ms()),
        *[Gauge("paused", paused, bool(hold.text), {"account": account}) for account, hold in holds.items()],
        Gauge("overdue_steps", "Steps that are due and that no worker has claimed.", sizes.overdue),
        Gauge("dead_letters", "Prompts kept that ended through no fault of their own.", sizes.dead),
        Gauge("quarantined_rows", "Rows kept that belong to nobody.", sizes.quarantine),
    ]


def _workers(workers: list[Worker], accounts: set[str], settings: Settings) -> list[Gauge]:
    stuck = [worker for worker in workers if is_stuck(worker, settings)]
    working = [worker for worker in workers if worker not in stuck]
    found = [
        Gauge("workers", "Workers whose heartbeat is fresh.", len(workers)),
        Gauge("stuck_workers", "Workers whose heartbeat is fresh, and whose sweeps fail.", len(stuck)),
    ]
    for account in sorted(accounts):
        for role in Step:
            n = sum(serves(worker, account, role) for worker in working)
            text = "Workers that take an account's steps of a role, without those whose sweeps fail."
            found.append(Gauge("serving_workers", text, n, {"account": account, "role": str(role)}))
    return found


def _sweeps(workers: list[Worker], now_ms: int) -> list[Gauge]:
    """One of 0.2.0 does not tell."""
    text = "How long ago a worker swept well, or began where it never has."
    return [
        Gauge(
            "worker_sweep_age_seconds",
            text,
            max(0, now_ms - max(worker.last_good_sweep_at, worker.began_at)) / 1000,
            {"worker": worker.id, "host": worker.host, "version": worker.version},
        )
        for worker in workers
        if worker.beat_at
    ]
