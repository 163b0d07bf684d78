"""`rlm cache`: what is kept on this machine to be used again, how much of it, and away with it.

Caches are a table, so that one more of them is one more row. None of them is needed for an answer: without the corpora
a follow-up question (`-c`) has to name its documents anew, without the replies sub-calls are paid for again, without
the texts PDFs and the like are extracted again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import kept
from ..documents import TEXTS
from ..errors import RlmError, UsageError
from ..kept import Standing
from ..models import replies
from ..read import cache as texts
from ..views.figures import plural, seconds
from ..views.safe import one_line
from .configuration import cache_folder, say
from .failure import tell


@dataclass(frozen=True, slots=True)
class Cache:
    """`place` is below the folder of caches; `standing` and `remove` are given the whole path, and raise `OSError` or
    `sqlite3.Error`."""

    name: str
    place: str
    standing: Callable[[Path], Standing]
    remove: Callable[[Path], None]


CACHES = (
    Cache("corpora", "corpora", kept.standing, kept.remove),
    Cache("replies", replies.FILE, replies.standing, replies.remove),
    Cache("texts", TEXTS, texts.standing, kept.remove),
)


def cache(arguments: list[str], options: dict[str, Any]) -> int:
    """`stats`, also without a word: a line a cache. `clear [NAME]`: remove one, or all."""
    match arguments:
        case [] | ["stats"]:
            _stats(bool(options.get("json")))
        case ["clear", *_] if options.get("json"):
            raise UsageError("cache clear prints no JSON", hint="leave out --json")
        case ["clear"]:
            _clear(CACHES, bool(options.get("yes")))
        case ["clear", name] if any(one.name == name for one in CACHES):
            _clear(tuple(one for one in CACHES if one.name == name), bool(options.get("yes")))
        case ["clear", name]:
            raise UsageError(f"there is no cache {name!r}", hint=f"one of {', '.join(one.name for one in CACHES)}")
        case _:
            raise UsageError("cache wants one of stats, clear", hint="rlm cache stats")
    return 0


def _stats(as_json: bool) -> None:
    found = [(one, _standing(one)) for one in CACHES]
    if as_json:
        say(json.dumps([_in_json(one, standing) for one, standing in found], ensure_ascii=False))
        return
    for one, standing in found:
        say(f"{one.name:<8}  {_in_words(standing)}  {one_line(str(_path(one)), 4096)}")


def _in_json(one: Cache, standing: Standing | None) -> dict[str, Any]:
    """Null where a cache cannot be read, or holds nothing, or nobody counts."""
    oldest = standing.oldest if standing else None
    return {
        "name": one.name,
        "path": str(_path(one)),
        "entries": standing.entries if standing else None,
        "bytes": standing.bytes if standing else None,
        "oldest": None if oldest is None else datetime.fromtimestamp(oldest, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "hits": standing.hits if standing else None,
    }


def _in_words(standing: Standing | None) -> str:
    if standing is None:
        return "cannot be read"
    if not standing.entries:
        return "empty"
    facts = [f"{standing.entries:,} {'entry' if standing.entries == 1 else 'entries'}", size(standing.bytes)]
    if standing.oldest is not None:
        facts.append(f"oldest {_age(standing.oldest)}")
    if standing.hits is not None:
        facts.append(f"used {plural(standing.hits, 'time')}")
    return " · ".join(facts)


def _clear(caches: tuple[Cache, ...], sure: bool) -> None:
    """Asks in a terminal only, and says what was removed. Raises `RlmError` where something could not be."""
    there = [(one, _standing(one)) for one in caches if _path(one).exists()]
    if not there:
        say("nothing is kept")
        return
    told = [f"{one.name} ({_in_words(standing)})" for one, standing in there]
    if not sure and not _agreed(f"remove {', '.join(told)}?"):
        say("nothing was removed")
        return
    for (one, _), said in zip(there, told, strict=True):
        try:
            one.remove(_path(one))
        except OSError as error:
            why = error.strerror or str(error)
            raise RlmError(f"{one.name} could not be removed", why=why, hint=f"see {_path(one)}") from None
        say(f"removed {said}")


def _agreed(question: str) -> bool:
    """Whether somebody at the terminal says yes; true where there is nobody to be asked."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
        return True
    tell(f"{question} [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _standing(one: Cache) -> Standing | None:
    import sqlite3

    with suppress(OSError, sqlite3.Error):
        return one.standing(_path(one))
    return None


def _path(one: Cache) -> Path:
    return cache_folder() / one.place


def size(count: int) -> str:
    """`0.3 MB`, `1.2 GB`: bytes as a person reads them."""
    for unit, bytes_ in (("GB", 1 << 30), ("MB", 1 << 20)):
        if count >= bytes_:
            return f"{count / bytes_:.1f} {unit}"
    return f"{count / 1024:.0f} KB"


def _age(since: float) -> str:
    passed = (datetime.now(UTC) - datetime.fromtimestamp(since, UTC)).total_seconds()
    return f"{passed // 86_400:.0f} days ago" if passed >= 2 * 86_400 else f"{seconds(passed)} ago"
