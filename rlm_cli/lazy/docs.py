"""`docs` of the REPL: the documents by number or path, each read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Any, overload

from ..corpus import Corpus, Document
from .parts import Lazy
from .slices import Spans
from .text import Text

KEPT = 4 << 20
"""Characters of a document whose text, lines and pages are kept while no other is asked for: loops write
`docs[0].lines[i]`. Lines and pages of a larger one are lazy sequences, whose index costs little anyhow."""


class Doc:
    """One document in the REPL: `path`, `chars`, and, read when asked for, `text`, `lines`, `pages`.

    Where the REPL holds slices of the corpus, it is the part of the document they touch.
    """

    def __init__(self, corpus: Corpus, document: Document, spans: Spans) -> None:
        self._corpus = corpus
        self._document = document
        self._spans = _clip(spans, document.start, document.stop)
        self._kept: dict[str, Any] = {}
        self.path = document.path
        self.chars = sum(stop - start for start, stop in self._spans)

    @property
    def text(self) -> str | Text:
        text: str | Text = self._keep("text", lambda: self._whole[:])
        return text

    @property
    def lines(self) -> Sequence[str | Text]:
        if self.chars > KEPT:
            return self._whole.splitlines()
        return list(self._keep("lines", lambda: list(self._whole.splitlines())))  # a list of its own: it may be sorted

    @property
    def pages(self) -> Sequence[str | Text]:
        """The text of each page; empty where the document has none."""
        if self.chars > KEPT:
            return self._pages()
        return list(self._keep("pages", lambda: list(self._pages())))

    def _pages(self) -> Pages:
        return Pages(self._corpus, self._corpus.page_spans(self._document), self._spans)

    @cached_property
    def _whole(self) -> Text:
        return Text(self._corpus, self._spans)

    def _keep(self, name: str, make: Callable[[], Any]) -> Any:
        if name in self._kept:
            return self._kept[name]
        made = make()
        if self.chars <= KEPT:
            self._kept[name] = made
        return made

    def __len__(self) -> int:
        return self.chars

    def __repr__(self) -> str:
        pages = f", {self._document.pages} pages" if self._document.pages else ""
        return f"<{self.path}: {self.chars:,} characters{pages}; .text .lines .pages>"


class Pages(Lazy["str | Text"]):
    """The pages of a document that is large, each read when it is asked for."""

    _what = "pages"

    def __init__(self, corpus: Corpus, pages: Sequence[tuple[int, int]], spans: Spans) -> None:
        self._corpus = corpus
        self._places = pages
        self._spans = spans

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, key: int) -> str | Text: ...
    @overload
    def __getitem__(self, key: slice) -> Pages: ...
    def __getitem__(self, key: int | slice) -> str | Text | Pages:
        if isinstance(key, slice):
            return Pages(self._corpus, self._places[key], self._spans)
        return Text(self._corpus, _clip(self._spans, *self._places[key]))[:]


class Docs(Sequence[Doc]):
    """`docs` in the REPL: the documents its slices touch, in order, by number or by path."""

    def __init__(self, corpus: Corpus, spans: Spans | None = None) -> None:
        self._corpus = corpus
        self._spans = sorted(((0, corpus.chars),) if spans is None else spans)
        self._indexes: Sequence[int] = range(len(corpus.documents)) if spans is None else corpus.touched(spans)
        self._by_path: dict[str, int] = {}
        self._last: tuple[int, Doc] | None = None

    def __len__(self) -> int:
        return len(self._indexes)

    @overload
    def __getitem__(self, key: int | str) -> Doc: ...
    @overload
    def __getitem__(self, key: slice) -> list[Doc]: ...
    def __getitem__(self, key: int | str | slice) -> Doc | list[Doc]:
        if isinstance(key, slice):
            return [self[number] for number in range(*key.indices(len(self)))]
        if isinstance(key, str):
            return self._named(key)
        index, last = self._indexes[key], self._last
        if last is None or last[0] != index:
            self._last = last = index, Doc(self._corpus, self._corpus.documents[index], self._spans)
        return last[1]

    def __contains__(self, item: object) -> bool:
        return item in self._paths() if isinstance(item, str) else item in list(self)

    def get(self, path: str, default: Any = None) -> Any:
        """As `dict.get`."""
        number = self._paths().get(path)
        return default if number is None else self[number]

    def keys(self) -> list[str]:
        """The paths, as `dict.keys`."""
        return list(self._paths())

    def __repr__(self) -> str:
        shown = ", ".join(doc.path for doc in self[:3])
        more = f", … {len(self) - 3:,} more" if len(self) > 3 else ""
        return f"<{len(self):,} documents: {shown}{more}; docs[0] or docs[path], .path .text .lines .pages .chars>"

    def _named(self, path: str) -> Doc:
        paths = self._paths()
        if path not in paths:
            close = [other for other in paths if other.endswith("/" + path)]
            if len(close) == 1:
                return self[paths[close[0]]]
            close = close or get_close_matches(path, paths, 3, 0.5)
            hint = f"; close: {', '.join(map(repr, close[:3]))}" if close else ""
            raise KeyError(f"no document {path!r}{hint}")
        return self[paths[path]]

    def _paths(self) -> dict[str, int]:
        if not self._by_path:
            self._by_path = {self._corpus.documents[index].path: number for number, index in enumerate(self._indexes)}
        return self._by_path


def _clip(spans: Spans, start: int, stop: int) -> list[tuple[int, int]]:
    """The parts of the spans that lie within [start, stop)."""
    clipped = ((max(low, start), min(high, stop)) for low, high in spans)
    return [(low, high) for low, high in clipped if low < high]
