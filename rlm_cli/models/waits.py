"""How long a provider asks us to wait: read from the headers and the words of its refusal. Pure.

The surest first: `retry-after-ms` and `retry-after` (seconds or an HTTP date); what the limit that is used up says of
its reset (`x-ratelimit-remaining-requests: 0` with `x-ratelimit-reset-requests: 6m0s`); Gemini's `retryDelay` in the
body; "please try again in 7m12s" in the message. Other spellings are confessed to be unknown: then who calls waits by
its own measure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_RETRY_DELAY = re.compile(r'"?retry_?delay"?\s*:\s*"?(\d+(?:\.\d+)?)s', re.IGNORECASE)
_TRY_AGAIN = re.compile(r"try again in ((?:\d+(?:\.\d+)?(?:ms|[hms]))+)", re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)", re.IGNORECASE)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def asked_to_wait(headers: Mapping[str, str], said: str, now: float) -> float | None:
    """Seconds, None where nothing is said. `headers` in lower case; `now` in seconds of the epoch, for dates."""
    if (exact := _number(headers.get("retry-after-ms"))) is not None:
        return exact / 1000
    raw = str(headers.get("retry-after") or "").strip()
    if (seconds := _number(raw)) is not None:
        return seconds
    if raw:
        try:
            return max(parsedate_to_datetime(raw).timestamp() - now, 0.0)
        except (ValueError, TypeError, OverflowError):
            pass
    resets = [_duration(headers.get(f"x-ratelimit-reset-{what}", "")) for what in _used_up(headers)]
    if known := [reset for reset in resets if reset is not None]:
        return max(known)
    if delay := _RETRY_DELAY.search(said):
        return float(delay[1])
    again = _TRY_AGAIN.search(said)
    return _duration(again[1]) if again else None


def _used_up(headers: Mapping[str, str]) -> list[str]:
    return [what for what in ("requests", "tokens") if headers.get(f"x-ratelimit-remaining-{what}", "").strip() == "0"]


def _number(raw: str | None) -> float | None:
    return float(raw) if raw is not None and re.fullmatch(r"\d{1,12}(\.\d+)?", raw.strip()) else None


def _duration(raw: str) -> float | None:
    """`6m0s`, `20ms`, `1.5s`, or bare seconds."""
    raw = raw.strip()
    if (seconds := _number(raw)) is not None:
        return seconds
    if not re.fullmatch(f"(?:{_PART.pattern})+", raw, re.IGNORECASE):
        return None
    return sum(float(part[1]) * _UNITS[part[2].lower()] for part in _PART.finditer(raw))
