"""What kept texts save: `python tests/benchmarks/bench_cache.py FOLDER`, with PDFs nobody here wrote in it.

Such come with packages: `pip download --no-deps --no-binary :all: pypdf`, Debian's `r-doc-pdf` and `octave-doc`. They are
read into a corpus by the code of `rlm read`, first with an empty cache, then again (the best of five), and once without
a cache. The corpora must be the same. Beside it, what can hardly be beaten: writing those texts to a file at once.

The bar: the second time 50 times faster than the first. Exit code 1 where it is missed.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

from rlm_cli.builder import CorpusBuilder
from rlm_cli.corpus import Corpus
from rlm_cli.read import Manifest, Rules, Texts, gather

TIMES, LEAST_FILES, LEAST_PAGES, AGAIN = 50, 50, 300, 5


def read(folder: str, cache: Path | None) -> tuple[float, float, Corpus, Manifest]:
    """Seconds, those of computing in this process and in workers, and what came of it."""
    start, computed = time.perf_counter(), sum(os.times()[:4])
    with closing(CorpusBuilder()) as builder, ExitStack() as stack:
        texts = None if cache is None else stack.enter_context(Texts(cache, 1 << 30))
        manifest = gather(
            [folder], Rules(), builder, stdin=None, progress=lambda _: None, stop=threading.Event(), texts=texts
        )
        corpus = builder.finish()
    return time.perf_counter() - start, sum(os.times()[:4]) - computed, corpus, manifest


def written(corpus: Corpus) -> float:
    text = corpus.read(0, corpus.bytes)
    with tempfile.TemporaryFile() as file:
        start = time.perf_counter()
        file.write(text)
        file.flush()
        return time.perf_counter() - start


def main(folder: str) -> int:
    with tempfile.TemporaryDirectory() as there:
        cache = Path(there) / "texts"
        without, _, plain, _ = read(folder, None)
        cold, cold_cpu, first, manifest = read(folder, cache)
        warm, warm_cpu, second, again = min((read(folder, cache) for _ in range(AGAIN)), key=lambda one: one[0])
        kept = sum(entry.stat().st_size for entry in os.scandir(cache))
    same = plain.sha256 == first.sha256 == second.sha256 and manifest == again
    files = len(first.documents) + len(manifest.skipped)
    pages = sum(document.pages for document in first.documents)
    print(f"{files} files, {pages:,} pages, {first.bytes / 1e6:.1f} MB of text, {len(manifest.skipped)} skipped")
    print(f"without a cache  {without:8.2f} s")
    print(f"first time       {cold:8.2f} s   {kept / 1e6:.1f} MB kept")
    print(f"second time      {warm:8.2f} s   {cold / warm:.0f} times faster (bar {TIMES})")
    print(f"computing        {cold_cpu:8.2f} s, then {warm_cpu:.2f} s: {cold_cpu / warm_cpu:.0f} times less")
    print(f"writing it       {written(first):8.2f} s")
    if files < LEAST_FILES or pages < LEAST_PAGES:
        print(f"too little to say anything: {LEAST_FILES} files and {LEAST_PAGES} pages are wanted")
        return 1
    if not same:
        print("the texts differ")
    return 0 if same and cold / warm >= TIMES else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
