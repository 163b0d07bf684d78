"""Files of other stores (`s3://`, `gs://`, `az://`, `sftp://`, `github://`), by fsspec and the drivers it knows.

fsspec (BSD) is what the Python world speaks to buckets with: some thirty stores behind one interface, each with its own
driver and its own way to find credentials, which stay their business. It comes by the extra `rlm-cli[remote]`.

A file is copied to an unnamed one before it is read, like a URL: what breaks off never becomes a shorter document, and
readers may seek. A folder is listed like one on disk: sorted, without what is hidden. Ignore files in it are not looked
at (the ignore engine knows files on disk only); `-g` and `-t` are.

Whatever a driver raises is told in one line, without what the URL holds of passwords; drivers call, read and wait where
nobody can interrupt them, so all of it runs in the threads of `incoming.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from ..errors import ConfigError, RlmError, UsageError
from .addresses import STORES, Allowance, scheme, shown
from .connect import Cut
from .incoming import CHUNK, Fetched, new_file
from .pieces import Unreadable

INSTALL = "pip install 'rlm-cli[remote]'"
HIDDEN = "hidden"
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Object:
    """A file of a store. `path`: as it is shown and cited; `root`: the folder that was named, as the beginning of it;
    `key`: as the store knows it."""

    path: str
    key: str
    root: str = ""
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a source holds. `named`: it is one file. `excluded`: rule → entries it kept out, a folder counts once;
    `skipped`: what could not be listed, and why."""

    files: tuple[Object, ...]
    named: bool = False
    excluded: Counter[str] = field(default_factory=Counter)
    skipped: tuple[tuple[str, str], ...] = ()


