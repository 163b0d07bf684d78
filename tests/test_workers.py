"""Readers run in processes of their own, under supervision; other packages bring their own readers."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from documents import pdf

from rlm_cli.builder import CorpusBuilder
from rlm_cli.cli import doctor
from rlm_cli.errors import SourceError
from rlm_cli.read import Manifest, Rules, formats, frames, gather, workers
from rlm_cli.read.extract import Request
from rlm_cli.read.pieces import Options
from rlm_cli.read.workers import Extractors
from rlm_cli.settings import Settings

READERS = """
import os, time
from rlm_cli.read.pieces import Inside, Page, Unreadable

def shout(file, options):
    yield file.read().decode().upper()

def sheets(file, options):
    yield Inside("one", pieces=iter(["first sheet\\n"]))
    yield Inside("two", pieces=iter([Page(), "page", Page(damaged=True)]))

def stuck(file, options):
    yield "something"
    time.sleep(600)

def dies(file, options):
    yield "something"
    os.abort()

def hoards(file, options):
    yield str(len(bytearray(3 << 30)))

def aborts_full(file, options):
    kept = b"x" * (300 << 20)
    os.abort()
    yield kept

def fails(file, options):
    yield "something"
    raise KeyError("x")

def chatters(file, options):
    print("to stdout")
    os.write(1, b"to its descriptor")
    yield "fine"

def endless(file, options):
    while True:
        yield "word " * 1000

def pages(file, options):
    for number in range(3):
        time.sleep(0.8)
        yield Page()
        yield str(number)

