"""The floor: the least work that the path needs, written apart from gemqueue, as the baseline of every other figure.

    python benchmarks/floor.py --prompts 100000 --rounds 5 [--tasks] [--json FILE]

Segments of prompts go into Redis; a packer writes them to a file, posts it to an echo over real HTTP, reads the keyed
answers and puts them back by segment; the producer decodes them and settles a future for each prompt. There are no
states, no leases, no fences, no accounts, no retries, no compression: whoever dies here loses or buys twice.
``--tasks`` awaits every prompt in a task of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import redis
import redis.asyncio as aioredis
import uvloop
from harness import Process, Report, commands, server_command, traffic_bytes, until_exists
from producer import MODEL, prompts

from gemqueue_adapters.emulator.answers.answers import answerer

SEGMENT = 1000
LINE = b'{"key":"%b","request":{"contents":[{"role":"user","parts":[{"text":%b}]}]}}\n'


class Row(msgspec.Struct):
    """One keyed answer."""

    key: str
    response: msgspec.Raw


# --- the echo: one HTTP request, the answers in its reply; no row is parsed beyond its key ---


async def echo(folder: Path) -> None:
    """Serve POST on a port written to ``echo.port`` until killed."""
    respond = answerer("generate", "echo", MODEL)

    def row(line: bytes) -> bytes:
        end = line.index(b'"', 8)
        return b'{"key":"%b","response":%b}' % (line[8:end], respond(line[end + 12 : -1]))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            reply = b"\n".join(map(row, body.splitlines()))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(reply))
            writer.write(reply)
            await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**20)
    (folder / "echo.tmp").write_text(str(server.sockets[0].getsockname()[1]))
    (folder / "echo.tmp").rename(folder / "echo.port")
    async with server:
        await server.serve_forever()


# --- the packer ---


async def packer(folder: Path, batch: int) -> None:
    """Take references from the stream, make files of ``batch`` prompts, post them, put the answers back by segment."""
    store = aioredis.Redis(unix_socket_path=str(folder / "s"))
    url = f"http://127.0.0.1:{(folder / 'echo.port').read_text()}/"
    decode = msgspec.json.Decoder(Row).decode
    last = "0"
    async with httpx.AsyncClient(timeout=120) as http:
        (folder / "packer.ready").touch()
        while True:
            found: Any = await store.xread({"in": last}, count=batch // SEGMENT, block=1000)
            if not found:
                continue
            entries = found[0][1]
            last = entries[-1][0]
            ids = [fields[b"s"] for _, fields in entries]
            with (folder / "input.jsonl").open("wb") as out:
                for body in await store.mget([b"seg:" + id_ for id_ in ids]):
                    out.write(body)
            reply = await http.post(url, content=(folder / "input.jsonl").read_bytes())
            by_segment: dict[str, list[bytes]] = {}
            for line in reply.content.splitlines():
                by_segment.setdefault(decode(line).key.partition(".")[0], []).append(line)
            async with store.pipeline(transaction=True) as pipe:
                for segment, lines in by_segment.items():
                    pipe.set(f"out:{segment}", b"\n".join(lines))
                    pipe.xadd("replies", {"s": segment})
                    pipe.unlink(f"seg:{segment}")
                await pipe.execute()


# --- the producer ---


async def produce(folder: Path, count: int, size_bytes: int, *, tasks: bool) -> dict[str, Any]:
    """Submit, wait for every answer, report."""
    store = aioredis.Redis(unix_socket_path=str(folder / "s"))
    loop = asyncio.get_running_loop()
    waiting: dict[str, asyncio.Future[bytes]] = {}
    rows = list(prompts(count, size_bytes))
    cpu, started = _cpu_s(), time.monotonic()
    listener = asyncio.create_task(_listen(store, waiting, count))
    encode = msgspec.json.encode
    awaiting: list[asyncio.Task[bytes]] = []
    for start in range(0, count, SEGMENT):
        segment = f"s{start:012d}"
        lines: list[bytes] = []
        for n, text in enumerate(rows[start : start + SEGMENT]):
            key = f"{segment}.{n}"
            waiting[key] = loop.create_future()
            if tasks:
                awaiting.append(asyncio.create_task(_wait(waiting[key])))
            lines.append(LINE % (key.encode(), encode(text)))
        async with store.pipeline(transaction=True) as pipe:
            pipe.set(f"seg:{segment}", b"".join(lines))
            pipe.xadd("in", {"s": segment})
            await pipe.execute()
    await listener
    if tasks:
        await asyncio.gather(*awaiting)
    seconds, used = time.monotonic() - started, _cpu_s() - cpu
    await store.aclose()
    return {"seconds": seconds, "cpu_s": used}


async def _wait(future: asyncio.Future[bytes]) -> bytes:
    return await future


async def _listen(store: Any, waiting: dict[str, asyncio.Future[bytes]], count: int) -> None:
    decode = msgspec.json.Decoder(Row).decode
    last, landed = "0", 0
    while landed < count:
        found: Any = await store.xread({"replies": last}, count=100, block=1000)
        for entry, fields in found[0][1] if found else ():
            last = entry
            name = b"out:" + fields[b"s"]
            for line in (await store.get(name)).split(b"\n"):
                row = decode(line)
                waiting.pop(row.key).set_result(bytes(row.response))
                landed += 1
            await store.unlink(name)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# --- one round ---


def one_round(count: int, size_bytes: int, batch: int, *, tasks: bool) -> dict[str, Any]:
    """Fresh processes, one load."""
    with tempfile.TemporaryDirectory(prefix="gqf") as name:
        folder = Path(name)
        server = Process(server_command(folder), {}, folder / "server.log")
        until_exists(folder / "s")
        me = [sys.executable, __file__, "--folder", name, "--prompts", str(count), "--bytes", str(size_bytes)]
        echoes = Process([*me, "--part", "echo"], {}, folder / "echo.log")
        until_exists(folder / "echo.port")
        packs = Process([*me, "--part", "packer", "--batch", str(batch)], {}, folder / "packer.log")
        until_exists(folder / "packer.ready")
        start_s = packs.cpu_s()
        makes = Process([*me, "--part", "producer", *(["--tasks"] if tasks else [])], {}, folder / "producer.log")
        makes.end(None)
        if makes.exit_code != 0:
            raise RuntimeError((folder / "producer.log").read_text()[-4000:])
        report: dict[str, Any] = json.loads((folder / "report.json").read_text())
        client = redis.Redis(unix_socket_path=str(folder / "s"))
        calls, traffic = sum(commands(client).values()) / count, traffic_bytes(client) / count
        costs = {"producer": makes.end(), "worker": packs.end(), "emulator": echoes.end(), "server": server.end()}
    per_prompt = 1e6 / count
    cpu = {f"{role}_us": cost.cpu_s * per_prompt for role, cost in costs.items()}
    cpu["producer_us"] = report["cpu_s"] * per_prompt
    ours = cpu["producer_us"] + cpu["worker_us"] + cpu["server_us"]
    cpu |= {f"{role}_peak_mb": cost.peak_mb for role, cost in costs.items()}
    speed = {"seconds": report["seconds"], "prompts_per_s": count / report["seconds"]}
    found = speed | cpu | {"ours_us": ours, "worker_start_us": start_s * per_prompt}
    return found | {"commands_per_prompt": calls, "redis_bytes_per_prompt": traffic}


def main() -> int:
    """The command, and the parts that it starts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--bytes", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", action="store_true", help="one task per prompt")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", choices=["echo", "packer", "producer"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        return _part(options)
    load = (options.prompts, options.bytes, options.batch)
    report = Report("floor", options)
    median = report.add("floor", [one_round(*load, tasks=options.tasks) for _ in range(options.rounds)])
    print("the floor: {} prompts of {} B, batches of {}, {} rounds".format(*load, options.rounds))
    print(f"  prompts/s    {median['prompts_per_s']:>10,.0f}")
    for role in ("producer", "worker", "server", "emulator"):
        print(f"  {role + ' us':12} {median[role + '_us']:>10.1f}   peak {median[role + '_peak_mb']:,.0f} MB")
    start = f"of it {median['worker_start_us']:.1f} the worker's start"
    print(f"  ours us      {median['ours_us']:>10.1f}   (producer + worker + server; {start})")
    print(f"  Redis        {median['commands_per_prompt']:>10.4f} commands, {median['redis_bytes_per_prompt']:,.0f} B")
    report.write()
    return 0


def _part(options: argparse.Namespace) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if options.part == "echo":
            runner.run(echo(options.folder))
        elif options.part == "packer":
            runner.run(packer(options.folder, options.batch))
        else:
            report = runner.run(produce(options.folder, options.prompts, options.bytes, tasks=options.tasks))
            (options.folder / "report.json").write_text(json.dumps(report))
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