class Store:
    """The store a source is in. Opening it may import a driver and connect: not for a thread in a hurry.

    Raises `UsageError` for a scheme nobody knows, `ConfigError` where a driver is missing, `Unreadable` for the rest.
    """

    def __init__(self, source: str) -> None:
        kind = scheme(source)
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise ConfigError(
                f"{kind}:// needs the extra 'remote'", why="fsspec is not installed", hint=INSTALL
            ) from None
        self._secrets = _secrets(source)
        try:
            self._files, root = url_to_fs(source)
        except ImportError as error:
            why = self._cleaned(error)
            raise ConfigError(f"{kind}:// cannot be read here", why=why, hint=INSTALL) from None
        except ValueError as error:
            if "rotocol" not in str(error):
                raise Unreadable(self._words(error)) from None
            hint = f"http://, https://; with rlm-cli[remote] {STORES} and what else fsspec knows"
            raise UsageError(f"{kind}:// is not read", why="fsspec does not know it", hint=hint) from None
        except Exception as error:  # whatever a driver raises
            raise Unreadable(self._words(error)) from None
        self._root = str(root)
        whole, end = shown(source).rstrip("/"), self._root.rstrip("/")
        if not end:
            self._prefix = whole if self._root else f"{whole}/"
        else:
            self._prefix = whole.removesuffix(end) if whole.endswith(end) else f"{kind}://"

    def listing(self, hidden: bool, cut: Cut) -> Listing:
        """The files of the source: one, or all in a folder, or those a glob matches. `hidden`: those too.

        Raises `Unreadable`.
        """
        try:
            if _MAGIC.search(self._root) and not self._files.exists(self._root):
                return self._matching(hidden, cut)
            about = self._files.info(self._root)
            if about.get("type") != "directory":
                return Listing((self._object(about),), named=True)
            return self._folder(self._root, hidden, cut)
        except RlmError:
            raise
        except Exception as error:  # whatever a driver raises
            cut.check()
            raise Unreadable(self._words(error)) from None

    def copy(self, one: Object, allowance: Allowance, cut: Cut) -> Fetched:
        """The file, here. Raises `Unreadable`."""
        if one.bytes is not None and one.bytes > allowance.bytes:
            raise allowance.too_large
        file = new_file()
        try:
            size = 0
            with self._files.open(one.key, "rb") as source:
                while chunk := source.read(CHUNK):
                    cut.check()
                    size += len(chunk)
                    if size > allowance.bytes:
                        raise allowance.too_large
                    file.write(chunk)
            file.flush()
            file.seek(0)
        except BaseException as error:
            file.close()
            if isinstance(error, (Unreadable, KeyboardInterrupt, SystemExit)):
                raise
            cut.check()
            raise Unreadable(self._words(error)) from None
        return Fetched(file, size)

    def _matching(self, hidden: bool, cut: Cut) -> Listing:
        files: list[Object] = []
        excluded: Counter[str] = Counter()
        skipped: list[tuple[str, str]] = []
        for about in sorted(self._files.glob(self._root, detail=True).values(), key=lambda one: str(one["name"])):
            if about.get("type") != "directory":
                files.append(self._object(about))
                continue
            inside = self._folder(str(about["name"]), hidden, cut)
            files += inside.files
            excluded += inside.excluded
            skipped += inside.skipped
        if not files and not skipped and not excluded:
            raise Unreadable("nothing matches")
        return Listing(tuple(files), excluded=excluded, skipped=tuple(skipped))

    def _folder(self, root: str, hidden: bool, cut: Cut) -> Listing:
        files: list[Object] = []
        excluded: Counter[str] = Counter()
        skipped: list[tuple[str, str]] = []
        met: set[str] = set()
        waiting: list[Iterator[dict[str, Any]]] = [iter(self._entries(root))]
        while waiting:
            about = next(waiting[-1], None)
            if about is None:
                waiting.pop()
                continue
            cut.check()
            key = str(about["name"]).rstrip("/")
            if key == root.rstrip("/") or key in met:
                continue  # stores list the marker of a folder as a file in it
            met.add(key)
            if PurePosixPath(key).name.startswith(".") and not hidden:
                excluded[HIDDEN] += 1
            elif about.get("type") != "directory":
                files.append(self._object(about, root))
            else:
                try:
                    waiting.append(iter(self._entries(key)))
                except Exception as error:  # the rest of the store can still be read
                    skipped.append((self._path(key), f"unreadable folder ({self._words(error)})"))
        return Listing(tuple(files), excluded=excluded, skipped=tuple(skipped))

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        return sorted(self._files.ls(folder, detail=True), key=lambda about: str(about["name"]).rstrip("/"))

    def _object(self, about: dict[str, Any], root: str = "") -> Object:
        key, size = str(about["name"]), about.get("size")
        path = self._path(key)
        return Object(path, key, self._path(root) if root else "", size if isinstance(size, int) else None)

    def _path(self, key: str) -> str:
        return self._prefix + (key if self._root.startswith("/") else key.lstrip("/"))

    def _words(self, error: BaseException) -> str:
        """What a driver says, in a few words."""
        match error:
            case FileNotFoundError():
                return "not found"
            case PermissionError():
                return "permission denied, or no credentials"
            case NotADirectoryError() | IsADirectoryError():
                return "not a file"
            case TimeoutError():
                return "the store does not answer"
        name = type(error).__name__
        if re.search("credential|auth", name, re.IGNORECASE):
            return f"no credentials ({name})"
        said = self._cleaned(error)
        return f"{name}: {said}" if said else name

    def _cleaned(self, error: BaseException) -> str:
        """The first line of what it says, without secrets of the URL, whether it comes from one or not."""
        said = " ".join(str(error).split("\n", 1)[0].split())[:200]
        for secret in self._secrets:
            said = said.replace(secret, "…")
        return re.sub(r"\S+://\S+", lambda found: shown(found[0]), said)


def _secrets(source: str) -> list[str]:
    """What a URL holds that is shown nowhere, as it stands and as it is meant; the longest first."""
    try:
        parts = urlsplit(source)
    except ValueError:
        return []
    if shown(source) == source:
        return []
    found = set(re.split("[:@]", parts.netloc.rpartition("@")[0]))
    found |= {
        parameter.partition("=")[2] for parameter in parts.query.split("&") if shown(f"x://?{parameter}").endswith("…")
    }
    found |= {unquote(one) for one in found}
    return sorted((one for one in found if len(one) > 2), key=len, reverse=True)
