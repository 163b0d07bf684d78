"""Corpora that are kept for follow-up questions: `<cache>/corpora/<sha256>`, one file each, the oldest evicted first.

The name says what is in it, so the same documents asked about twice are kept once. A file is written whole under
another name and renamed, is read-only from then on and never written in place: a map of it stays good, also after it
was evicted. What does not fit the limit, or a full disk, is simply not kept: the question is answered all the same.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from .corpus import Corpus

LARGEST_SHARE = 2
"""One corpus may take one part in so many of the limit, or it would drive out all others."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a cache holds. `oldest`: Unix time, None of an empty one. `hits`: None where nobody counts them."""

    entries: int
    bytes: int
    oldest: float | None
    hits: int | None


def keep(descriptor: int, folder: Path, limit: int, secrets: Iterable[str] = ()) -> bool:
    """Keep a copy of the corpus behind `descriptor`, which is closed; `limit`: bytes for all of them together.

    False where it is too large, cannot be written, or holds one of `secrets`: keys are kept nowhere.
    """
    try:
        with closing(Corpus(descriptor)) as corpus:
            if any(corpus.find_bytes(secret.encode(), 0, corpus.bytes) >= 0 for secret in secrets if secret):
                return False
            return _keep(corpus.fd, folder / corpus.sha256, limit)
    except (OSError, ValueError):
        return False


def _keep(source: int, kept: Path, limit: int) -> bool:
    size = os.fstat(source).st_size
    if size > limit // LARGEST_SHARE:
        return False
    if kept.exists():
        os.utime(kept)
        return True
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _evict(kept.parent, limit - size)
    target, draft = tempfile.mkstemp(prefix=".", dir=kept.parent)
    try:
        _copy(source, target, size)
        os.fchmod(target, 0o400)
        Path(draft).rename(kept)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    finally:
        os.close(target)
    return True


def load(folder: Path, sha256: str) -> Corpus | None:
    """The corpus of that name, None where it is not kept (any more)."""
    try:
        descriptor = os.open(folder / sha256, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        corpus = Corpus(descriptor)
    except ValueError:
        os.close(descriptor)
        return None
    if corpus.sha256 != sha256:
        corpus.close()
        return None
    with suppress(OSError):
        os.utime(folder / sha256)
    return corpus


def standing(folder: Path) -> Standing:
    """What is kept there. Raises `OSError`."""
    return standing_of([entry.stat() for entry in os.scandir(folder)] if folder.is_dir() else [])


def standing_of(files: Sequence[os.stat_result]) -> Standing:
    """Of a cache that is these files; nobody counts how often they are used."""
    oldest = min((stat.st_mtime for stat in files), default=None)
    return Standing(len(files), sum(stat.st_size for stat in files), oldest, None)


def remove(folder: Path) -> None:
    """Remove all that is kept in a folder; what is open stays good. Raises `OSError`."""
    for entry in os.scandir(folder):
        Path(entry.path).unlink(missing_ok=True)


def _copy(source: int, target: int, size: int) -> None:
    at = 0
    while at < size:
        sent = os.sendfile(target, source, at, size - at)
        if not sent:
            raise OSError("the corpus ends early")
        at += sent


def _evict(folder: Path, limit: int) -> None:
    """Remove the longest unused until the rest has at most `limit` bytes."""
    found = sorted(((entry.stat(), entry.path) for entry in os.scandir(folder)), key=lambda one: one[0].st_mtime)
    total = sum(stat.st_size for stat, _ in found)
    for stat, path in found:
        if total <= limit:
            return
        Path(path).unlink(missing_ok=True)
        total -= stat.st_size
