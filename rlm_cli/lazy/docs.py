"""`docs` of the REPL: the documents by number or path, each read when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, overload

from ..corpus import Corpus, Document
from .text import SLICE, Spans, Text


class Doc:
    """One document in the REPL: `path`, `chars`, and, read when asked for, `text`, `lines`, `pages`.

    Where the REPL holds slices of the corpus, it is the part of the document they touch.
    """

    def __init__(self, corpus: Corpus, document: Document, spans: Spans) -> None:
        self._corpus = corpus
        self._document = document
        self._spans = _clip(spans, document.start, document.stop)
        self.path = document.path
        self.chars = sum(stop - start for start, stop in self._spans)

    @property
    def text(self) -> str | Text:
        text = Text(self._corpus, self._spans)
        return text._part(0, len(text))

    @property
    def lines(self) -> Sequence[str]:
        text = Text(self._corpus, self._spans)
        return text.splitlines() if self.chars > SLICE else list(text.splitlines())

    @property
    def pages(self) -> list[str]:
        """The text of each page; empty where the document has none."""
        parts = (_clip(self._spans, start, stop) for start, stop in self._corpus.page_spans(self._document))
        return ["".join(self._corpus.text(*span) for span in part) for part in parts]

    def __len__(self) -> int:
        return self.chars

    def __repr__(self) -> str:
        pages = f", {self._document.pages} pages" if self._document.pages else ""
        return f"<{self.path}: {self.chars:,} characters{pages}; .text .lines .pages>"


class Docs(Sequence[Doc]):
    """`docs` in the REPL: the documents its slices touch, in order, by number or by path."""

    def __init__(self, corpus: Corpus, spans: Spans | None = None) -> None:
        self._corpus = corpus
        self._spans = sorted(((0, corpus.chars),) if spans is None else spans)
        self._indexes: Sequence[int] = range(len(corpus.documents)) if spans is None else corpus.touched(spans)
        self._by_path: dict[str, int] = {}

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
        return Doc(self._corpus, self._corpus.documents[self._indexes[key]], self._spans)

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
            close = close or get_close_matches(path, paths, 3, 0.5) or self._alike(path.rpartition("/")[2])
            near = f"close: {', '.join(map(repr, close[:3]))}" if close else "docs.keys() lists the paths"
            raise KeyError(f"no document {path!r}; {near}")
        return self[paths[path]]

    def _alike(self, name: str) -> list[str]:
        """Paths whose file's name is close."""
        names = {path.rpartition("/")[2]: path for path in self._paths()}
        return [names[close] for close in get_close_matches(name, names, 3, 0.5)]

    def _paths(self) -> dict[str, int]:
        if not self._by_path:
            self._by_path = {self._corpus.documents[index].path: number for number, index in enumerate(self._indexes)}
        return self._by_path


def _clip(spans: Spans, start: int, stop: int) -> list[tuple[int, int]]:
    """The parts of the spans that lie within [start, stop)."""
    clipped = ((max(low, start), min(high, stop)) for low, high in spans)
    return [(low, high) for low, high in clipped if low < high]
