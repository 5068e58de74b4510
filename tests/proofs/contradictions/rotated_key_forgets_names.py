"""A rotated API key, or a changed ``account``: does "a name is bought once" end with the key?

Without ``account`` (the default) the account is the key's fingerprint, and names are kept by account.
"""

from __future__ import annotations

from gemqueue.accounts import account_id
from gemqueue.config import Settings
from gemqueue.ids import new_segment_id
from gemqueue.records import Lane
from gemqueue.states import Kind
from gemqueue.store.producer import SegmentWrite
from gemqueue.store.store import Store
from tests.proofs.contradictions.common import MODEL, Verdict, embedded_url
from tests.worlds.bench import body


async def main(_how: str) -> Verdict:
    """The same name under the old key and the new one."""
    warnings: list[str] = []
    async with embedded_url() as url:
        store = Store(url, Settings())
        for key in ("AIza-old-key", "AIza-new-key-of-the-same-project"):
            account = account_id(Settings(), key)
            segment = SegmentWrite(
                id=new_segment_id(),
                lane=str(Lane(account, MODEL, Kind.GENERATE)),
                producer="00p",
                count=1,
                raw_bytes=10,
                tokens=1,
                names=[(0, "doc-42", "d" * 32)],
            )
            print(account, (await store.enqueue(segment, body(1))).word, "for the name doc-42")
            warnings.append(await store.key_warning(account))
            print(" ", warnings[-1])
        await store.aclose()
    warned = "is warned of" if all(warnings) else "is not warned of"
    return Verdict(f"named prompts on an account that is made of a key: {warned}", all(warnings))
