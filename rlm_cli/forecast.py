"""What a run may cost before it has begun: low, expected, high, and how they come about.

A guess with its reasons beside it, no promise: what a model does with a REPL nobody knows. The three:

- low: the root finds the answer by searching. Two turns, no sub-call.
- expected: the sub-LM reads all of the text once, in prompts of the size that is advised, and the root takes five
  turns. Dense questions cost that; lookups less.
- high: the most that can happen, each request at its longest; or the budget, where that is less: the ledger holds it.

In direct mode there is one request: low and expected differ by the length of the reply. Caching is not counted on, nor
are retries. Tokens are characters / 3.5, as everywhere in plans. `--samples N` is N of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from . import prompts
from .call import Call, Trajectory
from .contexts import sub_chars
from .dispatch import output_limit
from .documents import CHARS_PER_TOKEN, Documents
from .ledger import LANDING_REQUESTS, Usage
from .loop import SENT_BACK
from .models import Model
from .prepare import Job, Models
from .run import EMPTY_REPLIES

LOW_TURNS = 2
EXPECTED_TURNS = 5
TURN_TOKENS = 2_000
"""By which the history grows with each turn: a reply, and the output that is shown."""
REPLY_TOKENS = 500
THOUGHT_TOKENS = 1_500
"""More, of a model that reasons."""
MOST_DIRECT = EMPTY_REPLIES + SENT_BACK
"""Requests of direct mode: an empty reply is asked for again, as is one that does not satisfy what is asked of it."""
PROMPT_TOKENS = 200
"""What is asked of a sub-LM beside the text."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens and USD of a possible run; `usd` None where a price is not known."""

    tokens: int
    usd: float | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """`turns` of the `root`'s model and `subcalls` are those of `expected`. `high` None: nothing known holds it;
    `high_is`: what does, in words. `unknown`: the models whose price is not known."""

    low: Estimate
    expected: Estimate
    high: float | None
    high_is: str
    root: str
    turns: int
    subcalls: int
    share: float
    """Of the text that the sub-calls read: there may be no more of them."""
    unknown: tuple[str, ...] = ()

    @property
    def is_free(self) -> bool:
        return not self.unknown and self.high == 0


def forecast(job: Job, models: Models, documents: Documents, call: Call | None) -> Forecast:
    """Of a run that would begin with `call`; None is one request with the whole text."""
    s, root = job.settings, models.root
    if call is None:
        asked = documents.tokens + PROMPT_TOKENS + int(len(job.question) / CHARS_PER_TOKEN)
        low = _priced({root: Usage(asked, REPLY_TOKENS // 5)}, s.samples)
        expected = _priced({root: Usage(asked, _reply(root))}, s.samples)
        used, turns, subcalls, share = [root], 1, 0, 1.0
        output = output_limit(root, "direct")
        longest = None if root.price is None else root.price.ceiling(len(documents.corpus.buffer) + asked, output)
        longest = None if longest is None else longest * MOST_DIRECT
    else:
        pieces = math.ceil(documents.corpus.chars / sub_chars(models.sub))
        turns, subcalls = min(EXPECTED_TURNS, s.max_iterations), min(pieces, s.max_subcalls)
        share = subcalls / pieces if pieces else 0.0
        reading = Usage(int(documents.tokens * share) + subcalls * PROMPT_TOKENS, subcalls * _reply(models.sub))
        low = _priced({root: _turns(call, root, min(LOW_TURNS, turns))}, s.samples)
        expected = _priced(_together(root, _turns(call, root, turns), models.sub, reading), s.samples)
        used = [root, models.sub, *models.others.values()]
        longest = _longest(root, "iteration", s.max_iterations + LANDING_REQUESTS)
        below = _longest(models.sub, "sub", 1)
        if s.max_depth > 1:  # a child has turns of its own
            below = _longest(models.sub, "iteration", s.max_iterations + LANDING_REQUESTS)
        longest = None if longest is None or below is None else longest + s.max_subcalls * below
    unknown = tuple(dict.fromkeys(model.name for model in used if model.price is None))
    longest = None if longest is None else longest * s.samples
    if longest is not None and (s.max_budget is None or longest <= s.max_budget):
        return Forecast(
            low, expected, longest, "every request at its longest", root.name, turns, subcalls, share, unknown
        )
    return Forecast(low, expected, s.max_budget, "your --max-budget", root.name, turns, subcalls, share, unknown)


def _reply(model: Model) -> int:
    return REPLY_TOKENS + (THOUGHT_TOKENS if model.reasons else 0)


def _turns(call: Call, root: Model, turns: int) -> Usage:
    """Each turn sends all before it again."""
    first = sum(len(message.written) for message in prompts.turn(call, Trajectory())) / CHARS_PER_TOKEN
    return Usage(int(turns * first) + TURN_TOKENS * turns * (turns - 1) // 2, turns * _reply(root))


def _together(root: Model, turns: Usage, sub: Model, reading: Usage) -> dict[Model, Usage]:
    return {root: turns + reading} if root is sub else {root: turns, sub: reading}


def _priced(used: dict[Model, Usage], times: int) -> Estimate:
    tokens = sum(usage.input_tokens + usage.output_tokens for usage in used.values())
    costs = [None if model.price is None else _cost(model, usage) for model, usage in used.items()]
    usd = None if None in costs else sum(cost or 0.0 for cost in costs)
    return Estimate(tokens * times, None if usd is None else usd * times)


def _cost(model: Model, usage: Usage) -> float:
    """Of many requests, none of which is long enough to be dearer."""
    assert model.price is not None
    thought = model.price.output if model.price.reasoning is None or not model.reasons else model.price.reasoning
    return (usage.input_tokens * model.price.input + usage.output_tokens * thought) / 1e6


def _longest(model: Model, purpose: Literal["direct", "iteration", "sub"], requests: int) -> float | None:
    if model.price is None:
        return None
    output = output_limit(model, purpose)
    return requests * model.price.ceiling(max(model.window - output, 0), output)
