"""Replies on record: lookups and writes a second, and 200 sub-calls answered from the record against the same 200 asked
of a server that answers at once.

    python tests/benchmarks/bench_replies.py

All through `Dispatch`, 16 in flight, prompts of 8,000 characters; each way runs twice, the second run counts.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Awaitable
from multiprocessing.connection import Connection
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from scripted import SENTINEL_KEY, ScriptedServer  # noqa: E402

from rlm_cli.call import Completion, Message  # noqa: E402
from rlm_cli.dispatch import Deadline, Dispatch  # noqa: E402
from rlm_cli.ledger import Ledger, Limits  # noqa: E402
from rlm_cli.models import Model, connect, on_record  # noqa: E402
from rlm_cli.models.replies import FILE, Replies, Request  # noqa: E402

CALLS, IN_FLIGHT, STORED, CHARS = 200, 16, 5_000, 8_000


def serve(channel: Connection) -> None:
    with ScriptedServer(lambda request: "yes") as server:
        channel.send(server.base_url)
        channel.recv()


def messages(n: int) -> tuple[Message, ...]:
    return (Message("user", f"{n} " + "Acme gives thirty days. " * (CHARS // 24)),)


def opened(folder: str) -> Replies:
    return Replies(Path(folder) / FILE, most_bytes=1 << 30, oldest_s=1e6)


async def timed(*work: Awaitable[object]) -> float:
    started = time.perf_counter()
    await asyncio.gather(*work)
    return time.perf_counter() - started


async def store(folder: str) -> None:
    """Writes and lookups alone, one after the other."""
    replies, asked = opened(folder), [Request("here", messages(n), 8_000) for n in range(STORED)]
    started = time.perf_counter()
    for one in asked:
        replies.keep(one, "openai/x", Completion("thirty days " * 50))
    await replies.close()
    print(f"written  {STORED / (time.perf_counter() - started):8,.0f} a second")
    replies, started = opened(folder), time.perf_counter()
    for one in asked[:: STORED // 1_000]:
        assert await replies.recall(one) is not None
    print(f"looked up{1_000 / (time.perf_counter() - started):8,.0f} a second, of {STORED:,}")
    await replies.close()


async def run(model: Model) -> float:
    limits = Limits(max_budget=None, jobs=IN_FLIGHT)
    dispatch = Dispatch(Ledger(limits), Deadline.after(None), lambda event, call: None, retries=0, request_timeout_s=60)
    return await timed(*(dispatch.complete("0.1", model, messages(n), "sub") for n in range(CALLS)))


async def compare(folder: str, base_url: str) -> None:
    environ = {"OPENAI_API_KEY": SENTINEL_KEY, "OPENAI_API_BASE": base_url}
    model = connect("openai/gpt-5.4-mini", models={}, keys={}, environ=environ)
    await run(model)
    fresh = await run(model)
    replies = opened(folder)
    recording = await run(on_record(model, replies))
    await replies.close()
    for _ in range(2):
        replies = opened(folder)
        cached = await run(on_record(model, replies))
        await replies.close()
    print(f"{CALLS} fresh     {fresh:.3f} s")
    print(f"{CALLS} recorded  {recording:.3f} s   {recording / fresh:.2f} × fresh")
    print(f"{CALLS} recalled  {cached:.3f} s   {cached / fresh:.3f} × fresh")
    await model.close()


def main() -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there,))
    server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(store(folder))
            asyncio.run(compare(folder, here.recv()))
    finally:
        here.send(None)
        server.join()


if __name__ == "__main__":
    main()
