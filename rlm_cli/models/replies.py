"""Replies of models that are kept across runs: `<cache>/replies.sqlite`, a row a reply, the longest unused go first.

SQLite, because several runs read and write at once and a row has to be found, counted and removed: with files of our
own that would be a database of our own. Write-ahead logging lets readers read while one writes. All of it happens in
one thread beside the event loop, which no lock and no slow disk can hold up then.

What is asked for at the same time is looked up together, and what is to be written waits a moment for more: a hop
between threads and a commit for each reply would cost a run of thousands as much as their requests do.

A cache is never worth a run: whatever fails here means "not on record", and is told once. One that is damaged is
removed and begun anew; one that cannot be written is read all the same. A prompt is not kept, only a hash of it;
nothing is kept of a request or a reply that holds a key.

Rejected: a file a reply (eviction means a walk over all of them); a server process; keeping prompts for inspection
(they are the user's documents, and the traces have them).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ..call import Completion, Message
from ..kept import Standing
from ..ledger import Usage
from ..schema import Schema

if TYPE_CHECKING:
    import sqlite3

VERSION = 1
"""Of what a request is made of and how a row is written. Another one: what there is gets removed."""
FILE = "replies.sqlite"
BUSY_S = 0.5
"""Seconds to wait for another process that writes."""
PAUSE_S = 10.0
"""Seconds without a try to write, after one that waited in vain: the end of a run is not held up by many of them."""
WRITE_S = 0.2
"""Seconds that a reply waits for others to be written with: what a process that is killed may lose of the record."""
EVERY = 200
"""Replies kept between two looks at the size."""
EVICT_TO = 0.9
"""Of the size that is allowed, or every reply kept would evict one."""
_ROUNDS = 100
WHOLE = frozenset({"stop"})
"""Ends of a reply that may be kept: not of one that was cut off, filtered, or calls a function."""

_T = TypeVar("_T")
_TABLE = (
    # The text comes last: what stands before it is read without it.
    "CREATE TABLE replies (key BLOB PRIMARY KEY, made REAL, used REAL, hits INTEGER DEFAULT 0, model TEXT,"
    " completion TEXT)",
    "CREATE INDEX by_use ON replies (used)",
    "CREATE INDEX by_age ON replies (made)",
)


@dataclass(frozen=True, slots=True)
class Request:
    """What tells a request from every other: where it goes and with which options (`identity`), what is asked, how long
    and in which form the reply may be. `sample`: independent trajectories share no reply, in no run."""

    identity: str
    messages: tuple[Message, ...]
    max_output_tokens: int
    schema: Schema | None = None
    sample: str = ""

    def key(self) -> bytes:
        """Its hash. Takes milliseconds for a prompt of a megabyte."""
        asked = [message.plain() for message in self.messages]
        form = self.schema.text if self.schema is not None else None
        whole = json.dumps([VERSION, self.identity, asked, self.max_output_tokens, form, self.sample])
        return hashlib.sha256(whole.encode()).digest()

    def holds(self, secret: str) -> bool:
        return any(secret in message.written for message in self.messages)


class Replies:
    """Those on record, for one run. Lives on an event loop; opens its file when it is first asked."""

    def __init__(
        self,
        path: Path,
        *,
        most_bytes: int,
        oldest_s: float,
        secrets: Iterable[str] = (),
        tell: Callable[[str], None] = lambda told: None,
    ) -> None:
        """`tell`: called on the event loop, once, with what is wrong with the file."""
        self._path = path
        self._most_bytes, self._oldest_s = most_bytes, oldest_s
        self._secrets = tuple(secret for secret in secrets if secret)
        self._tell = tell
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="replies")
        self._database: sqlite3.Connection | None = None
        self._tried = self._reads_only = self._told = self._mended = False
        self._asked: list[tuple[Request, asyncio.Future[Completion | None]]] = []
        """To be looked up next, all at once."""
        self._said: list[tuple[Request, str, Completion]] = []
        """To be written next, all at once."""
        self._writing: asyncio.TimerHandle | None = None
        self._used = False
        self._hits: list[bytes] = []
        self._seen: set[bytes] = set()
        self._kept = 0
        self._paused_until = 0.0

    async def recall(self, request: Request) -> Completion | None:
        """The reply on record, None where there is none. It cost nothing now, so it carries no usage.

        Once a run: who asks the same again was not content with it.
        """
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Completion | None] = loop.create_future()
        self._asked.append((request, answered))
        if len(self._asked) == 1:
            loop.call_soon(self._look_up, loop)  # after those who ask in the same turn of the loop
        return await answered

    def keep(self, request: Request, model: str, completion: Completion) -> None:
        """Put a reply on record, in its own time, unless it is none to be relied on or a key is in it."""
        if completion.finish_reason not in WHOLE or completion.calls or not completion.text.strip():
            return
        self._said.append((request, model, completion))
        if self._writing is None:
            loop = asyncio.get_running_loop()
            self._writing = loop.call_later(WRITE_S, self._write, loop)

    async def close(self) -> None:
        """Write what is still to be written, and close the file."""
        if self._writing is not None:
            self._writing.cancel()
            self._write(asyncio.get_running_loop())
        if self._used:
            await self._beside(self._close)
        self._thread.shutdown(wait=False)

    def _look_up(self, loop: asyncio.AbstractEventLoop) -> None:
        self._used = True
        asked, self._asked = self._asked, []

        def work() -> list[Completion | None]:
            return [self._safely(partial(self._recall, request), loop) for request, _ in asked]

        looking = loop.run_in_executor(self._thread, work)
        looking.add_done_callback(partial(_answer, [answered for _, answered in asked]))

    def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        self._used, self._writing = True, None
        said, self._said = self._said, []
        self._thread.submit(self._safely, lambda: self._keep(said), loop)

    async def _beside(self, work: Callable[[], _T | None]) -> _T | None:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._safely, work, loop)

    def _safely(self, work: Callable[[], _T | None], loop: asyncio.AbstractEventLoop) -> _T | None:
        """What `work` returns, or None and a word about what failed."""
        import sqlite3

        try:
            return work()
        except sqlite3.OperationalError as error:  # locked, read-only, full, not to be opened
            if "locked" in str(error):
                self._paused_until = time.monotonic() + PAUSE_S
            elif "no such" in str(error) or "no column" in str(error):  # of this version by its number only
                self._begin_anew(error, loop)
            else:
                self._reads_only = True
                self._say(f"the cache of replies cannot be used: {error}", loop)
        except sqlite3.DatabaseError as error:
            self._begin_anew(error, loop)
        except (OSError, MemoryError) as error:
            self._reads_only = True
            self._say(f"the cache of replies cannot be used: {getattr(error, 'strerror', None) or error}", loop)
        return None

    def _say(self, told: str, loop: asyncio.AbstractEventLoop) -> None:
        if not self._told:
            self._told = True
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._tell, told)

    def _begin_anew(self, error: Exception, loop: asyncio.AbstractEventLoop) -> None:
        """A file that is damaged is of no use to anybody. Once a run, or a disk that fails would keep us busy."""
        if self._database is not None:
            with suppress(Exception):
                self._database.close()
        self._database = None
        if self._mended:
            self._tried = True
            return
        self._mended, self._tried = True, False
        with suppress(OSError):
            remove(self._path)
        self._say(f"the cache of replies was damaged and is begun anew ({error})", loop)

    def _open(self) -> sqlite3.Connection | None:
        if self._database is None and not self._tried:
            self._tried = True
            self._database = open_(self._path)
        return self._database

    @property
    def _may_write(self) -> bool:
        return not self._reads_only and time.monotonic() >= self._paused_until

    def _recall(self, request: Request) -> Completion | None:
        key = request.key()
        if key in self._seen or (database := self._open()) is None:
            return None
        self._seen.add(key)
        found = database.execute(
            "SELECT completion FROM replies WHERE key = ? AND made >= ?", (key, time.time() - self._oldest_s)
        ).fetchone()
        completion = _read(found[0]) if found is not None else None
        if completion is not None:
            self._hits.append(key)
        return completion

    def _keep(self, said: Iterable[tuple[Request, str, Completion]]) -> None:
        now = time.time()
        rows = [
            (request.key(), model, _written(completion), now, now)
            for request, model, completion in said
            if not self._holds_secret(request, completion)
        ]
        if not rows or not self._may_write or (database := self._open()) is None:
            return
        self._seen.update(row[0] for row in rows)
        with database:
            database.executemany(
                "INSERT OR REPLACE INTO replies (key, model, completion, made, used) VALUES (?, ?, ?, ?, ?)", rows
            )
        before, self._kept = self._kept, self._kept + len(rows)
        if before // EVERY != self._kept // EVERY:
            self._evict(database)

    def _holds_secret(self, request: Request, completion: Completion) -> bool:
        said = completion.text + completion.reasoning
        return any(secret in said or request.holds(secret) for secret in self._secrets)

    def _evict(self, database: sqlite3.Connection) -> None:
        """What is too old, then what was not used for longest until the rest has room."""
        with database:
            database.execute("DELETE FROM replies WHERE made < ?", (time.time() - self._oldest_s,))
        if size_of(database) <= self._most_bytes:
            return
        for _ in range(_ROUNDS):
            (entries,) = database.execute("SELECT count(*) FROM replies").fetchone()
            if not entries or size_of(database) <= self._most_bytes * EVICT_TO:
                break
            oldest = "SELECT key FROM replies ORDER BY used LIMIT ?"
            with database:
                database.execute(f"DELETE FROM replies WHERE key IN ({oldest})", (max(entries // 16, 1),))
        database.executescript("PRAGMA incremental_vacuum")  # steps to its end, which `execute` does not

    def _close(self) -> None:
        database, self._database, self._tried = self._database, None, True
        if database is None:
            return
        with closing(database):
            if not self._may_write:
                return
            with database:
                database.executemany(
                    "UPDATE replies SET used = ?, hits = hits + 1 WHERE key = ?",
                    [(time.time(), key) for key in self._hits],
                )
            self._evict(database)


def _answer(asked: list[asyncio.Future[Completion | None]], looking: asyncio.Future[list[Completion | None]]) -> None:
    """Hand out what was found together."""
    error = looking.exception()
    found = [None] * len(asked) if error is not None else looking.result()
    for answered, completion in zip(asked, found, strict=True):
        if answered.done():
            continue  # its call was cancelled
        if error is not None:
            answered.set_exception(error)
        else:
            answered.set_result(completion)


def open_(path: Path) -> sqlite3.Connection:
    """The file, for its owner only, with its table. Raises `sqlite3.Error`, `OSError`."""
    import sqlite3

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(OSError):  # a file that may only be read
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)
    try:
        if _version(database) != VERSION:
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")
            database.execute("PRAGMA journal_mode = WAL").fetchall()
            _lay_out(database)
        database.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        database.close()
        raise
    return database


def _version(database: sqlite3.Connection) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)


def _lay_out(database: sqlite3.Connection) -> None:
    """An empty table of this version, unless another process was faster."""
    with database:
        database.execute("BEGIN IMMEDIATE")
        if _version(database) == VERSION:
            return
        database.execute("DROP TABLE IF EXISTS replies")
        for statement in _TABLE:
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {VERSION}")


def size_of(database: sqlite3.Connection) -> int:
    """Bytes in use."""
    pages, free, size = (
        database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def standing(path: Path) -> Standing:
    """What is in the file. Raises `sqlite3.Error`, `OSError` where it cannot be read."""
    import sqlite3

    if not path.exists():
        return Standing(0, 0, None, 0)
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=BUSY_S, uri=True)) as database:
        entries, oldest, hits = database.execute("SELECT count(*), min(made), sum(hits) FROM replies").fetchone()
    return Standing(entries, path.stat().st_size, oldest, hits or 0)


def remove(path: Path) -> None:
    """All of it. Runs that have it open go on with what they have. Raises `OSError`."""
    for one in _files(path):
        one.unlink(missing_ok=True)


def _files(path: Path) -> list[Path]:
    """The write-ahead log first: a file without its log is whole, a log without its file is not."""
    named = (path.with_name(path.name + ending) for ending in ("-wal", "-shm", ""))
    return [one for one in named if one.exists()]


def _written(completion: Completion) -> str:
    return json.dumps(
        {
            "text": completion.text,
            "finish_reason": completion.finish_reason,
            "reasoning": completion.reasoning,
            "usage": asdict(completion.usage),
        },
        ensure_ascii=False,
    )


def _read(written: str) -> Completion | None:
    """The reply of a row; None of one that makes no sense."""
    try:
        kept = json.loads(written)
        reasoning = str(kept["reasoning"])
        return Completion(str(kept["text"]), str(kept["finish_reason"]), Usage(), 0.0, reasoning, recorded=True)
    except (ValueError, KeyError, TypeError):
        return None
