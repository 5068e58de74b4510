"""A file that the service never gets through with: is it left there, and uploaded again, and again?

Each try would leave a whole input file at the provider for 48 hours: up to 1 GB each, of the 20 GB that a project may
store; then every upload of the project is refused. Here a processing time without end, and a short limit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gemqueue.errors import ProviderError
from gemqueue_adapters.gemini import GeminiProvider
from tests.proofs.contradictions.common import Verdict, ask, at_emulator

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

LINE = b'{"key":"a.0","request":{"contents":[{"parts":[{"text":"' + b"x" * 300_000 + b'"}]}]}}\n'


async def one_chunk() -> AsyncGenerator[bytes]:
    """The whole file."""
    yield LINE


async def main(_how: str) -> Verdict:
    """Five tries, and what lies at the provider after each."""
    with at_emulator(job_s=1, storage_max_bytes=1_000_000) as emulator:
        emulator.faults([{"on": "upload", "do": "processing", "seconds": 1e6}])
        provider = GeminiProvider(
            api_key="k",
            account="a",
            base_url=emulator.url,
            emulate=True,
            poll_file_s=0.01,
            processing_timeout_s=0.1,
        )
        most = 0
        for n in range(5):
            try:
                await provider.upload(one_chunk(), size_bytes=len(LINE), name="gq-file")
            except ProviderError as error:
                print("try", n + 1, type(error).__name__, str(error)[:110])
            files = ask(emulator, "/v1beta/files?pageSize=100", "k").get("files", [])
            print("   files at the provider:", len(files), sum(int(file["sizeBytes"]) for file in files), "bytes")
            most = max(most, len(files))
        await provider.aclose()
        return Verdict(f"files that nobody can use, left at the provider after 5 tries: {most}", most == 0)
