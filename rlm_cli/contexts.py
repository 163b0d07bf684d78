"""What a call's context is: what the model is told of it, how much of it a prompt may hold, its text, its own corpus.

A context that code passes on is made of text and of slices of its corpus (`Span`). Slices stay offsets as long as
possible: they are measured before they are read, since a list of sixty times the corpus is quickly written.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace

from . import prompts
from .builder import CorpusBuilder
from .call import Call, Entry, Preview, Tool, Turn
from .corpus import WINDOW, Corpus, Document
from .dispatch import output_limit
from .documents import CHARS_PER_TOKEN, Documents
from .errors import UsageError
from .models import Model
from .prepare import Job, Models
from .sandbox import Context, Query, Span
from .sandbox.replay import mix

SUB_CHARS = 100_000
"""Characters advised for a sub-prompt, less where the sub-LM's window is smaller."""
BYTES_PER_TOKEN = 3
"""For history: English takes four and more, Chinese three; digits fewer, and then the model says so."""
SURELY_TOO_LONG = 5
"""Characters a token: a prompt of more than the window by this measure is not worth a request."""
MOST_UNREAD = 10
"""Files that could not be read and are named to a model."""
LARGEST_TEXT = 64 << 20
"""Characters of a child's context beyond what its parent's corpus has: more cannot come over the wire."""


def window_bytes(model: Model) -> int:
    """Bytes that a request of a conversation may have beside its reply."""
    return (model.window - output_limit(model, "iteration")) * BYTES_PER_TOKEN


