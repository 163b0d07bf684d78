"""From what the user named to the documents of a run: read in a thread, so that a view stays alive, and judged.

`rlm ask` and `rlm read` share it: what the second prints is what the first shows a model. Nothing of models, sandboxes
or networks is imported here.
"""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from . import read
from .builder import CorpusBuilder, Unwritable
from .corpus import Corpus
from .errors import RlmError, SourceError
from .events import CorpusLoaded, Reading
from .settings import Settings

_SOMETHING = re.compile(rb"\S")
PIPES_SHARE = 0.5
"""Of the time limit: a pipe that has no end by then is cut, and what is not fetched by then is skipped. `settings.py`
tells it to the user."""
TEXTS = "texts"
"""In the folder of caches: what was extracted from documents."""
CHARS_PER_TOKEN = 3.5
"""For plans and advice. No ceiling: Chinese text and digits take more tokens."""


@dataclass(frozen=True)
class Documents:
    """The corpus and the account of every path."""

    corpus: Corpus
    manifest: read.Manifest
    distinct: int
    """How many of the documents are different files."""

    @property
    def tokens(self) -> int:
        return int(self.corpus.chars / CHARS_PER_TOKEN)

    def loaded(self) -> CorpusLoaded:
        start, stop = self.corpus.whole
        return CorpusLoaded(
            sha256=self.corpus.sha256,
            files=len(self.corpus.documents),
            chars=stop - start,
            tokens=self.tokens,
            excluded=dict(self.manifest.excluded),
            skipped=tuple(asdict(skipped) for skipped in self.manifest.skipped),
            lines=self.corpus.lines,
            pages=sum(document.pages for document in self.corpus.documents),
            read=self.listing,
        )

    @cached_property
    def listing(self) -> tuple[dict[str, Any], ...]:
        """Every document as in `rlm.manifest/1`: `pages` is null where there are none; `bytes` and `sha256` are of the
        source."""
        return tuple(
            {
                "path": document.path,
                "kind": document.kind,
                "encoding": document.encoding,
                "bytes": document.bytes,
                "chars": document.chars,
                "lines": document.lines,
                "pages": document.pages or None,
                "replaced": document.replaced,
                "sha256": document.sha256,
            }
            for document in self.corpus.documents
        )


async def gather(
    sources: Sequence[str],
    settings: Settings,
    stdin: BinaryIO | None,
    progress: Callable[[Reading], None],
    cache: Path | None = None,
    secrets: tuple[str, ...] = (),
) -> Documents:
    """Read every source into one corpus, which may be empty. `progress` is called on the event loop's thread.

    `cache`: the folder of caches; None: nothing is kept. `secrets`: a text that holds one of them is not kept.

    Raises `SourceError` for a source that is not there, `UsageError` for a wrong rule.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()
    rules = read.Rules(settings.globs, settings.types, settings.unrestricted)
    encoding = None if settings.encoding == "auto" else settings.encoding
    options = read.Options(settings.passwords, encoding, settings.ocr)
    until = None if settings.timeout is None else time.monotonic() + PIPES_SHARE * settings.timeout
    bounds = read.Bounds(settings.stdin_limit, until)
    allowance = read.Allowance(settings.fetch_limit, until=until)
    kept = None if settings.no_cache or settings.no_save or not settings.texts_size else cache

    def work() -> Documents:
        def tell(reading: Reading) -> None:
            loop.call_soon_threadsafe(progress, reading)

        source = stdin or (sys.stdin.buffer if sys.stdin else None)
        try:
            with closing(CorpusBuilder()) as builder, ExitStack() as open_until_then:
                texts = None
                if kept is not None:
                    texts = open_until_then.enter_context(read.Texts(kept / TEXTS, settings.texts_size, secrets))
                manifest = read.gather(
                    sources,
                    rules,
                    builder,
                    stdin=source,
                    progress=tell,
                    stop=stop,
                    options=options,
                    bounds=bounds,
                    allowance=allowance,
                    texts=texts,
                )
                corpus = builder.finish()
                return Documents(corpus, manifest, len({document.sha256 for document in corpus.documents}))
        except Unwritable as error:
            raise RlmError(
                "the text of the documents cannot be written to disk",
                why=str(error),
                hint="TMPDIR=FOLDER with more room",
            ) from None

    reading = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(reading)
    except asyncio.CancelledError:
        stop.set()
        done, _ = await asyncio.wait([reading], timeout=2)
        for ended in done:
            ended.exception()  # that it was stopped is no news
        raise


def require_something(documents: Documents) -> None:
    """Raises `SourceError` when there is no text."""
    corpus = documents.corpus
    if any(_SOMETHING.search(corpus.buffer, d.start_byte, d.stop_byte) for d in corpus.documents):
        return
    skipped = documents.manifest.skipped
    why = "; ".join(f"{s.path}: {s.reason}" for s in skipped[:5]) or "the sources hold no text"
    if documents.manifest.excluded:
        rules = ", ".join(f"{count} by {rule}" for rule, count in sorted(documents.manifest.excluded.items()))
        why += f"; excluded {rules}"
    raise SourceError(
        "nothing to read", why=why, hint="name files or folders that hold text; -u reads what ignore files exclude"
    )


def require_everything(documents: Documents) -> None:
    """`--strict-input`. Raises `SourceError` for what was wanted and could not be read whole."""
    faults = [f"{s.path}: {s.reason}" for s in documents.manifest.skipped]
    faults += [
        f"{d.path}: {d.replaced:,} character{'s' * (d.replaced > 1)} could not be decoded"
        for d in documents.corpus.documents
        if d.replaced
    ]
    faults += [f"{path}: cut before its end" for path in documents.manifest.cut]
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise SourceError(
            f"{len(faults)} of the sources could not be read whole",
            why="; ".join(faults[:5]) + more,
            hint="repair or exclude them (-g '!NAME'), or leave out --strict-input",
        )
