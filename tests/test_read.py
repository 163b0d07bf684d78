"""Documents become text with places in it, and every path is accounted for."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from documents import pdf

from rlm_cli.builder import CorpusBuilder, Unwritable
from rlm_cli.corpus import Corpus
from rlm_cli.errors import SourceError, UsageError
from rlm_cli.events import Reading
from rlm_cli.read import Manifest, Rules, Stopped, gather, read_list

Tree = Callable[..., None]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """`tree("a.txt", "sub/b.txt", ignore="*.log")`: files that hold their own name, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # nobody's global excludes

    def make(*names: str, **ignores: str) -> None:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        for name, rules in ignores.items():
            (tmp_path / f".{name}").write_text(rules)

    return make


def read(
    *sources: str,
    rules: Rules | None = None,
    stdin: io.BufferedIOBase | None = None,
    stop: threading.Event | None = None,
) -> tuple[Corpus, Manifest]:
    builder = CorpusBuilder()
    try:
        manifest = gather(
            sources,
            rules or Rules(),
            builder,
            stdin=stdin,  # type: ignore[arg-type]
            progress=lambda reading: None,
            stop=stop or threading.Event(),
        )
        return builder.finish(), manifest
    finally:
        builder.close()


def paths(*sources: str, rules: Rules | None = None) -> list[str]:
    corpus, _ = read(*sources, rules=rules)
    found = [document.path for document in corpus.documents]
    corpus.close()
    return found


def texts(*sources: str, stdin: io.BufferedIOBase | None = None) -> Iterator[tuple[str, str, int]]:
    """Text, encoding and replaced characters of each document."""
    corpus, _ = read(*sources, stdin=stdin)
    for document in corpus.documents:
        yield corpus.text(document.start, document.stop), document.encoding, document.replaced
    corpus.close()