def secrets(file, options):
    yield repr(options) + " ".join(options.passwords)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package with readers: `a.shout`, `a.dies` and so on; also one for PDFs. In the working directory."""
    place = tmp_path / "site"
    described = place / "loud_readers-1.0.dist-info"
    described.mkdir(parents=True)
    (place / "loud_readers.py").write_text(READERS)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: loud-readers\nVersion: 1.0\n")
    names = [line[4 : line.index("(")] for line in READERS.splitlines() if line.startswith("def ")]
    points = [
        *(f"{name} = loud_readers:{name}" for name in names),
        "pdf = loud_readers:shout",
        "py = loud_readers:shout",
        "broken = loud_readers:nothing",
    ]
    (described / "entry_points.txt").write_text("[rlm_cli.readers]\n" + "\n".join(points))
    monkeypatch.syspath_prepend(str(place))
    formats.third_party.cache_clear()
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    yield place
    formats.third_party.cache_clear()


def read(
    *sources: str, rules: Rules | None = None, stdin: io.BytesIO | None = None, options: Options | None = None
) -> tuple[dict[str, str], Manifest]:
    """The text of each document by its path, and the manifest."""
    builder = CorpusBuilder()
    try:
        manifest = gather(
            sources, rules or Rules(), builder, stdin=stdin, progress=lambda reading: None, stop=threading.Event(), options=options or Options()
        )  # fmt: skip
        corpus = builder.finish()
    finally:
        builder.close()
    texts = {d.path: corpus.text(d.start, d.stop) for d in corpus.documents}
    corpus.close()
    return texts, manifest


def reasons(manifest: Manifest) -> dict[str, str]:
    return {skipped.path: skipped.reason for skipped in manifest.skipped}


Zip = Callable[..., None]


def zipped(name: str, **members: str | bytes) -> None:
    with zipfile.ZipFile(name, "w") as archive:
        for member, data in members.items():
            archive.writestr(member.replace("_", ".").replace("__", "/"), data)


class TestThirdParty:
    def test_readers_of_other_packages(self, package: Path) -> None:
        """By the entry point's name, in folders and in archives; sheets are documents inside."""
        Path("a.shout").write_text("words")
        Path("b.sheets").write_text("x")
        zipped("c.zip", d_shout="inside")
        Path("e.chatters").write_text("x")
        texts, manifest = read(".")
        assert texts == {
            "./a.shout": "WORDS\n", "./b.sheets!/one": "first sheet\n", "./b.sheets!/two": "page\n\ufffd\n",
            "./c.zip!/d.shout": "INSIDE\n", "./e.chatters": "fine\n",
        }  # fmt: skip
        assert not manifest.skipped

    def test_an_installed_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A wheel that pip installs, as a user would; nothing else has to be said."""
        wheel, place = tmp_path / "loud_readers-1.0-py3-none-any.whl", tmp_path / "site"
        files = {
            "loud_readers.py": READERS,
            "loud_readers-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: loud-readers\nVersion: 1.0\n",
            "loud_readers-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "loud_readers-1.0.dist-info/entry_points.txt": "[rlm_cli.readers]\nshout = loud_readers:shout\n",
            "loud_readers-1.0.dist-info/RECORD": "",
        }
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(place)]
        subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
        monkeypatch.syspath_prepend(str(place))
        formats.third_party.cache_clear()
        monkeypatch.chdir(tmp_path)
        Path("a.shout").write_text("words")
        try:
            assert read("a.shout")[0] == {"a.shout": "WORDS\n"}
        finally:
            formats.third_party.cache_clear()

    def test_none_takes_the_place_of_a_built_in_one(self, package: Path) -> None:
        """Installing a package does not change how a PDF is read, nor a Python file."""
        Path("a.pdf").write_bytes(pdf(["words"]))
        Path("b.py").write_text("words")
        assert read(".")[0] == {"./a.pdf": "words\n", "./b.py": "words\n"}
        told = {finding.text: finding.level for finding in doctor._readers(Settings())}
        assert told["loud-readers loud_readers:shout (.pdf) · not used: rlm reads it itself"] == "note"
        assert told["loud-readers loud_readers:fails (.fails)"] == "ok"

    def test_what_goes_wrong_costs_one_file(self, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A reader that dies, fails, or wants too much memory; it is told which."""
        monkeypatch.setattr(workers, "MEMORY_BYTES", 200 << 20)
        for name in ("broken", "dies", "fails", "hoards"):
            Path(f"a.{name}").write_text("x")
        Path("z.shout").write_text("fine")
        texts, manifest = read(".")
        assert texts == {"./z.shout": "FINE\n"}
        assert reasons(manifest) == {
            "./a.broken": "its reader loud_readers:nothing cannot be loaded (AttributeError)",
            "./a.dies": "the reader died (signal 6)",
            "./a.fails": "damaged: KeyError",
            "./a.hoards": "needs too much memory",
        }

    def test_an_abort_for_want_of_memory_is_told(self, package: Path) -> None:
        """As PDFium has it. From a process that is small itself, a fork: a peak is handed on to those it starts."""
        Path("a.aborts_full").write_text("x")
        environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(package), str(Path(__file__).parent)])}
        program = (
            "from test_workers import *\nworkers.MEMORY_BYTES = 400 << 20\n"
            "if os.fork(): os.wait()\nelse: print(reasons(read('.')[1]))"
        )
        ran = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60)
        assert ran.stdout == "{'./a.aborts_full': 'needs too much memory'}\n", ran.stderr

    def test_text_without_end(self, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Is bounded, whatever the file's size."""
        from rlm_cli.read import extract

        said: list[frames.Frame] = []
        monkeypatch.setattr(extract, "MOST_TEXT", 3 << 20)
        Path("a.endless").write_text("x")
        with Path("a.endless").open("rb", buffering=0) as file:
            extract.Extraction(Request("a.endless", "a.endless"), said.append, lambda: None).read(file)
        assert said[-1] == frames.Skip("", "more than 3 MB of text")


class TestSupervision:
    def test_a_member_that_brings_the_worker_down(self, package: Path) -> None:
        """Costs itself: what was read before is there once, and what comes after is read by a fresh process."""
        zipped("in.zip", b_txt="b", c_dies="x", d_txt="d")
        inner = Path("in.zip").read_bytes()
        Path("in.zip").unlink()
        zipped("a.zip", a_txt="a", m_zip=inner, n_dies="x", z_txt="z")
        texts, manifest = read("a.zip")
        assert texts == {
            "a.zip!/a.txt": "a\n", "a.zip!/m.zip!/b.txt": "b\n", "a.zip!/m.zip!/d.txt": "d\n", "a.zip!/z.txt": "z\n",
        }  # fmt: skip
        died = "the reader died (signal 6)"
        assert reasons(manifest) == {"a.zip!/m.zip!/c.dies": died, "a.zip!/n.dies": died}

    def test_a_member_that_brings_down_what_cannot_be_read_again(self, package: Path) -> None:
        """In a pipe: it is named, and that what follows it is not read."""
        zipped("a.zip", a_txt="a", n_dies="x", z_txt="z")
        texts, manifest = read("-", stdin=io.BytesIO(Path("a.zip").read_bytes()))
        assert texts == {"-!/a.txt": "a\n"}
        assert reasons(manifest) == {
            "-!/n.dies": "the reader died (signal 6)", "-": "what follows that member is not read",
        }  # fmt: skip

    def test_pages_that_are_pictures_have_time_each(self, package: Path) -> None:
        """A scanned book takes as long as it has pages."""
        Path("a.pages").write_text("x")
        with Extractors(most=1, deadline_s=2.0) as extractors:
            told = extractors.submit(Request("a.pages", "a.pages", options=Options(ocr=True))).frames(lambda: None)
            assert sum(isinstance(frame, frames.Page) for frame in told) == 3

    def test_a_file_that_takes_too_long_costs_itself_only(self, package: Path) -> None:
        """The next one is read, and in an archive the next member."""
        zipped("a.zip", a_stuck="x", b_txt="b")
        Path("c.stuck").write_text("x")
        with Extractors(most=2, deadline_s=3.0) as extractors:
            jobs = [extractors.submit(Request(name, name)) for name in ("c.stuck", "a.zip")]
            [alone, among] = [list(job.frames(lambda: None)) for job in jobs]
        assert alone[-2:] == [frames.Skip("", "took longer than 3 s"), frames.Done()]
        assert frames.Skip("!/a.stuck", "took longer than 3 s") in among
        assert frames.Text("b") in among

    def test_extracting_ends_at_once(self, package: Path) -> None:
        """Ctrl-C does not wait for a file."""
        zipped("a.zip", a_stuck="x")
        with Extractors(most=1) as extractors:
            stuck, waits = (extractors.submit(Request("a.zip", "a.zip")) for _ in range(2))
            assert next(stuck.frames(lambda: None)) == frames.Enter((0,), "!/a.stuck")
        assert frames.End not in map(type, stuck.frames(lambda: None))
        assert list(waits.frames(lambda: None)) == []

    def test_what_is_ahead_of_its_turn_waits(self, package: Path) -> None:
        """A worker whose text nobody takes yet does not fill the memory, nor hold up a file that turns up late."""
        Path("a.gz").write_bytes(gzip.compress(os.urandom(1 << 20).hex().encode() * 10, 1))
        Path("b.shout").write_text("late")
        with Extractors(most=1) as extractors:
            ahead = extractors.submit(Request("a.gz", "a.gz"))
            late = extractors.at_once(Request("b.shout", "b.shout"))
            assert frames.Text("LATE") in list(late.frames(lambda: None))
            assert sum(len(f.text) for f in ahead.frames(lambda: None) if isinstance(f, frames.Text)) == 20 << 20


class TestCopies:
    """The same bytes twice are read once, and listed with both paths."""

    def test_files(self, package: Path) -> None:
        """With their pages; a file of the same size that is another is read; a text is a text."""
        for name in ("a.pdf", "sub/b.pdf", "c.pdf"):
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_bytes(pdf(["one", "two", "x" if name == "c.pdf" else "y"]))
        zipped("d.zip", a_txt="a", b_bin=bytes(range(256)))
        Path("e.zip").write_bytes(Path("d.zip").read_bytes())
        Path("f.dies").write_text("x")
        Path("g.dies").write_text("x")
        builder = CorpusBuilder()
        manifest = gather(
            ["."], Rules(), builder, stdin=None, progress=lambda reading: None, stop=threading.Event(), options=Options()
        )  # fmt: skip
        corpus = builder.finish()
        first, _, _, _, second = corpus.documents
        assert [d.path for d in corpus.documents] == [
            "./a.pdf", "./c.pdf", "./d.zip!/a.txt", "./e.zip!/a.txt", "./sub/b.pdf",
        ]  # fmt: skip
        assert (first.sha256, first.pages, first.bytes) == (second.sha256, second.pages, second.bytes)
        assert corpus.text(first.start, first.stop) == corpus.text(second.start, second.stop)
        shift = second.start - first.start
        assert [(a + shift, b + shift) for a, b in corpus.page_spans(first)] == corpus.page_spans(second)
        died = "the reader died (signal 6)"
        assert reasons(manifest) == {
            "./d.zip!/b.bin": "binary", "./e.zip!/b.bin": "binary", "./f.dies": died, "./g.dies": died,
        }  # fmt: skip
        corpus.close()


class TestSources:
    def test_a_glob_for_members_is_a_source(self, package: Path) -> None:
        """As in a shell: a star ends at a slash; what it matches is read with all that is below."""
        zipped("in.zip", x_txt="x")
        with zipfile.ZipFile("a.zip", "w") as archive:
            archive.write("in.zip", "dir/in.zip")
            for name in ("dir/a.txt", "dir/b.md", "c.txt", "[d].txt"):
                archive.writestr(name, name)
        for glob, found in (
            ("*.txt", "c.txt [d].txt"), ("**/*.txt", "dir/a.txt c.txt [d].txt"), ("[d].txt", "[d].txt"),
            ("dir/*.zip!/x.*", "dir/in.zip!/x.txt"), ("d?r", "dir/in.zip!/x.txt dir/a.txt dir/b.md"),
        ):  # fmt: skip
            assert list(read(f"a.zip!/{glob}")[0]) == [f"a.zip!/{name}" for name in found.split()]
        assert list(read("a.zip!/")[0])[:1] == ["a.zip!/dir/in.zip!/x.txt"]
        with pytest.raises(SourceError, match="no file or folder"):
            read("a.zip!/*.pdf")

    def test_ignore_files_hold_for_members(self, package: Path) -> None:
        """As if they lay in a folder called like the archive; not for one that was named, nor for what `-g` asks for."""
        zipped("in.zip", x_txt="x", y_log="y")
        Path("sub").mkdir()
        with zipfile.ZipFile("sub/a.zip", "w") as archive:
            archive.write("in.zip", "in.zip")
            archive.write("in.zip", "old/in.zip")
            for name in ("a.log", "dir/a.txt", "dir/b.txt", "build/c.txt"):
                archive.writestr(name, name)
        Path("in.zip").rename("sub/out.zip")
        Path(".gitignore").write_text("*.log\nbuild/\n/sub/a.zip!/dir/b.txt\nin.zip\n!/sub/a.zip!/old/in.zip\n")
        texts, manifest = read(".")
        assert list(texts) == ["./sub/a.zip!/old/in.zip!/x.txt", "./sub/a.zip!/dir/a.txt", "./sub/out.zip!/x.txt"]
        assert (manifest.excluded, manifest.skipped) == ({".gitignore": 7, "hidden": 1}, ())
        assert len(read("sub/a.zip")[0]) == len(read(".", rules=Rules(unrestricted=1))[0]) - 2 == 8
        assert list(read(".", rules=Rules(globs=("*.log",)))[0])[-1] == "./sub/out.zip!/y.log"

    def test_a_member_is_a_source(self, package: Path) -> None:
        """`a.zip!/dir` as any other path; one that is not there is an error."""
        with zipfile.ZipFile("a.zip", "w") as archive:
            for name in ("dir/a.txt", "dir/b.md", "c.txt", "dir/.hidden"):
                archive.writestr(name, name)
        assert list(read("a.zip!/dir")[0]) == ["a.zip!/dir/a.txt", "a.zip!/dir/b.md"]
        assert list(read("a.zip!/dir/.hidden", "a.zip!/c.txt")[0]) == ["a.zip!/dir/.hidden", "a.zip!/c.txt"]
        with pytest.raises(SourceError, match=r"a\.zip!/none"):
            read("a.zip!/none")
        with pytest.raises(SourceError, match="no file or folder"):
            read("none.zip!/a.txt")

    def test_rules_look_into_archives(self, package: Path) -> None:
        """`-g` and `-t` of a folder hold for members; the archive itself is kept out by name only."""
        zipped("a.zip", a_txt="a", b_md="b")
        Path("c.md").write_text("c")
        Path("d.md.gz").write_bytes(gzip.compress(b"d"))
        assert list(read(".", rules=Rules(types=("md",)))[0]) == ["./a.zip!/b.md", "./c.md", "./d.md.gz"]
        texts, manifest = read(".", rules=Rules(globs=("*.md",)))
        assert list(texts) == ["./a.zip!/b.md", "./c.md", "./d.md.gz"]
        assert manifest.excluded == {"--glob": 1}
        assert list(read(".", rules=Rules(globs=("!*.zip",)))[0]) == ["./c.md", "./d.md.gz"]

    def test_stdin(self, package: Path) -> None:
        """What is no text is known by its bytes: packed text streams, an archive or a PDF is read whole."""
        zipped("a.zip", a_txt="a", b_pdf=pdf(["words"]))
        assert read("-", stdin=io.BytesIO(gzip.compress(b"packed\n")))[0] == {"-": "packed\n"}
        assert read("-", stdin=io.BytesIO(Path("a.zip").read_bytes()))[0] == {"-!/a.txt": "a\n", "-!/b.pdf": "words\n"}
        source, sink = os.pipe()
        with os.fdopen(source, "rb") as stdin, os.fdopen(sink, "wb") as writer:
            threading.Timer(0.1, lambda: (writer.write(gzip.compress(b"late\n")), writer.close())).start()
            assert read("-", stdin=stdin)[0] == {"-": "late\n"}  # type: ignore[arg-type]

    def test_names_from_archives_are_printable(self, package: Path) -> None:
        """Control characters and bytes that are not UTF-8 never reach the terminal."""
        with zipfile.ZipFile("a.zip", "w") as archive:
            archive.writestr("with\x1b[31m\nline.txt", "x")
            archive.writestr("bin\x07.bin", bytes(range(256)))
        texts, manifest = read("a.zip")
        assert list(texts) == ["a.zip!/with\\x1b[31m\\nline.txt"]
        assert manifest.skipped[0].path.isprintable()

    def test_passwords_reach_the_readers(self, package: Path) -> None:
        """By the pipe, and not by their representation."""
        Path("a.secrets").write_text("x")
        texts, _ = read(".", options=Options(("one", "two")))
        assert texts == {"./a.secrets": "Options(2 passwords, encoding=None, ocr=False)one two\n"}
