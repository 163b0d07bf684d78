"""The journal of a run, `rlm.trace/1`: one JSON line an event, written through before the run goes on.

    <state>/runs/<id>/trace.jsonl     the journal, mode 0600 in a folder 0700
    <state>/runs/<id>/result.json     what the run handed back, once it has

The writer stamps: `Trace.write` takes an event and gives it its `seq`, because a long text becomes a `blob` event of
its own and `seq` must have no gaps. A text above `INLINE_CHARS` is stored once, however often the messages of later
iterations repeat it. `run.finished` is the exception: its `result` is the object of `--json`, to be read without
resolving anything.

Lines go to the kernel with one `write(2)` each, so a killed process loses nothing it was told was written. There is
no fsync: a power cut may cost the tail, a run never waits for a disk. A sink that fails (disk full, quota) is closed
and reported once in `Written.lost`; the run goes on without it.

Rejected: SQLite (a journal one can `tail -f` and `jq` is worth more than an index), buffered writing with a flush
(an OSError then comes again on close), pickles.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, get_args

from .errors import UsageError
from .events import UNKEPT, Event, RunFinished, Stamped
from .ledger import Usage

VERSION = 1
INLINE_CHARS = 1_000
"""Texts longer than this become blobs."""
TRACE, RESULT = "trace.jsonl", "result.json"
HIDDEN = "[secret]"
LEAST_SECRET = 6
"""Shorter strings are no credentials, and scrubbing them would riddle the trace with holes."""

TYPES: dict[str, type[Any]] = {kind.type: kind for kind in get_args(Event)}
"""Event type → class."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one event. `lines`: its JSON lines without newline, blobs first; none if it is not kept."""

    stamped: Stamped
    lines: tuple[str, ...]
    lost: tuple[str, ...] = ()
    """Sinks that failed just now, in words for a `sink_lost` notice."""


class Trace:
    """Writer of one run's journal, into any number of files: none too, for `--jsonl` alone."""

    def __init__(self, run: str, sinks: dict[str, int], secrets: frozenset[str] = frozenset()) -> None:
        """`sinks`: name of a file → descriptor open for writing; the trace closes them."""
        self.run = run
        self._sinks = sinks
        self._secrets = sorted((s for s in secrets if len(s) >= LEAST_SECRET), key=len, reverse=True)
        self._blobs: set[str] = set()
        self._seq = 0

    def write(self, event: Event, call: str | None, t: float) -> Written:
        """Stamp an event, write it to every sink, and give back its lines. Never raises for a sink.

        `call` is the address it belongs to, `t` seconds since the start of the run.
        """
        if isinstance(event, UNKEPT):
            return Written(Stamped(self.run, -1, t, call, event), ())
        blobs: list[str] | None = None if isinstance(event, RunFinished) else []
        body = {f.name: self._plain(getattr(event, f.name), blobs) for f in fields(event)}
        lines = [self._line("blob", call, t, {"sha256": _sha256(text), "text": text}) for text in blobs or ()]
        stamped = Stamped(self.run, self._seq, t, call, event)
        lines.append(self._line(event.type, call, t, body))
        return Written(stamped, tuple(lines), tuple(self._put(lines)))

    def close(self) -> None:
        for descriptor in self._sinks.values():
            with contextlib.suppress(OSError):  # some network file systems report the lost write here
                os.close(descriptor)
        self._sinks = {}

    def _line(self, kind: str, call: str | None, t: float, body: dict[str, Any]) -> str:
        head = {"v": VERSION, "run": self.run, "seq": self._seq, "t": round(t, 3), "type": kind, "call": call}
        self._seq += 1
        return _dumps(head | body)

    def _put(self, lines: list[str]) -> Iterator[str]:
        data = "".join(line + "\n" for line in lines).encode()
        for name, descriptor in list(self._sinks.items()):
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            except OSError as error:
                del self._sinks[name]
                with contextlib.suppress(OSError):
                    os.close(descriptor)
                yield f"{name} can no longer be written ({error.strerror}); the run goes on without it"

    def _plain(self, value: Any, blobs: list[str] | None) -> Any:
        """JSON-ready; texts above `INLINE_CHARS` are appended to `blobs` when new (None: everything stays inline)."""
        match value:
            case str():
                text = self.scrubbed(str(value))
                return text if blobs is None or len(text) <= INLINE_CHARS else self._reference(text, blobs)
            case float():
                return value if math.isfinite(value) else None
            case None | bool() | int():
                return value
            case dict():
                return {self.scrubbed(str(key)): self._plain(item, blobs) for key, item in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self._plain(item, blobs) for item in value]
            case _ if is_dataclass(value):
                return {f.name: self._plain(getattr(value, f.name), blobs) for f in fields(value)}
            case _:
                return self._plain(str(value), blobs)

    def _reference(self, text: str, blobs: list[str]) -> dict[str, str]:
        digest = _sha256(text)
        if digest not in self._blobs:
            self._blobs.add(digest)
            blobs.append(text)
        return {"blob": digest}

    def scrubbed(self, text: str) -> str:
        """`text` without the run's credentials. The last wall: none should ever come this far."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text


def open_run(folder: Path | None, run: str, extra: Path | None = None, secrets: frozenset[str] = frozenset()) -> Trace:
    """The writer for a run: into `folder`/trace.jsonl (None: nowhere) and a copy into `extra`.

    Raises `UsageError` when `extra` cannot be opened, which the user named, and `OSError` for the run's own folder,
    without which a run can do: call again with None and give notice.
    """
    sinks: dict[str, int] = {}
    if folder is not None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = folder / TRACE
        sinks[str(own)] = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    if extra is not None:
        try:
            sinks[str(extra)] = os.open(extra, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            for descriptor in sinks.values():
                os.close(descriptor)
            raise UsageError(
                f"--trace: {extra} cannot be written", why=error.strerror or "", hint="name a file you may write"
            ) from error
    return Trace(run, sinks, secrets)


def write_result(folder: Path, result: dict[str, Any]) -> None:
    """Put `result.json` beside the trace, whole or not at all, mode 0600. Raises `OSError`."""
    write_whole(folder / RESULT, _dumps(result) + "\n", 0o600)


def write_whole(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a file whole or not at all. A file that was there keeps its mode; a new one gets `mode`, less the umask.

    Raises `OSError`.
    """
    with whole_file(path, mode) as file:
        file.write(text.encode("utf-8", "replace"))


