"""What a big corpus costs: `python tests/benchmarks/bench_corpus.py [MB] [mixed|ascii] [plain]`.

Made on the spot in a temporary folder, with its index, as the host does it. Then a real REPL over it, and one line for
each thing code does with `context`: its time there, the same in `grep` or in Python on a plain `str` of the same text
(with `plain`: it takes 4 bytes a character), and the private memory of the child afterwards.

The bars: ready within 2.5 × `cat blob >/dev/null` of the same run; private memory below 64 MB after everything.
Exit code 1 where one is missed.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from rlm_cli.builder import CorpusBuilder
from rlm_cli.corpus import Corpus
from rlm_cli.evidence import Coverage, locate
from rlm_cli.result import Quote
from rlm_cli.sandbox import Repl, open_sandbox

READY, PRIVATE_MB = 2.5, 64
LINE = "2026-11-24 08:{:02d} host{} kernel: connection from port {} closed, nothing else happened\n"
MIXED = {
    7: "2026-11-24 08:{:02d} Gerät{} – „Zugang“ über Port {} schließt, sonst größtenteils nichts geändert\n",
    11: "2026-11-24 08:{:02d} 装置{} 日本語の記録、ポート {} が閉じられました。ほかに何も起こりませんでした\n",
    97: "2026-11-24 08:{:02d} host{} port {} done 😀 and nothing else happened\n",
}
"""Every so many lines one of these, the rest ASCII."""
ERROR = "2026-11-24 08:{:02d} host{} ERROR {} disk failed\n"

# What it is; code in the REPL, and on a plain `str`; a command on the file $BLOB that does about the same.
OPERATIONS = [
    ("len(context)", "len(context)", ""),
    ("slice of 1,000, 1,000 times", "import random\nfor _ in range(1000):\n    i = random.randrange(len(context))\n    context[i : i + 1000]", ""),
    ("slices of 1,000, all of 100 MB", "for i in range(0, 100_000_000, 1000):\n    context[i : i + 1000]", ""),
    ("context[i], a million", "for i in range(1_000_000):\n    context[i]", ""),
    ("context[-1:-1000:-3]", "context[-1:-1000:-3]", ""),
    ("needle in context (not there)", "'no such needle' in context", "LC_ALL=C grep -acF 'no such needle' $BLOB"),
    ("'日本' * 3 in context (not there)", "'日本日本日本' in context", "LC_ALL=C grep -acF '日本日本日本' $BLOB"),
    ("context.find(last line)", "context.find('the very last line')", "LC_ALL=C grep -acF 'the very last line' $BLOB"),
    ("context.rfind(first line)", "context.rfind('the very first line')", ""),
    ("context.count('x')", "context.count('x')", ""),
    ("context.count('nothing')", "context.count('nothing')", "LC_ALL=C grep -aoF nothing $BLOB | wc -l"),
    ("len(context.splitlines())", "len(context.splitlines())", "wc -l < $BLOB"),
    ("all lines", "n = 0\nfor line in context.splitlines(): n += 1", ""),
    ("lines with a word", "sum('ERROR' in line for line in context.split('\\n'))", "LC_ALL=C grep -acF ERROR $BLOB"),
    ("lines[i], 5,000 at random", "import random\nlines = context.splitlines()\nfor _ in range(5_000): lines[random.randrange(len(lines))]", ""),
    ("lines[i], a million in order", "lines = context.splitlines()\nfor i in range(1_000_000): lines[i]", ""),
    ("lines[-1], lines[5:10]", "lines[-1], lines[5:10]", ""),
    ("len(context.split())", "len(context.split())", "LC_ALL=C wc -w < $BLOB"),
    (r"re.findall(r'ERROR \d+')", r"len(re.findall(r'ERROR \d+', context))", r"LC_ALL=C grep -aoE 'ERROR [0-9]+' $BLOB | wc -l"),
    (r"re.findall(r'FATAL \d+'), no match", r"re.findall(r'FATAL \d+', context)", r"LC_ALL=C grep -acE 'FATAL [0-9]+' $BLOB"),
    (r"re.search(r'(?i)no such needle')", r"re.search(r'(?i)no such needle', context)", "LC_ALL=C grep -aciF 'no such needle' $BLOB"),
    (r"re.finditer(r'\bport \d+99\b')", r"sum(1 for m in re.finditer(r'\bport \d+99\b', context))", r"LC_ALL=C grep -acE '\bport [0-9]+99\b' $BLOB"),
    ("docs[0].text, .lines, .pages", "len(docs[0].text), len(docs[0].lines), docs[0].pages, docs[0].chars", ""),
    ("split, partition, strip", "context.split('the very last line')[1], len(context.partition('08:')[2]), len(context.strip())", ""),
]  # fmt: skip


def text_of(megabytes: int, kind: str) -> list[str]:
    """Some pieces of about a megabyte, to be repeated; the same in every run."""
    pieces, rng = [], random.Random(1)
    for _ in range(min(megabytes, 8)):
        lines = []
        for line in range(11_000):
            form = LINE
            if kind == "mixed":
                form = next((MIXED[every] for every in MIXED if line % every == 0), LINE)
            form = ERROR if line % 500 == 1 else form
            lines.append(form.format(line % 60, line, rng.randrange(65536)))
        pieces.append("".join(lines))
    return pieces


def build(pieces: list[str], megabytes: int, folder: Path) -> Corpus:
    builder = CorpusBuilder(folder)
    with builder.document("big.log", "text") as document:
        document.write("the very first line\n")
        written = 0
        while written < megabytes * 1_000_000:
            for piece in pieces:
                document.write(piece)
            written += sum(len(piece.encode()) for piece in pieces)
        document.write("the very last line\n")
        document.sha256 = "0" * 64  # a reader hashes the source as it reads
    return builder.finish()


def timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def private_mb(pid: int | str = "self") -> float:
    """Private memory of a process, dirty and clean: what the map does not share. Of a child: as root only."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(r"Private_\w+:\s+(\d+) kB", rollup)) / 1024


