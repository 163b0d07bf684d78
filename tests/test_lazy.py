"""What models write of a `str`, written of a lazy `context` in a real REPL: it does what was meant, or says in one
line what does.

The tables run over a text of a megabyte, and on request (`-m slow`) over a gigabyte: no cell takes a minute or
gigabytes there, and the REPL with its state is alive after each.
"""

from __future__ import annotations

import asyncio
import collections
import csv
import difflib
import hashlib
import io
import itertools
import json
import os
import re
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlm_cli.builder import CorpusBuilder
from rlm_cli.call import Output
from rlm_cli.corpus import Corpus
from rlm_cli.sandbox import Query, Span, open_sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the process sandbox is Linux only")

LINES = [
    "2026-11-24 host{0} kernel: connection from port {1} closed, nothing else happened",
    "2026-11-24 Gerät{0} „Zugang“ über Port {1} schließt, sonst nichts geändert",
    "2026-11-24 装置{0} 日本語の記録、ポート {1} が閉じられました",
    "2026-11-24 host{0} ERROR {1} disk failed 😀, a,b,c",
    "",
]
PIECE = "".join(LINES[n % 5 if n % 100 < 5 else 0].format(n, n * 7919 % 65536) + "\n" for n in range(11_000))
LAST = '{"last": [1, 2, 3]}\n'

MEANT = [
    "len(context)",
    "bool(context)",
    "context[:60]",
    "context[-60:]",
    "context[1_000:1_040], context[40:20], context[10], context[-1]",
    "context[100:0:-7]",
    "context.split('\\n')[3]",
    "len(context.split('\\n'))",
    "context.split('\\n')[-2:]",
    "context.split('\\n', 2)[:2]",
    "context.split('ERROR', 1)[0][-30:]",
    "[part[:20] for part in context.split('ERROR')[:3]]",
    "context.split()[:5]",
    "len(context.split())",
    "len(context.splitlines())",
    "context.splitlines()[-1]",
    "[context.splitlines()[n] for n in (0, 5, 900, -2)]",
    "lines = context.splitlines()\nsum(lines[n] == lines[n - 1] for n in range(1, 5_000))",
    "next(reversed(context.splitlines()))",
    "list(enumerate(context.splitlines()[:3]))",
    "sum(a == b for a, b in itertools.islice(zip(context.splitlines(), context.splitlines()[1:]), 10_000))",
    "sum('ERROR' in line for line in context.splitlines())",
    "[n for n, line in enumerate(context.split('\\n')) if 'ERROR' in line][:5]",
    "max(map(len, context.splitlines()))",
    "min(context.splitlines())",
    "'|'.join(context.splitlines()[:3])",
    "sorted(context.splitlines()[:5])",
    "list(context.splitlines()[2:4])",
    "collections.Counter(word for line in context.splitlines()[:5_000] for word in line.split()).most_common(3)",
    "collections.Counter(m[0] for m in re.finditer(r'ERROR|kernel', context)).most_common()",
    "'ERROR' in context, 'no such thing' in context, '日本語' in context, '😀' in context",
    "any(word in context for word in ('no such thing', 'ERROR'))",
    "context.find('ERROR'), context.find('ERROR', 10_000), context.find('nowhere'), context.index('Gerät')",
    "context.rfind('ERROR'), context.rindex('last')",
    "context.count('ERROR'), context.count('x'), context.count('日本', 500, -500)",
    "context.startswith('2026'), context.endswith(('x', '}\\n'))",
    "context == 'no', context != 'no', context == context",
    "context.partition('ERROR')[0][-30:], context.rpartition('ERROR')[2][:30], context.rsplit('ERROR', 1)[1][:30]",
    "len(context.strip()), context.strip()[-5:], context.removeprefix('2026')[:10]",
    "re.findall(r'ERROR (\\d+)', context)[:3]",
    "len(re.findall(r'ERROR \\d+', context))",
    "re.search(r'(?i)error (\\d+)', context).group(1), re.search('nowhere', context), re.match(r'\\S+', context)[0]",
    "[m.span() for m in itertools.islice(re.finditer(r'Gerät\\d+', context), 3)]",
    "len(re.compile(r'^$', re.M).findall(context))",
    "re.split('ERROR', context)[1][:20]",
    "re.sub('E', 'x', context[:200])",
    "json.loads(context.splitlines()[-1])",
    "next(csv.reader(context.splitlines(True)))",
    "next(csv.DictReader(context.splitlines(), fieldnames=['a']))",
    "io.StringIO(context[:500]).readline()",
    "textwrap.shorten(context[:200], 40)",
    "difflib.get_close_matches('2026 host5 kernel connection', context.splitlines()[:50], 1, 0.1)",
    "hashlib.sha256(context[:100].encode()).hexdigest()",
    "f'{context[:10]}|{len(context)}'",
    "context[:5] + 'x', '%s' % context[:5]",
    "json.dumps(context[:20])",
    "[len(context[start : start + 1000]) for start in range(0, 100_000, 1000)][-1]",
    "len([context[n] for n in range(100_000)])",
    "docs[0].text[:20], docs[0].text.find('ERROR'), docs[0].lines[1], len(docs[0].lines), docs[0].chars, docs[0].pages",
    "docs['big.log'].text.count('kernel'), 'ERROR' in docs[0].text, len(docs)",
    "re.findall(r'ERROR (\\d+)', docs[0].text)[:2]",
]
"""Cells whose value is that of a plain `str` of the same text."""

