"""Pages that are pictures, read by the program `tesseract`: its picture goes in, its words come out, nothing on disk.

Confessed: it reads in all the languages that are installed, up to `_MOST_LANGUAGES`; where there are more (some
packages bring a hundred) in English, since each further one costs time and errors.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from typing import Any

DPI = 300
MOST_PIXELS = 30_000_000
"""A page of a map or a poster is rendered smaller."""
SECONDS = 120.0
"""For one page; one that takes longer stays empty."""
_MOST_LANGUAGES = 4


@dataclass(frozen=True, slots=True)
class Tesseract:
    """The program, and the languages it is asked to read."""

    program: str
    languages: str

    def page(self, page: Any) -> str:
        """The words on a page of pypdfium2's; empty for one that is blank or takes too long."""
        import pypdfium2.raw as raw

        if raw.FPDFPage_CountObjects(page.raw) <= 0:
            return ""
        width, height = page.get_size()
        scale = min(DPI / 72, (MOST_PIXELS / max(1.0, width * height)) ** 0.5)
        bitmap = page.render(scale=scale, grayscale=True)
        try:
            rows = memoryview(bitmap.buffer).cast("B")
            picture = b"".join(
                rows[start : start + bitmap.width] for start in range(0, bitmap.height * bitmap.stride, bitmap.stride)
            )
            head = f"P5 {bitmap.width} {bitmap.height} 255\n".encode()
        finally:
            bitmap.close()
        return self.read(head + picture, int(scale * 72))

    def read(self, picture: bytes, dpi: int) -> str:
        """The words in a picture (PNM)."""
        command = [self.program, "stdin", "stdout", "-l", self.languages, "--dpi", str(max(dpi, 70))]
        try:
            done = subprocess.run(
                command,
                input=picture,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=SECONDS,
                check=False,
                env=os.environ | {"OMP_THREAD_LIMIT": "1"},  # there is a worker for each core already
            )
        except (subprocess.TimeoutExpired, OSError):
            return ""
        return done.stdout.decode("utf-8", "replace").replace("\f", "")


@cache
def tesseract() -> Tesseract | None:
    """The program as it is installed; None where it is not, or reads no language."""
    program = shutil.which("tesseract")
    if program is None:
        return None
    try:
        done = subprocess.run([program, "--list-langs"], capture_output=True, timeout=20, check=False)
    except (subprocess.TimeoutExpired, OSError):
        return None
    lines = done.stdout.decode("utf-8", "replace").splitlines()[1:]
    found = [line.strip() for line in lines if line.strip() and line.strip() not in ("osd", "equ", "snum")]
    if not found:
        return None
    if len(found) > _MOST_LANGUAGES:
        found = ["eng"] if "eng" in found else found[:1]
    return Tesseract(program, "+".join(found))
