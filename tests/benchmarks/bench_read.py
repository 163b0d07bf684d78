"""What reading costs: `python tests/benchmarks/bench_read.py [NAME…] [FOLDER of PDFs]`, by default all of it.

Each measurement is a function below, with what it is compared to in the same run and the bar it must reach; the exit
code is 1 where one is missed. Ratios are of wall time, so the machine should have nothing else to do. Documents are
made on the spot unless a folder of real ones is named.

    pdf        a folder of PDFs by `gather`, against plain pypdf (≥ 8 ×) and a bare pypdfium2 loop on one core (≥ 1.5 ×
               with two cores)
    zip-text   one zip of 5,000 texts, 200 MB, against a loop over Python's `zipfile` that decodes each (≥ 0.8 ×)
    zip-pdf    one zip of PDFs, against a loop that hands each to pypdfium2 (≥ 0.7 ×: one archive is one worker)
    gz         a packed log of 300 MB, against `gzip.open` and decoding (≥ 0.8 ×)
    bombs      9 GB in a few MB: each ends within 5 s
"""

from __future__ import annotations

import gzip
import os
import random
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from documents import pdf

from rlm_cli.builder import CorpusBuilder
from rlm_cli.read import Manifest, Rules, gather

Check = tuple[str, float, float]
"""What is compared, how many times as fast it is, and the bar."""


@dataclass(frozen=True, slots=True)
class Gathered:
    seconds: float
    pages: int
    bytes: int
    manifest: Manifest


def gathered(*sources: Path) -> Gathered:
    """Read sources as a run does."""
    began = time.perf_counter()
    with closing(CorpusBuilder()) as builder:
        manifest = gather(
            [str(source) for source in sources], Rules(), builder, stdin=None, progress=lambda reading: None,
            stop=threading.Event(),
        )  # fmt: skip
        corpus = builder.finish()
    seconds = time.perf_counter() - began
    pages = sum(document.pages for document in corpus.documents)
    done = Gathered(seconds, pages, corpus.bytes, manifest)
    corpus.close()
    return done


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def words(chance: random.Random) -> list[str]:
    return ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 10))) for _ in range(5_000)]


def lines(chance: random.Random, count: int) -> str:
    said = words(chance)
    return "\n".join(" ".join(chance.choices(said, k=10)) for _ in range(count)) + "\n"


# ── PDF ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def make_pdfs(place: Path, files: int, pages: int) -> None:
    """Every word placed by itself, as word processors and typesetters do."""
    chance = random.Random(1)
    said = words(chance)

    def line(number: int) -> str:
        pairs = enumerate(chance.choices(said, k=9))
        return "".join(f") Tj 1 0 0 1 {40 + 60 * at} {760 - 14 * number} Tm ({word}" for at, word in pairs)

    for number in range(files):
        text = ["\n".join(line(row) for row in range(50)) for _ in range(pages)]
        (place / f"{number:03}.pdf").write_bytes(pdf(text))


def bare_pdfium(files: list[Path]) -> int:
    import pypdfium2

    pages = 0
    for file in files:
        with closing(pypdfium2.PdfDocument(file)) as document:
            for page in document:
                text = page.get_textpage()
                text.get_text_bounded()
                text.close()
                page.close()
                pages += 1
    return pages


def plain_pypdf(files: list[Path]) -> int:
    import pypdf

    return sum(len([page.extract_text() for page in pypdf.PdfReader(file).pages]) for file in files)