def cat(corpus: Corpus) -> float:
    """Seconds `cat` takes from the page cache to /dev/null, the program's start included."""

    def once() -> None:
        os.lseek(corpus.fd, 0, os.SEEK_SET)
        subprocess.run(["cat"], stdin=corpus.fd, stdout=subprocess.DEVNULL, check=True)

    return statistics.median(timed(once) for _ in range(7))


def host(corpus: Corpus) -> None:
    """What the host does with it: places of quotes, what was shown."""
    last = "the very last line"
    shown = corpus.text(corpus.chars // 2, corpus.chars // 2 + 100_000)
    for name, work in (
        ("quote, exact", lambda: locate(corpus, Quote(last), 1)),
        ("quote, tolerant", lambda: locate(corpus, Quote(last.upper()), 1)),
        ("quote, not there", lambda: locate(corpus, Quote("Termination without notice is allowed"), 1)),
        ("coverage of 100,000 characters", lambda: Coverage(corpus).saw(shown)),
    ):
        print(f"{name:38} {timed(work):8.3f} s")


async def child(corpus: Corpus, against: Against) -> bool:
    """Whether the bars were kept."""

    async def ask(query: Any) -> Any:
        raise NotImplementedError

    place = open_sandbox("process", cell_timeout_s=600, repl_memory=1 << 30, context_memory=0)

    async def ready() -> tuple[float, Repl]:
        started = time.perf_counter()
        repl = await place.open(corpus, None, ask)
        return time.perf_counter() - started, repl

    times = []
    for _ in range(7):
        seconds, repl = await ready()
        times.append(seconds)
        await repl.close()
    base, start = cat(corpus), statistics.median(times)
    _, repl = await ready()
    pid = repl._session.child.process.pid  # type: ignore[attr-defined]
    most = private_mb(pid)
    print(f"{'cat >/dev/null':38} {base:8.3f} s")
    print(f"{'REPL ready':38} {start:8.3f} s   {start / base:.2f} × cat   {most:5.1f} MB private")
    kept = start <= READY * base
    for name, code, other in OPERATIONS:
        started = time.perf_counter()
        output = await repl.execute(code)
        seconds = time.perf_counter() - started
        private = private_mb(pid)
        most = max(most, private)
        error = f"   {output.error or output.lost}" if output.error or output.lost else ""
        print(f"{name:38} {seconds:8.3f} s   {private:5.1f} MB   {against(code, other, seconds)}{error}", flush=True)
    await place.close()
    kept = kept and most < PRIVATE_MB
    print(f"most private memory {most:.1f} MB (bar {PRIVATE_MB}); ready {start / base:.2f} × cat (bar {READY})")
    return kept


PLAIN = """
import re, sys, time
from pathlib import Path
context = Path(sys.argv[1]).read_text()
for line in sys.stdin:
    code = eval(line)
    started = time.perf_counter()
    try:
        exec(code)
    except IndexError:  # not as long as that
        pass
    print(time.perf_counter() - started, flush=True)
"""


class Against:
    """The same, done by others: a command over the text as a file, or Python over it as a plain `str`."""

    def __init__(self, corpus: Corpus, folder: Path, plain: bool) -> None:
        self._blob = folder / "blob"
        with self._blob.open("wb") as file:
            for low in range(0, corpus.bytes, 1 << 24):
                file.write(corpus.read(low, low + (1 << 24)))
        command = [sys.executable, "-c", PLAIN, str(self._blob)]
        self._python = subprocess.Popen(command, stdin=-1, stdout=-1, text=True) if plain else None

    def __call__(self, code: str, command: str, seconds: float) -> str:
        shown = ""
        if command:
            taken = timed(
                lambda: subprocess.run(
                    command,
                    shell=True,
                    env={**os.environ, "BLOB": str(self._blob)},
                    stdout=subprocess.DEVNULL,
                    check=False,
                )
            )
            shown = f"{seconds / taken:6.2f} × {command.split('$')[0].removeprefix('LC_ALL=C ').strip(' <')} ({taken:.3f} s)"
        if self._python and "docs" not in code:  # it has none
            assert self._python.stdin is not None
            assert self._python.stdout is not None
            print(repr(code), file=self._python.stdin, flush=True)
            taken = float(self._python.stdout.readline())
            shown = f"{seconds / taken:6.2f} × str ({taken:.3f} s)   {shown}"
        return shown

    def close(self) -> None:
        if self._python:
            self._python.kill()
            self._python.communicate()


def main(megabytes: int, kind: str, plain: bool) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pieces = text_of(megabytes, kind)
        before = private_mb()
        corpus = []
        seconds = timed(lambda: corpus.append(build(pieces, megabytes, folder)))
        print(
            f"{megabytes} MB {kind}: {corpus[0].bytes:,} bytes, {corpus[0].chars:,} characters, {corpus[0].lines:,} lines"
        )
        print(f"{'build, index and all':38} {seconds:8.3f} s   {private_mb() - before:5.1f} MB more")
        host(corpus[0])
        with closing(Against(corpus[0], folder, plain)) as against:
            return 0 if asyncio.run(child(corpus[0], against)) else 1


if __name__ == "__main__":
    words = sys.argv[1:]
    size = next((int(word) for word in words if word.isdigit()), 1000)
    sys.exit(main(size, "ascii" if "ascii" in words else "mixed", "plain" in words))
