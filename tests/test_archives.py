"""Archives and packed files: members are documents with a path of their own, and nothing in them does harm.

Most of it runs the worker's code here: what a process adds is tested in test_workers.py.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from documents import pdf

from rlm_cli.read import formats, frames, packed, streams
from rlm_cli.read.extract import Extraction, Request
from rlm_cli.read.members import Wanted
from rlm_cli.read.pieces import Options

try:
    from compression import zstd
except ImportError:
    from backports import zstd


@dataclass
class Told:
    """What came of a file: documents by their path inside, and the account of the rest."""

    texts: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    ends: dict[str, frames.End] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    met: bool = True


Look = Callable[..., Told]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """`look("a.zip", data)`: read it as a worker would."""

    def read(
        name: str, data: bytes, *, options: Options | None = None, after: frames.Place = (), **wanted: Any
    ) -> Told:
        path = tmp_path / name
        path.write_bytes(data)
        told, here = Told(), ""
        said: list[frames.Frame] = []
        request = Request(str(path), name, Wanted(name, **wanted), options or Options(), after)
        extraction = Extraction(request, said.append, lambda: None)
        with path.open("rb", buffering=0) as raw:
            extraction.read(raw)
        told.met = extraction.met
        for frame in list(frames.unpack(bytearray(b"".join(map(frames.pack, said))))):
            match frame:
                case frames.Begin(here, kind):
                    told.texts[here], told.kinds[here] = "", kind
                case frames.Text(text):
                    told.texts[here] += text
                case frames.End():
                    told.ends[here] = frame
                case frames.Skip(where, reason):
                    told.texts.pop(where, None)
                    told.skipped[where] = reason
                case frames.Kept(rule):
                    told.kept.append(rule)
                case frames.Note(where, words):
                    told.notes[where] = words
        return told

    return read


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(members: dict[str, bytes], how: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=how) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


MEMBERS = {
    "a.txt": "Grüße\n".encode(),
    "dir/b.pdf": pdf(["page one", "page two"]),
    "dir/c.log": "süß\n".encode("cp1252"),
}
TEXTS = {"!/a.txt": "Grüße\n", "!/dir/b.pdf": "page onepage two", "!/dir/c.log": "süß\n"}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress, "bz2": bz2.compress, "xz": lambda data: lzma.compress(data, preset=0), "zst": zstd.compress,
}  # fmt: skip


class TestMembers:
    @pytest.mark.parametrize(
        ("name", "data"),
        [
            ("a.zip", zipped(MEMBERS)),
            ("a.zip", zipped(MEMBERS, zipfile.ZIP_STORED)),
            ("a.zip", zipped(MEMBERS, zipfile.ZIP_BZIP2)),
            ("a.zip", zipped(MEMBERS, zipfile.ZIP_LZMA)),
            ("no-suffix", zipped(MEMBERS)),
            ("a.tar", tarred(MEMBERS)),
            ("no-suffix", tarred(MEMBERS)),
            *((f"a.tar.{kind}", pack(tarred(MEMBERS))) for kind, pack in PACKERS.items()),
            ("a.tgz", gzip.compress(tarred(MEMBERS))),
            ("a.tzst", zstd.compress(tarred(MEMBERS))),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_each_is_a_document(self, look: Look, name: str, data: bytes) -> None:
        """Text in its encoding and PDFs with their pages, whatever they are packed in."""
        told = look(name, data)
        assert (told.texts, told.skipped) == (TEXTS, {})
        assert told.kinds == {"!/a.txt": "text", "!/dir/b.pdf": "pdf", "!/dir/c.log": "text"}
        assert told.ends["!/dir/c.log"].encoding != "utf-8"

    @pytest.mark.parametrize("kind", PACKERS)
    def test_one_packed_text_is_one_document(self, look: Look, kind: str) -> None:
        """`a.log.gz` is no archive; streams in a row are one, and zeros or stray bytes behind them are nobody's."""
        pack = PACKERS[kind]
        data = pack(b"one\n") + pack(b"two\n")
        assert look(f"a.log.{kind}", data).texts == {"": "one\ntwo\n"}
        assert look(f"a.log.{kind}", data + b"\0" * 600).texts == {"": "one\ntwo\n"}
        assert look(f"a.log.{kind}", data + b"stray bytes").texts == {"": "one\ntwo\n"}
        assert look("nothing", pack(b"")).texts == {"": ""}

    def test_a_document_that_must_be_sought_in(self, look: Look) -> None:
        """A PDF that is packed alone, and a zip in a packed tar."""
        assert look("a.pdf.xz", lzma.compress(pdf(["words"]))).texts == {"": "words"}
        assert look("a.tgz", gzip.compress(tarred({"in.zip": zipped(MEMBERS)}))).texts == {
            f"!/in.zip{path}": text for path, text in TEXTS.items()
        }

    def test_large_members_are_held_in_memory_files(self, look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same as small ones; one that is larger still is named."""
        monkeypatch.setattr(streams, "IN_MEMORY", 100)
        assert look("a.zip", zipped(MEMBERS)).texts == TEXTS
        monkeypatch.setattr(streams, "MOST_MEMBER", 300)
        assert "inside an archive" in look("a.zip", zipped(MEMBERS)).skipped["!/dir/b.pdf"]

    def test_archives_in_archives(self, look: Look) -> None:
        """Four within one another are read; what lies deeper is named, as is what is packed over and over."""
        data = zipped({"deep.txt": b"deep"})
        for _ in range(3):
            data = tarred({"in.zip": data, "here.txt": b"here"}) if data[:2] == b"PK" else zipped({"in.tar": data})
        told = look("a.tar", data)
        assert told.texts == {
            "!/in.zip!/in.tar!/in.zip!/deep.txt": "deep", "!/in.zip!/in.tar!/here.txt": "here", "!/here.txt": "here",
        }  # fmt: skip
        told = look("a.zip", zipped({"a.tar": data, "b.txt": b"b"}))
        assert told.skipped == {"!/a.tar!/in.zip!/in.tar!/in.zip": "nested deeper than 4 archives"}
        packed = b"text"
        for _ in range(6):
            packed = gzip.compress(packed)
        assert look("a.gz", packed).skipped == {"": "nested deeper than 4 archives"}

    def test_names_are_labels(self, look: Look, tmp_path: Path) -> None:
        """Wherever a member wants to be it is below its archive, and nothing is written anywhere."""
        (tmp_path / "place").mkdir()
        names = ["../../etc/passwd", "/etc/passwd", "./here.txt", "with\nline\x1b[31m.txt", "größe.txt"]
        for data in (zipped(dict.fromkeys(names, b"x")), tarred(dict.fromkeys(names, b"x"))):
            told = look("place/a", data)
            assert list(told.texts) == [
                "!/../../etc/passwd", "!/etc/passwd", "!/here.txt", "!/with\nline\x1b[31m.txt", "!/größe.txt",
            ]  # fmt: skip
        assert [p.name for p in (tmp_path / "place").iterdir()] == ["a"]

    def test_names_that_are_not_marked_as_utf_8(self, look: Look) -> None:
        """Many programs write UTF-8 and do not say so."""
        data = zipped({"gr__e.txt": b"x"}).replace(b"gr__e.txt", "grü.txt".encode().ljust(9, b"t"))
        assert list(look("a.zip", data).texts) == ["!/grü.txtt"]
        assert list(look("a.tar", tarred({"gr__e.txt": b"x"}, "w").replace(b"gr__e.txt", b"gr\xffe.txt\0")).texts) == []

    @pytest.mark.parametrize(
        ("name", "data", "kind"),
        [
            ("-", b"<!-- a page -->\n<!DOCTYPE html><p>words", "html"),
            ("a.tmpl", b"<html>{{ words }}", "text"),
            ("17.M1.host:2,S", b"Received: from x\n by y\nFrom: a@b\nSubject: s\n\nwords\n", "eml"),
            ("a.txt", b"Received: from x\nFrom: a@b\n\nwords\n", "text"),
            ("notes", b"From: me\nTo: you\n\nwords\n", "text"),
            ("Inbox", b"From a@b Thu Jan  1 00:00:00 2026\nFrom: a@b\n\nwords\n", "eml"),
            ("-", b"From 12ab Mon Sep 17 00:00:00 2001\nFrom: a@b\nMessage-ID: <x>\n\nwords\n", "text"),
            ("-", b"From here on it is text\n", "text"),
        ],
    )
    def test_text_that_begins_like_something(self, look: Look, name: str, data: bytes, kind: str) -> None:
        """A page and a mail are known where the name says nothing, and only there."""
        assert list(look(name, data).kinds.values()) == [kind]

    def test_old_office_files_by_what_is_inside(self, look: Look) -> None:
        """Locked, or of a kind that is not read: each by its own name, without a suffix too."""
        head = formats.OLE[0].ljust(30, b"\0") + b"\x09\0" + bytes(16) + bytes(4)
        for names, reason in (
            (["EncryptedPackage"], "encrypted"),
            (["WordDocument", "Workbook"], "unsupported type (old office file)"),
            (["Workbook"], "damaged workbook"),
        ):
            data = head.ljust(512, b"\0") + "\0".join(names).encode("utf-16-le")
            assert look("nothing", data).skipped[""].startswith(reason)

    def test_what_is_no_file(self, look: Look) -> None:
        """Folders are nothing, links are counted, devices are named, binary files too."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            for name, kind in (
                ("d", tarfile.DIRTYPE), ("l", tarfile.SYMTYPE), ("h", tarfile.LNKTYPE), ("dev", tarfile.CHRTYPE),
            ):  # fmt: skip
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, "/etc/passwd"
                archive.addfile(info)
        told = look("a.tar", out.getvalue())
        assert (told.texts, told.kept, told.skipped) == ({}, ["links in archives"] * 2, {"!/dev": "not a regular file"})
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive_:
            link = zipfile.ZipInfo("link")
            link.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive_.writestr(link, "/etc/passwd")
            archive_.writestr("d/", b"")
            archive_.writestr("b.bin", bytes(range(256)))
        told = look("a.zip", out.getvalue())
        assert (told.texts, told.kept, told.skipped) == ({}, ["links in archives"], {"!/b.bin": "binary"})


