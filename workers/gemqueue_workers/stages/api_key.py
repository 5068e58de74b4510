"""Another project's key under the right account name sees none of its files and jobs, and must conclude nothing.

A batch remembers a fingerprint of the key that uploaded its file. What that key, or one that has seen the file, does
not find is gone; what any other key does not find may belong to another project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.errors import Rejected

if TYPE_CHECKING:
    from gemqueue.records import Batch
    from gemqueue_workers.stages.loop import Kit

_LIFE_MS = 50 * 3600 * 1000
"""By then nothing of the batch is left at the provider, whatever key asks (protocol section 10)."""


async def check_key(kit: Kit, batch: Batch, call: str) -> None:
    """Something of the batch was not found: raise Rejected(auth) if that may be the key's fault."""
    if not batch.by_key or batch.by_key == kit.provider.key_print:
        return
    began_at = max(batch.intent_at, batch.accepted_at)
    if await kit.store.server_now_ms() - began_at > _LIFE_MS:
        return
    raise Rejected(
        f"{call}: this worker's API key does not see what another key uploaded or created for the account "
        f"{kit.provider.account}: is it a key of another project? Nothing is concluded from it",
        call=call,
        auth=True,
    )