SPLIT, SLICE = "context.splitlines()", "context[a:b]"
REFUSED = [
    ("for char in context: pass", SPLIT),
    ("[char for char in context if char == 'x']", SPLIT),
    ("list(context)", SPLIT),
    ("tuple(context)", SPLIT),
    ("set(context)", SPLIT),
    ("sorted(context)", SPLIT),
    ("max(context)", SPLIT),
    ("enumerate(context)", SPLIT),
    ("reversed(context)", SPLIT),
    ("zip(context, context)", SPLIT),
    ("map(ord, context)", SPLIT),
    ("collections.Counter(context)", SPLIT),
    ("dict.fromkeys(context)", SPLIT),
    ("''.join(context)", SPLIT),
    ("''.join([context, 'x'])", SLICE),
    ("'\\n'.join(['question', context])", SLICE),
    ("f'{context}'", "context=..."),
    ("'{}'.format(context)", "context=..."),
    ("llm_query(f'Summarize: {context}')", "llm_query(prompt, context=...)"),
    ("context + 'x'", "context[:2000]"),
    ("'x' + context", "context[:2000]"),
    ("total = ''\ntotal += context", "context[:2000]"),
    ("context * 2", "context[:2000]"),
    ("2 * context", "context[:2000]"),
    ("context % ()", "context[:2000]"),
    ("context.lower()", "re.I"),
    ("'error' in context.lower()", "re.finditer(pattern, context, re.I)"),
    ("context.upper()", "re.I"),
    ("context.casefold()", "re.I"),
    ("context.replace('a', 'b')", "line.replace(...)"),
    ("context.encode()", SPLIT),
    ("context.translate({})", SPLIT),
    ("context.title()", SPLIT),
    ("context.isdigit()", SPLIT),
    ("context.format(1)", SPLIT),
    ("re.sub('a', 'b', context)", SPLIT),
    ("re.compile('a').subn('b', context)", SPLIT),
    ("re.fullmatch('.*', context)", SPLIT),
    ("hash(context)", SLICE),
    ("{context: 1}", SLICE),
    ("json.loads(context)", SLICE),
    ("json.dumps(context)", SLICE),
    ("io.StringIO(context)", SLICE),
    ("list(csv.reader(io.StringIO(context)))", SLICE),
    ("csv.reader(context)", SPLIT),
    ("textwrap.wrap(context)", SPLIT),
    ("textwrap.dedent(context)", SLICE),
    ("difflib.get_close_matches('x', context)", SPLIT),
    ("difflib.SequenceMatcher(None, 'abc', context).ratio()", SPLIT),
    ("string.Template(context).substitute()", SLICE),
    ("import unicodedata\nunicodedata.normalize('NFC', context)", SLICE),
    ("int(context)", SLICE),
    ("context < 'x'", SLICE),
    ("context.text", "docs[i]"),
    ("context.lines", "docs[i]"),
    ("context.read()", "docs[i]"),
    ("context.find(5)", "str, not int"),
    ("5 in context", "str, not int"),
    ("context['a']", "as an integer"),
    ("context.split('')", "empty separator"),
    ("context.splitlines().sort()", "lines[:1000]"),
    ("context.split().append(1)", "words[:1000]"),
    ("context.nowhere()", "no 'nowhere'"),
]
"""Cells that fail, and what the one line of their error names."""

ROOM = [
    ("str(context) == context", "True"),
    ("print(context)", "2026-11-24"),
    ("json.loads(str(context).splitlines()[-1])", "{'last'"),
    ("'%s' % context == context", "True"),
]
"""Cells that copy all of it on purpose: they work where its memory can be had, and else name a slice."""

