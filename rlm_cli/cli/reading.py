"""`rlm read`: what the model would see, on stdout; with `--list` the account of every path instead.

The text is that of `context` in the REPL, to the character: of one document alone its text, of several each below its
heading, whose last word no document can know. Pages begin with a form feed, as `pdftotext` has it: a mark that programs
can split at and that takes no line. It is copied from the corpus on disk a window at a time, so memory is bounded
whatever the size. A terminal gets it without what it would obey; a pipe and a file get it as it is.

No model, key or sandbox is looked at. `rlm.manifest/1` is described in `SHAPE`; keys are only ever added to it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing as closing_it
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .. import documents
from ..corpus import WINDOW, Corpus, Document
from ..documents import Documents
from ..errors import RlmError, UsageError
from ..settings import Settings
from ..trace import whole_file
from ..views import Wishes, choose_view
from ..views.figures import plural
from ..views.lines import manifest_line
from ..views.safe import cells, clean, one_line, padded, safe_json
from .configuration import cache_folder, resolve
from .failure import tell, warn
from .sources import or_stdin, readers_of_stdin, with_list
from .watched import closing, watched

SCHEMA = "rlm.manifest/1"
PAGE = b"\f"
MOST_COLUMNS = 60
"""Of a path in the table: a longer one pushes its own row only."""
Put = Callable[[bytes], object]


def read(arguments: list[str], options: dict[str, Any]) -> int:
    """Print the text, or the manifest with `--list`; returns the exit code.

    Raises `UsageError`, `SourceError` when nothing is readable, `OSError` when stdout cannot be written.
    """
    listing = bool(options.pop("list", False))
    config_file = options.pop("config_file", None)
    if options.get("json") and not listing:
        raise UsageError("--json is the form of the list", hint="rlm read --list --json FILE")
    if options.get("quiet") and options.get("verbose"):
        raise UsageError("-q and -v exclude each other", hint="leave one of them out")
    if options.get("output") == "-":
        del options["output"]
    resolved = resolve(options, config_file=config_file)
    settings = resolved.settings
    if not settings.quiet:
        resolved.warn()
    readers = readers_of_stdin(arguments, settings)
    sources = or_stdin(with_list(arguments, settings), settings, readers, "rlm read FILE")
    found = _gathered(sources, settings)
    with closing_it(found.corpus):
        if not listing:
            _require(found, settings)
        with _place(settings.output) as put:
            for piece in _manifest(found, settings) if listing else _text(found.corpus, _to_terminal(settings)):
                put(piece)
        _say(found, settings, listing)
        if listing:
            _require(found, settings)
    return 0


def _gathered(sources: list[str], settings: Settings) -> Documents:
    stdin = sys.stdin.buffer if sys.stdin is not None else None
    view = choose_view(Wishes(settings.progress, settings.quiet, settings.verbose, settings.color), sys.stderr)

    async def main() -> Documents:
        return await watched(
            view,
            lambda emit: documents.gather(
                sources, settings, stdin, lambda reading: emit(reading, None), cache_folder()
            ),
        )

    with closing(view):
        return asyncio.run(main())


def _require(found: Documents, settings: Settings) -> None:
    documents.require_something(found)
    if settings.strict_input:
        documents.require_everything(found)


def _say(found: Documents, settings: Settings, listing: bool) -> None:
    """The manifest on one line on stderr, then notices; with `-v` what was skipped and excluded, by name."""
    if settings.quiet:
        return
    loaded = found.loaded()
    tell(f"rlm: read {manifest_line(loaded)}\n")
    if settings.verbose and not listing:
        for skipped in found.manifest.skipped:
            warn(f"skipped {skipped.path}: {skipped.reason}")
        for rule, number in found.manifest.excluded.items():
            warn(f"excluded {number:,} by {rule}")
    for notice in found.manifest.notices:
        warn(notice)


# ── the text ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _text(corpus: Corpus, terminal: bool) -> Iterator[bytes]:
    """All of `context`, in windows."""
    alone = len(corpus.documents) == 1
    for document in corpus.documents:
        if not alone:
            yield corpus.header(document).encode()
        for start, stop in _parts(corpus, document):
            if start > document.start_byte:
                yield PAGE
            for low in _windows(corpus, start, stop):
                data = corpus.read(*low)
                yield clean(data.decode("utf-8", "replace")).encode() if terminal else data


def _parts(corpus: Corpus, document: Document) -> Iterator[tuple[int, int]]:
    """The pages of a document, or all of it, in bytes."""
    spans = corpus.page_spans(document)
    if not spans:
        yield document.start_byte, document.stop_byte
        return
    for start, stop in spans:
        yield corpus.byte_of(start), corpus.byte_of(stop)


def _windows(corpus: Corpus, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """At most `WINDOW` bytes each, never cutting a character."""
    while start < stop:
        end = min(start + WINDOW, stop)
        if end < stop:
            end = corpus.byte_of(corpus.char_of(end - 4))
        yield start, end
        start = end


def _to_terminal(settings: Settings) -> bool:
    return settings.output is None and sys.stdout.isatty()


# ── the manifest ────────────────────────────────────────────────────────────────────────────────────────────────────


def _manifest(found: Documents, settings: Settings) -> Iterator[bytes]:
    if settings.json:
        text = json.dumps(manifest(found), ensure_ascii=False)
        yield (safe_json(text) if _to_terminal(settings) else text).encode() + b"\n"
        return
    for line in _table(found):
        yield f"{line}\n".encode()


def manifest(found: Documents) -> dict[str, Any]:
    """The object of `--list --json`."""
    return {
        "schema": SCHEMA,
        "read": list(found.listing),
        "skipped": [{"path": skipped.path, "reason": skipped.reason} for skipped in found.manifest.skipped],
        "excluded": found.manifest.excluded,
    }


def _table(found: Documents) -> Iterator[str]:
    """One row a path: what was read, then what was wanted and skipped, then what rules kept out."""
    rows = [_row(document) for document in found.corpus.documents]
    skipped = [(one_line(s.path, 2_000), one_line(s.reason)) for s in found.manifest.skipped]
    paths = [row[0] for row in rows] + [path for path, _ in skipped]
    widths = [min(max(map(cells, paths), default=0), MOST_COLUMNS)]
    widths += [max((cells(row[column]) for row in rows), default=0) for column in range(1, 6)]
    for row in rows:
        left = [padded(cell, width) for cell, width in zip(row[:3], widths[:3], strict=True)]
        right = [cell.rjust(width) for cell, width in zip(row[3:6], widths[3:], strict=True)]
        yield "  ".join(cell for cell in (*left, *right, row[6]) if cell).rstrip()
    for path, reason in skipped:
        yield f"{padded(path, widths[0])}  skipped: {reason}"
    for rule, number in found.manifest.excluded.items():
        yield f"excluded {number:,} by {one_line(rule, 2_000)}"


def _row(document: Document) -> tuple[str, ...]:
    pages = plural(document.pages, "page") if document.pages else ""
    notes = f"{document.replaced:,} replaced" if document.replaced else ""
    chars, lines = f"{document.chars:,} chars", plural(document.lines, "line")
    return one_line(document.path, 2_000), document.kind, document.encoding, chars, lines, pages, notes


# ── where it goes ───────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _place(output: str | None) -> Iterator[Put]:
    """stdout, or a file: whole or not at all. A device or a pipe is written to as it is."""
    if output is None:
        sys.stdout.flush()
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    try:
        with _opened(output) as file:
            yield file.write
    except OSError as error:
        raise RlmError(f"{output} could not be written", why=error.strerror or "") from None


def _opened(output: str) -> Any:
    path = Path(os.path.realpath(output))
    if path.exists() and not path.is_file():
        file: BinaryIO = path.open("wb")
        return file
    return whole_file(path)
