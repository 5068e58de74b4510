"""pydantic-ai: the batch methods of its models, submitted now and collected later by a handle in a file."""

import asyncio

from choice import MODEL, POLL_S, STATE, rows, write
from pydantic import TypeAdapter
from pydantic_ai import ModelRequest
from pydantic_ai.models.batch import Batch, BatchRequest
from pydantic_ai.models.google import GoogleModel

HANDLE = TypeAdapter(Batch)


async def submitted(model, requests):
    """The batch: the one whose handle is there, else a new one, its handle written as soon as there is one."""
    if STATE.exists():
        return HANDLE.validate_json(STATE.read_bytes())
    batch = await model.batch_create([await model.batch_encode(request) for request in requests])
    STATE.write_bytes(HANDLE.dump_json(batch))
    return batch


async def main():
    """Submit what is not submitted yet, wait for it, and write the answers."""
    model = GoogleModel(MODEL)
    requests = {
        row["key"]: BatchRequest(custom_id=row["key"], messages=[ModelRequest.user_text_prompt(row["prompt"])])
        for row in rows()
    }
    async with model:
        batch = await submitted(model, requests.values())
        while batch.status != "ended":
            await asyncio.sleep(POLL_S)
            batch = await model.batch_status(batch)
        results = {result.custom_id: result for result in await model.batch_results(batch)}
    write((key, model.batch_decode(results[key], requests[key]).text) for key in requests if key in results)


if __name__ == "__main__":
    asyncio.run(main())
