"""What walking and reading cost: `python tests/benchmarks/bench_walk.py [small] [many] [stdin] [FILES]`.

Each against what does the bare minimum, in one run, turn by turn, each side in a process of its own (start and imports
included), the best of some turns (of one, for stdin):

    small   50,000 small text files in folders with ignore files: read into a corpus, against `rg --files | xargs cat`
    many    100,000 files, nearly all of them ignored one by one: walked, against `rg --files`; time and memory
    stdin   1 GB of lines by a pipe into a corpus, against `cat > file`; and the memory of the host

The bars: small 4 ×, stdin 3 × and 200 MB. `rg` is ripgrep's. Where a machine is busy the seconds of the processor say
more than those of the clock: both are told, and the bar is asked of the better of the two. Exit code 1 where one is missed.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

WORDS = "the contract may be ended by either party with thirty days notice in writing unless agreed otherwise".split()
TURNS = 3
OURS = """
import os, resource, sys, threading
from rlm_cli.builder import CorpusBuilder
from rlm_cli.read import Rules, gather
builder = CorpusBuilder()
stdin = sys.stdin.buffer if sys.argv[1] == "-" else None
manifest = gather(sys.argv[1:2], Rules(), builder, stdin=stdin, progress=lambda r: None, stop=threading.Event())
corpus = builder.finish()
most = int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) // 1024
print(len(corpus.documents), corpus.bytes, sum(manifest.excluded.values()), most)
"""


def plant(root: Path, files: int, ignored: bool = False) -> None:
    """`files` small files, a hundred a folder; `ignored`: all but some twenty of each folder are, by a pattern."""
    chance = random.Random(1)
    for number in range(files // 100):
        folder = root / f"{number // 20:03}" / f"{number:04}"
        folder.mkdir(parents=True)
        if number % 20 == 0:
            (folder / ".gitignore").write_text("*.tmp\n/build/\n*.log\n!keep.log\n")
        for n in range(100):
            lines = [" ".join(chance.choices(WORDS, k=10)) for _ in range(1 if ignored else chance.randint(5, 60))]
            suffix = ".tmp" if ignored and n % 5 else ".txt"
            (folder / f"file{n:02}{suffix}").write_text("\n".join(lines) + "\n")
    (root / ".gitignore").write_text("*.tmp\nnode_modules/\n*.[oa]\n/dist\n**/cache/**\n")


def cost(work: Callable[[], str]) -> tuple[float, float, str]:
    """Seconds of the clock, of the processors (children's), and what it printed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    said = work()
    after, took = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - began
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, said


def shell(line: str, folder: Path) -> str:
    return subprocess.run(["sh", "-c", line], cwd=folder, check=True, capture_output=True, text=True).stdout


def ours(source: str, folder: Path, stdin: str = "") -> str:
    command = f'{stdin} "$PYTHON" -c "$CODE" {source}'
    environ = {**os.environ, "PYTHON": sys.executable, "CODE": OURS}
    done = subprocess.run(["sh", "-c", command], cwd=folder, check=True, capture_output=True, text=True, env=environ)
    return done.stdout


def compared(
    name: str, mine: Callable[[], str], reference: Callable[[], str], bar: float, times: int = TURNS
) -> tuple[bool, list[int]]:
    """Both in turn; whether the bar was kept, and the numbers ours printed."""
    turns = [(cost(reference), cost(mine)) for _ in range(times)]
    clock, processor = (min(turn[1][kind] for turn in turns) / min(turn[0][kind] for turn in turns) for kind in (0, 1))
    best = [min(turn[side][kind] for turn in turns) for side in (1, 0) for kind in (0, 1)]
    print(
        f"{name:7} {best[0]:6.2f} s, {best[1]:5.2f} s of processor   reference {best[2]:5.2f} s, {best[3]:5.2f} s   "
        f"{clock:.2f} × by the clock, {processor:.2f} × by the processor" + (f" (bar {bar:g})" if bar else "")
    )
    return not bar or min(clock, processor) <= bar, [int(word) for word in turns[-1][1][2].split()]


def small(folder: Path, files: int) -> bool:
    plant(folder / "small", files)
    kept, (documents, size, _, most) = compared(
        "small", lambda: ours("small", folder), lambda: shell("rg --files small | xargs cat >/dev/null", folder), 4
    )
    print(f"        {documents:,} documents, {size / 1e6:.0f} MB, at most {most} MB of memory")
    shutil.rmtree(folder / "small")
    return kept and documents == files


def many(folder: Path, files: int) -> bool:
    plant(folder / "many", 2 * files, ignored=True)
    _, (documents, _, excluded, most) = compared(
        "many", lambda: ours("many", folder), lambda: shell("rg --files many >/dev/null", folder), 0
    )
    print(f"        {documents:,} documents, {excluded:,} entries excluded, at most {most} MB of memory")
    shutil.rmtree(folder / "many")
    return documents + excluded >= 2 * files


def stdin(folder: Path) -> bool:
    lines = "".join(
        f"2026-11-24 08:{n % 60:02} host{n} kernel: connection from port {n * 7919 % 65536} closed\n"
        for n in range(150_000)
    )
    piece = folder / "piece"
    piece.write_text(lines)
    times = 1_000_000_000 // len(lines) + 1
    feed = f"(i=0; while [ $i -lt {times} ]; do cat piece; i=$((i+1)); done) |"
    kept, (_, size, _, most) = compared(
        "stdin", lambda: ours("-", folder, feed), lambda: shell(f"{feed} cat > copy; rm copy", folder), 3, 1
    )
    print(f"        {size / 1e9:.2f} GB, at most {most} MB of memory (bar 200)")
    return kept and most < 200


def main(words: list[str]) -> int:
    files = next((int(word) for word in words if word.isdigit()), 50_000)
    wanted = [word for word in words if not word.isdigit()] or ["small", "many", "stdin"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tests = {
            "small": lambda: small(folder, files),
            "many": lambda: many(folder, files),
            "stdin": lambda: stdin(folder),
        }
        kept = [tests[word]() for word in wanted]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
