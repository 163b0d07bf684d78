"""What the sandbox costs: `python tests/benchmarks/bench_sandbox.py [MB]`, over a corpus of so many megabytes (1).

Start of the first REPL, a fork for each other one, a cell, a callback, rebuilding, private memory of a child, 200 children
in a run. Times are least and median of several, because machines are noisy; each with its ratio to a bare
`python -c pass` in the same run, because machines differ.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from rlm_cli.builder import CorpusBuilder
from rlm_cli.corpus import Corpus
from rlm_cli.sandbox import Failed, Query, Repl, Sandbox, Span, open_sandbox

LINE = "2026-11-24 08:40 host kernel: a line of a log — as logs are, with a number 4711\n"
CHILDREN, AT_ONCE = 200, 8
CALLBACKS = 500


def sandbox() -> Sandbox:
    return open_sandbox("process", cell_timeout_s=60, repl_memory=1 << 30, context_memory=64 << 20)


def corpus_of(megabytes: int) -> Corpus:
    builder = CorpusBuilder()
    for number in range(CHILDREN):
        with builder.document(f"{number}.log", "text") as document:
            document.write(LINE * (megabytes * 1_000_000 // CHILDREN // len(LINE.encode()) + 1))
    return builder.finish()


async def ask(query: Query) -> Sequence[str | Failed]:
    return ["ok"] * len(query.prompts)


class Report:
    """One line a measurement."""

    def __init__(self) -> None:
        bare = []
        for _ in range(15):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", "pass"], check=True)
            bare.append(time.perf_counter() - began)
        self._least, self._median = min(bare), statistics.median(bare)
        self.times("python -c pass", bare)

    def times(self, name: str, seconds: list[float], share: int = 1) -> None:
        """`share`: how many of what is named were done in each."""
        least, median = min(seconds) / share, statistics.median(seconds) / share
        ratios = f"{least / self._least:7.3f} x {median / self._median:7.3f} x"
        print(f"{name:<46} {least * 1e3:9.3f} ms {median * 1e3:9.3f} ms   {ratios}")


async def timed(times: int, work: Callable[[], Awaitable[object]]) -> list[float]:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await work()
        took.append(time.perf_counter() - began)
    return took


def private_kb() -> list[int]:
    """Memory of every guest of this process that it shares with nobody, the process they are forked from last. Needs
    root: a guest may not be looked into."""
    sizes = []
    for process in Path("/proc").iterdir():
        try:
            if b"guest.py" in (process / "cmdline").read_bytes():
                rollup = (process / "smaps_rollup").read_text()
                private = sum(map(int, re.findall(r"Private_\w+:\s+(\d+)", rollup)))
                sizes.append((bool((process / f"task/{process.name}/children").read_text()), private))
        except OSError:
            continue
    return [size for _, size in sorted(sizes)]


async def one_cell(repl: Repl, code: str) -> None:
    output = await repl.execute(code)
    assert output.error is None, output


async def main(megabytes: int) -> None:
    corpus, report = corpus_of(megabytes), Report()
    print(f"over {megabytes} MB, {'as text' if corpus.chars * corpus.char_width <= 64 << 20 else 'lazy'}:")

    async def first() -> None:
        place = sandbox()
        began.append(time.perf_counter())
        await place.open(corpus, None, ask)
        ready.append(time.perf_counter())
        await place.close()

    began, ready = list[float](), list[float]()
    await timed(8, first)
    report.times("first REPL ready", [b - a for a, b in zip(began, ready, strict=True)])

    place = sandbox()
    repl = await place.open(corpus, None, ask)
    report.times("another one, forked", await timed(40, lambda: place.open(corpus, None, ask)))
    slices = [Span(document.start, document.stop) for document in corpus.documents]
    report.times("another one, over a slice", await timed(40, lambda: place.open(corpus, slices[:1], ask)))
    memory = private_kb()
    if memory:
        print(f"{'private memory of a child, median':<46} {statistics.median(memory[:-1]) / 1024:9.1f} MB")
    report.times("a cell", await timed(200, lambda: one_cell(repl, "1")))
    loop = f"for _ in range({CALLBACKS}): llm_query('a prompt')"
    report.times("a callback", await timed(5, lambda: one_cell(repl, loop)), CALLBACKS)
    batch = "llm_query_batched(['a prompt of some words'] * 10_000) and None"
    report.times("10,000 prompts in one batch", await timed(5, lambda: one_cell(repl, batch)))

    crashing = await place.open(corpus, None, ask)
    for number in range(10):
        await one_cell(crashing, f"kept_{number} = llm_query('{number}')")
    crash = "import ctypes\nctypes.string_at(0)"
    report.times("a crash, 10 cells run again", await timed(8, lambda: crashing.execute(crash)))

    gate = asyncio.Semaphore(AT_ONCE)

    async def child(number: int) -> None:
        async with gate:
            opened = await place.open(corpus, [slices[number]], ask)
            await one_cell(opened, "rows = [line for line in context.splitlines() if '4711' in line]\nlen(rows)")
            await opened.close()

    async def all_children() -> None:
        await asyncio.gather(*(child(number) for number in range(CHILDREN)))

    report.times(f"{CHILDREN} children, {AT_ONCE} at once: each", await timed(3, all_children), CHILDREN)
    report.times("closing what is left", await timed(1, place.close))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