class TestWalking:
    """Which files of a folder are read."""

    def test_nested_ignore_files(self, tree: Tree, tmp_path: Path) -> None:
        """Rules of a folder hold below it, a nearer file wins, `!` brings back; all three names count, no repository."""
        tree(
            "a.txt", "a.log", "keep.log", "sub/b.txt", "sub/b.log", "sub/deep/c.txt", "out/d.txt", "e.tmp", "f.bak",
            gitignore="*.log\n!keep.log\n/out\n", ignore="*.tmp\n", rlmignore="*.bak\n",
        )  # fmt: skip
        (tmp_path / "sub" / ".gitignore").write_text("!b.log\ndeep/\n")
        corpus, manifest = read(".")
        assert [document.path for document in corpus.documents] == [
            "./a.txt",
            "./keep.log",
            "./sub/b.log",
            "./sub/b.txt",
        ]
        assert manifest.excluded == {".gitignore": 2, "sub/.gitignore": 1, ".ignore": 1, ".rlmignore": 1, "hidden": 4}

    def test_no_ignore_file_opens_what_is_hidden(self, tree: Tree) -> None:
        """`!*/` brings folders back, not `.git`: there are tokens in it."""
        tree("a.txt", ".git/config", ".ssh/id", gitignore="*\n!*/\n!*.txt\n!config\n!id\n")
        assert paths(".") == ["./a.txt"]

    def test_unrestricted(self, tree: Tree) -> None:
        """-u reads what ignore files exclude, -uu hidden files too."""
        tree("a.txt", "a.log", ".env", gitignore="*.log")
        assert paths(".", rules=Rules(unrestricted=1)) == ["./a.log", "./a.txt"]
        assert paths(".", rules=Rules(unrestricted=2)) == ["./.env", "./.gitignore", "./a.log", "./a.txt"]

    def test_a_named_file_needs_no_permission(self, tree: Tree) -> None:
        """What stands on the command line is read, whatever the rules say, and once."""
        tree("a.log", gitignore="*.log")
        assert paths("a.log", "./a.log", "*.log") == ["a.log"]

    def test_globs_and_types(self, tree: Tree) -> None:
        """-g includes, a leading ! excludes, the last match wins; -t goes by suffix."""
        tree("a.txt", "b.txt", "c.md", "sub/d.txt", "e.PY")
        assert paths(".", rules=Rules(globs=("*.txt", "!b*"))) == ["./a.txt", "./sub/d.txt"]
        assert paths(".", rules=Rules(types=("md", "py"))) == ["./c.md", "./e.PY"]
        for rules, words in ((Rules(types=("lgo",)), "log"), (Rules(globs=("[",)), "unclosed")):
            with pytest.raises(UsageError) as refused:
                read(".", rules=rules)
            assert words in f"{refused.value} {refused.value.hint}"

    def test_order_is_that_of_the_paths(self, tree: Tree) -> None:
        """Sorted, whatever the file system says."""
        names = [f"{letter}.txt" for letter in "zkbQ1_"]
        tree(*names)
        assert paths(".") == sorted(f"./{name}" for name in names)

    def test_links(self, tree: Tree, tmp_path: Path) -> None:
        """Links to folders are not followed, loops do no harm, one that leads out of the folder is not read."""
        tree("docs/a.txt", "docs/sub/b.txt", "home/.ssh/id_rsa")
        for name, target in (
            ("self", "."), ("loop", "loop"), ("nowhere", "none"), ("more", "sub"), ("again.txt", "a.txt"),
            ("notes.txt", "../home/.ssh/id_rsa"),
        ):  # fmt: skip
            (tmp_path / "docs" / name).symlink_to(target)
        corpus, manifest = read("docs")
        assert [document.path for document in corpus.documents] == ["docs/a.txt", "docs/again.txt", "docs/sub/b.txt"]
        assert manifest.excluded == {"links to folders": 2, "links out of the folder": 1}
        assert [(s.path, s.reason.split(" (")[0]) for s in manifest.skipped] == [
            ("docs/loop", "unreadable"), ("docs/nowhere", "unreadable"),
        ]  # fmt: skip

    def test_what_is_no_file(self, tree: Tree, tmp_path: Path) -> None:
        """FIFOs and sockets are named and never waited for; names that are not UTF-8 are read and shown escaped."""
        tree("a.txt")
        os.mkfifo(tmp_path / "pipe")
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_text("odd")
        corpus, manifest = read(".")
        assert [document.path for document in corpus.documents] == ["./a.txt", "./\\xff.txt"]
        assert [(s.path, s.reason) for s in manifest.skipped] == [("./pipe", "not a regular file (a FIFO)")]

    def test_a_pipe_that_is_named_is_read(self, tree: Tree, tmp_path: Path) -> None:
        """`rlm ask … <(command)`: also when its writer comes late."""
        tree()
        os.mkfifo(tmp_path / "pipe")
        threading.Timer(0.3, lambda: (tmp_path / "pipe").write_text("late\n")).start()
        assert [t for t, _, _ in texts("pipe")] == ["late\n"]

    def test_folders_deeper_than_calls(self) -> None:
        """Nesting has no limit but the system's."""
        place = tempfile.mkdtemp()
        try:
            with contextlib.chdir(place):
                for _ in range(1_200):
                    Path("d").mkdir()
                    os.chdir("d")
                Path("deep.txt").write_text("deep")
            with contextlib.chdir(place):
                assert paths(".") == ["./" + "d/" * 1_200 + "deep.txt"]
        finally:
            subprocess.run(["rm", "-rf", place], check=True)  # shutil's recursion is not deep enough

    def test_what_may_not_be_read(self) -> None:
        """A file and a folder without permission are named."""
        with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
            Path(place).chmod(0o755)
            for name in ("a.txt", "b.txt", "sub/c.txt"):
                Path(name).parent.mkdir(exist_ok=True)
                Path(name).write_text(name)
            Path("b.txt").chmod(0)
            Path("sub").chmod(0)
            before = os.geteuid()
            os.seteuid(65534 if before == 0 else before)  # root may read everything
            try:
                corpus, manifest = read(".")
            finally:
                os.seteuid(before)
                Path("sub").chmod(0o755)
        assert [document.path for document in corpus.documents] == ["./a.txt"]
        assert [(s.path, s.reason) for s in manifest.skipped] == [
            ("./b.txt", "unreadable (Permission denied)"), ("./sub", "unreadable folder (Permission denied)"),
        ]  # fmt: skip

    def test_a_source_that_is_not_there(self, tree: Tree) -> None:
        """An error with the nearest name; a pattern without a match too."""
        tree("contract.txt")
        with pytest.raises(SourceError, match="no file or folder") as missing:
            read("contrakt.txt")
        assert "contract.txt" in missing.value.hint
        with pytest.raises(SourceError, match="no file matches"):
            read("*.pdf")

    def test_when_rules_leave_next_to_nothing_that_is_said(self, tree: Tree) -> None:
        """A folder whose files are nearly all excluded is worth a notice."""
        tree("a.txt", *(f"{n}.log" for n in range(20)), gitignore="*.log")
        _, manifest = read(".")
        assert "-u" in manifest.notices[0]


