"""Files of the same bytes, told before they are read: their extraction is what takes time.

Only files of the same size and suffix are compared, by hash, and none larger than `MOST_BYTES`: hashing gigabytes of
archives that happen to be equally long would cost more than it saves. Text files are not asked: reading them is as fast
as hashing them, and the corpus knows equal documents by their hash anyway.
"""

from __future__ import annotations

import hashlib
import os

from .formats import suffix_of

MOST_BYTES = 256 << 20


class Copies:
    """The files that were met so far."""

    def __init__(self) -> None:
        self._met: dict[tuple[int, str], dict[str, str]] = {}

    def of(self, file: str) -> str | None:
        """The file with the same bytes that was asked about first; None when this is the first."""
        try:
            size = os.stat(file).st_size  # noqa: PTH116
        except OSError:
            return None
        key = (size, suffix_of(file))
        if not 0 < size <= MOST_BYTES:
            return None
        hashes = self._met.setdefault(key, {})
        if not hashes:
            hashes[""] = file  # hashed when there is another of its size
            return None
        if "" in hashes:
            first = hashes.pop("")
            hashes[_hash(first) or first] = first
        first = hashes.setdefault(_hash(file) or file, file)
        return None if first == file else first


def _hash(file: str) -> str:
    """Empty where it cannot be read, which its reader will say."""
    try:
        with open(file, "rb") as opened:  # noqa: PTH123
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return ""
