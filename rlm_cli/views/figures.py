"""Numbers as people read them: money, sizes, durations. The same spelling in the tree, the lines and the summary."""

from __future__ import annotations

from ..ledger import Usage
from .safe import one_line


def usd(amount: float | None) -> str:
    """`$0.41`; small amounts keep two digits that say something; None is unknown and never $0.00."""
    if amount is None:
        return "cost unknown"
    if amount == 0 or amount >= 0.01:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount >= 0.0001 else "<$0.0001"


def spent(known: float, whole: bool) -> str:
    """A total of which a part may be unknown: `$0.31`, `≥ $0.31`, `cost unknown`."""
    if whole:
        return usd(known)
    return f"≥ {usd(known)}" if known else usd(None)


def count(number: int) -> str:
    """`480`, `2.1k`, `98k`, `1.7M`, `12G`."""
    for unit, size in (("G", 1_000_000_000), ("M", 1_000_000), ("k", 1_000)):
        if number >= size * 0.9995:
            scaled = number / size
            return f"{scaled:.1f}{unit}".replace(".0", "") if scaled < 9.95 else f"{scaled:.0f}{unit}"
    return str(number)


def tokens(usage: Usage) -> str:
    """`2.1k→480`: tokens in and out, and how many of those in the provider had cached; empty when there are none."""
    if not usage.input_tokens and not usage.output_tokens:
        return ""
    cached = f" ({count(usage.cached_input_tokens)} cached)" if usage.cached_input_tokens else ""
    return f"{count(usage.input_tokens)}→{count(usage.output_tokens)}{cached}"


def seconds(duration: float) -> str:
    """`3s`, `41s`, `2m05s`, `1h02m`."""
    whole = max(int(duration), 0)
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m{whole % 60:02}s" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60:02}m"


def clock(duration: float) -> str:
    """`0:38`, `1:02:05`."""
    whole = max(int(duration), 0)
    hours = f"{whole // 3600}:" if whole >= 3600 else ""
    return f"{hours}{whole // 60 % 60:0{2 if hours else 1}}:{whole % 60:02}"


def plural(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def spaced(number: int) -> str:
    """`480`, `2.1 k`, `2.5 M`: a count that stands before its noun."""
    said = count(number)
    return said if said[-1].isdigit() else f"{said[:-1]} {said[-1]}"


def tally(files: int, size: int, pages: int, path: str) -> str:
    """What was read so far: `12 files · 3.4 MB · 88 pages · contracts/acme.pdf`. `size` in bytes."""
    unit = spaced(size)
    parts = [plural(files, "file"), f"{unit}B" if not unit[-1].isdigit() else f"{unit} B"]
    parts += [plural(pages, "page") if pages else "", one_line(path)]
    return " · ".join(part for part in parts if part)
