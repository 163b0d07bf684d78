"""Sources from elsewhere, and texts from an earlier run, become documents like any other."""

from __future__ import annotations

import asyncio
import io
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from documents import pdf
from served import Page, Raw, Served

from rlm_cli import documents, kept
from rlm_cli.builder import CorpusBuilder
from rlm_cli.corpus import Corpus
from rlm_cli.errors import SourceError, UsageError
from rlm_cli.events import Reading
from rlm_cli.read import Allowance, Manifest, Rules, Stopped, Texts, cache, gather
from rlm_cli.read.pieces import Options
from rlm_cli.settings import Settings

fsspec = pytest.importorskip("fsspec")


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), data)
    return file.getvalue()


ZIP = zipped(a_txt=b"text in a zip", docs__b_pdf=pdf(["page one", "page two"]))


def drip(handler: BaseHTTPRequestHandler, stopped: threading.Event) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while not stopped.wait(0.02):
        handler.wfile.write(b"x")


def slow(handler: BaseHTTPRequestHandler, stopped: threading.Event) -> None:
    stopped.wait(0.3)
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    pages: dict[str, bytes | Page | Raw] = {
        "/a.txt": b"text of a",
        "/report": Page(pdf(["one", "two"]), {"Content-Type": "application/pdf"}),
        "/b.pdf?token=s3cret": pdf(["of b"]),
        "/all.zip": ZIP,
        "/latin": Page("Grüße aus Köln".encode("latin-1"), {"Content-Type": "text/plain; charset=latin1"}),
        "/binary": b"\x7fELF" + bytes(100),
        "/drip": drip,
        "/slow": slow,
    }
    with Served(pages) as found:
        yield found


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def read(
    *sources: str,
    rules: Rules | None = None,
    texts: Texts | None = None,
    stop: threading.Event | None = None,
    options: Options | None = None,
    allowance: Allowance | None = None,
    readings: list[Reading] | None = None,
) -> tuple[Corpus, Manifest]:
    builder = CorpusBuilder()
    try:
        manifest = gather(
            sources,
            rules or Rules(),
            builder,
            stdin=None,
            progress=readings.append if readings is not None else lambda _: None,
            stop=stop or threading.Event(),
            options=options or Options(),
            allowance=allowance or Allowance(),
            texts=texts,
        )
        return builder.finish(), manifest
    finally:
        builder.close()


def paths(corpus: Corpus) -> list[str]:
    return [document.path for document in corpus.documents]


def text(corpus: Corpus, number: int = 0) -> str:
    document = corpus.documents[number]
    return corpus.text(document.start, document.stop)


def test_urls_are_documents(served: Served, files: Path) -> None:
    """In the order they were named, under their URL, whatever arrives first; pages are places."""
    (files / "here.txt").write_text("here")
    sources = [
        served.url("/slow"),
        "here.txt",
        served.url("/report"),
        served.url("/a.txt#top"),
        served.url("/a.txt#top"),
    ]
    corpus, manifest = read(*sources)
    assert paths(corpus) == [served.url("/slow"), "here.txt", served.url("/report"), served.url("/a.txt")]
    assert [document.pages for document in corpus.documents] == [0, 0, 2, 0]
    assert text(corpus, 3) == "text of a\n"
    assert manifest == Manifest()


def test_what_cannot_be_fetched_is_skipped(served: Served, files: Path) -> None:
    """As a named file that cannot be read, with the reason; passwords and tokens are used and not shown."""
    (files / "here.txt").write_text("here")
    here = served.url("/none", "me:s3cret")
    corpus, manifest = read("here.txt", here, served.url("/b.pdf?token=s3cret"), served.url("/binary"))
    assert paths(corpus) == ["here.txt", served.url("/b.pdf?token=…")]
    assert [(one.path, one.reason) for one in manifest.skipped] == [
        (served.url("/none"), "not found (404)"),
        (served.url("/binary"), "binary"),
    ]


def test_an_archive_by_url(served: Served, files: Path) -> None:
    """Is looked into, rules count, and a member can be named."""
    url = served.url("/all.zip")
    assert paths(read(url)[0]) == [f"{url}!/a.txt", f"{url}!/docs/b.pdf"]
    assert paths(read(url, rules=Rules(types=("pdf",)))[0]) == [f"{url}!/docs/b.pdf"]
    corpus, _ = read(f"{url}!/docs/b.pdf")
    assert paths(corpus) == [f"{url}!/docs/b.pdf"]
    assert corpus.documents[0].pages == 2
    with pytest.raises(SourceError):
        read(f"{url}!/none")


def test_the_encoding_a_server_names(served: Served, files: Path) -> None:
    """Is believed where the bytes allow it."""
    corpus, _ = read(served.url("/latin"))
    assert text(corpus) == "Grüße aus Köln\n"
    assert corpus.documents[0].encoding == "cp1252"


@pytest.mark.parametrize("url", ["ftp://host/a", "file:///etc/passwd", "nope://x/a"])
def test_other_schemes_are_refused(url: str, files: Path) -> None:
    """With what is read."""
    with pytest.raises(UsageError, match="is not read"):
        read(url)


def test_a_fetch_can_be_stopped(served: Served, files: Path) -> None:
    """At once, and what is waited for is named."""
    stop, readings = threading.Event(), list[Reading]()
    threading.Timer(0.25, stop.set).start()
    with pytest.raises(Stopped):
        read(served.url("/drip"), stop=stop, readings=readings)
    assert readings[-1].path == served.url("/drip")


