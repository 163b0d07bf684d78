"""Texts are extracted once: found again under what they depend on, and never in the way."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_cli.kept import remove
from rlm_cli.read import cache
from rlm_cli.read.cache import About, Texts

PDF = About(".pdf")
LIMIT = 1 << 20
OLD = time.time() - 3_600


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "texts"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"content")
    return path


def put(folder: Path, file: Path, said: bytes, about: About = PDF, *, limit: int = LIMIT, failed: bool = False) -> None:
    with Texts(folder, limit) as texts:
        entry = texts.entry(str(file), about)
        assert entry.frames is None
        entry.write(said, 1.0)
        entry.failed = failed
        entry.keep()
        entry.close()


def get(folder: Path, file: Path, about: About = PDF) -> bytes | None:
    with Texts(folder, LIMIT) as texts:
        entry = texts.entry(str(file), about)
        found = entry.frames.read() if entry.frames is not None else None
        entry.close()
    return found


def kept(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if len(path.name) == 64 or path.name.startswith("."))


def test_a_text_is_found_again(folder: Path, file: Path, tmp_path: Path) -> None:
    """Also of a copy, whatever its name and times; not of another content."""
    assert get(folder, file) is None
    put(folder, file, b"said")
    assert get(folder, file) == b"said"
    copy, other = tmp_path / "b.pdf", tmp_path / "c.pdf"
    copy.write_bytes(b"content")
    other.write_bytes(b"Content")
    assert get(folder, copy) == b"said"
    assert get(folder, other) is None


@pytest.mark.parametrize(
    "other",
    [
        replace(PDF, suffix=".zip"),
        replace(PDF, rules=["*.pdf"]),
        replace(PDF, options=[None, True]),
        replace(PDF, passwords=("secret",)),
    ],
)
def test_whatever_a_text_depends_on_counts(folder: Path, file: Path, other: About) -> None:
    """Another format, reader, rule, option or password is another text."""
    put(folder, file, b"said")
    assert get(folder, file, other) is None
    put(folder, file, b"otherwise", other)
    assert (get(folder, file), get(folder, file, other)) == (b"said", b"otherwise")


def test_passwords_are_not_on_disk(folder: Path, file: Path) -> None:
    """Only a hash with a salt of this machine is, of all of them together."""
    put(folder, file, b"said", replace(PDF, passwords=("sesame", "other")))
    assert not any(b"sesame" in path.read_bytes() for path in folder.iterdir())
    assert get(folder, file, replace(PDF, passwords=("sesame", "other"))) == b"said"
    assert get(folder, file, replace(PDF, passwords=("other", "sesame"))) is None


def hashed(folder: Path, file: Path, act: Callable[[], object]) -> bytes | None:
    """What is found of a file that was read an hour after it was written, then `act`, then read again."""
    os.utime(file, (OLD, OLD))
    put(folder, file, b"said")
    with sqlite3.connect(folder / "files.sqlite") as database:  # ctime cannot be set: as if all of it were long ago
        stamp = cache._STAMP.pack(*cache._stamp(str(file)))
        sha = bytes.fromhex("ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73")  # of b"content"
        database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", (os.fsencode(file), stamp, sha, 0))
    database.close()
    act()
    return get(folder, file)


def test_what_has_not_been_touched_is_not_hashed(folder: Path, file: Path) -> None:
    """Size, times, inode and device say so, as far as they can: the same inode with the same times is the same file."""
    assert hashed(folder, file, lambda: None) == b"said"
    with sqlite3.connect(folder / "files.sqlite") as database:
        database.execute("UPDATE files SET sha256 = ?", (bytes(32),))
    database.close()
    assert get(folder, file) is None  # the table was believed


def test_a_change_is_noticed(folder: Path, file: Path) -> None:
    """Of the same length, with its time of change set back: ctime tells."""

    def act() -> None:
        file.write_bytes(b"CONTENT")
        os.utime(file, (OLD, OLD))

    assert hashed(folder, file, act) is None


def test_another_file_in_its_place_is_noticed(folder: Path, file: Path) -> None:
    """As editors write: a new file under the old name."""

    def act() -> None:
        new = file.with_name("new")
        new.write_bytes(b"CONTENT")
        os.utime(new, (OLD, OLD))
        new.replace(file)

    assert hashed(folder, file, act) is None


def test_what_was_changed_just_now_is_hashed_anew(folder: Path, file: Path) -> None:
    """It may change again and its times not tell: nothing is noted of it."""
    put(folder, file, b"said")
    with sqlite3.connect(folder / "files.sqlite") as database:
        assert database.execute("SELECT count(*) FROM files").fetchone() == (0,)
    database.close()


def test_what_changes_while_it_is_read_is_not_kept(folder: Path, file: Path) -> None:
    """Its text may be that of another content."""
    with Texts(folder, LIMIT) as texts:
        entry = texts.entry(str(file), PDF)
        entry.write(b"said", 1.0)
        file.write_bytes(b"longer content")
        entry.keep()
    assert kept(folder) == []


def test_failures_are_forgotten(folder: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten minutes, and when the clock was set back."""
    put(folder, file, b"why not", failed=True)
    assert get(folder, file) == b"why not"
    now = time.time()
    for later in (601, -5):
        monkeypatch.setattr(time, "time", lambda later=later: now + later)
        assert get(folder, file) is None
        put(folder, file, b"why not", failed=True)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-1], lambda data: data[:-1] + b"!", lambda data: data[:5], lambda data: b""]
)
def test_damaged_entries_are_replaced(folder: Path, file: Path, damage: Callable[[bytes], bytes]) -> None:
    """Cut short or altered: as if it were not there."""
    put(folder, file, b"said")
    (entry,) = kept(folder)
    entry.write_bytes(damage(entry.read_bytes()))
    assert get(folder, file) is None
    put(folder, file, b"said")
    assert get(folder, file) == b"said"


