"""How long a frame of the live tree takes, and an event, with 100, 10,000 and 100,000 calls made.

Run: `python tests/benchmarks/bench_tree.py`. The promise: a frame does not depend on how many calls were made.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from happenings import asking, began, stamped, sub_call

from rlm_cli.fold import fold
from rlm_cli.views.tree import Canvas, frame


def main() -> None:
    for calls in (100, 10_000, 100_000):
        happened = began()
        for n in range(1, calls):
            happened += sub_call(f"0.{n}", 5)
        for n in range(calls, calls + 8):
            happened += asking(f"0.{n}", 6)
        events = stamped(happened)
        before = time.perf_counter()
        state = fold(events)
        per_event = (time.perf_counter() - before) / len(events)
        times = []
        for _ in range(15):
            before = time.perf_counter()
            frame(state, 38, Canvas(120, 40, color=True))
            times.append(time.perf_counter() - before)
        print(f"{calls:>7} calls   frame {min(times) * 1e3:.2f} ms   event {per_event * 1e6:.1f} µs")


if __name__ == "__main__":
    main()
