"""From what the user named to one corpus: which files, which reader, and an account of every path.

`gather` is synchronous and meant for a thread: it looks at `stop` between files and chunks. Documents reach the corpus
in the order of their paths, whatever the file system says and however many workers extract at once: what is no text
(`formats.py`, the table of readers) is read in workers ahead of its turn, a bounded number of files at a time.

A member of an archive is a path like any other: `a.zip!/dir/b.pdf` in citations, globs and as a source.
"""

from __future__ import annotations

import functools
import glob
import os
import shutil
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import builder
from ..builder import CorpusBuilder
from ..errors import SourceError, UsageError
from ..events import Reading
from . import addresses, formats, frames, text, walk
from .addresses import Allowance, shown
from .cache import Texts
from .copies import Copies
from .extract import Request
from .frames import Frame
from .members import Wanted
from .pieces import NO_TEXT, Options, Unreadable
from .pipes import Bounds, Pipe, Stopped
from .walk import Found, Rules
from .workers import Coming, Extracting, Extractors

if TYPE_CHECKING:
    from .elsewhere import Elsewhere
    from .incoming import Fetched

__all__ = [
    "Allowance",
    "Bounds",
    "Manifest",
    "Options",
    "Rules",
    "Skipped",
    "Stopped",
    "Texts",
    "gather",
    "read_list",
    "shown",
]

STDIN = "-"
PROGRESS_S = 0.1
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
MOST_WAITING = 256
"""Files that are known before it is their turn."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A path that was wanted and could not be read."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What did not become a document. `excluded`: rule → how many entries it kept out (a folder counts once)."""

    skipped: tuple[Skipped, ...] = ()
    excluded: dict[str, int] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()
    """Pipes that were read in part, because they had no end within bounds."""


def gather(
    sources: Sequence[str],
    rules: Rules,
    builder: CorpusBuilder,
    *,
    stdin: BinaryIO | None,
    progress: Callable[[Reading], None],
    stop: threading.Event,
    options: Options = Options(),  # noqa: B008  # frozen
    bounds: Bounds = Bounds(),  # noqa: B008
    allowance: Allowance = Allowance(),  # noqa: B008
    texts: Texts | None = None,
) -> Manifest:
    """Read every source into `builder`.

    Raises `SourceError` for a source that does not exist, `UsageError` for an unknown type or a bad glob. `progress` is
    called at once and then at most every tenth of a second, from this thread. `bounds`: of what may never end.
    """
    walk.check(rules)
    for source in sources:
        if addresses.is_url(source):
            addresses.check(source)
    with ExitStack() as open_until_then:
        extractors = open_until_then.enter_context(Extractors(texts=texts))

        @functools.cache  # `cache` is a file here
        def elsewhere() -> Elsewhere:
            from .elsewhere import Elsewhere

            return open_until_then.enter_context(Elsewhere(allowance, texts))

        gathering = _Gathering(rules, builder, stdin, progress, stop, extractors, elsewhere, options, bounds)
        return gathering.read(sources)


def read_list(path: str, stdin: BinaryIO) -> list[str]:
    """The paths in a list, separated by NULs if it has any, else by newlines. Raises `UsageError`."""
    try:
        data = stdin.read() if path == STDIN else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"--files-from: {path} cannot be read", why=error.strerror or "") from error
    parts = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [os.fsdecode(part) for part in parts if part]


class _Abandoned(Exception):
    """A document that was begun and cannot be read to its end."""

    def __init__(self, skip: frames.Skip) -> None:
        super().__init__(skip.reason)
        self.skip = skip


@dataclass(frozen=True, slots=True)
class _Came:
    """What came of a file: its documents by their indexes, and what was skipped."""

    path: str
    documents: range
    skipped: tuple[Skipped, ...]


