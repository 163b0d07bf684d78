"""Jupyter notebooks: cells in order, each after a line that says what it is, and what the code printed.

Pictures are left out; what a cell shows as HTML it nearly always shows as plain text too, which is what is told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from .charsets import decoded
from .pieces import Options, Piece, Unreadable


def ipynb(file: BinaryIO, options: Options) -> Iterator[Piece]:
    """The cells of a notebook of any format since 3."""
    try:
        notebook = json.loads(decoded(file.read(), "utf-8", options.encoding))
    except (ValueError, RecursionError) as error:
        raise Unreadable("damaged notebook: no JSON") from error
    if not isinstance(notebook, dict):
        raise Unreadable("damaged notebook")
    sheets = [sheet for sheet in _list(notebook.get("worksheets")) if isinstance(sheet, dict)]
    cells = _list(notebook.get("cells")) + [cell for sheet in sheets for cell in _list(sheet.get("cells"))]
    for number, cell in enumerate((cell for cell in cells if isinstance(cell, dict)), 1):
        yield f"[{cell.get('cell_type', 'cell')} {number}]\n{_ended(_joined(cell.get('source', cell.get('input'))))}"
        for output in _list(cell.get("outputs")):
            if isinstance(output, dict) and (said := _shown(output)):
                yield f"[output {number}]\n{_ended(said)}"
        yield "\n"


def _shown(output: dict[str, Any]) -> str:
    if output.get("output_type") in ("error", "pyerr"):
        return f"{output.get('ename', '')}: {output.get('evalue', '')}"
    data = output.get("data")
    data = data if isinstance(data, dict) else output
    for kind in ("text/plain", "text/markdown", "text/latex", "text"):
        if kind in data:
            return _joined(data[kind])
    html = _joined(data.get("text/html", data.get("html")))
    if html:
        from .web import text_of

        return "".join(text_of(html.encode("utf-8", "replace"), "utf-8"))
    return ""


def _joined(lines: object) -> str:
    if isinstance(lines, list):
        return "".join(line for line in lines if isinstance(line, str))
    return lines if isinstance(lines, str) else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"