class TestWanted:
    """What of an archive is read."""

    DATA = zipped(
        {"a.txt": b"a", "b.md": b"b", ".hidden": b"h", ".git/c.txt": b"c", "sub/d.txt": b"d", "e.log.gz": gzip.compress(b"e"),
         "in.zip": zipped({"f.txt": b"f", "g.md": b"g"})}
    )  # fmt: skip

    @pytest.mark.parametrize(
        ("wanted", "names"),
        [
            ({}, "a.txt b.md sub/d.txt e.log.gz in.zip!/f.txt in.zip!/g.md"),
            ({"hidden": True}, "a.txt b.md .hidden .git/c.txt sub/d.txt e.log.gz in.zip!/f.txt in.zip!/g.md"),
            ({"globs": ("*.txt",)}, "a.txt sub/d.txt in.zip!/f.txt"),
            ({"globs": ("*.{md,txt}", "!sub/")}, "a.txt b.md in.zip!/f.txt in.zip!/g.md"),
            ({"globs": ("!in.zip",)}, "a.txt b.md sub/d.txt e.log.gz"),
            ({"globs": ("in.zip", "!g*")}, "in.zip!/f.txt"),
            ({"globs": ("**/sub/*.t?t",)}, "sub/d.txt"),
            ({"globs": ("a.zip!/[a-b].*",)}, "a.txt b.md"),
            ({"globs": ("*.zip",)}, "a.txt b.md sub/d.txt e.log.gz in.zip!/f.txt in.zip!/g.md"),
            ({"suffixes": frozenset([".md", ".log"])}, "b.md e.log.gz in.zip!/g.md"),
            ({"suffixes": frozenset([".pdf"]), "globs": ("!*.pdf",)}, ""),
            ({"only": "sub"}, "sub/d.txt"),
            ({"only": ".git/c.txt"}, ".git/c.txt"),
            ({"only": "in.zip!/g.md", "globs": ("*.txt",)}, "in.zip!/g.md"),
            ({"only": "in.zip"}, "in.zip!/f.txt in.zip!/g.md"),
        ],
    )
    def test_rules(self, look: Look, wanted: dict[str, Any], names: str) -> None:
        """Hidden-ness, globs and types hold for members; a container is like a folder; what is named is read."""
        told = look("a.zip", self.DATA, **wanted)
        assert " ".join(path.removeprefix("!/") for path in told.texts) == names
        assert told.met
        assert not told.skipped

    def test_what_is_left_out_is_counted(self, look: Look) -> None:
        """Each by its rule."""
        told = look("a.zip", self.DATA, globs=("*.txt",))
        assert sorted(told.kept) == ["--glob"] * 3 + ["hidden"] * 2
        assert not look("a.zip", self.DATA, only="nothing").met

    def test_a_packed_file_in_a_folder(self, look: Look) -> None:
        """Walking lets it through, its inner name decides; named on the command line nothing does."""
        data = gzip.compress(b"x")
        assert look("a.log.gz", data, suffixes=frozenset([".md"]), bypass=False).kept == ["--type"]
        assert look("a.log.gz", data, suffixes=frozenset([".log"]), bypass=False).texts == {"": "x"}
        assert look("a.log.gz", data, globs=("*.md",)).texts == {"": "x"}


