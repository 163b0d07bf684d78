"""How often an encoding is found: `python tests/benchmarks/bench_encodings.py FOLDER`.

FOLDER holds Debian's translated manual pages, as packages (`apt-get download manpages-de manpages-fr manpages-ja …`): texts
nobody here wrote, in UTF-8. Each is written in every encoding its language was ever written in, read as the program reads
a file, and right when the characters are those of the original: two encodings that give the same text are equally right.

Then files of this system that are no text (programs, libraries, images, packed data) and files that are (sources, pages,
data), which must be refused and read.

The bars: .985 right over at least 15 encodings and 10 languages, .985 over both sorts of files. Exit code 1 where one is
missed.
"""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from rlm_cli.read import text

BAR = 0.985
PAGES = 14
"""Of each language: as many of its pages as that, drawn the same way every time."""
UNICODE = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
WESTERN = ("cp1252", "iso8859-1", "iso8859-15", "cp850", "mac_roman")
CENTRAL = ("cp1250", "iso8859-2", "cp852")
CYRILLIC = ("cp1251", "iso8859-5", "cp866", "mac_cyrillic")
ENCODINGS = {
    **dict.fromkeys(("da", "de", "es", "fi", "fr", "it", "nl", "pt-br", "sv"), WESTERN),
    **dict.fromkeys(("cs", "hu", "pl", "ro"), CENTRAL),
    "ru": (*CYRILLIC, "koi8-r"),
    "uk": ("cp1251", "koi8-u"),
    "el": ("cp1253", "iso8859-7"),
    "tr": ("cp1254", "iso8859-9"),
    "ja": ("shift_jis", "euc_jp", "iso2022_jp"),
    "zh": ("gb18030", "gbk", "gb2312", "big5"),
}


class Kept:
    """A document that only remembers its text."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.encoding, self.sha256, self.replaced, self.source_bytes = "", "", 0, 0

    def write(self, piece: str) -> None:
        self.pieces.append(piece)


def read(data: bytes) -> tuple[str | None, str]:
    """Text and encoding as the program has them; None: refused."""
    head = data[: text.HEAD_BYTES]
    if text.refused(head):
        return None, "binary"
    rest = iter([data[text.HEAD_BYTES :]])
    kept = Kept()
    for _ in text.decode(head, lambda size: next(rest, b""), kept):  # type: ignore[arg-type]
        pass
    return "".join(kept.pieces), kept.encoding


def pages(package: Path, chance: random.Random) -> list[str]:
    """Some pages of a package, with something beyond ASCII in them."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
        found = sorted(path for path in Path(folder).rglob("*.gz") if path.is_file() and "/man/" in str(path))
        chance.shuffle(found)
        texts = []
        for path in found:
            try:
                said = gzip.decompress(path.read_bytes()).decode().replace("\r\n", "\n")
            except (UnicodeDecodeError, OSError):
                continue
            if sum(not char.isascii() for char in said) >= 20:
                texts.append(said)
            if len(texts) == PAGES:
                break
        return texts


def encodings(folder: Path) -> bool:
    chance = random.Random(1)
    right, wrong, taken, size = 0, 0, 0.0, 0
    by_encoding: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    mistakes: Counter[tuple[str, str, str]] = Counter()
    languages = set()
    for package in sorted(folder.glob("manpages-*.deb")):
        language = package.name.split("_")[0].removeprefix("manpages-")
        if language not in ENCODINGS:
            continue
        for page in pages(package, chance):
            for encoding in (*UNICODE, *ENCODINGS[language]):
                said = page
                if encoding not in UNICODE:  # marks that typewriters did not have
                    for new, old in (
                        ("“", '"'),
                        ("”", '"'),
                        ("’", "'"),
                        ("‘", "'"),
                        ("–", "-"),
                        ("—", "-"),
                        ("…", "..."),
                        ("−", "-"),
                    ):
                        said = said.replace(new, old) if not encodable(new, encoding) else said
                try:
                    data = said.encode(encoding)
                except UnicodeEncodeError:
                    continue
                if data.isascii() and encoding != "iso2022_jp":
                    continue
                languages.add(language)
                began = time.process_time()
                got, name = read(data)
                taken += time.process_time() - began
                size += len(data)
                good = got is not None and got.replace("\r\n", "\n") == said
                right, wrong = right + good, wrong + (not good)
                by_encoding[encoding][good] += 1
                if not good:
                    mistakes[language, encoding, name] += 1
    for encoding, (bad, good) in sorted(by_encoding.items()):
        print(f"{encoding:14} {good:5,} right  {bad:4,} wrong")
    for (language, encoding, name), number in mistakes.most_common(40):
        print(f"  {language}: {encoding} taken for {name}, {number} times")
    share = right / (right + wrong)
    print(
        f"encodings      {share:.4f} right of {right + wrong:,}: {len(by_encoding)} encodings, {len(languages)} languages; ",
        end="",
    )
    print(f"{1000 * taken / (right + wrong):.1f} ms and {size / taken / 1e6:.0f} MB a CPU-second")
    return share >= BAR and len(by_encoding) >= 15 and len(languages) >= 10