def sub_chars(model: Model) -> int:
    """Characters a sub-prompt should have at most."""
    room = (model.window - output_limit(model, "sub")) * CHARS_PER_TOKEN
    return max(min(SUB_CHARS, int(room * 0.9) // 1000 * 1000), 1000)


LARGEST_FINGERPRINTED = 4 << 20
"""Characters; no model takes more."""


def root_call(
    job: Job,
    models: Models,
    documents: Documents,
    first: str = "",
    earlier: tuple[Turn, ...] = (),
    tools: tuple[Tool, ...] = (),
) -> Call:
    """The root's call; `first` is the question that its first message holds, where it goes on from `earlier` turns.

    Raises `UsageError` where its model cannot even take the first message.
    """
    s, root = job.settings, models.root
    seen = preview(documents.corpus, None, documents.distinct, s.context_memory)
    call = Call(
        address="0",
        kind="root",
        depth=0,
        question=first or job.question,
        model=root.name,
        preview=replace(seen, unread=tuple(_unread(documents))),
        sub_chars=sub_chars(models.sub),
        recursive=s.max_depth > 1,
        max_iterations=s.max_iterations,
        window_bytes=window_bytes(root),
        max_subcalls=s.max_subcalls,
        landing=s.on_limit == "answer",
        protocol=root.protocol,
        reasons=root.reasons,
        earlier=earlier,
        schema=job.schema,
        strict=s.strict,
        tools=tools,
    )
    if lack := prompts.lacking(call):
        asked = len(job.question.encode()) + len(job.schema.text.encode() if job.schema else "")
        long = asked > lack
        raise UsageError(
            f"the question is too long for {root.name}" if long else f"the window of {root.name} is too small",
            why=f"{asked:,} bytes; at most {asked - lack:,} fit" if long else f"it has {root.window:,} tokens",
            hint="ask it shorter, and put long texts among the documents" if long else "use a model with a larger one",
        )
    return call


def _unread(documents: Documents) -> Iterator[str]:
    """What a model should know is missing."""
    skipped = documents.manifest.skipped
    yield from (f"{one.path} ({one.reason})" for one in skipped[:MOST_UNREAD])
    if len(skipped) > MOST_UNREAD:
        yield f"and {len(skipped) - MOST_UNREAD:,} more"


def length(context: Context | None) -> int:
    """Characters of a context, nothing of it read."""
    match context:
        case None:
            return 0
        case str():
            return len(context)
        case Span(start, stop):
            return stop - start
        case Corpus():
            return context.whole[1] - context.whole[0]
        case _:
            return sum(map(length, context))


def text_of(corpus: Corpus, context: Context | None) -> str | None:
    """The text of a context; its parts are set apart by an empty line."""
    match context:
        case None | str():
            return context
        case Span(start, stop):
            return corpus.text(start, stop)
        case Corpus():
            return context.text(*context.whole)
        case _:
            return "\n\n".join(text_of(corpus, part) or "" for part in context)


def fingerprint(corpus: Corpus, query: Query, prompt: str, context: Context | None) -> bytes:
    """Of one prompt of a query: the same for the same one over the same text, asked in the same way; nothing for one
    too large to be worth it."""
    if len(prompt) + length(context) > LARGEST_FINGERPRINTED:
        return b""
    digest = hashlib.blake2b(corpus.sha256.encode(), digest_size=16)
    for one in (f"{query.kind} {query.schema or ''}", prompt, context):
        mix(digest, one)
    return digest.digest()


def spans_of(context: Context | None) -> tuple[Span, ...] | None:
    """The slices of a context that is made of nothing else, else None."""
    parts = context if isinstance(context, tuple) else (context,)
    spans = tuple(part for part in parts if isinstance(part, Span))
    return spans if spans and len(spans) == len(parts) else None


@asynccontextmanager
async def own_corpus(corpus: Corpus, spans: Sequence[Span] | None, context: Context) -> AsyncIterator[Corpus]:
    """The corpus of a child: its parent's where it gets slices of it, what it gets where that is one already, else one
    made of its context, for as long as it lives. Raises `builder.Unwritable`.
    """
    if spans is not None or isinstance(context, Corpus):
        yield context if isinstance(context, Corpus) else corpus
        return
    making = asyncio.ensure_future(asyncio.to_thread(_corpus_of, corpus, context))
    try:
        await asyncio.shield(making)
        yield making.result()
    finally:
        await asyncio.wait([making])  # a thread cannot be cancelled
        if making.exception() is None:
            making.result().close()


def _corpus_of(corpus: Corpus, context: Context) -> Corpus:
    """One document, or one a list item."""
    parts = context if isinstance(context, tuple) else (context,)
    with closing(CorpusBuilder(in_memory=length(context) <= LARGEST_TEXT)) as builder:
        for number, part in enumerate(parts):
            with builder.document(f"context[{number}]" if len(parts) > 1 else "context", "text") as document:
                for piece in _pieces(corpus, part):
                    document.write(piece)
        return builder.finish()


def _pieces(corpus: Corpus, part: str | Span | Corpus) -> Iterator[str]:
    """Its text, never all of a long one in memory."""
    if isinstance(part, str):
        yield part
        return
    source, (start, stop) = (part, part.whole) if isinstance(part, Corpus) else (corpus, (part.start, part.stop))
    for low in range(start, stop, WINDOW):
        yield source.text(low, min(low + WINDOW, stop))


def preview(corpus: Corpus, spans: Sequence[Span] | None, distinct: int | None, plain_below: int) -> Preview:
    """What a model is told before it looks.

    `distinct`: how many documents differ, None = not counted. `plain_below`: bytes up to which `context` is a `str`.
    """
    ranges = [(span.start, span.stop) for span in spans] if spans else [corpus.whole]
    chars = sum(stop - start for start, stop in ranges)
    indexes: Sequence[int] = corpus.touched(ranges) if spans else range(len(corpus.documents))
    starts, stops, lines = (corpus.column(name) for name in ("start", "stop", "lines"))
    documents = [corpus.documents[n] for n in _listed(indexes, [stops[n] - starts[n] for n in indexes])]
    edge = prompts.SHOWN_EDGE
    first, last = ranges[0], ranges[-1]
    head = corpus.text(first[0], min(first[1], first[0] + edge))
    tail = corpus.text(max(last[0], last[1] - edge), last[1]) if chars > 2 * edge else ""
    if not tail and chars > edge:  # head and tail would meet: all of it
        head = "".join(corpus.text(*piece) for piece in ranges)
    return Preview(
        documents=len(indexes),
        distinct=len(indexes) if distinct is None else distinct,
        entries=tuple(_entries(documents)),
        chars=chars,
        lines=sum(lines[n] for n in indexes),
        head=head,
        tail=tail,
        lazy=chars * corpus.char_width > plain_below,
        header=corpus.header(documents[0]).rstrip("\n") if len(indexes) > 1 else "",
    )


def _entries(documents: Sequence[Document]) -> Iterator[Entry]:
    first: dict[str, str] = {}
    for d in documents:
        same = first.setdefault(d.sha256, d.path)
        yield Entry(d.path, d.chars, d.lines, d.pages, same if same != d.path else "")


def _listed(indexes: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """The documents to name: all, or half the places for the largest and half evenly through the rest."""
    if len(indexes) <= prompts.MOST_ENTRIES:
        return list(indexes)
    half = prompts.SHOWN_ENTRIES // 2
    largest = set(heapq.nlargest(half, range(len(indexes)), key=sizes.__getitem__))
    rest = [n for n in range(len(indexes)) if n not in largest]
    step = len(rest) / half
    return [indexes[n] for n in sorted(largest | {rest[int(k * step)] for k in range(half)})]
