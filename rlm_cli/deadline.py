"""When a run ends, by the clock of its event loop: one with a clock of its own runs through hours in milliseconds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from .ledger import Refusal, StopReason

EARLY_S = 0.01
"""A timer may fire this much before its time."""
OUT_OF_TIME = Refusal(StopReason.TIMEOUT, "the time limit is reached")
LANDING_SHARE = 0.10
LANDING_SECONDS = 60.0
"""Of the run's time a tenth, at most a minute, is kept for landing."""
LONGEST_GRACE_S = 1.0


def now() -> float:
    """Seconds of the running loop's clock, as a rule those of `time.monotonic`."""
    return asyncio.get_running_loop().time()


@dataclass(frozen=True, slots=True)
class Deadline:
    """When ordinary requests end (`soft`), when everything ends (`hard`). Seconds of `now`, None = never."""

    soft: float | None
    hard: float | None

    @classmethod
    def after(cls, timeout_s: float | None) -> Deadline:
        """The deadline of a run that begins now and may take `timeout_s` seconds; None = it has none."""
        if timeout_s is None:
            return cls(None, None)
        began = now()
        return cls(began + timeout_s - min(timeout_s * LANDING_SHARE, LANDING_SECONDS), began + timeout_s)

    def later(self, seconds: float) -> Deadline:
        """The same, where time has passed that is not the run's."""
        return Deadline(
            None if self.soft is None else self.soft + seconds, None if self.hard is None else self.hard + seconds
        )

    @property
    def grace(self) -> float:
        """Seconds that a cell gets beyond an end: sub-calls are refused first, so that it can still react."""
        return 0.0 if self.soft is None or self.hard is None else min(LONGEST_GRACE_S, (self.hard - self.soft) / 4)

    @property
    def is_over(self) -> bool:
        """Whether ordinary requests have no time left."""
        return self.soft is not None and now() >= self.soft

    def left(self, landing: bool) -> float | None:
        """Seconds that remain, None without a limit."""
        end = self.hard if landing else self.soft
        return None if end is None else end - now()