class _Gathering:
    def __init__(
        self,
        rules: Rules,
        builder: CorpusBuilder,
        stdin: BinaryIO | None,
        progress: Callable[[Reading], None],
        stop: threading.Event,
        extractors: Extractors,
        elsewhere: Callable[[], Elsewhere],
        options: Options,
        bounds: Bounds,
    ) -> None:
        self.elsewhere = elsewhere
        self.options = options
        self.bounds = bounds
        self.rules = rules
        self.builder = builder
        self.stdin = stdin
        self.stop = stop
        self.extractors = extractors
        self.account = walk.Account()
        self.skipped: list[Skipped] = []
        self.cut: list[str] = []
        self._notices: list[str] = []
        self._progress = progress
        self._last = 0.0
        self._files = self._bytes = self._pages = 0
        self._copies = Copies()
        self._same: dict[str | None, str] = {}
        self._came: dict[str | None, _Came] = {}

    def read(self, sources: Sequence[str]) -> Manifest:
        seen: set[str] = set()
        self._show("", at_once=True)
        for coming in self._ahead(self._found(sources, seen)):
            found = coming.found
            self._check()
            if found.problem:
                self._skip(found.path, found.problem)
            elif found.path == STDIN and found.file is None:
                self._stdin()
            elif coming.fetching is not None:
                self._arrived(coming, coming.fetching)
            elif coming.extracting is not None:
                self._extracted(found, coming.extracting)
            elif found.file in self._same:
                self._again(found, self._came[self._same[found.file]])
            else:
                self._file(found)
        self._show("", at_once=True)
        excluded = dict(sorted(self.account.excluded.items()))
        kept_out = sum(excluded.values())
        if kept_out > 10 * max(self._files, 1):
            told = f"rules kept out {kept_out:,} entries and left {self._files:,} files; -u reads ignored ones"
            self._notices.append(told)
        if not self.options.ocr and any(each.reason == NO_TEXT for each in self.skipped) and shutil.which("tesseract"):
            self._notices.append(
                "pages without a text layer: `ocr = true` in the configuration has tesseract read them"
            )
        return Manifest(tuple(self.skipped), excluded, tuple(self._notices), tuple(map(printable, self.cut)))

    def _found(self, sources: Sequence[str], seen: set[str]) -> Iterator[Found]:
        """Every file of every source, each once."""
        if len(sources) == 1 and os.path.isdir(sources[0]):  # noqa: PTH112  # a walk meets nothing twice
            yield from self._expand(sources[0])
            return
        for source in sources:
            for found in self._expand(source):
                place = source if found.away and found.named else found.path
                if found.file is not None:
                    place = os.path.abspath(found.file) + found.only  # noqa: PTH100
                if place not in seen:
                    seen.add(place)
                    yield found

    def _expand(self, source: str) -> Iterator[Found]:
        if source == STDIN:
            yield Found(STDIN, None)
        elif addresses.is_url(source):
            from .elsewhere import expand

            yield from expand(source, self.rules, self.account, self.elsewhere().incoming, self._result)
        elif os.path.isdir(source):  # noqa: PTH112  # names that are not UTF-8 stay as they are
            yield from walk.folder(source, self.rules, self.account)
        elif (there := _is_there(source)) is not False:
            yield Found(source, source, named=True, problem="" if there else "unreadable (Permission denied)")
        elif member := _member(source):
            file, only = member
            yield Found(source, file, named=True, only=only)
        elif glob.has_magic(source) and (matches := sorted(glob.glob(source, recursive=True))):  # noqa: PTH207
            for match in matches:
                yield from self._expand(match)
        else:
            raise _missing(source)

    def _ahead(self, found: Iterator[Found]) -> Iterator[Coming]:
        """The same in the same order, while the next ones are fetched, and extracted where they are no text."""
        queue: deque[Coming] = deque()
        reading = fetching = 0
        for one in found:
            coming = Coming(one)
            known = one.file and not one.problem and (one.only or formats.by_name(one.path))
            if one.away is not None:
                self.elsewhere().begin(coming)
                fetching += 1
            elif known and (one.regular or _is_file(one.file or "")) and not self._is_copy(one):
                coming.extracting = self.extractors.submit(self._request(one))
                reading += 1
            queue.append(coming)
            while queue and (
                (queue[0].extracting is None and queue[0].fetching is None)
                or reading >= self.extractors.ahead
                or (fetching and fetching >= self.elsewhere().incoming.ahead)
                or len(queue) > MOST_WAITING
            ):
                first = queue[0]
                if first.fetching is not None:
                    self.elsewhere().go_on(queue, self._request)
                    fetching -= 1
                elif first.extracting is not None:
                    reading -= 1
                yield queue.popleft()
        while queue:
            if queue[0].fetching is not None:
                self.elsewhere().go_on(queue, self._request)
            yield queue.popleft()

    def _is_copy(self, found: Found) -> bool:
        """Whether another file of the same bytes is read before this one. Rules may leave other members of each."""
        if found.only or not found.file or (self.rules.globs and formats.suffix_of(found.path) in formats.CONTAINERS):
            return False
        first = self._copies.of(found.file)
        if first is not None:
            self._same[found.file] = first
        return first is not None

    def _again(self, found: Found, came: _Came) -> None:
        """What came of a file of the same bytes, under this one's path."""
        for index in came.documents:
            self._check()
            self.builder.repeat(index, printable(found.path) + self.builder.path(index)[len(came.path) :])
            self._files += 1
        for skipped in came.skipped:
            self._skip(found.path + skipped.path[len(came.path) :], skipped.reason)
        self._show(found.path)

    def _file(self, found: Found) -> None:
        """A file that is read here: text, or found out to be something else by its bytes."""
        assert found.file is not None
        try:
            mode = stat.S_IFREG if found.regular else os.stat(found.file).st_mode  # noqa: PTH116
            if stat.S_ISFIFO(mode) and found.named:  # <(command), /dev/stdin
                with open(os.open(found.file, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as pipe:  # noqa: PTH123
                    return self._pipe(found, pipe)
            if not stat.S_ISREG(mode):
                return self._skip(found.path, _sort_of(mode))
            # One that was put there in the meantime and would make us wait does not.
            with open(os.open(found.file, READ), "rb", buffering=0) as file:  # noqa: PTH123
                self._stream(found, file.read)
        except OSError as error:
            self._skip(found.path, f"unreadable ({error.strerror})")

    def _stdin(self) -> None:
        if self.stdin is None:
            return self._skip(STDIN, "there is no stdin")
        try:
            self._pipe(Found(STDIN, None, named=True), self.stdin)
        except OSError as error:
            self._skip(STDIN, f"unreadable ({error.strerror})")

    def _pipe(self, found: Found, stream: BinaryIO | FileIO) -> None:
        """What may never end: cut where the bounds say, and that is told."""
        path, this = found.path, threading.current_thread()
        pipe = Pipe(
            stream, self.bounds, self.stop, lambda: self._show(path) if threading.current_thread() is this else None
        )
        self._stream(found, pipe.read)
        if pipe.cut:
            self.cut.append(path)
            what = "stdin" if path == STDIN else printable(path)
            self._notices.append(f"{what} was cut {pipe.cut}: what came until then is read")

    def _stream(self, found: Found, read: Callable[[int], bytes]) -> None:
        """Text goes straight into the corpus; what is something else by its first bytes goes to a worker."""
        path, head = found.path, text.read_head(read)
        choice = formats.choose(path, head, encoding=self.options.encoding)
        if choice.reason:
            return self._skip(path, choice.reason)
        if choice.format is not None:
            return self._not_text(found, head, read)
        self._text(path, head, read)

    def _text(self, path: str, head: bytes, read: Callable[[int], bytes], encoding: str | None = None) -> None:
        with self.builder.document(printable(path), "text") as document:
            for size in text.decode(head, read, document, self.options.encoding or encoding):
                self._bytes += size
                self._show(path)
                self._check()
        self._files += 1
        self._show(path)

    # ── what is fetched ──

    def _result(self, future: Future[Any], path: str) -> Any:
        return self.elsewhere().incoming.take(future, lambda: self._waiting(path))

    def _arrived(self, coming: Coming, fetching: Future[Fetched]) -> None:
        """A file from elsewhere, when it is there."""
        found = coming.found
        try:
            fetched: Fetched = self._result(fetching, found.path)
        except Unreadable as error:
            return self._skip(found.path, str(error))
        with fetched.file as file:
            reason = self.elsewhere().look(coming, fetched, self._request)
            if reason:
                self._skip(found.path, reason)
            elif coming.extracting is not None:
                self._extracted(found, coming.extracting)
            else:
                self._text(found.path, text.read_head(file.read), file.read, fetched.encoding)

    # ── what workers read ──

    def _request(self, found: Found) -> Request:
        rules = self.rules
        way = walk.way(found.root) + found.path[len(found.root) :].lstrip("/") if found.root else found.path
        if found.away is not None:
            from .elsewhere import below

            way = below(found.path, found.root)
        wanted = Wanted(
            printable(way), rules.globs, rules.suffixes, rules.unrestricted >= 2, found.only, bypass=found.named
        )
        outer = found.path.removesuffix("!/" + found.only) if found.only else found.path
        return Request(found.file or "", outer, wanted, self.options)

    def _not_text(self, found: Found, head: bytes, read: Callable[[int], bytes]) -> None:
        if found.file is not None and _is_file(found.file):
            return self._extracted(found, self.extractors.at_once(self._request(found)))
        self._extracted(found, self.extractors.stream(self._request(found), head, read))

    def _waiting(self, path: str) -> None:
        self._check()
        self._show(path)

    def _extracted(self, found: Found, extracting: Extracting) -> None:
        """Everything a worker says of a file, into the corpus and the account."""
        outer = found.path.removesuffix("!/" + found.only) if found.only else found.path
        before = (self.builder.documents, len(self.skipped))
        with closing(extracting.frames(lambda: self._waiting(outer))) as told:
            for frame in told:
                self._check()
                match frame:
                    case frames.Begin(inside, kind):
                        try:
                            self._document(outer + inside, kind, told)
                        except _Abandoned as abandoned:
                            self._skip(outer + abandoned.skip.path, abandoned.skip.reason)
                    case frames.Skip(inside, reason):
                        self._skip(outer + inside, reason)
                    case frames.Kept(rule):
                        self.account.excluded[rule] += 1
                    case frames.Note(inside, words):
                        self._notices.append(f"{printable(outer + inside)}: {words}")
                    case frames.Done(met) if not met:
                        raise SourceError(
                            f"no file or folder at {printable(found.path)}",
                            why=f"{printable(outer)} holds no such member",
                            hint=f"rlm read --list {printable(outer)}",
                        )
        documents = range(before[0], self.builder.documents)
        self._came[found.file] = _Came(printable(outer), documents, tuple(self.skipped[before[1] :]))

    def _document(self, path: str, kind: str, told: Iterator[Frame]) -> None:
        """One document, up to its end. Raises `_Abandoned` when it has none: nothing of it is left then."""
        page, damaged = 0, []
        with self.builder.document(printable(path), kind) as document:
            for frame in told:
                match frame:
                    case frames.Text(said, data):
                        self._waiting(path)
                        document.write(said, data)
                    case frames.Page(bad):
                        document.page()
                        page += 1
                        damaged += [page] * bad
                    case frames.End(encoding, size, digest, replaced):
                        document.encoding, document.replaced = encoding, replaced
                        document.source_bytes, document.sha256 = size, digest
                        self._files += 1
                        self._bytes += size
                        self._pages += page
                        break
                    case frames.Note(_, words):
                        self._notices.append(f"{printable(path)}: {words}")
                    case frames.Skip():
                        raise _Abandoned(frame)
        if damaged:
            numbers = ", ".join(map(str, damaged[:10])) + (", …" if len(damaged) > 10 else "")
            self._notices.append(f"{printable(path)}: damaged and left out, page {numbers}")

    def _skip(self, path: str, reason: str) -> None:
        self.skipped.append(Skipped(printable(path), reason))

    def _check(self) -> None:
        if self.stop.is_set():
            raise Stopped

    def _show(self, path: str, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self._last >= PROGRESS_S:
            self._last = now
            self._progress(Reading(self._files, self._bytes, self._pages, printable(path)))


def printable(path: str) -> str:
    """A path as it can be shown and written: bytes that are not UTF-8, and control characters, as backslash escapes."""
    try:
        data = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a name from an archive
        data = path.encode("utf-8", "backslashreplace")
    return builder.printable(data.decode("utf-8", "backslashreplace"))


def _is_there(path: str) -> bool | None:
    """None: nobody tells us, its folder may not be looked into."""
    try:
        os.lstat(path)
    except PermissionError:
        return None
    except (OSError, ValueError):
        return False
    return True


def _member(source: str) -> tuple[str, str] | None:
    """`a.zip!/dir/b.pdf` as the file there is and the member in it."""
    file, mark, only = source.partition("!/")
    return (file, only.rstrip("/")) if mark and only and _is_file(file) else None


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return False


def _sort_of(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISDIR, "a folder"))
    return f"not a regular file ({next((name for test, name in kinds if test(mode)), 'a device')})"


def _missing(source: str) -> SourceError:
    import difflib

    folder, name = os.path.split(source)
    try:
        names = os.listdir(folder or ".")  # noqa: PTH208  # names that are not UTF-8 stay as they are
    except OSError:
        names = []
    near = difflib.get_close_matches(name, names, n=2)
    hint = "did you mean " + " or ".join(os.path.join(folder, n) for n in near) if near else ""  # noqa: PTH118
    what = "no file matches" if glob.has_magic(source) else "no file or folder at"
    return SourceError(f"{what} {printable(source)}", hint=printable(hint) or "name files, folders, or - for stdin")
