"""Both ways to a model, measured against what they are made of, in the same run.

    python tests/benchmarks/bench_models.py throughput    lean against a bare httpx loop and the floor; litellm against
                                                          bare `acompletion`; connections opened
    python tests/benchmarks/bench_models.py start         `rlm ask` over a small folder, in multiples of bare Python
    python tests/benchmarks/bench_models.py large         64 prompts of 400 KB in flight: memory, and how long the loop
                                                          was held up
    python tests/benchmarks/bench_models.py cancel        Ctrl-C with 64 in flight: until connections and process are gone

All ways take turns, and of each the best of several runs counts (the first pays for connections and lazy imports; other
work on the machine disturbs some). The server is a process of its own, and does next to nothing: in this one it would
take the interpreter from what is measured. A line that ends in "kept" or "NOT KEPT" has what was measured and what it
may be.
"""

from __future__ import annotations

import asyncio
import gc
import math
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from rlm_cli.__main__ import GARBAGE  # noqa: E402
from rlm_cli.call import Message  # noqa: E402
from rlm_cli.dispatch import Deadline, Dispatch  # noqa: E402
from rlm_cli.ledger import Ledger, Limits  # noqa: E402
from rlm_cli.models import Model, connect, on_record  # noqa: E402
from rlm_cli.models.replies import FILE, Replies  # noqa: E402

MODEL = "openai/gpt-5.4-mini"
KEY = "sk-benchmark"
RLM = Path(sys.executable).with_name("rlm")
BODY = (
    b'{"id":"1","object":"chat.completion","created":1,"model":"x","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"yes"}}],"usage":{"prompt_tokens":%d,"completion_tokens":1}}'
)
"""Its prompt's tokens are told as they would be: one that says fewer is taken for a server that cut the prompt."""
ROUNDS = 3
WORDS = "Acme gives thirty days of notice. " * 30
BATCH = "```repl\\nFINAL(len(llm_query_batched([str(i) for i in range(64)])))\\n```"