class Meddling(threading.Event):
    """A stop that is never set, and does something to the files when it is asked for the n-th time: before a file is
    opened, then behind each piece of it."""

    def __init__(self, n: int, act: Callable[[], object]) -> None:
        super().__init__()
        self.n, self.act = n, act

    def is_set(self) -> bool:
        self.n -= 1
        if self.n == 0:
            self.act()
        return False


class TestFilesThatChange:
    """While they are read, or between being seen and being opened."""

    LINES = "a line of text\n" * 200_000

    def changed(self, n: int, act: Callable[[], object]) -> tuple[str | None, Manifest]:
        Path("a.txt").write_text(self.LINES)
        corpus, manifest = read(".", stop=Meddling(n, act))
        text = corpus.text(*corpus.whole) if corpus.documents else None
        corpus.close()
        return text, manifest

    def append(self) -> None:
        with Path("a.txt").open("a") as file:
            file.write("and more\n")

    def test_a_file_that_grows(self, tree: Tree) -> None:
        """What is there when its end is reached is read."""
        tree()
        assert self.changed(2, self.append)[0] == self.LINES + "and more\n"

    def test_a_file_that_shrinks(self, tree: Tree) -> None:
        """What was read before and what is left is a document; nothing dies of it."""
        tree()
        assert self.changed(2, lambda: os.truncate("a.txt", 1_500_000))[0] == self.LINES[:1_500_000]
        assert self.changed(2, lambda: os.truncate("a.txt", 0))[0] == self.LINES[:8_192].rstrip("\n") + "\n"

    def test_a_file_that_goes(self, tree: Tree) -> None:
        """One that was opened is read to its end; one that was only seen is named."""
        tree()
        assert self.changed(2, Path("a.txt").unlink)[0] == self.LINES
        text, manifest = self.changed(1, Path("a.txt").unlink)
        assert text is None
        assert [(s.path, s.reason) for s in manifest.skipped] == [("./a.txt", "unreadable (No such file or directory)")]

    def test_a_file_that_becomes_another_thing(self, tree: Tree) -> None:
        """A FIFO in its place is not waited for, a folder is named."""
        tree()

        def fifo() -> None:
            Path("a.txt").unlink()
            os.mkfifo("a.txt")

        def folder() -> None:
            Path("a.txt").unlink()
            Path("a.txt").mkdir()

        assert self.changed(1, fifo)[0] == ""
        Path("a.txt").unlink()
        assert self.changed(1, folder)[1].skipped[0].reason == "unreadable (Is a directory)"