@contextmanager
def whole_file(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """The same for what is written in pieces: it is there when this ends well, and only then."""
    target = Path(os.path.realpath(path))  # a link stays a link
    draft = target.with_name(f".{target.name}.{os.urandom(6).hex()}")
    # Nobody can have put a link in place of a draft whose name nobody knew.
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if target.exists():
                os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
            yield file
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def read(path: Path) -> Iterator[Stamped]:
    """The events of a trace, blobs put back in. A torn line, an unknown type and unknown keys are passed over.

    Raises `OSError` when the file cannot be read.
    """
    blobs: dict[str, str] = {}
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            match record:
                case {"type": "blob", "sha256": str(digest), "text": str(text)}:
                    blobs[digest] = text
                case {"type": str(kind), "seq": int(seq), "t": int() | float() as t} if kind in TYPES:
                    event = _revived(TYPES[kind], record, blobs)
                    if event is not None:
                        yield Stamped(str(record.get("run", "")), seq, float(t), record.get("call"), event)


def _revived(kind: type[Any], record: dict[str, Any], blobs: dict[str, str]) -> Event | None:
    """The event a line stands for, or None when it lacks something this version needs."""
    values: dict[str, Any] = {}
    for f in fields(kind):
        if f.name not in record:
            if f.default is MISSING:
                return None
            continue
        value = record[f.name] if kind is RunFinished else _resolved(record[f.name], blobs)
        if f.type == "Usage" and isinstance(value, dict):
            known = {g.name for g in fields(Usage)}
            value = Usage(**{key: item for key, item in value.items() if key in known})
        elif str(f.type).startswith("tuple") and isinstance(value, list):
            value = tuple(value)
        values[f.name] = value
    event: Event = kind(**values)
    return event


def _resolved(value: Any, blobs: dict[str, str]) -> Any:
    match value:
        case {"blob": str(digest), **rest} if not rest:
            return blobs.get(digest, f"[blob {digest[:12]} is missing]")
        case {"corpus": [int(offset), int(chars)], **rest} if not rest:
            return f"[corpus: {chars} characters from {offset}]"
        case dict():
            return {key: _resolved(item, blobs) for key, item in value.items()}
        case list():
            return [_resolved(item, blobs) for item in value]
        case _:
            return value


def _dumps(value: Any) -> str:
    """One line of JSON. Readable text as a rule; escapes where a lone surrogate cannot be encoded."""
    line = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        line.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return line


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


# ── the index: run ids and folders ──────────────────────────────────────────────────────────────────────────────────

LETTERS = "234567abcdefghijklmnopqrstuvwxyz"
"""Base 32 in ASCII order, so that ids sort by time; without 0, 1, 8, 9, which are misread."""
ID_LENGTH = 6
EPOCH = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
"""30 bits of seconds from here last until 2060."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run in the index. `cost_usd` None = unknown; `status` is the result's, or `unfinished` without a result."""

    id: str
    folder: Path
    started: datetime
    question: str
    status: str
    cost_usd: float | None
    calls: int | None

    @property
    def trace(self) -> Path:
        return self.folder / TRACE


def run_id(seconds: float) -> str:
    """The id of a run started at this Unix time."""
    number = (int(seconds) - EPOCH) % (1 << 5 * ID_LENGTH)
    return "".join(LETTERS[number >> shift & 31] for shift in range(5 * (ID_LENGTH - 1), -1, -5))


def started_at(run: str) -> datetime:
    """When a run started, to the second (later by one for each run started in the same second)."""
    number = 0
    for letter in run:
        number = number << 5 | LETTERS.index(letter)
    return datetime.fromtimestamp(EPOCH + number, UTC)


def new_run_id(state: Path, now: float | None = None) -> str:
    """Take an id that no run has, by making its folder: two processes never share one.

    `now`: Unix time, default the clock's. Raises `OSError` when the state folder cannot be written.
    """
    seconds = time.time() if now is None else now
    (state / "runs").mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        run = run_id(seconds)
        try:
            (state / "runs" / run).mkdir(mode=0o700)
        except FileExistsError:
            seconds += 1
        else:
            return run


def _ids(state: Path) -> list[str]:
    """All run ids, newest first."""
    try:
        names = [entry.name for entry in os.scandir(state / "runs") if entry.is_dir()]
    except OSError:
        return []
    return sorted((n for n in names if len(n) == ID_LENGTH and set(n) <= set(LETTERS)), reverse=True)


def runs(state: Path) -> Iterator[RunInfo]:
    """Every run, newest first, read as it is asked for."""
    for run in _ids(state):
        yield run_info(state / "runs" / run)


def run_info(folder: Path) -> RunInfo:
    """What is known of one run: from its result, else from the head of its trace."""
    question, status, cost, calls = "", "unfinished", None, None
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        question, status = str(result["question"]), str(result["status"])
        cost, calls = result["usage"]["cost_usd"], result["usage"]["calls"]
    except (OSError, ValueError, KeyError, TypeError):
        question = _question(folder / TRACE)
    return RunInfo(folder.name, folder, started_at(folder.name), question, status, cost, calls)


def _question(trace: Path) -> str:
    try:
        first = next(read(trace), None)
    except OSError:
        return ""
    return str(getattr(first.event, "question", "")) if first is not None else ""


def find(state: Path, prefix: str | None = None) -> Path:
    """The folder of the one run whose id begins with `prefix`; of the last run without one. Raises `UsageError`."""
    ids = _ids(state)
    matching = [run for run in ids if run.startswith(prefix)] if prefix else ids[:1]
    if prefix in matching:
        matching = [prefix] if prefix else matching
    match matching:
        case [run]:
            return state / "runs" / run
        case []:
            what = f"no run begins with {prefix!r}" if prefix else "there is no run yet"
            raise UsageError(what, hint="rlm runs lists them" if ids else 'ask something first: rlm ask "…" FILE')
        case _:
            raise UsageError(
                f"{len(matching)} runs begin with {prefix!r}",
                why=", ".join(matching[:5]),
                hint="write more letters of it",
            )
