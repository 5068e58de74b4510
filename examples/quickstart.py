"""Three questions, three answers: the README's program."""

import asyncio

from gemqueue import Queue

MODEL = "gemini-3.8-flash"


async def main() -> None:
    async with Queue.connect(emulate=True) as queue:  # without emulate=True: Gemini's answers, and its bill
        future = await queue.submit("Why is the sky blue?", model=MODEL)  # returns once it is durable
        for outcome in await queue.map(["Why is the sea salty?", "Why do cats purr?"], model=MODEL):
            print(outcome.text if outcome.ok else outcome.failure.message)
        print((await future).text)


asyncio.run(main())