class Answering(asyncio.Protocol):
    """One connection: the same reply, `delay` seconds after a request; with a system message, a block of code."""

    delay = 0.0
    opened = 0
    in_flight = 0
    closed_at: float = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.received = transport, bytearray()
        self.waiting = False
        Answering.opened += 1

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, blank, body = bytes(self.received[:4_000]).partition(b"\r\n\r\n")
        if not blank:
            return
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        if len(self.received) < len(head) + 4 + length:
            return
        root = b'"role": "system"' in body[:400] or b'"role":"system"' in body[:400]
        self.received.clear()
        Answering.in_flight += 1
        self.waiting = True
        asyncio.get_running_loop().call_later(0.0 if root else Answering.delay, self.answer, root, length)

    def answer(self, root: bool, length: int) -> None:
        if not self.waiting:
            return
        self.waiting = False
        Answering.in_flight -= 1
        body = BODY % (length // 3)
        if root:
            body = body.replace(b'"yes"', b'"%s"' % BATCH.encode())
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.transport.write(head + body)

    def connection_lost(self, error: Exception | None) -> None:
        if self.waiting:
            self.waiting = False
            Answering.in_flight -= 1
            Answering.closed_at = time.time()


def serve(channel: Connection) -> None:
    """Answer on loopback; the channel carries delays in, and figures out."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Answering, "127.0.0.1", 0, backlog=256)
        channel.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        while (order := await asyncio.to_thread(channel.recv)) is not None:
            if isinstance(order, float):
                Answering.delay, Answering.opened = order, 0
            else:
                channel.send((Answering.opened, Answering.in_flight, Answering.closed_at))

    asyncio.run(main())


class Server:
    """The server's process, from here."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._channel, there = context.Pipe()
        self._process = context.Process(target=serve, args=(there,), daemon=True)
        self._process.start()
        self.url: str = self._channel.recv()
        self.env = {"OPENAI_API_KEY": KEY, "OPENAI_API_BASE": self.url}

    def slow(self, delay_s: float) -> None:
        self._channel.send(delay_s)

    def figures(self) -> tuple[int, int, float]:
        """Connections opened since `slow`, requests in flight, when a connection with one was last closed."""
        self._channel.send("figures")
        opened, in_flight, closed_at = self._channel.recv()
        return opened, in_flight, closed_at

    def stop(self) -> None:
        self._channel.send(None)
        self._process.join(5)


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.stop()


# ── throughput ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def timed(ask: Callable[[int], Awaitable[object]], calls: int, in_flight: int) -> float:
    slots = asyncio.Semaphore(in_flight)

    async def one(n: int) -> None:
        async with slots:
            await ask(n)

    started = time.perf_counter()
    await asyncio.gather(*(one(n) for n in range(calls)))
    return time.perf_counter() - started


@dataclass
class Way:
    """One way to have a request answered, and its best run so far: seconds, and milliseconds of computing a call."""

    name: str
    ask: Callable[[int], Awaitable[object]]
    took: float = math.inf
    computing: float = math.inf
    opened: int = 0

    async def run(self, server: Server, delay: float, calls: int, in_flight: int) -> None:
        server.slow(delay)
        before = time.process_time()
        took = await timed(self.ask, calls, in_flight)
        self.computing = min(self.computing, (time.process_time() - before) / calls * 1e3)
        self.opened = server.figures()[0]
        self.took = min(self.took, took)


def verdict(what: str, figure: float, bar: float, unit: str = "×") -> None:
    """A line: what was measured, how much it was, how much it may be, and whether it is."""
    print(f"  {what:<48} {figure:7.3f} {unit}  at most {bar:g}  {'kept' if figure <= bar else 'NOT KEPT'}")


def load() -> str:
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


async def nothing(n: int) -> object:
    return None


def dispatching(in_flight: int) -> Dispatch:
    """What a run sends its requests with."""
    limits = Limits(max_budget=None, jobs=in_flight)
    return Dispatch(Ledger(limits), Deadline.after(None), lambda event, call: None, retries=0, request_timeout_s=60)


async def throughput(server: Server) -> None:
    import httpx

    from rlm_cli.models.litellm import start_import

    messages = [Message("user", "hi")]
    sent = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
    lean = connect(MODEL, models={}, keys={}, environ=server.env)
    general = connect(MODEL, models={}, keys={}, environ=server.env, transport="litellm")
    client = httpx.AsyncClient(
        timeout=None, limits=httpx.Limits(max_connections=None, max_keepalive_connections=None), trust_env=False
    )
    litellm = await asyncio.wrap_future(start_import())
    gc.set_threshold(GARBAGE)
    gc.freeze()  # no way pays for looking at another's library again and again

    async def by_httpx(n: int) -> object:
        reply = await client.post(f"{server.url}/chat/completions", json=sent, headers={"Authorization": KEY})
        return reply.json()

    async def bare(n: int) -> object:
        return await litellm.acompletion(
            model=MODEL,
            messages=sent["messages"],
            max_tokens=9,
            num_retries=0,
            max_retries=0,
            api_key=KEY,
            api_base=server.url,
        )

    def by(model: Model) -> Callable[[int], Awaitable[object]]:
        return lambda n: model.complete(messages, max_output_tokens=9, sub=True)

    def as_sub_call(model: Model, in_flight: int, first: int) -> Callable[[int], Awaitable[object]]:
        dispatch = dispatching(in_flight)
        return lambda n: dispatch.complete(f"0.{n}", model, [Message("user", f"{first + n} {WORDS}")], "sub")

    with tempfile.TemporaryDirectory() as folder:
        for calls, delay, in_flight, most in ((200, 0.2, 16, 1.06), (2_000, 0.05, 64, 1.15)):
            floor = math.ceil(calls / in_flight) * delay
            print(f"{calls} calls of {delay * 1e3:.0f} ms, {in_flight} in flight: floor {floor:.2f} s, {load()}")
            ways = [Way("lean", by(lean)), Way("bare httpx", by_httpx)]
            ways += [Way("lean sub-calls", as_sub_call(lean, in_flight, 0)), Way("lean sub-calls, recorded", nothing)]
            if calls == 200:
                ways += [Way("litellm", by(general)), Way("bare acompletion", bare)]
            for number in range(ROUNDS):
                for way in ways:
                    replies = Replies(Path(folder) / FILE, most_bytes=1 << 30, oldest_s=1e6)
                    if way.name.endswith("recorded"):
                        way.ask = as_sub_call(on_record(lean, replies), in_flight, number * calls + 10 * calls)
                    if way.name == "bare httpx" and number and calls > 200:
                        continue  # 20 s, and far from a tie
                    await way.run(server, delay, calls, in_flight)
                    await replies.close()
            for way in ways:
                told = f"{way.took:5.2f} s  {way.computing:.2f} ms of computing a call, {way.opened} connections"
                print(f"  {way.name:<26} {told}")
            took = {way.name: way.took for way in ways}
            for name in ("lean", "lean sub-calls", "lean sub-calls, recorded"):
                verdict(f"{name} against the floor", took[name] / floor, most)
            verdict("lean against bare httpx", took["lean"] / took["bare httpx"], 1.0)
            if "litellm" in took:
                verdict("litellm against bare acompletion", took["litellm"] / took["bare acompletion"], 1.05)
    await lean.close()
    await general.close()
    await client.aclose()


# ── the start ───────────────────────────────────────────────────────────────────────────────────────────────────────


def start(server: Server) -> None:
    """Least wall time and least computing of several runs: on a busy machine the second says more."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "docs").mkdir()
        for number in range(10):
            (home / "docs" / f"{number}.txt").write_text("some text of a document\n" * 50)
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "RLM_NO_CONFIG": "1"} | server.env
        docs = str(home / "docs")
        bare = least([sys.executable, "-c", "pass"], env, 20)
        print(f"{'python -c pass':<20} {bare[0] * 1e3:6.0f} ms  {bare[1] * 1e3:6.0f} ms of CPU")
        for name, words in (("rlm ask", []), ("rlm ask --mode rlm", ["--mode", "rlm"])):
            command = [str(RLM), "ask", *words, "-m", "openai/gpt-5.4-mini", "Q?", docs]
            took = least(command, env, 8)
            ratios = f"{took[0] / bare[0]:.1f} × ({took[1] / bare[1]:.1f} × of CPU), at most 25 ×"
            print(f"{name:<20} {took[0] * 1e3:6.0f} ms  {took[1] * 1e3:6.0f} ms of CPU  {ratios}")


def least(command: list[str], env: dict[str, str], times: int) -> tuple[float, float]:
    found, computing = [], []
    for _ in range(times):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        subprocess.run(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        found.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        computing.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found), min(computing)


# ── large prompts ───────────────────────────────────────────────────────────────────────────────────────────────────


async def large(server: Server) -> None:
    """Through the dispatch of a run, with its ledger and its events, as sub-calls go."""
    server.slow(1.0)
    gc.set_threshold(GARBAGE)
    model = connect(MODEL, models={}, keys={}, environ=server.env)
    await model.ready()
    dispatch = dispatching(64)
    text = "a line of a log, as logs are, with some words — and a number 4711\n" * 6_000
    prompts = [f"{number} {text}"[:400_000] for number in range(64)]
    size = sum(len(prompt.encode()) for prompt in prompts)
    lags: list[float] = []
    probing = asyncio.ensure_future(probe(lags))
    await asyncio.sleep(0.1)
    before, peak, stop = resident(), [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.002):
            peak[0] = max(peak[0], resident())

    watching = threading.Thread(target=watch)
    watching.start()
    async with asyncio.TaskGroup() as group:
        for n, prompt in enumerate(prompts):
            group.create_task(dispatch.complete(f"0.{n}", model, [Message("user", prompt)], "sub"))
            await asyncio.sleep(0)  # as a run does
    stop.set()
    watching.join()
    probing.cancel()
    await model.close()
    print(f"64 prompts, {size / 1e6:.1f} MB, {load()}")
    verdict("memory against their bytes", (peak[0] - before) / size, 3.0)
    verdict("the loop held up by computing, at most", max(lags) * 1e3, 50.0, "ms")


async def probe(lags: list[float]) -> None:
    """How much this thread computes between two turns of the loop: other processes are not counted."""
    while True:
        before = time.thread_time()
        await asyncio.sleep(0.001)
        lags.append(time.thread_time() - before)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# ── Ctrl-C ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def cancel(server: Server) -> None:
    server.slow(60.0)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "a.txt").write_text("some text of a document\n" * 50)
        env = {"PATH": os.environ["PATH"], "HOME": folder, "RLM_NO_CONFIG": "1"} | server.env
        for way in ("lean", "litellm"):
            command = [str(RLM), "ask", "--mode", "rlm", "-j", "64", "-b", "none", "-m", MODEL, "Q?", f"{folder}/a.txt"]
            running = subprocess.Popen(
                command, env=env | {"RLM_TRANSPORT": way}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            while server.figures()[1] < 64:
                time.sleep(0.02)
            began = time.time()
            running.send_signal(signal.SIGINT)
            _, told = running.communicate()
            gone = time.time() - began
            while server.figures()[1]:
                time.sleep(0.01)
            closed = server.figures()[2] - began
            print(f"{way:<8} all closed after {closed:.2f} s (at most 0.5), gone after {gone:.2f} s (at most 1)")
            print(f"         {running.returncode}: {told.strip().splitlines()[-1]}")


def main() -> None:
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what not in ("throughput", "start", "large", "cancel"):
        raise SystemExit(__doc__)
    with serving() as server:
        match what:
            case "throughput":
                asyncio.run(throughput(server))
            case "start":
                start(server)
            case "large":
                asyncio.run(large(server))
            case "cancel":
                cancel(server)


if __name__ == "__main__":
    main()
