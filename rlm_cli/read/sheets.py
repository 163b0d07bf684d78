"""Spreadsheets: each sheet is a document inside, and its line n is the sheet's row n: a citation is a place to go to.

python-calamine (MIT, 2 MB) reads xlsx, xlsb, xls and ods 20 times as fast as openpyxl reads xlsx alone. It gives the
values that were last calculated, not the formulas.

Confessed: it lays a sheet out as a rectangle, so one cell at the far corner of a sheet needs more memory than a worker
has, and costs the workbook. Comments on cells are not read.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from .markup import locked
from .pieces import ENCRYPTED, Inside, Options, Piece, Unreadable

if TYPE_CHECKING:
    from python_calamine import CalamineSheet

_BATCH_ROWS = 1_000


def sheets(file: BinaryIO, options: Options) -> Iterator[Piece]:
    """Every sheet of a workbook, the hidden ones too (they are called so). Charts and macros are no sheets."""
    import python_calamine as calamine

    try:
        with calamine.CalamineWorkbook.from_filelike(file) as book:
            for meta in book.sheets_metadata:
                if meta.typ == calamine.SheetTypeEnum.WorkSheet:
                    hidden = "" if meta.visible == calamine.SheetVisibleEnum.Visible else " (hidden)"
                    yield Inside(f"{meta.name}{hidden}", pieces=_rows(book.get_sheet_by_name(meta.name)))
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
