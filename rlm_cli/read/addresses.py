"""URLs as the user names them: which are read at all, how they are shown, what a request needs of them.

A URL may carry a password, a token, a signature. It is used for the request and shown nowhere: `shown` is what the
manifest, the trace, errors and citations get. `http` and `https` are fetched by `fetch.py`; any other scheme is a
file system that fsspec knows (`remote.py`), but for those that would read this machine's own files by another name,
and those that wrap another address (`simplecache::…`).

Standard library only, and nothing heavy: every source's name comes by here.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from ..errors import UsageError
from .pieces import Unreadable

HIDDEN = "…"
WEB = ("http", "https")
STORES = "s3://, gs://, az://, sftp://, github://"
_REFUSED = frozenset(
    "file local dir generic reference data ftp zip tar libarchive git cached blockcache filecache simplecache dask"
    " jupyter asynclocal asyncwrapper async_wrapper root dvc".split()
)
"""This machine's files by another name, file systems over another address, and one that sends passwords in the open."""
_NO_SECRET = frozenset("github az abfs abfss adl".split())
"""Whose `…@` names a repository or a container."""
LIMIT_BYTES = 512 << 20
DEADLINE_S = 300.0
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
_SECRET = re.compile(
    r"(?:.*[^a-z])?(?:api|access|auth|client|id|refresh|private|session|subscription)?[_.-]?"
    r"(?:key|token|secret|auth|authorization|sig|signature|pass|password|passwd|pwd|credentials?|session|sid|jwt)",
    re.IGNORECASE,
)
_SAFE = "/%:;=&?~+!$,'@()*[]|^{}"
_PORTS = {"http": 80, "https": 443}


def is_url(source: str) -> bool:
    return _URL.match(source) is not None


def scheme(source: str) -> str:
    return source.partition("://")[0].lower()


def check(source: str) -> None:
    """Raises `UsageError` for a URL that cannot be read, whatever stands at its other end."""
    kind = scheme(source)
    if kind in _REFUSED or "::" in source.partition("://")[0]:
        raise UsageError(
            f"{kind}:// is not read",
            why=f"http:// and https:// are, and with rlm-cli[remote] {STORES} and what else fsspec knows",
            hint="name a file of this machine by its path" if kind in ("file", "local") else "",
        )
    if kind in WEB:
        try:
            parse(source)
        except ValueError as error:
            raise UsageError(f"{shown(source)} is no address", why=str(error)) from None


def shown(source: str) -> str:
    """A source as it may be seen and kept: a URL without its password and fragment, secrets in its query hidden."""
    if not is_url(source):
        return source
    kind, _, rest = source.partition("://")
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    place, path = rest[:end], rest[end:]
    if kind.lower() not in _NO_SECRET:
        place = place.rpartition("@")[2]
    if kind.lower() in WEB:
        path = path.partition("#")[0]
    path, question, query = path.partition("?")
    return f"{kind}://{place}{path}{question}{'&'.join(map(_without_secret, query.split('&')))}"


def _without_secret(parameter: str) -> str:
    name, equals, value = parameter.partition("=")
    return f"{name}={HIDDEN}" if value and equals and _SECRET.fullmatch(unquote(name)) else parameter


@dataclass(frozen=True, slots=True)
class Allowance:
    """For one file from elsewhere: its bytes as they are read, and the seconds until it is there. `until`: when all of
    them must be there, on the clock of `time.monotonic`."""

    bytes: int = LIMIT_BYTES
    seconds: float = DEADLINE_S
    until: float | None = None

    @property
    def left(self) -> float:
        """Seconds for one that is begun now."""
        return self.seconds if self.until is None else max(0.0, min(self.seconds, self.until - time.monotonic()))

    @property
    def too_large(self) -> Unreadable:
        size = f"{self.bytes >> 20} MB" if self.bytes >= 1 << 20 else f"{self.bytes:,} bytes"
        return Unreadable(f"more than {size} (fetch_limit)")


@dataclass(frozen=True, slots=True)
class Address:
    """What a request needs of a URL. `host` in ASCII; `target`: path and query; `user`: name and password."""

    scheme: str
    host: str
    port: int
    target: str
    user: tuple[str, str] | None = None

    def __repr__(self) -> str:
        return f"Address({self.url!r})"

    @property
    def place(self) -> str:
        """`host` or `host:port`, as it stands in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.place}{self.target}"

    @property
    def path(self) -> str:
        return unquote(self.target.partition("?")[0])

    def follow(self, location: str) -> Address:
        """Where a redirect leads. The password stays with the server it is for. Raises `ValueError`."""
        try:
            url = urljoin(self.url, location)
        except ValueError:
            raise ValueError("its host is not well formed") from None
        there = parse(url)
        same = (there.scheme, there.host, there.port) == (self.scheme, self.host, self.port)
        user = there.user or (self.user if same else None)
        return Address(there.scheme, there.host, there.port, there.target, user)


def parse(url: str) -> Address:
    """Raises `ValueError`, with words that hold nothing of the URL, for one that leads nowhere."""
    kind = scheme(url)
    if not is_url(url) or kind not in WEB:
        raise ValueError(f"{kind}:// is not read")
    parts = _split(url)
    if not parts.hostname:
        raise ValueError("it names no host")
    try:
        port = parts.port or _PORTS[kind]
        host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode("ascii")
    except ValueError:
        raise ValueError("its host or port is not well formed") from None
    if not re.fullmatch(r"[\w.\-:%]+", host, re.ASCII):
        raise ValueError("its host is not well formed")
    target = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
    user = None
    if parts.username is not None:
        user = (unquote(parts.username), unquote(parts.password or ""))
    return Address(kind, host, port, target, user)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("its host is not well formed") from None
