"""Office files and their like against markitdown: `python tests/benchmarks/bench_office.py FOLDER [PYTHON]`.

FOLDER holds files nobody here wrote, such as the unpacked source distributions of python-docx, python-pptx, openpyxl,
xlrd, odfpy, ebooklib (`pip download --no-deps --no-binary :all: …`). PYTHON is an interpreter that has
`markitdown[docx,pptx,xlsx,xls]`; it need not be this one.

CPU time of both over the files that both read, imports and one warming file apart; of markitdown's words (its own
marks left out) the share that is found here too, as often. The bars: 15 × as fast, .99 of the words.
Exit code 1 where one is missed. The files that fall short are named with the words that are missing.
"""

from __future__ import annotations

import collections
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

FASTER, KEPT = 15.0, 0.99
BOTH = frozenset(".docx .pptx .xlsx .xls .epub .html .htm .ipynb".split())
OURS = BOTH | frozenset(".odt .odp .ods .xlsb .rtf .eml .mbox".split())

OTHER = r"""
import io, json, sys, time, warnings
warnings.simplefilter("ignore")
from markitdown import MarkItDown
reader = MarkItDown()
for path in map(str.strip, sys.stdin):
    started = time.process_time()
    try:
        text = reader.convert(path).text_content
    except Exception as error:
        text = None
    print(json.dumps([path, text, time.process_time() - started]), flush=True)
"""
OWN_MARKS = re.compile(
    r"<!-- Slide number: \d+ -->|^### (Notes|Chart):?|^\| Category \||\[unsupported chart\]|^```\w+|^## .*$"
    r"|\]\(#[^)\s]*|(?<=\)|\S) \"[^\"\n]*\"\)|!\[[^\]]*\]\([^)]*\)|data:image[^)\s]*|&\w+;|\\(?=\W)"
    r"|\bNaN\b|Unnamed: \d+(_level_\d+)?|\.0\b| 00:00:00"
    r"|\*\*(Title|Authors|Language|Publisher|Identifier|Date|Description):\*\*.*$",
    re.M,
)
"""What is markitdown's and not the text's: headings it makes up, escapes, empty cells, whole numbers as floats, links to
pictures and to places in the same page, tooltips of links, a book's catalogue entry."""


def words(text: str) -> collections.Counter[str]:
    text = OWN_MARKS.sub(" ", text)
    return collections.Counter(re.findall(r"\w+", unquote(text).replace("_", " ").lower()))


def texts(pieces: Iterator[object]) -> Iterator[str]:
    """All text a reader gives, that of documents inside too."""
    from rlm_cli.read.pieces import Inside

    for piece in pieces:
        if isinstance(piece, str):
            yield piece
        elif isinstance(piece, Inside):
            yield f"{piece.name}\n"
            if piece.pieces is not None:
                yield from texts(piece.pieces)


def ours(path: str) -> tuple[str | None, float]:
    from rlm_cli.read import extract, formats
    from rlm_cli.read.pieces import Options

    data = Path(path).read_bytes()
    started = time.process_time()
    found = formats.choose(path, data[:8192], io.BytesIO(data)).format
    try:
        text = "".join(texts(extract._load(found)(io.BytesIO(data), Options()))) if found else None
    except Exception as error:
        print(f"  ours: {path}: {error}")
        text = None
    return text, time.process_time() - started


def main(folder: str, python: str) -> int:
    paths = [str(p) for p in sorted(Path(folder).rglob("*")) if p.suffix.lower() in OURS and p.is_file()]
    compared = [path for path in paths if Path(path).suffix.lower() in BOTH]
    warm = list({Path(path).suffix: path for path in compared}.values())
    child = subprocess.run([python, "-c", OTHER], input="\n".join(warm + compared), capture_output=True, text=True)
    theirs = {path: (text, seconds) for path, text, seconds in map(json.loads, child.stdout.splitlines())}
    for path in warm:
        ours(path)
    rows: dict[str, list[float]] = collections.defaultdict(lambda: [0, 0.0, 0.0, 0, 0])
    for path in paths:
        text, seconds = ours(path)
        kind = Path(path).suffix.lower()
        if kind not in BOTH:
            rows[f"{kind} (ours alone)"][0] += 1
            rows[f"{kind} (ours alone)"][1] += seconds
            continue
        other, their_seconds = theirs.get(path, (None, 0.0))
        if text is None or other is None:
            print(f"  not compared: {path} (ours {text is not None}, markitdown {other is not None})")
            continue
        wanted, had = words(other), words(text)
        missing = wanted - had
        row = rows[kind]
        for column, value in enumerate((1, seconds, their_seconds, wanted.total(), missing.total())):
            row[column] += value
        if missing.total() > 0.01 * wanted.total():
            shown = " ".join(word for word, _ in missing.most_common(12))
            print(f"  {1 - missing.total() / wanted.total():.3f} of {wanted.total():6} words: {path}: {shown}")
    return report(rows)


def report(rows: dict[str, list[float]]) -> int:
    kept = True
    both = [row for kind, row in rows.items() if kind in BOTH]
    rows["all"] = [sum(column) for column in zip(*both, strict=True)]
    show: Callable[..., None] = print
    show(f"{'':20} files   ours s  markitdown s  faster     words    kept")
    for kind, (files, seconds, theirs, wanted, missing) in sorted(rows.items()):
        if not theirs:
            show(f"{kind:20} {files:5} {seconds:8.2f}")
            continue
        faster, share = theirs / max(seconds, 1e-6), 1 - missing / max(wanted, 1)
        show(f"{kind:20} {files:5} {seconds:8.2f} {theirs:13.2f} {faster:6.0f} × {wanted:9} {share:7.4f}")
        kept = kept and (kind != "all" or (faster >= FASTER and share >= KEPT))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else sys.executable))
