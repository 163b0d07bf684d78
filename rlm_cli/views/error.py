"""An error in three parts: what happened, why, what to try. A file of its own, so that a wrong flag loads little."""

from __future__ import annotations

from ..errors import RlmError
from .safe import clean

DIM, RED_BOLD, RESET = "\x1b[2m", "\x1b[31m\x1b[1m", "\x1b[0m"


def error_text(error: RlmError, color: bool = False) -> str:
    """What happened, why, what to try: one to three paragraphs, ends in a newline."""
    red, dim, reset = (RED_BOLD, DIM, RESET) if color else ("", "", "")
    parts = [f"{red}rlm: {clean(error.message)}{reset}"]
    for label, text in (("why", error.why), ("try", error.hint)):
        if text:
            indented = clean(text).strip("\n").replace("\n", "\n       ")
            parts.append(f"  {dim}{label}{reset}  {indented}")
    return "\n".join(parts) + "\n"