FULL = [
    "pieces = [context[start : start + 100_000] for start in range(0, len(context), 100_000)]",
    "everything = list(context.splitlines())",
    "everything = [line for line in context.split('\\n')]",
    "'\\n'.join(context.splitlines())",
    "sorted(context.split())",
    "re.findall(r'\\w+', context)",
]
"""Cells that hold a gigabyte in pieces: the memory of the REPL is full, and they say so."""
SLOW, STEP = "part = context[i : i + 1_000_000]", "step through a slice"
HEAVY = [
    ("collections.Counter(context.splitlines()).most_common(3)", None),
    ("len(set(context.splitlines()))", None),
    ("for n in range(len(context)): context[n]", SLOW),
    ("difflib.SequenceMatcher(None, context, 'abc').ratio()", SLOW),
    ("context[::-1]", STEP),
    ("context[::2]", STEP),
    ("len(context.split(', ')), len(context.split('ERROR'))", None),
    ("sum(map(len, context.split(', ')))", None),
    ("for part in context.split('ERROR'): part", None),
    ("context.find('a' * 100_000), context.count('o' * 5_000), 'host' * 1000 in context", None),
    ("docs[0].text.lower()", "re.I"),
    ("f'{docs[0].text}'", "context=..."),
    ("docs[0].text[10:-10].count('kernel')", None),
    ("docs[0].lines[5_000_000], docs[0].lines[-1]", None),
    ("for n in range(0, 1_000_000): docs[0].lines[n]", None),
]
"""Cells that go over all of it once or more, and what those name that fail."""


def build(megabytes: float, folder: Path) -> Corpus:
    builder = CorpusBuilder(folder)
    with builder.document("big.log", "text") as document:
        for _ in range(max(1, round(megabytes * 1_000_000 / len(PIECE.encode())))):
            document.write(PIECE)
        document.write(LAST)
        document.sha256 = "0" * 64
    return builder.finish()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    made = build(1, tmp_path_factory.mktemp("corpus"))
    yield made
    made.close()


def outputs(corpus: Corpus, cells: list[str], spans: list[Span] | None = None) -> list[Output]:
    """Of a REPL whose context is lazy; a variable of its own must be there at the end."""

    async def ask(query: Query) -> list[Any]:
        raise AssertionError("nobody is to be asked")

    async def main() -> list[Output]:
        place = open_sandbox("process", cell_timeout_s=60, repl_memory=1 << 30, context_memory=1000)
        try:
            repl = await place.open(corpus, spans, ask)
            modules = "import collections, csv, difflib, hashlib, io, itertools, json, re, string, textwrap"
            assert (await repl.execute(f"{modules}\nkept = type(context).__name__")).error is None
            done = [await repl.execute(cell) for cell in cells]
            assert "lazy text" in (await repl.execute("kept")).stdout
            return done
        finally:
            await place.close()

    return asyncio.run(main())


class PlainDoc:
    """A document of a plain text."""

    def __init__(self, text: str) -> None:
        self.text, self.lines, self.pages, self.chars = text, text.splitlines(), [], len(text)


class PlainDocs(list[PlainDoc]):
    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(0)


def value(cell: str, context: str) -> str:
    """What the REPL would show of a cell over a plain text."""
    *before, last = cell.split("\n")
    names = {"context": context, "docs": PlainDocs([PlainDoc(context)]), "collections": collections, "csv": csv,
             "difflib": difflib, "hashlib": hashlib, "io": io, "itertools": itertools, "json": json, "re": re,
             "textwrap": textwrap}  # fmt: skip
    exec("\n".join(before), names)
    return f"{eval(last, names)!r}\n"


@pytest.mark.parametrize("cut", [None, 1_003])
def test_it_does_what_was_meant(corpus: Corpus, cut: int | None) -> None:
    """Over all of it and over slices that a child was given, the value is that of a plain string."""
    spans = None
    text = corpus.text(*corpus.whole)
    if cut is not None:
        start, stop = corpus.whole
        spans = [Span(start + cut * 70, start + cut * 700), Span(stop - cut * 70, stop)]
        text = "".join(corpus.text(span.start, span.stop) for span in spans)
    for cell, output in zip(MEANT, outputs(corpus, MEANT, spans), strict=True):
        assert output.error is None, (cell, output.error)
        assert output.stdout == value(cell, text), cell


