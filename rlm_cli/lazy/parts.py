"""Lines, words and other parts of a lazy text, in order: `splitlines()` and `split()` give these in place of lists.

Code that has `lines = context.split("\\n")` goes on to `len(lines)`, `lines[i - 1]`, `lines[a:b]`, `reversed(lines)`.
Lines have all of it at the price of a list: the corpus knows how many newlines stand before each of its blocks, and the
lines around the last one asked for are kept. Other parts are made anew each time they are gone through; an index goes
on from the one before. Rejected: a list of offsets (ten million lines take 80 MB).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, NoReturn, TypeVar, overload

from ..corpus import WINDOW

if TYPE_CHECKING:
    from .text import Text

SLICE = 16 << 20
"""Characters; a part up to here is a `str`, a longer one a `Text`."""
NEAR = 1 << 13
"""Bytes to both sides of a line whose lines are kept."""
T = TypeVar("T")


def refuse(what: str, instead: str) -> NoReturn:
    # Not TypeError: str.join would replace its words by its own.
    raise ValueError(f"{what} would copy the whole corpus; use {instead}")


class Lazy(Sequence[T]):
    """What sequences that are not lists have in common: what they say of themselves, and of what only a list can do."""

    _what: str

    def __repr__(self) -> str:
        return f"<lazy sequence of {self._what}: go through it with for, or take some, as in [:100]>"

    def __getattr__(self, name: str) -> NoReturn:
        what = f"a lazy sequence of {self._what}"
        if name.startswith("_") or not hasattr(list, name):
            raise AttributeError(f"{what} has no attribute {name!r}")
        raise AttributeError(f"{what} has no {name}(): make a list of a part, as in list({self._what}[:1000])")


class Lines(Lazy["str | Text"]):
    """Lines of a text, ended by "\\n" only; one of more than `SLICE` characters is a `Text`."""

    _what = "lines"

    def __init__(self, text: Text, keepends: bool, last: bool, numbers: range | None = None) -> None:
        """`last`: also the empty line behind a final newline, as `str.split` gives; `numbers`: which lines these are,
        None = all."""
        self._text = text
        self._slices = text._slices
        self._keepends = keepends
        self._last = last
        self._newlines = text._slices.newlines
        open_end = last or (len(text) > 0 and not text.endswith("\n"))
        self._numbers = range(self._newlines + open_end) if numbers is None else numbers
        self._near: tuple[int, Sequence[str]] = 0, ()

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[str | Text]:
        if self._numbers.step == 1:
            return self._run(self._numbers.start, len(self._numbers))
        return map(self._line, self._numbers)

    @overload
    def __getitem__(self, key: int) -> str | Text: ...
    @overload
    def __getitem__(self, key: slice) -> Sequence[str | Text]: ...
    def __getitem__(self, key: int | slice) -> str | Text | Sequence[str | Text]:
        if not isinstance(key, slice):
            try:
                return self._line(self._numbers[key])
            except IndexError:
                raise IndexError("list index out of range") from None
        numbers = self._numbers[key]
        if not numbers:
            return []
        low, high = min(numbers[0], numbers[-1]), max(numbers[0], numbers[-1]) + 1
        part = Lines(self._text, self._keepends, self._last, numbers)
        return list(part) if self._start(high) - self._start(low) <= SLICE and high - low <= SLICE >> 4 else part

    def _start(self, number: int) -> int:
        """The byte of the text at which a line begins; its end where there is no such line."""
        return self._slices.line_start(number) if number <= self._newlines else self._slices.bytes

    def _line(self, number: int) -> str | Text:
        first, near = self._near
        if not first <= number < first + len(near):
            first, near = self._near = self._around(number)
            if not near:
                return next(self._run(number, 1))
        line = near[number - first]
        return line + "\n" if self._keepends and number < self._newlines else line

    def _around(self, number: int) -> tuple[int, Sequence[str]]:
        """The lines that lie within `NEAR` of the start of one, and the first of their numbers.

        None where that line does not end there.
        """
        start = self._start(number)
        low, high = max(start - NEAR, 0), min(start + NEAR, self._slices.bytes)
        data = self._slices.read(low, high)
        at = start - low
        begin = data.find(b"\n", 0, at) + 1 if low else 0
        end = len(data) if high == self._slices.bytes else data.rfind(b"\n", at)
        if end < at:
            return number, ()
        return number - data.count(b"\n", begin, at), data[begin:end].decode().split("\n")

    def _run(self, number: int, count: int) -> Iterator[str | Text]:
        """Lines one after the other, read a window at a time."""
        slices = self._slices
        low, stop = self._start(number), self._start(number + count)
        while low < stop:
            data = slices.read(low, min(low + WINDOW, stop))
            end = len(data) if low + len(data) == stop else data.rfind(b"\n") + 1
            if not end:
                end = slices.find(b"\n", low + len(data), stop) + 1 or stop
                closed = not self._keepends and slices.read(end - 1, end) == b"\n"
                yield self._text._part(slices.char_of(low), slices.char_of(end - closed))
                low = end
                continue
            lines = data[:end].decode().split("\n")
            rest = lines.pop()
            yield from [line + "\n" for line in lines] if self._keepends else lines
            if rest:
                yield rest
            low += end
        if self._last and number + count > self._newlines and self._start(self._newlines) == slices.bytes:
            yield ""


class Series(Lazy[T]):
    """Parts that are found by going through the text. `len` goes through it too, once."""

    def __init__(self, parts: Callable[[], Iterator[T]], what: str, count: Callable[[], int] | None = None) -> None:
        self._parts = parts
        self._what = what
        self._counted: int | None = None
        self._count = count or (lambda: sum(1 for _ in parts()))
        self._lock = Lock()
        self._next = 0
        self._rest: Iterator[T] = iter(())
        self._found: T | None = None

    def __iter__(self) -> Iterator[T]:
        return self._parts()

    def __len__(self) -> int:
        if self._counted is None:
            self._counted = self._count()
        return self._counted

    def __bool__(self) -> bool:
        return next(self._parts(), None) is not None

    def __reversed__(self) -> Iterator[T]:
        refuse(f"going through {self._what} backwards", f"a part of them: reversed({self._what}[-1000:])")

    @overload
    def __getitem__(self, key: int) -> T: ...
    @overload
    def __getitem__(self, key: slice) -> list[T]: ...
    def __getitem__(self, key: int | slice) -> T | list[T]:
        if isinstance(key, slice):
            return self._slice(key)
        if key < 0 and self._counted is None and key >= -1000:
            tail = deque(self._parts(), maxlen=-key)
            if len(tail) == -key:
                return tail[0]
        elif (position := key + len(self) if key < 0 else key) >= 0:
            return self._at(position)
        raise IndexError("list index out of range")

    def _at(self, position: int) -> T:
        with self._lock:
            if position + 1 == self._next and self._found is not None:
                return self._found
            if position < self._next or not self._next:
                self._rest, self._next = self._parts(), 0
            for found in islice(self._rest, position - self._next, None):
                self._next, self._found = position + 1, found
                return found
            self._next = 0
        raise IndexError("list index out of range")

    def _slice(self, key: slice) -> list[T]:
        if all(part is None or part >= 0 for part in (key.start, key.stop)) and (key.step or 1) > 0:
            return list(islice(self._parts(), key.start, key.stop, key.step))
        places = range(*key.indices(len(self)))
        if not places:
            return []
        low, high = min(places[0], places[-1]), max(places[0], places[-1]) + 1
        return list(islice(self._parts(), low, high))[:: places.step]
