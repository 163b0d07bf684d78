"""Spreadsheets: each sheet is a document inside, and its line n is the sheet's row n: a citation is a place to go to.

python-calamine (MIT, 2 MB) reads xlsx, xlsb, xls and ods 20 times as fast as openpyxl reads xlsx alone. It gives the
values that were last calculated, not the formulas.

It lays a sheet out as a rectangle, and where that is too large the process ends: one cell at the far corner of a sheet
is enough. So a sheet of xlsx that calls itself large, or does not say, is measured first, and refused alone.

Confessed: one that lies about its size, and such a sheet of xls, xlsb or ods, costs the workbook. Comments on cells are
not read.
"""

from __future__ import annotations

import datetime
import re
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from .markup import DAMAGE, events, locked, part
from .pieces import ENCRYPTED, Inside, Options, Piece, Unreadable, refused

if TYPE_CHECKING:
    from python_calamine import CalamineSheet

_BATCH_ROWS = 1_000
MOST_CELLS = 40_000_000
"""Of a sheet, empty ones too: calamine takes 24 bytes for each."""
_SIZE = re.compile(rb"""<(?:\w+:)?dimension\s[^>]*ref=["']([A-Z]+)(\d+)(?::([A-Z]+)(\d+))?["']""")
_FILLED = re.compile(rb"""<(?:\w+:)?c\s(?:[^<>]*?\s)?r=["']([A-Z]{1,3})(\d{1,7})["'](?:[^<>/]|/(?!>))*>""")
"""The beginning of a cell that holds something, and where it is."""
_ROW = re.compile(rb"""<row\s(?:[^<>]*?\s)?r=["'](\d{1,7})["']""")
_COLUMNS = tuple(
    (most, re.compile(rb"""\sr=["']%s\d""" % letters))
    for most, letters in ((26, rb"[A-Z]"), (52, rb"A[A-Z]"), (702, rb"[B-Z][A-Z]"), (16_384, rb"[A-Z]{3}"))
)
"""How many columns there are at most where such a cell is the last."""


def sheets(file: BinaryIO, options: Options) -> Iterator[Piece]:
    """Every sheet of a workbook, the hidden ones too (they are called so). Charts and macros are no sheets."""
    import python_calamine as calamine

    try:
        too_large = _too_large(file)
        file.seek(0)
        with calamine.CalamineWorkbook.from_filelike(file) as book:
            for meta in book.sheets_metadata:
                if meta.typ == calamine.SheetTypeEnum.WorkSheet:
                    hidden = "" if meta.visible == calamine.SheetVisibleEnum.Visible else " (hidden)"
                    reason = too_large.get(meta.name)
                    pieces = refused(reason) if reason else _rows(book.get_sheet_by_name(meta.name))
                    yield Inside(f"{meta.name}{hidden}", pieces=pieces)
    except calamine.PasswordError as error:
        raise Unreadable(ENCRYPTED) from error
    except calamine.CalamineError as error:
        if locked(file):
            raise Unreadable(ENCRYPTED) from error
        raise Unreadable(f"damaged workbook: {str(error)[:100]}") from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # of Rust: no Exception, and its class has no public name
            raise Unreadable("damaged workbook") from error
        raise


def _too_large(file: BinaryIO) -> dict[str, str]:
    """Sheets of an xlsx that cannot be laid out → why."""
    found: dict[str, str] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            if "xl/workbook.xml" not in archive.namelist():
                return {}
            parts = {
                said.get("Id", ""): "xl/" + said.get("Target", "").removeprefix("/xl/")
                for kind, name, said in events(part(archive, "xl/_rels/workbook.xml.rels"))
                if kind == "<" and name == "Relationship"
            }
            for kind, name, said in events(part(archive, "xl/workbook.xml")):
                if kind == "<" and name == "sheet" and (place := parts.get(said.get("r:id", ""))):
                    rows, columns = _size(archive, place)
                    if rows * columns > MOST_CELLS:
                        found[said.get("name", "")] = f"too large ({rows:,} × {columns:,} cells)"
    except (Unreadable, OSError, ValueError, *DAMAGE):
        pass  # calamine says what is wrong
    return found


def _size(archive: zipfile.ZipFile, place: str) -> tuple[int, int]:
    """Rows and columns of a sheet: as it says itself, or about, where that is harmless; else of the rectangle around
    all cells that hold something, which takes longer than to read it."""
    with part(archive, place) as sheet:
        said = _SIZE.search(sheet.read(1 << 12))
    if said is not None:
        rows, columns = int(said[4] or said[2]), _column(said[3] or said[1])
        if rows * columns <= MOST_CELLS:
            return rows, columns
    rows, columns = 0, 1
    for chunk in _chunks(archive, place):
        for last in _ROW.finditer(chunk, max(0, chunk.rfind(b"<row"))):
            rows = max(rows, int(last[1]))
        columns = max([columns, *(most for most, cell in _COLUMNS if most > columns and cell.search(chunk))])
    if rows and rows * columns <= MOST_CELLS:
        return rows, columns
    top, left, bottom, right = 1 << 30, 1 << 30, 0, 0
    for chunk in _chunks(archive, place):
        for cell in _FILLED.finditer(chunk):
            row, column = int(cell[2]), _column(cell[1])
            top, left, bottom, right = min(top, row), min(left, column), max(bottom, row), max(right, column)
    return max(0, bottom - top + 1), max(0, right - left + 1)


def _chunks(archive: zipfile.ZipFile, place: str) -> Iterator[bytes]:
    """Of a sheet, each with the end of the one before: no mark is cut."""
    before = b""
    with part(archive, place) as sheet:
        while data := sheet.read(1 << 18):
            yield before + data
            before = data[-1_000:]


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters[:4]:
        number = 26 * number + letter - 64
    return number


def _rows(sheet: CalamineSheet) -> Iterator[str]:
    if sheet.start is None:
        yield ""  # an empty sheet is read, as an empty file is
        return
    margin = "\t" * sheet.start[1]  # calamine gives the rows above its first cell, not the columns left of it
    empty = 0
    batch: list[str] = []
    for row in sheet.iter_rows():
        line = "\t".join(map(_cell, row)).rstrip("\t")
        if not line:
            empty += 1
            continue
        batch.append("\n" * empty + margin + line + "\n")
        empty = 0
        if len(batch) == _BATCH_ROWS:
            yield "".join(batch)
            batch.clear()
    yield "".join(batch)


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return " ⏎ ".join(value.replace("\t", " ").splitlines()) if not value.isprintable() else value
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ")
    return str(value)
