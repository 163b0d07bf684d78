"""One request to one model, from its first attempt to its end, and the pair of events that tells of it.

It remembers over its attempts what the stream and the money must know at the end: how often it was tried, what brought
nothing and cost all the same, whether it was put on the stream. A request that was started there is finished there,
once; one that another model answers in the end is two.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import cached_property

from .call import Completion, Message, Purpose
from .deadline import now
from .events import CompletionFinished, CompletionStarted, Event
from .fold import add_cost
from .ledger import Reservation, Size, Usage
from .models import Model
from .schema import Schema

Emit = Callable[[Event, str | None], None]
"""Puts an event on the run's stream, under the address of the call it belongs to."""


@dataclass
class Request:
    """`lands`: the price of the call's landing is kept aside. `schema`: what its provider is to hold the reply to."""

    call: str
    model: Model
    messages: tuple[Message, ...]
    purpose: Purpose
    lands: bool
    schema: Schema | None
    emit: Emit
    began: float = field(default_factory=now)
    retries: int = 0
    failures: int = 0
    """Those of the attempts that count against the retries."""
    started: bool = False
    finished: bool = False
    usage: Usage = Usage()
    """Of replies that were of no use."""
    wasted_usd: float | None = 0.0
    """What attempts cost that brought nothing; None = unknown."""
    estimated_usd: float = 0.0
    """The part of it that is a ceiling and no bill."""

    @cached_property
    def size(self) -> Size:
        """Of the messages, with some room for their envelope."""
        form = Size(dense=16 * len(self.messages)) + Size.of(self.schema.text if self.schema else "")
        return sum((Size.of(message.written) for message in self.messages), form)

    @cached_property
    def chars(self) -> int:
        return sum(len(message.written) for message in self.messages)

    @cached_property
    def hash(self) -> str:
        """What tells two requests apart when a recorded reply is looked for."""
        asked = [self.model.name, [message.plain() for message in self.messages]]
        text = json.dumps(asked + ([self.schema.text] if self.schema else []), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def starts(self, reservation: Reservation) -> None:
        """It goes out for the first time; another try is no news."""
        if self.started:
            return
        self.started = True
        self.emit(
            CompletionStarted(
                messages=tuple(message.plain() for message in self.messages),
                purpose=self.purpose,
                estimated_input_tokens=reservation.ceiling.tokens - reservation.max_output_tokens,
                max_output_tokens=reservation.max_output_tokens,
                reserved_usd=None if self.model.price is None else reservation.ceiling.usd,
            ),
            self.call,
        )

    def finishes(self, completion: Completion, seconds: float) -> None:
        """It was answered."""
        cost = add_cost(completion.usd(self.model.price), self.wasted_usd)
        self._record(completion, cost, seconds, None)

    def unanswered(self, error: str) -> None:
        """It never will be: one the provider refused costs nothing; one that was cut short, its ceiling."""
        if self.started and not self.finished:
            self._record(Completion("", finish_reason="error"), self.wasted_usd, 0.0, error)

    def _record(self, completion: Completion, cost_usd: float | None, seconds: float, error: str | None) -> None:
        self.finished = True
        self.emit(
            CompletionFinished(
                request=self.hash,
                text=completion.text,
                finish_reason=completion.finish_reason,
                usage=completion.usage + self.usage,
                cost_usd=cost_usd,
                cached=completion.recorded,
                retries=self.retries,
                duration_s=round(seconds, 4),
                model=self.model.name,
                purpose=self.purpose,
                reasoning=completion.reasoning,
                calls=tuple(asdict(called) for called in completion.calls),
                error=error,
                estimated_usd=self.estimated_usd,
            ),
            self.call,
        )
