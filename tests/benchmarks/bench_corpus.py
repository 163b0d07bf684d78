"""What a big corpus costs: `python tests/benchmarks/bench_corpus.py [MB] [ascii|mixed]`.

Build (from text in memory) against writing the same bytes with nothing else, opening, private memory, slices, searches,
a quote, a regular expression, lines. One line each, on stdout.
"""

from __future__ import annotations

import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rlm_cli import lazy
from rlm_cli.builder import CorpusBuilder
from rlm_cli.corpus import Corpus
from rlm_cli.evidence import Coverage, locate
from rlm_cli.result import Quote

PIECE = {
    "ascii": "2026-11-24 08:{:02d} host{} kernel: connection from port {} closed, nothing else happened\n",
    "mixed": "2026-11-24 08:{:02d} Gerät{} — “Zugang” 日本語 port {} geschlossen, sonst nichts 😀 passiert\n",
}


def timed(name: str, work: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    result = work()
    print(f"{name:36} {time.perf_counter() - started:8.3f} s")
    return result


def private_mb() -> float:
    """Anonymous memory of this process, MB: what the map does not share."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def build(chunk: str, count: int) -> Corpus:
    builder = CorpusBuilder()
    with builder.document("big.log", "text") as document:
        for number in range(count):
            document.write(chunk)
            document.write(f"unique line number {number} of the file\n")
        document.sha256 = "0" * 64  # a reader hashes the source as it reads
    return builder.finish()


def copy(chunk: bytes, count: int) -> None:
    with tempfile.TemporaryFile() as file:
        for _ in range(count):
            file.write(chunk)


def main(megabytes: int, kind: str) -> None:
    chunk = "".join(PIECE[kind].format(n % 60, n, n * 7 % 65536) for n in range(12_000))
    count = megabytes * 1_000_000 // len(chunk.encode())
    print(f"{megabytes} MB {kind}")
    timed("write the same bytes", lambda: copy(chunk.encode(), count))
    before = private_mb()
    corpus = timed("build", lambda: build(chunk, count))
    print(f"{'private memory grew by':36} {private_mb() - before:8.1f} MB")
    fd = os.dup(corpus.fd)
    other = timed("open", lambda: Corpus(fd))
    text = lazy.Text(other, [other.whole])
    rng = random.Random(1)
    laps = []
    for _ in range(500):
        at = rng.randrange(other.chars - 1000)
        started = time.perf_counter()
        other.text(at, at + 1000)
        laps.append(time.perf_counter() - started)
    print(f"{'slice of 1,000 characters, median':36} {sorted(laps)[250] * 1e6:8.0f} us")
    last = f"unique line number {count - 1} of the file"
    timed("find, at the very end", lambda: text.find(last))
    timed("count", lambda: text.count("nothing else"))
    timed("quote, exact", lambda: locate(other, Quote(last), 1))
    timed("quote, tolerant", lambda: locate(other, Quote(last.upper()), 1))
    timed("quote, not there", lambda: locate(other, Quote("Termination without notice is allowed"), 1))
    shown = other.text(other.chars // 2, other.chars // 2 + 100_000)
    timed("coverage of 100,000 characters", lambda: Coverage(other).saw(shown))
    timed("re.findall, few matches", lambda: lazy.re.findall(r"number \d+99 of", text))
    timed("lines", lambda: sum(1 for _ in text.splitlines()))
    print(f"{'private memory grew by':36} {private_mb() - before:8.1f} MB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, sys.argv[2] if len(sys.argv) > 2 else "ascii")
