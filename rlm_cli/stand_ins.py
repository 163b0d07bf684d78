"""Who is asked instead of a model that failed for good: the next one that the configuration names, for the whole run.

Said once, by the first request that failed; those that failed with it and those that come later go on without a word.
What stands in is asked as the first one would be: with what is on record of it in front where that one had it, and in
a form of the request that it understands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .documents import CHARS_PER_TOKEN
from .errors import ConfigError, ModelError, RlmError, UnknownModel
from .events import NoticeGiven
from .models import Model
from .models.recorded import Recorded
from .request import Emit, Request


class StandIns:
    """Those of one run."""

    def __init__(self, named: Mapping[str, Sequence[Model]], emit: Emit) -> None:
        """`named`: by a model's name those to ask instead once it fails for good, in order."""
        self._named, self._emit = named, emit
        self._failed: dict[str, int] = {}
        """How many of a model's stand-ins, itself being the first, have failed."""

    def of(self, model: Model, number: int | None = None) -> tuple[int, Model]:
        """Who is asked for `model` by now, and the place in its row: 0 is the model itself."""
        number = self._failed.get(model.name, 0) if number is None else number
        if number == 0:
            return 0, model
        stand_in = self._named[model.name][number - 1]
        return number, model.beside(stand_in) if isinstance(model, Recorded) else stand_in

    def after(self, model: Model, number: int, error: RlmError) -> Model | None:
        """Who is asked next, once the one at place `number` failed with `error`; None: nobody is."""
        if not _is_for_good(error) or number >= len(self._named.get(model.name, ())):
            return None
        _, stand_in = self.of(model, number + 1)
        if self._failed.get(model.name, 0) <= number:
            self._failed[model.name] = number + 1
            self._emit(NoticeGiven("fallback", f"{error.message}; {stand_in.name} is asked instead"), None)
        return stand_in


def fitted(request: Request, limit: int) -> Request:
    """A request that was written for another model, for a reply of `limit` tokens. Raises `ModelError` where it cannot
    be asked of this one."""
    model = request.model
    if request.schema is not None and not model.structured:
        raise ModelError(f"{model.name} takes no schema", schema_refused=True)
    if request.chars / CHARS_PER_TOKEN > model.window - limit:
        raise ModelError(
            f"the text is too long for {model.name}, whose window is {model.window:,} tokens",
            why=f"the prompt has {request.chars:,} characters",
            hint="pass less text at a time",
            too_long=True,
        )
    return replace(request, messages=tuple(message.without_seals() for message in request.messages))


def _is_for_good(error: RlmError) -> bool:
    """Whether another model may answer what this one will not: the fault is the account's, that of the model's name or,
    after all retries, the server's. A wrong key or option is for the user to know; a text too long is too long.
    """
    if isinstance(error, ConfigError):
        return isinstance(error, UnknownModel)
    return isinstance(error, ModelError) and (error.terminal or error.retriable)