def test_all_fetches_share_a_deadline(served: Served, files: Path) -> None:
    """What is not there by then is skipped, and the run goes on."""
    (files / "here.txt").write_text("here")
    corpus, manifest = read(served.url("/drip"), "here.txt", allowance=Allowance(until=time.monotonic() + 0.3))
    assert paths(corpus) == ["here.txt"]
    (skipped,) = manifest.skipped
    assert skipped.reason.startswith("took longer than 0")


@pytest.fixture
def bucket() -> Iterator[str]:
    store = fsspec.filesystem("memory")
    contents = {
        "a.txt": b"a",
        "b.md": b"b",
        "c.zip": ZIP,
        "d.pdf": pdf(["in a bucket"]),
        ".env": b"k",
        "sub/e.txt": b"e",
    }
    for name, data in contents.items():
        store.pipe(f"/texts/{name}", data)
    yield "memory://texts"
    store.rm("/texts", recursive=True)


def test_a_folder_in_a_store(bucket: str, files: Path) -> None:
    """Is read like one on disk: in order, archives too; rules are counted."""
    corpus, manifest = read(bucket)
    names = ["a.txt", "b.md", "c.zip!/a.txt", "c.zip!/docs/b.pdf", "d.pdf", "sub/e.txt"]
    assert paths(corpus) == [f"{bucket}/{name}" for name in names]
    assert manifest.excluded == {"hidden": 1}
    corpus, manifest = read(bucket, rules=Rules(globs=("*.txt", "!sub"), unrestricted=2))
    assert paths(corpus) == [f"{bucket}/a.txt", f"{bucket}/c.zip!/a.txt"]
    assert paths(read(f"{bucket}/c.zip!/a.txt", f"{bucket}/.env")[0]) == [f"{bucket}/c.zip!/a.txt", f"{bucket}/.env"]
    assert [one.reason for one in read(f"{bucket}/none")[1].skipped] == ["not found"]


def test_texts_are_extracted_once(files: Path) -> None:
    """The second run says the same, and starts no reader: the worker would say what the kept text does not."""
    (files / "a.pdf").write_bytes(pdf(["one", "two"]))
    (files / "b.zip").write_bytes(ZIP)
    (files / "c.pdf").write_bytes(b"%PDF-1.4 damaged")
    (files / "d.txt").write_text("text")
    with Texts(files / "texts", 1 << 20) as texts:
        first, first_manifest = read("a.pdf", "b.zip", "c.pdf", "d.txt", texts=texts)
    entries = sorted(path for path in (files / "texts").iterdir() if len(path.name) == 64)
    assert len(entries) == 3
    for entry in entries:
        entry.write_bytes(entry.read_bytes().replace(b"one", b"ONE"))
    (files / "copy.pdf").write_bytes((files / "a.pdf").read_bytes())
    for entry in entries:  # with the checksum of what it holds now
        data = entry.read_bytes()
        head = list(cache._HEAD.unpack(data[: cache._HEAD.size]))
        head[4] = zlib.crc32(data[cache._HEAD.size :])
        entry.write_bytes(cache._HEAD.pack(*head) + data[cache._HEAD.size :])
    with Texts(files / "texts", 1 << 20) as texts:
        second, second_manifest = read("a.pdf", "b.zip", "c.pdf", "d.txt", "copy.pdf", texts=texts)
    assert paths(second) == [*paths(first), "copy.pdf"]
    assert first_manifest == second_manifest
    assert (text(first), text(second)) == ("one\ntwo\n", "ONE\ntwo\n")
    assert text(second, 4) == "ONE\ntwo\n"
    assert [d.sha256 for d in second.documents[:4]] == [d.sha256 for d in first.documents]
    assert [d.pages for d in second.documents[:4]] == [d.pages for d in first.documents]


@pytest.mark.parametrize("wish", [{}, {"no_cache": True}, {"no_save": True}, {"texts_size": 0}])
def test_texts_are_kept_unless_it_is_not_wanted(files: Path, wish: dict[str, bool | int]) -> None:
    """In the folder of caches, from where `rlm cache` counts and removes them."""
    (files / "a.pdf").write_bytes(pdf(["one"]))
    found = asyncio.run(documents.gather(["a.pdf"], Settings(**wish), None, lambda _: None, files / "caches"))  # type: ignore[arg-type]
    found.corpus.close()
    folder = files / "caches" / documents.TEXTS
    assert folder.exists() == (not wish)
    if not wish:
        assert cache.standing(folder).entries == 1
        kept.remove(folder)
    assert cache.standing(folder).entries == 0


def test_what_holds_a_key_is_not_kept(files: Path) -> None:
    """Keys are kept nowhere."""
    (files / "a.pdf").write_bytes(pdf(["the key is sk-very-secret"]))
    wanted = documents.gather(["a.pdf"], Settings(), None, lambda _: None, files, ("sk-very-secret",))
    asyncio.run(wanted).corpus.close()
    assert cache.standing(files / documents.TEXTS).entries == 0


def test_what_was_stopped_is_not_kept(files: Path) -> None:
    """Half a text is none."""
    (files / "long.pdf").write_bytes(pdf(["word " * 20] * 3_000))
    stop = threading.Event()
    stop.set()
    with Texts(files / "texts", 1 << 20) as texts, pytest.raises(Stopped):
        read("long.pdf", texts=texts, stop=stop)
    assert not [path for path in (files / "texts").iterdir() if len(path.name) == 64 or path.name.startswith(".")]