def measure_pdf(place: Path, folder: Path | None) -> Iterator[Check]:
    if folder is None:
        folder = place / "pdf"
        folder.mkdir()
        make_pdfs(folder, 60, 50)
    files = sorted(folder.rglob("*.pdf"))
    done = gathered(folder)
    pages = bare_pdfium(files)  # warm
    bare = timed(lambda: bare_pdfium(files))
    few = files[: max(1, len(files) // 20)]
    began = time.perf_counter()
    some = plain_pypdf(few)
    slow = (time.perf_counter() - began) / some
    print(f"pdf         {done.pages:,} pages: {done.pages / done.seconds:,.0f} a second with {os.cpu_count()} cores;"
          f" pypdfium2 alone {pages / bare:,.0f}, pypdf {1 / slow:,.0f}")  # fmt: skip
    rate = done.pages / done.seconds
    yield "pages a second against pypdf", rate * slow, 8
    yield (
        "pages a second against a bare pypdfium2 loop",
        rate / (pages / bare),
        1.5 if (os.cpu_count() or 1) > 1 else 0.7,
    )


# ── archives ────────────────────────────────────────────────────────────────────────────────────────────────────────


def measure_zip_text(place: Path, folder: Path | None) -> Iterator[Check]:
    chance = random.Random(2)
    text = lines(chance, 20_000).encode()
    archive = place / "text.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for number in range(5_000):
            at = chance.randrange(len(text) - 40_000)
            out.writestr(f"{number % 20}/{number}.txt", text[at : at + 40_000])

    def loop() -> None:
        with zipfile.ZipFile(archive) as opened:
            for member in opened.infolist():
                opened.read(member).decode()

    loop()
    python = timed(loop)
    done = gathered(archive)
    print(f"zip-text    {done.bytes >> 20:,} MB in 5,000 members: {done.seconds:.2f} s; zipfile alone {python:.2f} s")
    yield "a zip of texts against zipfile", python / done.seconds, 0.8


def measure_zip_pdf(place: Path, folder: Path | None) -> Iterator[Check]:
    import pypdfium2

    members = place / "members"
    members.mkdir()
    make_pdfs(members, 100, 20)
    archive = place / "pdf.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        for file in sorted(members.iterdir()):
            out.write(file, file.name)

    def loop() -> None:
        with zipfile.ZipFile(archive) as opened:
            for member in opened.infolist():
                with closing(pypdfium2.PdfDocument(opened.read(member))) as document:
                    for page in document:
                        page.get_textpage().get_text_bounded()

    loop()
    python = timed(loop)
    done = gathered(archive)
    print(
        f"zip-pdf     {done.pages:,} pages in 100 members: {done.seconds:.2f} s; zipfile and pypdfium2 {python:.2f} s"
    )
    yield "a zip of PDFs against zipfile and pypdfium2", python / done.seconds, 0.7


def measure_gz(place: Path, folder: Path | None) -> Iterator[Check]:
    file = place / "big.log.gz"
    text = lines(random.Random(3), 300_000).encode()
    with gzip.open(file, "wb", 6) as out:
        for _ in range((300 << 20) // len(text)):
            out.write(text)

    def loop() -> None:
        with gzip.open(file) as opened:
            while data := opened.read(1 << 20):
                data.decode()

    python = timed(loop)
    done = gathered(file)
    print(f"gz          {done.bytes >> 20:,} MB: {done.seconds:.2f} s; gzip alone {python:.2f} s")
    yield "a packed log against gzip", python / done.seconds, 0.8


# ── bombs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def measure_bombs(place: Path, folder: Path | None) -> Iterator[Check]:
    bombs = place / "bombs"
    bombs.mkdir()
    for name, chunk in (("zeros", bytes(100 << 20)), ("text", b"a line like any other\n" * (5 << 20))):
        packed = gzip.compress(chunk, 6)
        (bombs / f"{name}.gz").write_bytes(packed * (9_000 // (len(chunk) >> 20)))
        (bombs / f"{name}-twice.gz").write_bytes(gzip.compress(packed * 90, 9))
        with zipfile.ZipFile(bombs / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{name}.txt", chunk)
            archive.writestr(f"{name}-packed.gz", packed * 90)
    worst = 0.0
    for file in sorted(bombs.iterdir()):
        done = gathered(file)
        assert done.manifest.skipped, file
        assert done.bytes < 1 << 10, file
        worst = max(worst, done.seconds)
    print(f"bombs       the slowest of {len(list(bombs.iterdir()))} ended after {worst:.2f} s")
    yield "5 s against the slowest bomb", 5 / worst, 1


MEASUREMENTS: dict[str, Callable[[Path, Path | None], Iterator[Check]]] = {
    "pdf": measure_pdf,
    "zip-text": measure_zip_text,
    "zip-pdf": measure_zip_pdf,
    "gz": measure_gz,
    "bombs": measure_bombs,
}


def main(arguments: list[str]) -> int:
    folder = next((Path(name) for name in arguments if Path(name).is_dir()), None)
    wanted = [name for name in arguments if name in MEASUREMENTS] or list(MEASUREMENTS)
    missed = 0
    for name in wanted:
        with tempfile.TemporaryDirectory() as place:
            for what, times, bar in MEASUREMENTS[name](Path(place), folder):
                missed += times < bar
                print(f"{'ok  ' if times >= bar else 'MISS'}        {what}: {times:.2f} × (bar {bar:g})", flush=True)
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