class TestText:
    """Bytes become characters."""

    @pytest.mark.parametrize(
        ("encoding", "text"),
        [
            ("utf-8", "Grüße, 世界 🙂\n"),
            ("utf-8-sig", "Grüße\n"),
            ("utf-16", "Grüße 世界\n"),
            ("utf-16-le", "plain words without a mark\n"),
            ("utf-16-be", "plain words without a mark\n"),
            ("utf-32", "Grüße 🙂\n"),
            ("utf-32-le", "plain words, Grüße 🙂\n"),
            ("utf-32-be", "plain words, Grüße 🙂\n"),
            ("utf-16-le", "Договор может быть расторгнут в любое время.\n" * 3),
            ("utf-16-be", "この契約は三十日前の通知により解除することができる。\n" * 3),
            ("iso2022_jp", "この契約は三十日前の通知により解除することができる。\n" * 3),
            ("iso2022_kr", "이 계약은 삼십일 전에 통지하면 해지할 수 있다.\n" * 3),
            ("cp850", "Der Vertrag läuft über drei Jahre und verlängert sich.\n"),
            ("mac_roman", "Le contrat est résilié après un préavis écrit à l’avance.\n"),
            ("cp1252", "une page † puis ‡ deux™ et « cœur » l’été…\n"),
            ("latin-1", "Müller GmbH, Straße 5\n"),
            ("latin-1", "café au lait bien sûr\n"),
            ("latin-1", "§ 5 Absatz 2\n"),
            ("latin-1", "Café déjà vu\n"),
            ("cp1251", "Привет, мир\n"),
            ("cp1251", "an English line\n" * 80 + "Договор расторгнут\n"),
            ("shift_jis", "an English line\n" * 80 + "契約は三十日前の通知\n"),
            ("cp1252", "Der Vertrag läuft über drei Jahre, kündbar jährlich – „ohne Gründe“.\n" * 3),
            ("koi8-r", "Договор может быть расторгнут в любое время без предупреждения.\n" * 5),
            ("shift_jis", "この契約は三十日前の通知により解除することができる。\n" * 5),
            ("gb18030", "本合同可提前三十天通知解除，双方均无须说明理由。\n" * 5),
        ],
    )
    def test_encodings(self, tree: Tree, encoding: str, text: str) -> None:
        """Text of any encoding is read without a replaced character."""
        tree()
        Path("a.txt").write_bytes(text.encode(encoding))
        assert [(t, replaced) for t, _, replaced in texts("a.txt")] == [(text, 0)]

    def test_a_bad_byte_does_not_change_the_encoding(self, tree: Tree) -> None:
        """UTF-8 with a few bad bytes stays UTF-8; the bad ones are counted."""
        tree()
        Path("a.log").write_bytes("Grüße aus Köln\n".encode() * 5 + b"\xff\xfe and more\n" + "Ende: süß\n".encode())
        [(text, encoding, replaced)] = texts("a.log")
        assert (encoding, replaced) == ("utf-8", 2)
        assert text.count("Grüße aus Köln") == 5
        assert "\ufffd\ufffd and more\nEnde: süß\n" in text

    def test_the_first_umlaut_of_a_long_file(self, tree: Tree) -> None:
        """A file that is ASCII for megabytes is read once, and what comes then is recognised."""
        tree()
        Path("a.log").write_bytes(b"a plain line\n" * 200_000 + "gekündigt, fristlos, gemäß Vertrag\n".encode("cp1252"))
        [(text, encoding, replaced)] = texts("a.log")
        assert (encoding.replace("_", "-"), replaced) in (("cp1252", 0), ("iso8859-1", 0), ("iso8859-15", 0))
        assert text.endswith("gekündigt, fristlos, gemäß Vertrag\n")

    def test_characters_across_chunks(self, tree: Tree) -> None:
        """A character, and a line end, that a chunk cuts in two arrive whole."""
        tree()
        for shift in range(3):
            text = "x" * ((1 << 20) + 8_192 - shift) + "🙂ü\r\nend\r\n"
            Path("a.txt").write_bytes(text.encode())
            assert [t for t, _, _ in texts("a.txt")] == [text.replace("\r\n", "\n")]

    def test_line_ends(self, tree: Tree) -> None:
        """`\\n` only, whatever the system it came from; the last line is ended."""
        tree()
        Path("a.txt").write_bytes(b"one\r\ntwo\rthree\n\rfour")
        assert [t for t, _, _ in texts("a.txt")] == ["one\ntwo\nthree\n\nfour\n"]

    def test_a_replacement_character_of_the_source_is_none_of_ours(self, tree: Tree) -> None:
        """U+FFFD that stands in a file is text, whatever the encoding."""
        tree()
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            Path("a.txt").write_bytes("a \ufffd b\n".encode(encoding))
            assert [(t, replaced) for t, _, replaced in texts("a.txt")] == [("a \ufffd b\n", 0)]
        Path("a.txt").write_bytes(b"\xff\xfea\0\x00\xd8b\0")
        assert [replaced for _, _, replaced in texts("a.txt")] == [1]

    def test_colours_of_a_terminal_are_no_encoding(self, tree: Tree) -> None:
        """Escapes in a log do not make it Japanese, nor does one that switches to what is none."""
        tree()
        for data in (b"\x1b[31mred\x1b[0m plain\n", b"\x1b$B is said and \x01\x02 nothing\n", b"price \x1b$5\n"):
            Path("a.log").write_bytes(data)
            assert [(t, encoding) for t, encoding, _ in texts("a.log")] == [(data.decode(), "utf-8")]

    def test_words_that_look_like_magic(self, tree: Tree) -> None:
        """Text may begin with BZh, ID3 or GIF8."""
        tree()
        for words in ("BZh is a prefix", "ID3 tags", "GIF8 is short"):
            Path("a.txt").write_text(words + "\n")
            assert [t for t, _, _ in texts("a.txt")] == [words + "\n"]

    def test_what_is_no_text(self, tree: Tree) -> None:
        """Binary files are named with what they are; a log with a hole of NULs is text."""
        tree()
        for name, data in (
            ("a.bin", bytes(range(256)) * 40), ("b", b"\x7fELF" + b"\0" * 60), ("c.docx", b"PK\x03\x04"),
            ("d", b"PK\x03\x04 zip"), ("e.log", b"before\n" + b"\0" * 300 + b"after\n"), ("f.png", b"\x89PNG\r\n\x1a\n"),
        ):  # fmt: skip
            Path(name).write_bytes(data)
        corpus, manifest = read(".")
        assert [document.path for document in corpus.documents] == ["./e.log"]
        assert [(s.path, s.reason) for s in manifest.skipped] == [
            ("./a.bin", "binary"), ("./b", "binary"), ("./c.docx", "damaged zip"),
            ("./d", "damaged zip"), ("./f.png", "binary"),
        ]  # fmt: skip

    def test_the_manifest(self, tree: Tree) -> None:
        """Kind, encoding, size and hash of the source, characters, lines and pages of the text."""
        tree()
        data = "ä\r\nb\r\n".encode("utf-16")
        Path("a.txt").write_bytes(data)
        corpus, _ = read("a.txt")
        document = corpus.documents[0]
        assert (document.kind, document.encoding, document.bytes, document.chars, document.lines, document.pages) == (
            "text", "utf-16", len(data), 4, 2, 0,
        )  # fmt: skip
        assert (
            document.sha256 == subprocess.run(["sha256sum", "a.txt"], capture_output=True, text=True).stdout.split()[0]
        )


