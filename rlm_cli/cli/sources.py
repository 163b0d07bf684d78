"""Where the documents come from: the words of the command line, a list of paths, stdin where something is piped in."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence

from .. import read
from ..errors import UsageError
from ..settings import Settings


def readers_of_stdin(sources: Sequence[str], settings: Settings) -> int:
    """How many read it: none or one. Raises `UsageError`."""
    readers = [settings.question_file, settings.files_from, *dict.fromkeys(sources)].count("-")
    if readers > 1:
        raise UsageError("stdin can be read once only", hint="use - for the question, the list or the documents")
    return readers


def with_list(sources: Sequence[str], settings: Settings) -> list[str]:
    """And those of `--files-from`. Raises `UsageError`."""
    if settings.files_from is None:
        return list(sources)
    return [*sources, *read.read_list(settings.files_from, sys.stdin.buffer)]


def or_stdin(sources: list[str], settings: Settings, readers: int, hint: str) -> list[str]:
    """What is piped in, where no source was named. `hint`: the line to copy. Raises `UsageError` when nothing is."""
    if sources or settings.files_from is not None:
        return sources
    if readers or not has_input(sys.stdin):
        why = "no source was named, and stdin is the question" if readers else "no source was named or piped in"
        raise UsageError("no documents", why=why, hint=hint)
    return ["-"]


def has_input(stream: object) -> bool:
    """A pipe, a socket or a regular file. Not a terminal and not /dev/null."""
    try:
        mode = os.fstat(stream.fileno()).st_mode  # type: ignore[attr-defined]
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISREG(mode)
