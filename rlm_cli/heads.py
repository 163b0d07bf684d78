"""What the prompts of one batch begin with in common, so that a provider can be told to cache it.

Prompts are grouped by how they begin; of each group the common beginning counts. Two prompts that are the same share
nothing: the second is not asked. Pure, and quick also for prompts of a megabyte, of which only slices are compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Head:
    """`chars` at the start of a prompt that others of its batch have too; `first`: the place of the first of them."""

    chars: int = 0
    first: int = 0


def heads(
    prompts: Sequence[str],
    contexts: Sequence[Hashable | None],
    length: Callable[[Any], int],
    *,
    between: int,
    least: int,
) -> list[Head]:
    """For each prompt what it shares, an empty `Head` below `least` characters.

    A prompt stands after its context, with `between` characters between the two; `length` is a context's.
    """
    groups: defaultdict[tuple[str, Hashable | None], dict[str, list[int]]] = defaultdict(dict)
    for n, (prompt, context) in enumerate(zip(prompts, contexts, strict=True)):
        beginning = (prompt[:least], None) if context is None or not length(context) else ("", context)
        groups[beginning].setdefault(prompt, []).append(n)
    found = [Head()] * len(prompts)
    for (_, context), members in groups.items():
        if len(members) < 2:
            continue
        chars = common(min(members), max(members)) if context is None else length(context) + between
        places = [n for same in members.values() for n in same]
        if chars >= least:
            for n in places:
                found[n] = Head(chars, min(places))
    return found


def common(one: str, other: str) -> int:
    """Characters that both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