class TestPdf:
    """PDFs, in processes of their own."""

    def test_pages(self, tree: Tree) -> None:
        """Page text in order, whatever finishes first, with page numbers."""
        tree()
        for name in "abcdef":
            Path(f"{name}.pdf").write_bytes(pdf([f"{name} page one", f"{name} page two"]))
        corpus, _ = read(".")
        assert [document.path for document in corpus.documents] == [f"./{name}.pdf" for name in "abcdef"]
        for document in corpus.documents:
            at = corpus.find(f"{document.path[2]} page two")
            assert (document.pages, corpus.place(at).page) == (2, 2)

    def test_what_gives_no_text(self, tree: Tree) -> None:
        """Encrypted, without a text layer, damaged, empty: each with its reason, and the good one is read."""
        tree()
        Path("good.pdf").write_bytes(pdf(["good"]))
        Path("blank.pdf").write_bytes(pdf([""]))
        Path("damaged.pdf").write_bytes(pdf(["x"])[:200])
        Path("empty.pdf").write_bytes(b"")
        encrypted = pytest.importorskip("pypdf").PdfWriter(clone_from=io.BytesIO(pdf(["secret"])))
        encrypted.encrypt("password", algorithm="RC4-128")
        encrypted.write("locked.pdf")
        corpus, manifest = read(".")
        assert [document.path for document in corpus.documents] == ["./good.pdf"]
        reasons = {s.path: s.reason for s in manifest.skipped}
        assert reasons["./blank.pdf"] == "no text layer"
        assert reasons["./locked.pdf"] == "encrypted"
        assert "damaged" in reasons["./damaged.pdf"]
        assert reasons["./empty.pdf"] == "empty"

    def test_what_would_read_pictures_is_said(self, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where tesseract is installed the user is told, once, what turns it on; elsewhere nothing."""
        tree()
        for name in ("a.pdf", "b.pdf"):
            Path(name).write_bytes(pdf([""]))
        program = Path("bin/tesseract").absolute()
        program.parent.mkdir()
        monkeypatch.setenv("PATH", str(program.parent))
        assert not read("a.pdf", "b.pdf")[1].notices
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        (notice,) = read("a.pdf", "b.pdf")[1].notices
        assert "`ocr = true`" in notice

    def test_a_pdf_by_its_first_bytes(self, tree: Tree) -> None:
        """Without the suffix, and from stdin."""
        tree()
        Path("scan").write_bytes(pdf(["words"]))
        assert [t for t, _, _ in texts("scan")] == ["words\n"]
        assert [t for t, _, _ in texts("-", stdin=io.BytesIO(pdf(["words"])))] == ["words\n"]

    def test_a_module_beside_the_documents_does_not_run(self, tree: Tree) -> None:
        """`struct.py` in a folder of PDFs is a document and no code."""
        tree()
        Path("a.pdf").write_bytes(pdf(["fine"]))
        for name in ("struct.py", "pypdfium2.py", "json.py"):
            Path(name).write_text("open('ran', 'w').close()\n")
        assert "fine\n" in [t for t, _, _ in texts(".")]
        assert not Path("ran").exists()

    def test_a_damaged_page_costs_itself(self, tree: Tree) -> None:
        """The other pages are read, and the notice says which one is missing."""
        tree()
        Path("a.pdf").write_bytes(
            pdf(["one", "two", "three"])
            .replace(b"/Type /Page /Parent 2 0 R", b"/Type /Nope /Parent 2 0 R", 2)
            .replace(b"/Type /Nope", b"/Type /Page", 1)
        )
        corpus, manifest = read("a.pdf")
        assert (corpus.documents[0].pages, corpus.documents[0].replaced) == (3, 1)
        assert "three" in corpus.text()
        assert manifest.notices == ("a.pdf: damaged and left out, page 2",)


class TestStdin:
    """What comes by a pipe."""

    def test_a_pipe_is_a_document(self, tree: Tree) -> None:
        """`-` among other sources, in its place."""
        tree("a.txt")
        corpus, _ = read("-", "a.txt", stdin=io.BytesIO(b"piped\n"))
        assert [document.path for document in corpus.documents] == ["-", "a.txt"]

    def test_a_pipe_that_never_ends_can_be_stopped(self, tree: Tree) -> None:
        """`tail -f | rlm ask`, then Ctrl-C."""
        tree()
        source, sink = os.pipe()
        stop = threading.Event()
        threading.Timer(0.3, stop.set).start()
        with os.fdopen(source, "rb") as stdin, os.fdopen(sink, "wb") as writer:
            writer.write(b"a line\n")
            writer.flush()
            with pytest.raises(Stopped):
                read("-", stdin=stdin, stop=stop)

    def test_lists_of_paths(self, tree: Tree) -> None:
        """--files-from takes newlines, or NULs where there are any."""
        tree()
        Path("list").write_bytes(b"a b.txt\nc.txt\n")
        assert read_list("list", io.BytesIO()) == ["a b.txt", "c.txt"]
        assert read_list("-", io.BytesIO(b"a\nb\0c\0")) == ["a\nb", "c"]
        with pytest.raises(UsageError, match="--files-from"):
            read_list("none", io.BytesIO())


def test_progress_says_what_is_read(tree: Tree) -> None:
    """Files, bytes and pages so far; the last word is the whole."""
    tree("a.txt", "b.txt")
    Path("c.pdf").write_bytes(pdf(["one", "two"]))
    told: list[Reading] = []
    builder = CorpusBuilder()
    gather(["."], Rules(), builder, stdin=None, progress=told.append, stop=threading.Event())
    builder.close()
    assert (told[-1].files, told[-1].pages) == (3, 2)
    assert told[-1].bytes == sum(Path(name).stat().st_size for name in ("a.txt", "b.txt", "c.pdf"))


def test_a_full_disk_is_no_fault_of_the_documents(tree: Tree) -> None:
    """A corpus that cannot be written is an error of its own: no file is skipped for it."""
    tree("a.txt")
    builder = CorpusBuilder()
    os.dup2(os.open("/dev/full", os.O_WRONLY), builder._fd)
    Path("big.txt").write_text("a line\n" * 300_000)
    with pytest.raises(Unwritable, match="No space left"):
        gather(["."], Rules(), builder, stdin=None, progress=lambda reading: None, stop=threading.Event())
    builder.close()