def test_a_damaged_table_is_replaced(folder: Path, file: Path) -> None:
    """Everything is hashed once more, and that is all."""
    put(folder, file, b"said")
    (folder / "files.sqlite").write_bytes(b"no database" * 1_000)
    assert get(folder, file) == b"said"
    assert (folder / "files.sqlite").read_bytes().startswith(b"SQLite")


def test_the_longest_unused_is_evicted(folder: Path, tmp_path: Path) -> None:
    """The limit holds for all together; what was used last stays."""
    files = [tmp_path / f"{n}.pdf" for n in range(4)]
    for n, one in enumerate(files):
        one.write_text(one.name)
        put(folder, one, b"x" * 100, limit=1_000)
        newest = max(kept(folder), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (OLD + n, OLD + n))
    assert get(folder, files[0]) is not None
    more = tmp_path / "more.pdf"
    more.write_text("more")
    put(folder, more, b"x" * 100, limit=450)
    assert [one.name for one in [*files, more] if get(folder, one)] == ["0.pdf", "3.pdf", "more.pdf"]


def test_what_is_too_large_quick_or_secret_is_not_kept(folder: Path, file: Path) -> None:
    """One text takes a quarter of the limit at most; reading what comes faster than that again is as good; and keys are
    kept nowhere, also one that comes in two pieces."""
    with Texts(folder, 4_000_000, secrets=("sk-key",)) as texts:
        for pieces, seconds in (([b"x" * 1_000_001], 9.0), ([b"x" * 2_000_000], 0.001), ([b"my sk", b"-key"], 1.0)):
            entry = texts.entry(str(file), PDF)
            for piece in pieces:
                entry.write(piece, seconds)
            entry.keep()
            entry.close()
    assert kept(folder) == []


def test_only_the_owner_may_look(folder: Path, file: Path) -> None:
    """Folders 0700, files 0600."""
    put(folder, file, b"said", replace(PDF, passwords=("p",)))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_folder_that_cannot_be_written_is_no_matter(tmp_path: Path, file: Path) -> None:
    """Not a folder, or a disk without room: nothing is kept, nothing fails."""
    (tmp_path / "no-folder").write_text("")
    put(tmp_path / "no-folder" / "texts", file, b"said")
    assert get(tmp_path / "no-folder" / "texts", file) is None


def test_a_file_that_is_gone_is_no_matter(folder: Path, tmp_path: Path) -> None:
    """The reader says so, not the cache."""
    assert get(folder, tmp_path / "gone.pdf") is None


def test_many_at_once(folder: Path, tmp_path: Path) -> None:
    """Threads and openings of the same folder do not disturb one another: each text is whole or not there."""
    files = [tmp_path / f"{n}.pdf" for n in range(8)]
    for one in files:
        one.write_text(one.name)
    wrong: list[bytes] = []

    def work(texts: Texts) -> None:
        for _ in range(5):
            for one in files:
                entry = texts.entry(str(one), PDF)
                if entry.frames is None:
                    entry.write(one.name.encode() * 1_000, 1.0)
                    entry.keep()
                elif (said := entry.frames.read()) != one.name.encode() * 1_000:
                    wrong.append(said)
                entry.close()

    with Texts(folder, LIMIT) as first, Texts(folder, LIMIT) as second:
        threads = [threading.Thread(target=work, args=[texts]) for texts in (first, second, first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert len(kept(folder)) == 8


def test_all_of_it_can_be_removed(folder: Path, file: Path) -> None:
    """As `rlm cache clear` does."""
    put(folder, file, b"said", replace(PDF, passwords=("p",)))
    remove(folder)
    assert list(folder.iterdir()) == []
    assert get(folder, file) is None
