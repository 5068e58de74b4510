"""Another project's key under the right account name sees none of its files and jobs, and must conclude nothing.

A batch remembers a fingerprint of the key that uploaded its file, and of others that have seen its job. What one of
these does not find is gone; what any other key does not find may belong to another project.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.errors import Rejected
from gemqueue.policy import beliefs

if TYPE_CHECKING:
    from gemqueue.records import Batch
    from gemqueue_workers.stages.loop import Kit


async def check_key(kit: Kit, batch: Batch, call: str) -> None:
    """Something of the batch was not found: raise Rejected(auth) if that may be the key's fault."""
    if not batch.by_key or kit.provider.key_print in {batch.by_key, *batch.seen_by.split()}:
        return
    if await kit.store.server_now_ms() > beliefs.job_end_ms(batch):
        return
    raise Rejected(
        f"{call}: this worker's API key does not see what another key uploaded or created for the account "
        f"{kit.provider.account}: is it a key of another project? Nothing is concluded from it",
        call=call,
        auth=True,
    )