def test_or_one_line_names_the_right_spelling(corpus: Corpus) -> None:
    """What would copy all of it fails; its error is the model's own line and one that says what to write."""
    for (cell, named), output in zip(REFUSED, outputs(corpus, [cell for cell, _ in REFUSED]), strict=True):
        assert named in (output.error or ""), (cell, output)
        *_, message = (output.error or "").split(":\n    ")
        assert len(message.split("\n")) == 2, (cell, output.error)


def test_a_copy_is_made_where_there_is_room(corpus: Corpus) -> None:
    """Whoever says `str(context)` means it."""
    for (cell, begins), output in zip(ROOM, outputs(corpus, [cell for cell, _ in ROOM]), strict=True):
        assert output.error is None, (cell, output.error)
        assert output.stdout.startswith(begins), cell


def test_what_is_lazy_is_handed_over_by_value(corpus: Corpus) -> None:
    """An answer made of lines, or of part of the text, is their text; variables show as what they are."""
    cells = ["lines = context.splitlines()[5:7]\nFINAL(lines)", "FINAL(context.split('ERROR', 2))",
             "FINAL({'all': context.split()})", "rest = context"]  # fmt: skip
    few, parts, all_, named = outputs(corpus, cells)
    text = corpus.text(*corpus.whole)
    assert few.answer is not None
    assert few.answer.value == text.split("\n")[5:7]
    assert parts.answer is not None
    assert parts.answer.value == text.split("ERROR", 2)
    assert all_.answer is not None
    assert all_.answer.value == {"all": text.split()}
    assert named.variables == (("rest", "lazy text"),)


def test_a_document_in_one_line(tmp_path: Path) -> None:
    """A line that is longer than any string should be is a lazy text; nothing goes over it piece by piece in vain."""
    builder = CorpusBuilder(tmp_path)
    with builder.document("one.json", "text") as document:
        for _ in range(20):
            document.write("[1, 2, 3], 日本 " * 80_000)
    corpus = builder.finish()
    cells = ["len(context.splitlines())", "context.splitlines()[0]", "[line for line in context.splitlines()]",
             "context.splitlines()[0].count('日本')", "len(context.split())", "docs[0].lines[-1]"]  # fmt: skip
    lazily = f"<lazy text of {corpus.chars - len(corpus.header(corpus.documents[0])) - 1:,} characters"
    expected = ["1\n", lazily, f"[{lazily}", f"{80_000 * 20}\n", f"{4 * 80_000 * 20}\n", lazily]
    for cell, output, begins in zip(cells, outputs(corpus, cells), expected, strict=True):
        assert output.error is None, (cell, output.error)
        assert output.stdout.startswith(begins), (cell, output.stdout)
    corpus.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_over_a_gigabyte(tmp_path: Path) -> None:
    """No cell takes a minute or gigabytes, and the REPL is alive after each, with its state."""
    corpus = build(1000, tmp_path)
    tables = [*((cell, None) for cell in MEANT), *REFUSED, *((cell, "a slice") for cell, _ in ROOM)]
    tables += [*HEAVY, *((cell, "memory is full") for cell in FULL)]

    async def ask(query: Query) -> list[Any]:
        raise AssertionError("nobody is to be asked")

    async def main() -> None:
        place = open_sandbox("process", cell_timeout_s=60, repl_memory=1 << 30, context_memory=256 << 20)
        repl = await place.open(corpus, None, ask)
        modules = "import collections, csv, difflib, hashlib, io, itertools, json, re, string, textwrap"
        await repl.execute(f"{modules}\nkept = 7")
        child = repl._session.child.process.pid  # type: ignore[attr-defined]
        for cell, named in tables:
            started = time.monotonic()
            output = await repl.execute(cell)
            seconds = time.monotonic() - started
            private = private_mb(child)
            print(f"{seconds:7.2f} s {private:6.1f} MB  {cell!r}  {(output.error or '')[-150:]!r}")
            assert output.lost is None, (cell, output)
            assert (output.error is None) if named is None else named in (output.error or ""), (cell, output)
            assert seconds < 60, cell
            assert private < 64 or cell in FULL, (
                cell
            )  # what was freed after a flood comes back to the system bit by bit
            await repl.execute("del lines" if cell.startswith("lines") else "None")
            assert (await repl.execute("kept, len(context) > 1_000")).stdout == "(7, True)\n"
        await place.close()

    asyncio.run(main())
    corpus.close()


def private_mb(pid: int) -> float:
    """What a process has for itself, as far as we may look."""
    if os.geteuid() != 0:
        return 0.0
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return sum(int(size) for size in re.findall(r"Private_\w+:\s+(\d+) kB", rollup)) / 1024
