"""Workers as the store knows them: a member of ``workers`` that says until when, and a record that says the rest.

Both go by the server's clock. A member is ``<id> <roles>``, as 0.2.0 writes and reads it; its workers have no record.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from gemqueue.policy.workers import worker_of
from gemqueue.records import Sign
from gemqueue.store import calls
from gemqueue.store.base import StoreBase
from gemqueue.store.scripts import translated

if TYPE_CHECKING:
    from gemqueue.records import Worker


class WorkerStore(StoreBase):
    """Heartbeats, and who is alive."""

    async def heartbeat(self, worker: str, roles: str, account: str, sign: Sign | None = None) -> str:
        """What ``beat`` writes: ok, held, or new where the server knows nothing of the account."""
        known = self.known(account)
        said = sign or Sign(accounts=(account,))
        call = calls.Beat(
            account,
            worker,
            roles,
            ttl_ms=int(3000 * self.settings.heartbeat_s),
            accounts=" ".join(said.accounts),
            host=said.host,
            pid=said.pid,
            version=said.version,
            swept_at=said.last_good_sweep_at,
            waiting_for=said.waiting_for,
            known=known.packed(),
        )
        word, home, run_id, forgot, now = await self.scripts.run(call)
        if word != b"new":
            known.met(home.decode(), run_id.decode(), forgot.decode(), int(now) if word == b"ok" else 0)
        return str(word.decode())

    async def goodbye(self, worker: str, roles: str) -> None:
        """This worker has stopped."""
        with translated(self.url):
            pipe: Any = self.redis.pipeline(transaction=False)  # a full Redis refuses to queue even these
            pipe.zrem(self.key("workers"), f"{worker} {roles}")
            pipe.unlink(self.key("worker", worker))  # second: a member without a record would serve every account
            await pipe.execute()

    async def workers(self) -> list[Worker]:
        """The workers whose heartbeat is fresh."""
        after_ms = await self.server_now_ms() + 1
        with translated(self.url):
            members: list[bytes] = await self.redis.zrangebyscore(self.key("workers"), after_ms, "+inf")
            pipe: Any = self.redis.pipeline(transaction=False)
            for member in members:
                pipe.hgetall(self.key("worker", member.decode(errors="replace").partition(" ")[0]))
            records: list[dict[bytes, bytes]] = await self.replies(pipe) if members else []
        read = self.unreadable.read
        found = [
            read(f"worker {member.decode(errors='replace').partition(' ')[0]}", partial(worker_of, member), raw)
            for member, raw in zip(members, records, strict=True)
        ]
        return [worker for worker in found if worker is not None]
