"""A sub-call that is to give a value: the provider's structured output where there is one, and a check in any case.

The schema stands in the prompt too, so a provider that takes no schema, or takes it and does not hold to it, is asked
the same thing. What a reply is read as, is `schema.py`'s business; here is only what to ask next: without the schema
where the provider refused it, and once more with the error where the reply will not do.
"""

from __future__ import annotations

import asyncio

from . import prompts, reply
from .call import Completion, Message
from .dispatch import Dispatch
from .errors import ModelError
from .ledger import Refusal
from .models import Model
from .schema import Checked, Schema

RETRIES = 1
"""With the error, for a reply that does not satisfy the schema."""


async def ask_for(
    dispatch: Dispatch, address: str, model: Model, messages: tuple[Message, ...], schema: Schema
) -> tuple[Completion | Refusal, Checked]:
    """The last reply and the value it was read as; with a refusal nothing was read.

    `messages` ask for `schema.as_object`; the value is one of `schema`. Raises as `Dispatch.complete` does.
    """
    checked = Checked(None)
    for attempt in range(1 + RETRIES):
        completion = await _complete(dispatch, address, model, messages, schema.as_object)
        if isinstance(completion, Refusal):
            return completion, checked
        said = reply.spoken(completion)
        checked = await asyncio.to_thread(_read, schema, said)
        if not checked.problem or attempt == RETRIES:
            break
        messages = prompts.again(messages, said or "(empty)", checked.problem)
    return completion, checked


async def _complete(
    dispatch: Dispatch, address: str, model: Model, messages: tuple[Message, ...], wanted: Schema
) -> Completion | Refusal:
    """One reply, with the schema in the request where the model takes one."""
    if model.structured:
        try:
            return await dispatch.complete(address, model, messages, "sub", schema=wanted)
        except ModelError as error:
            if not error.schema_refused:
                raise
            model.structured = False  # nor the next time
    return await dispatch.complete(address, model, messages, "sub")


def _read(schema: Schema, said: str) -> Checked:
    """The value of a reply, unwrapped where an object had to be asked for; a model that left the wrapping out is
    understood."""
    wanted = schema.as_object
    checked = wanted.read(said)
    if wanted is schema:
        return checked
    bare = schema.read(said) if checked.problem else Checked(checked.value["value"])
    return checked if bare.problem else bare