class TestEncrypted:
    def test_passwords(self, look: Look) -> None:
        """Named as encrypted; one of the configured passwords opens it."""
        data = _locked(b"hidden words\n", b"secret")
        assert look("a.zip", data).skipped == {"!/a.txt": "encrypted"}
        assert look("a.zip", data, options=Options(("wrong",))).skipped == {"!/a.txt": "encrypted"}
        assert look("a.zip", data, options=Options(("wrong", "secret"))).texts == {"!/a.txt": "hidden words\n"}

    def test_an_encrypted_pdf(self, look: Look) -> None:
        """The same for a PDF in it."""
        from pypdf import PdfWriter

        writer, out = PdfWriter(clone_from=io.BytesIO(pdf(["secret"]))), io.BytesIO()
        writer.encrypt("password", algorithm="RC4-128")
        writer.write(out)
        data = zipped({"a.pdf": out.getvalue()})
        assert look("a.zip", data).skipped == {"!/a.pdf": "encrypted"}
        assert look("a.zip", data, options=Options(("password",))).texts == {"!/a.pdf": "secret"}


def _locked(data: bytes, password: bytes) -> bytes:
    """A zip with one member `a.txt`, encrypted as PKZIP does (APPNOTE 6.1)."""
    keys = [0x12345678, 0x23456789, 0x34567890]
    table = []
    for n in range(256):
        value = n
        for _ in range(8):
            value = value >> 1 ^ 0xEDB88320 if value & 1 else value >> 1
        table.append(value)

    def update(byte: int) -> None:
        keys[0] = keys[0] >> 8 ^ table[(keys[0] ^ byte) & 0xFF]
        keys[1] = ((keys[1] + (keys[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = keys[2] >> 8 ^ table[(keys[2] ^ keys[1] >> 24) & 0xFF]

    for byte in password:
        update(byte)
    crc = zlib.crc32(data)
    out = bytearray()
    for byte in b"\0" * 11 + bytes([crc >> 24]) + data:
        key = keys[2] | 2
        out.append(byte ^ (key * (key ^ 1) >> 8 & 0xFF))
        update(byte)
    plain = zipped({"a.txt": data}, zipfile.ZIP_STORED)
    start = plain.index(data)
    local, rest = bytearray(plain[:start]), bytearray(plain[start + len(data) :])
    local[6] |= 1
    local[18:22] = len(out).to_bytes(4, "little")
    rest[8] |= 1
    rest[20:24] = len(out).to_bytes(4, "little")
    end = rest.index(b"PK\x05\x06")
    rest[end + 16 : end + 20] = (len(local) + len(out)).to_bytes(4, "little")
    return bytes(local + out + rest)


class TestDamaged:
    """What can be read is, and what cannot is named."""

    LINES = b"".join(b"line %d\n" % n for n in range(20_000))

    @pytest.mark.parametrize("kind", PACKERS)
    def test_a_packed_text_that_is_cut_off(self, look: Look, kind: str) -> None:
        """Its beginning is read; that its end is missing is told and counted."""
        lines = b"".join(b"line %d %d\n" % (n, n * n * 7919 % 99_991) for n in range(80_000))
        data = PACKERS[kind](lines)
        told = look(f"a.log.{kind}", data[: len(data) * 3 // 4])
        assert told.texts[""].startswith("line 0 0\nline 1 7919\n")
        assert told.ends[""].replaced == 1
        assert "the end is missing" in told.notes[""]

    def test_a_tar_that_is_cut_off(self, look: Look) -> None:
        """Whole members are read, the one at the cut as far as it goes, and the rest is named."""
        data = tarred({"a.txt": b"a", "b.txt": self.LINES, "c.txt": b"c"})
        told = look("a.tar", data[:100_000])
        assert told.texts["!/a.txt"] == "a"
        assert told.ends["!/b.txt"].replaced == 1
        assert "damaged" in told.skipped[""]
        told = look("a.tgz", gzip.compress(data)[:-3_000])
        assert told.texts["!/a.txt"] == "a"
        assert told.skipped[""]

    def test_a_broken_header_in_a_tar(self, look: Look) -> None:
        """`tarfile` ends there in silence; here it is said."""
        data = bytearray(tarred({"a.txt": b"a", "b.txt": b"b"}))
        data[1024:1200] = b"\xaa" * 176
        told = look("a.tar", bytes(data))
        assert told.texts == {"!/a.txt": "a"}
        assert "damaged" in told.skipped[""]

    def test_a_zip_without_its_directory(self, look: Look) -> None:
        """Members are found by what stands before each; sizes may stand behind them (a zip that was streamed)."""
        data = zipped({"a.txt": b"a", "b.txt": self.LINES, "c.txt": b"c"})
        told = look("a.zip", data[: data.index(b"PK\x01\x02")])
        assert list(told.texts) == ["!/a.txt", "!/b.txt", "!/c.txt"]
        assert "directory" in told.skipped[""]

        class Stream(io.RawIOBase):
            def __init__(self) -> None:
                self.data = b""

            def writable(self) -> bool:
                return True

            def write(self, data: Any) -> int:
                self.data += bytes(data)
                return len(data)

        out = Stream()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.txt", self.LINES)
            archive.writestr("b.txt", b"b")
        told = look("a.zip", out.data[: out.data.index(b"PK\x01\x02")])
        assert told.texts == {"!/a.txt": self.LINES.decode(), "!/b.txt": "b"}

    def test_a_wrong_checksum(self, look: Look) -> None:
        """Text is kept and the doubt is told; a member that is broken costs itself."""
        data = bytearray(zipped({"a.txt": b"some words", "b.txt": b"fine"}, zipfile.ZIP_STORED))
        at = data.index(b"some words")
        data[at : at + 4] = b"none"
        told = look("a.zip", bytes(data))
        assert told.texts == {"!/a.txt": "none words\ufffd", "!/b.txt": "fine"}
        assert "checksum" in told.notes["!/a.txt"]
        data = bytearray(zipped({"a.txt": self.LINES, "b.txt": b"fine"}))
        data[40:50] = b"\xff" * 10
        told = look("a.zip", bytes(data))
        assert told.texts["!/b.txt"] == "fine"
        assert told.skipped or told.notes

    @pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.gz", "a.xz", "a.bz2", "a.zst", "a.tgz"])
    def test_what_is_none(self, look: Look, name: str) -> None:
        """A name alone makes no archive."""
        for data in (
            b"",
            b"just words\n",
            b"\x1f\x8b\x08 no",
            b"PK\x03\x04" + b"\xff" * 50,
            b"\x28\xb5\x2f\xfd\xff\xff",
        ):
            told = look(name, data)
            assert told.skipped.keys() == {""}, data
            assert told.skipped[""]


class TestBombs:
    """What has no measure stops early, costs itself and is named."""

    @pytest.fixture(autouse=True)
    def little(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The same with smaller numbers."""
        monkeypatch.setattr(packed, "FREE", 1 << 20)

    TEXT = b"a line like any other\n" * 100_000

    @pytest.mark.parametrize("kind", PACKERS)
    def test_a_packed_bomb(self, look: Look, kind: str) -> None:
        """Text that is packed a thousand times over; zeros are no text and are not even unpacked."""
        pack = {"gz": lambda data: gzip.compress(gzip.compress(data))}.get(kind, PACKERS[kind])
        told = look("a", pack(self.TEXT))
        assert "bomb" in told.skipped[""]
        assert not told.texts
        assert look("a", pack(b"\0" * (8 << 20))).skipped[""] == "binary"

    def test_a_bomb_among_members(self, look: Look) -> None:
        """The others are read; a tar can only be read through it."""
        data = zipped(
            {
                "a.txt": b"a",
                "bomb": zstd.compress(self.TEXT),
                "deep.zip": zipped({"x": zstd.compress(self.TEXT)}),
                "z.txt": b"z",
            }
        )
        told = look("a.zip", data)
        assert told.texts == {"!/a.txt": "a", "!/z.txt": "z"}
        assert all("bomb" in reason for reason in told.skipped.values())
        assert list(told.skipped) == ["!/bomb", "!/deep.zip!/x"]
        told = look("a.tar.zst", zstd.compress(tarred({"a.txt": b"a", "bomb.txt": self.TEXT, "z.txt": b"z"})))
        assert told.texts == {"!/a.txt": "a"}
        assert "bomb" in told.skipped[""]

    def test_endless_members(self, look: Look) -> None:
        """Many empty members, packed, are a bomb too; many bombs end their archive."""
        data = zstd.compress(tarred({f"{n}": b"" for n in range(2_000)}))
        assert "bomb" in look("a.tar.zst", data).skipped[""]
        bomb = zstd.compress(self.TEXT)
        told = look("a.zip", zipped({f"{n}": bomb for n in range(9)}))
        assert "bomb" in told.skipped[""]
        assert len(told.skipped) < 6

    def test_windows_without_measure(self, look: Look) -> None:
        """xz and zstd may ask for gigabytes of memory before the first byte comes."""
        wide = lzma.compress(b"text", lzma.FORMAT_XZ, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}])
        assert look("a.xz", wide).skipped == {"": "needs too much memory"}
        frame = b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3]) + b"\x21\x00\x00text"
        assert look("a.zst", frame).skipped == {"": "needs too much memory"}

    def test_an_archive_of_itself(self, look: Look) -> None:
        """Ends where nesting does."""
        inner = zipped({"r.zip": b"x"})
        data = zipped({"r.zip": zipped({"r.zip": zipped({"r.zip": zipped({"r.zip": inner})})})})
        assert look("r.zip", data).skipped == {"!/r.zip" * 4: "nested deeper than 4 archives"}

    def test_a_log_that_repeats_itself(self, look: Look) -> None:
        """Is none: twenty times and more is what logs are packed."""
        lines = b"".join(b"2026-01-%02d GET /index.html 200 %d\n" % (n % 28, n * 7919 % 9973) for n in range(60_000))
        assert len(look("a.log.gz", gzip.compress(lines)).texts[""]) == len(lines)


def test_going_on_after_a_member(look: Look) -> None:
    """What a worker that died had finished is not sent again, nor the member it died of."""
    data = zipped({"a.txt": b"a", "in.zip": zipped({"b.txt": b"b", "c.txt": b"c", "d.txt": b"d"}), "e.txt": b"e"})
    assert list(look("a.zip", data, after=(1, 1)).texts) == ["!/in.zip!/d.txt", "!/e.txt"]
    assert list(look("a.zip", data, after=(1,)).texts) == ["!/e.txt"]