def encodable(char: str, encoding: str) -> bool:
    try:
        return bool(char.encode(encoding))
    except UnicodeEncodeError:
        return False


MAGICS = (
    b"\x7fELF",
    b"\x89PNG",
    b"\x1f\x8b",
    b"PK\x03\x04",
    b"!<arch>",
    b"\xff\xd8\xff",
    b"GIF8",
    b"\x28\xb5\x2f\xfd",
    b"OggS",
    b"\0asm",
)
NO_TEXT = (
    ".pyc",
    ".so",
    ".a",
    ".o",
    ".gz",
    ".xz",
    ".png",
    ".mo",
    ".db",
    ".bin",
    ".ttf",
    ".jpg",
    ".ico",
    ".zip",
    ".whl",
    ".gif",
    ".otf",
    ".woff",
    ".woff2",
    ".npy",
    ".pack",
    ".idx",
)
TEXT = (
    ".py",
    ".txt",
    ".md",
    ".rst",
    ".html",
    ".c",
    ".h",
    ".pl",
    ".pm",
    ".json",
    ".xml",
    ".sh",
    ".conf",
    ".css",
    ".js",
    ".csv",
    ".yml",
    ".toml",
    ".tex",
    ".po",
    ".ts",
    ".svg",
)


def system_files(chance: random.Random) -> Iterator[tuple[Path, bool]]:
    """Files of this system and whether they are text: by suffix, or the first bytes of a program."""
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for place in ("/usr", "/lib", sys.prefix, "/etc"):
        for folder, _, names in os.walk(place):
            for name in names:
                path = Path(folder, name)
                suffix = path.suffix if path.suffix in NO_TEXT + TEXT else "" if "/bin" in folder else "-"
                if suffix != "-" and len(found[suffix]) < 4_000 and path.is_file() and not path.is_symlink():
                    found[suffix].append(path)
    for suffix, paths in sorted(found.items()):
        for path in chance.sample(paths, min(len(paths), 150)):
            try:
                with path.open("rb") as file:
                    head = file.read(4)
            except OSError:
                continue
            if not head:
                continue
            if suffix == "":
                if head.startswith(MAGICS):
                    yield path, False
            else:
                yield path, suffix in TEXT


def binaries() -> bool:
    counts: Counter[tuple[bool, bool]] = Counter()
    wrong = []
    taken = 0.0
    for path, is_text in system_files(random.Random(2)):
        head = path.open("rb").read(text.HEAD_BYTES)
        began = time.process_time()
        said = not text.refused(head)
        taken += time.process_time() - began
        counts[is_text, said] += 1
        if said != is_text:
            wrong.append(
                f"  {path}: {'text' if is_text else 'no text'}, taken for {'text' if said else text.refused(head)}"
            )
    total = counts.total()
    right = counts[True, True] + counts[False, False]
    print("\n".join(wrong[:12]))
    print(
        f"text or not    {right / total:.4f} right of {total:,} ({counts[False, False] + counts[False, True]:,} no text); {1e6 * taken / total:.0f} µs a file"
    )
    return right / total >= BAR


if __name__ == "__main__":
    kept = [encodings(Path(sys.argv[1])), binaries()]
    sys.exit(0 if all(kept) else 1)
