"""Values that models are asked for: how an answer is checked, and how a sub-call comes to give one.

A regular expression that meets the wrong value may run for ever, and holds up the whole process while it does: no
signal, no time limit gets through. The value comes from code that a document may have had a hand in. So a schema with
patterns is checked by a process of its own, which is killed after `PATIENCE_S`; all others in a thread.

A sub-call uses the provider's structured output where there is one, and its reply is checked in any case. The schema
stands in the prompt too, so a provider that takes no schema, or takes it and does not hold to it, is asked the same
thing: without the schema where the provider refused it, and once more with the error where the reply will not do.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from . import prompts, reply
from .call import Completion, Message
from .dispatch import Dispatch
from .errors import ModelError
from .ledger import Refusal
from .models import Model
from .result import Quote
from .schema import Checked, Schema, judged

PATIENCE_S = 10.0
"""For a check with patterns; most take milliseconds beside the process's start."""
RETRIES = 1
"""With the error, for a reply that does not satisfy the schema."""


def judge(schema: Schema | None, strict: bool, value: Any, quotes: Sequence[Quote], spoken: bool) -> Checked:
    """`schema.judged`, in a time that has an end. Blocks: for a thread."""
    if schema is None or value is None or not schema.has_patterns:
        return judged(schema, strict, value, quotes, spoken)
    checked = _apart(schema, value, spoken)
    return checked if checked.problem else judged(None, strict, checked.value, quotes)


def _apart(schema: Schema, value: Any, spoken: bool) -> Checked:
    """The check in a process that can be killed. Its search path is ours without the working directory."""
    asked = json.dumps([schema.text, value, spoken])
    command = [sys.executable, "-P", "-c", f"from {__name__} import _main; _main()"]
    try:
        done = subprocess.run(command, input=asked.encode(), capture_output=True, timeout=PATIENCE_S, check=True)
    except subprocess.TimeoutExpired:
        return Checked(value, f"a pattern of the schema was still at work on it after {PATIENCE_S:.0f} s")
    except subprocess.CalledProcessError:  # out of memory, as a rule
        return Checked(value, "it could not be checked")
    return Checked(*json.loads(done.stdout))


def _main() -> None:
    text, value, spoken = json.load(sys.stdin.buffer)
    checked = judged(Schema(text), False, value, (), spoken)
    sys.stdout.write(json.dumps([checked.value, checked.problem]))


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
