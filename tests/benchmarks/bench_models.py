"""Sub-calls through litellm: 200 of 0.2 s, 16 in flight, against bare `acompletion` and the floor of 13 waves (2.6 s).

    python tests/benchmarks/bench_models.py

Each way runs twice, the second run counts (the first pays for connections and lazy imports). The server is a process of
its own: in this one it would take the interpreter from what is measured.
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import sys
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from scripted import SENTINEL_KEY, Reply, ScriptedServer  # noqa: E402

from rlm_cli.call import Message  # noqa: E402
from rlm_cli.models import connect  # noqa: E402
from rlm_cli.models.litellm import start_import  # noqa: E402

CALLS, IN_FLIGHT, DELAY_S = 200, 16, 0.2
FLOOR_S = math.ceil(CALLS / IN_FLIGHT) * DELAY_S
MODEL = "openai/gpt-5.4-mini"


def serve(channel: Connection) -> None:
    with ScriptedServer(lambda request: Reply("yes", delay_s=DELAY_S)) as server:
        channel.send(server.base_url)
        channel.recv()


async def timed(ask: Callable[[], Awaitable[object]]) -> float:
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def one() -> None:
        async with slots:
            await ask()

    started = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(CALLS)))
    return time.perf_counter() - started


async def compare(base_url: str) -> None:
    environ = {"OPENAI_API_KEY": SENTINEL_KEY, "OPENAI_API_BASE": base_url}
    model = connect(MODEL, models={}, keys={}, environ=environ)
    started = time.perf_counter()
    litellm = await asyncio.wrap_future(start_import())
    print(f"import litellm      {time.perf_counter() - started:.2f} s")
    messages = [Message("user", "hi")]

    async def ours() -> object:
        return await model.complete(messages, max_output_tokens=9, sub=True)

    async def bare() -> object:
        sent = [{"role": "user", "content": "hi"}]
        where = {"api_key": SENTINEL_KEY, "api_base": base_url}
        return await litellm.acompletion(
            model=MODEL, messages=sent, max_tokens=9, num_retries=0, max_retries=0, **where
        )

    print(f"floor               {FLOOR_S:.2f} s")
    for name, ask in (("bare acompletion", bare), ("LitellmModel", ours)):
        await timed(ask)
        took = await timed(ask)
        print(f"{name:<19} {took:.2f} s   {took / FLOOR_S:.2f} × the floor")
    await model.close()


def main() -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=serve, args=(there,))
    server.start()
    asyncio.run(compare(here.recv()))
    here.send("stop")
    server.join()


if __name__ == "__main__":
    main()
