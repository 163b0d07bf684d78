"""`docs` of the REPL: the documents by number or path, each read when it is asked for."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import accumulate
from typing import Any, overload

from ..corpus import Corpus, Document
from .parts import Lazy
from .slices import Spans
from .text import Text

LISTED = 4 << 20
"""Characters of a document up to which its lines and pages are lists; those of a larger one are lazy sequences."""


class Kept:
    """What was read of the document last asked for: code writes `docs[0].lines[i]` in a loop. Of one only, since code
    keeps all of `docs` in a list as well."""

    def __init__(self) -> None:
        self._slot: tuple[int, dict[str, Any]] = -1, {}

    def get(self, document: int, name: str, make: Callable[[], Any]) -> Any:
        owner, values = self._slot
        if owner != document:
            values = {}
            self._slot = document, values
        if name not in values:
            values[name] = make()
        return values[name]


class Doc:
    """One document in the REPL: `path`, `chars`, and, read when asked for, `text`, `lines`, `pages`.

    Where the REPL holds slices of the corpus, it is the part of the document they touch.
    """

    def __init__(self, corpus: Corpus, document: Document, spans: Spans, kept: Kept) -> None:
        self._corpus = corpus
        self._document = document
        self._spans = _clip(spans, document.start, document.stop)
        self._kept = kept
        self.path = document.path
        self.chars = sum(stop - start for start, stop in self._spans)

    @property
    def text(self) -> str | Text:
        text: str | Text = self._keep("text", lambda: self._whole[:]) if self.chars <= LISTED else self._whole[:]
        return text

    @property
    def lines(self) -> Sequence[str | Text]:
        return self._listed("lines", lambda: self._whole.splitlines())

    @property
    def pages(self) -> Sequence[str | Text]:
        """The text of each page; empty where the document has none."""
        return self._listed("pages", lambda: Pages(self._corpus, self._document, self._spans))

    @property
    def _whole(self) -> Text:
        text: Text = self._keep("whole", lambda: Text(self._corpus, self._spans))
        return text

    def _listed(self, name: str, make: Callable[[], Sequence[str | Text]]) -> Sequence[str | Text]:
        if self.chars > LISTED:
            lazily: Sequence[str | Text] = self._keep(name, make)
            return lazily
        return list(self._keep(name, lambda: list(make())))  # a list of its own: code may sort it

    def _keep(self, name: str, make: Callable[[], Any]) -> Any:
        return self._kept.get(self._document.index, name, make)

    def __len__(self) -> int:
        return self.chars

    def __repr__(self) -> str:
        pages = f", {self._document.pages} pages" if self._document.pages else ""
        return f"<{self.path}: {self.chars:,} characters{pages}; .text .lines .pages>"


class Pages(Lazy["str | Text"]):
    """The pages of a document that is large, each read when it is asked for."""

    _what = "pages"

    def __init__(self, corpus: Corpus, document: Document, spans: Spans) -> None:
        self._corpus = corpus
        self._places = corpus.page_spans(document)
        self._spans = spans

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, key: int) -> str | Text: ...
    @overload
    def __getitem__(self, key: slice) -> list[str | Text]: ...
    def __getitem__(self, key: int | slice) -> str | Text | list[str | Text]:
        if isinstance(key, slice):
            return [self[number] for number in range(*key.indices(len(self)))]
        return Text(self._corpus, _clip(self._spans, *self._places[key]))[:]


class Docs(Sequence[Doc]):
    """`docs` in the REPL: the documents its slices touch, in order, by number or by path."""

    def __init__(self, corpus: Corpus, spans: Spans | None = None) -> None:
        self._corpus = corpus
        self._spans = sorted(((0, corpus.chars),) if spans is None else spans)
        self._starts = [start for start, _ in self._spans]
        self._reached = list(accumulate((stop for _, stop in self._spans), max))
        self._indexes: Sequence[int] = range(len(corpus.documents)) if spans is None else corpus.touched(spans)
        self._by_path: dict[str, int] = {}
        self._kept = Kept()

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
        document = self._corpus.documents[self._indexes[key]]
        low, high = bisect_right(self._reached, document.start), bisect_left(self._starts, document.stop)
        return Doc(self._corpus, document, self._spans[low:high], self._kept)

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
