"""Tenants' side of the store: what each may have, and how many prompts of each are where."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from gemqueue.policy.tenants import OTHERS, Over, Rule, Tenant, bounded, over_of
from gemqueue.records import Lane
from gemqueue.store import calls
from gemqueue.store.base import StoreBase
from gemqueue.store.scripts import translated

if TYPE_CHECKING:
    from collections.abc import Iterable

_READ_AT_ONCE = 500
_RULE = ("weight", "jobs_max", "per_min_max", "keep_outcome_s")


class TenantStore(StoreBase):
    """See the module's text."""

    async def limit(
        self,
        account: str,
        tenant: str,
        *,
        weight: int | None = None,
        jobs_max: int | None = None,
        per_min_max: int | None = None,
        keep_outcome_s: int | None = None,
    ) -> Rule:
        """Set what a tenant may have; None leaves as it is, 0 takes away. Who was passed over is looked at again."""
        values = ["" if value is None else str(value) for value in (weight, jobs_max, per_min_max, keep_outcome_s)]
        reply = await self.scripts.run(calls.Limit(account, tenant, *values))
        return Rule(**{field: int(value) for field, value in zip(_RULE, reply[1:], strict=True)})

    async def passed_over(self, lanes: Iterable[Lane]) -> dict[Lane, list[Over]]:
        """Who is passed over in which of the lanes, the longest first, with the prompts that wait for it."""
        asked = list(lanes)
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)
            for lane in asked:
                pipe.hgetall(self.key("over", str(lane)))
            found: list[dict[bytes, bytes]] = await pipe.execute() if asked else []
            held = [(lane, overs) for lane, overs in zip(asked, found, strict=True) if overs]
            for lane, overs in held:
                pipe.hmget(self.key("sums", str(lane)), list(overs))
            sums: list[list[bytes | None]] = await pipe.execute() if held else []
        result: dict[Lane, list[Over]] = {}
        for (lane, overs), values in zip(held, sums, strict=True):
            waiting = [
                over_of(name.decode(errors="replace"), record.decode(errors="replace"), _prompts(value))
                for (name, record), value in zip(overs.items(), values, strict=True)
            ]
            result[lane] = sorted(waiting, key=lambda one: (one.since_ms, one.tenant))
        return result

    async def tenants(self, account: str = "") -> list[Tenant]:
        """The tenants of an account or pool, or of all that have lanes, by name; at most so many that labels allow."""
        with translated(self.url):
            names = sorted(name.decode(errors="replace") for name in await self.redis.smembers(self.key("lanes")))
        lanes = [lane for name in names if (lane := Lane.named(name)) is not None]
        accounts = [account] if account else sorted({lane.account for lane in lanes})
        return [one for each in accounts for one in await self._tenants_of(each, lanes)]

    async def _tenants_of(self, account: str, lanes: list[Lane]) -> list[Tenant]:
        own = [lane for lane in lanes if lane.account == account]
        counts, known = await self._tallies(account)
        for name, prompts in (await self._waiting(own)).items():
            counts[name]["waiting"] += prompts
        for name, prompts, jobs in await self._in_flight(account):
            counts[name]["in_flight"] += prompts
            counts[name]["jobs"] += jobs
        rules = await self._rules(account)
        overs: defaultdict[str, list[Over]] = defaultdict(list)
        for found in (await self.passed_over(own)).values():
            for over in found:
                overs[over.tenant].append(over)
        tenants = {
            name: Tenant(
                account=account, tenant=name, rule=rules.get(name, Rule()), over=tuple(overs[name]), **counts[name]
            )
            for name in {*counts, *rules}
        }
        return bounded(tenants, known, account)

    async def _rules(self, account: str) -> dict[str, Rule]:
        with translated(self.url):
            names = [name.decode(errors="replace") for name in await self.redis.smembers(self.key("tenant", account))]
            pipe: Any = self.redis.pipeline(transaction=False)
            for name in names:
                pipe.hmget(self.key("tenant", account, name), _RULE)
            rows: list[list[bytes | None]] = await pipe.execute() if names else []
        return {
            name: Rule(**{field: int(value or 0) for field, value in zip(_RULE, row, strict=True)})
            for name, row in zip(names, rows, strict=True)
        }

    async def _tallies(self, account: str) -> tuple[defaultdict[str, defaultdict[str, int]], set[str]]:
        with translated(self.url):
            raw: dict[bytes, bytes] = await self.redis.hgetall(self.key("tally", account))
        counts: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        for field, value in raw.items():
            name, _, what = field.decode(errors="replace").partition(" ")
            counts[name][what] = _number(value)
        return counts, {name for name in counts if name != OTHERS}

    async def _waiting(self, lanes: list[Lane]) -> dict[str, int]:
        """Prompts that wait to be packed, by tenant."""
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)
            for lane in lanes:
                pipe.hgetall(self.key("sums", str(lane)))
                pipe.zrange(self.key("tenants", str(lane)), 0, -1)
                pipe.hkeys(self.key("over", str(lane)))
            rows: list[Any] = await self.replies(pipe) if lanes else []
        found: defaultdict[str, int] = defaultdict(int)
        for row in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
            if any(isinstance(reply, Exception) for reply in row):
                continue
            sums, pending, over = row
            there = {*pending, *over}  # workers of 0.2.0 pack, and leave the sums as they were
            for name, sizes in sums.items():
                found[name.decode(errors="replace")] += _prompts(sizes) if name in there else 0
        return found

    async def _in_flight(self, account: str) -> list[tuple[str, int, int]]:
        """Tenant, prompts and batches: what is in the open batches of an account, or that came from a pool."""
        found: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        with translated(self.url):
            ids: list[bytes] = await self.redis.zrange(self.key("batches"), 0, -1)
            for start in range(0, len(ids), _READ_AT_ONCE):
                pipe: Any = self.redis.pipeline(transaction=False)
                for id_ in ids[start : start + _READ_AT_ONCE]:
                    pipe.hmget(self.key("batch", id_.decode(errors="replace")), "lane", "pool")
                    pipe.hgetall(self.key("shares", id_.decode(errors="replace")))
                rows = await self.replies(pipe)
                for record, shares in zip(rows[::2], rows[1::2], strict=True):
                    if isinstance(record, Exception) or isinstance(shares, Exception):
                        continue  # of another type: whoever reads the batch names it
                    lane, pool = record
                    if (pool or (lane or b"").partition(b"/")[0]).decode(errors="replace") != account:
                        continue
                    for name, prompts in shares.items():
                        if _number(prompts) > 0:
                            found[name.decode(errors="replace")][0] += _number(prompts)
                            found[name.decode(errors="replace")][1] += 1
        return [(name, prompts, jobs) for name, (prompts, jobs) in found.items()]


def _prompts(sums: bytes | None) -> int:
    return _number((sums or b"0").partition(b" ")[0])


def _number(value: bytes) -> int:
    """A number as it stands in Redis, 0 for anything else."""
    return int(value) if value.removeprefix(b"-").isdigit() else 0
