"""Files in stores are read like those on disk, and what a driver says is told without secrets."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from served import Page, Raw, Served

from rlm_cli.errors import ConfigError, UsageError
from rlm_cli.read.addresses import Allowance
from rlm_cli.read.connect import Cut
from rlm_cli.read.pieces import Unreadable
from rlm_cli.read.remote import Listing, Store

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def bucket() -> Iterator[str]:
    """A folder in fsspec's memory, which is that of this process."""
    files = fsspec.filesystem("memory")
    for name in ("b.txt", "a/z.txt", "a.txt", "a/.env", ".git/config", "a/deep/er/x.md", "odd #1?.txt"):
        files.pipe(f"/bucket/{name}", name.encode())
    yield "memory://bucket"
    files.rm("/bucket", recursive=True)


def listing(source: str, hidden: bool = False) -> Listing:
    return Store(source).listing(hidden, Cut())


def paths(found: Listing) -> list[str]:
    return [one.path for one in found.files]


def test_a_folder_is_listed(bucket: str) -> None:
    """In order, without what is hidden; each path begins with what was named."""
    found = listing(bucket)
    names = ["a/deep/er/x.md", "a/z.txt", "a.txt", "b.txt", "odd #1?.txt"]
    assert paths(found) == [f"{bucket}/{name}" for name in names]
    assert found.excluded == {"hidden": 2}
    assert {one.root for one in found.files} == {bucket}
    assert not found.named
    assert len(listing(bucket, hidden=True).files) == 7
    assert paths(listing(f"{bucket}/a/")) == [f"{bucket}/a/deep/er/x.md", f"{bucket}/a/z.txt"]


def test_a_glob_is_expanded(bucket: str) -> None:
    """Files it matches, and all in folders it matches; a name that is spelled like a glob is that file."""
    assert paths(listing(f"{bucket}/?.txt")) == [f"{bucket}/a.txt", f"{bucket}/b.txt"]
    assert paths(listing(f"{bucket}/**/*.md")) == [f"{bucket}/a/deep/er/x.md"]
    assert f"{bucket}/a/z.txt" in paths(listing(f"{bucket}/[a]*"))
    assert paths(listing(f"{bucket}/odd #1?.txt")) == [f"{bucket}/odd #1?.txt"]
    with pytest.raises(Unreadable, match="nothing matches"):
        listing(f"{bucket}/*.pdf")


def test_a_file_is_copied(bucket: str) -> None:
    """Whole, and within the limit."""
    store = Store(f"{bucket}/a.txt")
    found = store.listing(False, Cut())
    assert found.named
    with store.copy(found.files[0], Allowance(), Cut()).file as file:
        assert file.read() == b"a.txt"
    with pytest.raises(Unreadable, match=r"more than 3 bytes \(fetch_limit\)"):
        store.copy(found.files[0], Allowance(3), Cut())


def test_what_is_not_there_is_said(bucket: str) -> None:
    """A missing file, and one that goes before it is copied."""
    with pytest.raises(Unreadable, match=r"^not found$"):
        listing(f"{bucket}/none.txt")
    store = Store(f"{bucket}/a.txt")
    found = store.listing(False, Cut()).files[0]
    fsspec.filesystem("memory").rm("/bucket/a.txt")
    with pytest.raises(Unreadable, match=r"^not found$"):
        store.copy(found, Allowance(), Cut())


def test_an_end_is_noticed(bucket: str) -> None:
    """What was cut off copies and lists no more."""
    cut = Cut()
    store = Store(f"{bucket}/a.txt")
    (found,) = store.listing(False, cut).files
    cut.end("enough")
    with pytest.raises(Unreadable, match=r"^enough$"):
        store.copy(found, Allowance(), cut)
    with pytest.raises(Unreadable, match=r"^enough$"):
        Store(bucket).listing(False, cut)


def test_a_scheme_that_nobody_knows() -> None:
    """Is the user's mistake, and says what there is."""
    with pytest.raises(UsageError, match="nope:// is not read") as caught:
        Store("nope://bucket/a")
    assert "s3://" in caught.value.hint


def test_what_is_missing_is_named_with_the_line_to_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver, or all of the extra."""
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setitem(sys.modules, "dropboxdrivefs", None)
    for source in ("s3://bucket/a", "dropbox://a"):
        with pytest.raises(ConfigError) as caught:
            Store(source)
        assert caught.value.hint == "pip install 'rlm-cli[remote]'"
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ConfigError, match="s3:// needs the extra 'remote'"):
        Store("s3://bucket/a")


@pytest.fixture(scope="module")
def hdfs() -> Iterator[Served]:
    """A store with a driver that speaks over the network: Hadoop's WebHDFS, as far as reading needs it."""
    tree: dict[str, bytes | dict[str, object]] = {"/docs/a.txt": b"text of a", "/docs/sub/b.txt": b"text of b"}

    def status(name: str, path: str) -> dict[str, object]:
        body = tree.get(path)
        kind = "FILE" if isinstance(body, bytes) else "DIRECTORY"
        return {"pathSuffix": name, "type": kind, "length": len(body) if isinstance(body, bytes) else 0}

    def answer(handler: object, _: object) -> None:
        asked = urlsplit(handler.path)  # type: ignore[attr-defined]
        path, what = asked.path.removeprefix("/webhdfs/v1").rstrip("/"), parse_qs(asked.query)["op"][0]
        below = {p[len(path) + 1 :].split("/")[0] for p in tree if p.startswith(f"{path}/")}
        body: object
        if path.startswith("/secret"):
            body = None
        elif what == "OPEN":
            data = tree[path]
            assert isinstance(data, bytes)
            return _send(handler, 200, data)
        elif what == "LISTSTATUS":
            names = sorted(below)
            body = {"FileStatuses": {"FileStatus": [status(name, f"{path}/{name}") for name in names]}}
        else:
            body = {"FileStatus": status("", path)} if below or path in tree else None
        error = {"RemoteException": {"exception": "IOException", "message": "hadoop: who=me:s3cret\nat java.lang"}}
        return _send(handler, 200 if body else 400, json.dumps(body or error).encode())

    class Any(dict[str, bytes | Page | Raw]):
        def get(self, *_: object) -> Raw:
            return answer

    with Served({}) as served:
        served.pages = Any()
        yield served


def _send(handler: object, status: int, data: bytes) -> None:
    handler.send_response(status)  # type: ignore[attr-defined]
    handler.send_header("Content-Length", str(len(data)))  # type: ignore[attr-defined]
    handler.end_headers()  # type: ignore[attr-defined]
    handler.wfile.write(data)  # type: ignore[attr-defined]


def test_a_store_over_the_network(hdfs: Served) -> None:
    """Listed and read by its driver, from a server."""
    source = f"webhdfs://{hdfs.place}/docs"
    store = Store(source)
    found = store.listing(False, Cut())
    assert paths(found) == [f"{source}/a.txt", f"{source}/sub/b.txt"]
    with store.copy(found.files[1], Allowance(), Cut()).file as file:
        assert file.read() == b"text of b"


def test_a_driver_that_fails_is_one_clean_line(hdfs: Served) -> None:
    """Whatever it raises, without the password of the URL."""
    with pytest.raises(Unreadable) as caught:
        listing(f"webhdfs://me:s3cret@{hdfs.place}/secret")
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)
