"""Sources that are not on this machine, as files to read: a URL is one file, a store (`remote.py`) may hold many.

The same rules choose among them as in a folder: what is hidden, `-g`, `-t`; and `a.zip!/b.pdf` at the end of a URL is
that member, so that what a citation says can be named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO, cast

from . import addresses, formats, text
from .addresses import Allowance
from .cache import Texts
from .extract import Request
from .fetch import fetch
from .incoming import Fetched, Incoming
from .members import Wanted
from .pieces import Unreadable
from .walk import Account, Found, Rules
from .workers import Coming, Extractors


class Elsewhere:
    """What is fetched of them, and what reads it. Use with `with`.

    Workers of its own: those that read files of this machine may all be waiting until it is their turn, after what is
    still on its way.
    """

    def __init__(self, allowance: Allowance, texts: Texts | None) -> None:
        self.incoming = Incoming(allowance)
        self.extractors = Extractors(texts=texts)

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *error: Any) -> None:
        self.incoming.close()
        self.extractors.__exit__(*error)

    def begin(self, coming: Coming) -> None:
        assert coming.found.away is not None
        coming.fetching = self.incoming.submit(coming.found.away)

    def go_on(self, waiting: Iterable[Coming], request: Callable[[Found], Request]) -> None:
        """Let workers begin with what has arrived, in order: the first that has not holds up the rest."""
        for coming in waiting:
            if coming.fetching is not None and coming.extracting is None:
                if not coming.fetching.done():
                    return
                if coming.fetching.exception() is None:
                    self.look(coming, coming.fetching.result(), request)

    def look(self, coming: Coming, fetched: Fetched, request: Callable[[Found], Request]) -> str:
        """Give it to a worker unless it is text. Why nothing reads it, else empty."""
        if coming.extracting is not None:
            return ""
        asked = request(coming.found)
        name = name_of(asked.name, fetched)
        head = text.read_head(fetched.file.read)
        fetched.file.seek(0)
        options = replace(asked.options, encoding=asked.options.encoding or fetched.encoding)
        choice = formats.choose(name, head, cast(BinaryIO, fetched.file), encoding=options.encoding)
        if choice.format is not None or coming.found.only:
            coming.extracting = self.extractors.submit(replace(asked, file=fetched.place, name=name, options=options))
        return "" if coming.extracting is not None else choice.reason


Wait = Callable[[Future[Any], str], Any]
"""Waits for a result, in short turns, and says what for."""


def expand(source: str, rules: Rules, account: Account, incoming: Incoming, wait: Wait) -> Iterator[Found]:
    """The files a URL stands for, in order. What cannot be reached has its `problem`.

    Raises `UsageError`, `ConfigError`.
    """
    addresses.check(source)
    outer, only = member(source)
    shown = addresses.shown(source)
    if addresses.scheme(source) in addresses.WEB:
        away = partial(fetch, outer, incoming.allowance)
        yield Found(shown, None, named=True, only=only, away=away)
        return
    try:
        store, listing = wait(incoming.submit(lambda cut: _listed(outer, rules, cut)), shown)
    except Unreadable as error:
        yield Found(shown, None, str(error), named=True)
        return
    account.excluded.update(listing.excluded)
    for path, problem in listing.skipped:
        yield Found(path, None, problem)
    for one in listing.files:
        path = f"{one.path}!/{only}" if only else one.path
        rule = "" if listing.named else _rule(one.path, one.root, rules)
        if rule:
            account.excluded[rule] += 1
        else:
            away = partial(store.copy, one, incoming.allowance)
            yield Found(path, None, named=listing.named, root=one.root, only=only, away=away)


def _listed(source: str, rules: Rules, cut: Any) -> Any:
    from .remote import Store

    store = Store(source)
    return store, store.listing(rules.unrestricted >= 2, cut)


def _rule(path: str, root: str, rules: Rules) -> str:
    """The rule that keeps a file of a store out; empty when none does."""
    wanted = Wanted(below(path, root), rules.globs, rules.suffixes, hidden=True, bypass=False)
    name = path.rpartition("/")[2]
    return wanted.rule("", None if formats.suffix_of(name) in formats.CONTAINERS else name)


def below(path: str, root: str) -> str:
    """What globs are asked of: the path below the folder that was named, else without the scheme."""
    return path[len(root) :].lstrip("/") if root else path.partition("://")[2]


def member(source: str) -> tuple[str, str]:
    """The file and the member of it that is wanted, which may be none."""
    outer, mark, only = source.partition("!/")
    return (outer, only.rstrip("/")) if mark and only else (source, "")


def name_of(path: str, fetched: Fetched) -> str:
    """What the format of a file from elsewhere is told by: its name, or the name and what the server says it is.

    Not by the host's: `.zip` is a domain too.
    """
    if addresses.scheme(path) in addresses.WEB:
        path = addresses.parse(path).path
    name = path.rpartition("/")[2]
    if fetched.kind and (fetched.sure or formats.by_name(name) is None):
        return name + fetched.kind
    return name
