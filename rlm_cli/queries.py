"""Answers what code in a REPL asks: models, children with a REPL of their own, functions of the user's.

One query may hold hundreds of prompts: they are asked concurrently, an identical one once in a run, and each that fails
is a value in its place (`Failed`, raised inside the REPL). A limit that refuses one lets the cell go on, which lands
after it; what no further request can mend ends the run.
"""

from __future__ import annotations

import asyncio
import statistics
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from . import contexts, prompts, reply
from .builder import Unwritable
from .call import Call
from .corpus import Corpus
from .documents import CHARS_PER_TOKEN
from .errors import ConfigError, ModelError, RlmError, UsageError
from .events import (
    CallStarted,
    NoticeGiven,
    ToolFinished,
    ToolStarted,
)
from .heads import Head, heads
from .ledger import RUN_WIDE, Refusal
from .models import Model, least_cached, on_record
from .result import Status, answer_text, json_text
from .sandbox import Context, Failed, Query
from .schema import Schema, parse_repl
from .structured import ask_for
from .tools import Returned

if TYPE_CHECKING:
    from .run import Run

TOOL_CHARS = 100_000
"""Characters that the trace keeps of the arguments, and of the result, of a call of a function of the user's."""
PRINTED_CHARS = 2_000
"""And of what its code printed: the end of it."""
LARGE = 50_000
"""Characters of a prompt from which on they start one by one: hashing, journaling and writing 64 of 400 KB as JSON
takes 0.3 s, in which nothing else would happen."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt of a query, and its fingerprint in hex."""

    kind: str
    prompt: str
    context: Context | None
    schema: Schema | None
    key: str
    shared: int = 0
    """Characters that others of the query begin with too, where the provider is to be told."""
    after: asyncio.Task[str | Failed] | None = None
    """The first of those: its provider has cached them once it has replied."""


class Queries:
    """Those of one run. Children go back to `Run.call`: recursion is recursion."""

    def __init__(self, run: Run) -> None:
        self._run = run
        # Children's places, by depth: who waits for one waits for calls of its own depth, and these for deeper ones.
        self._repls = defaultdict[int, asyncio.Semaphore](lambda: asyncio.Semaphore(run.job.settings.jobs))
        self._asked: dict[str, asyncio.Task[str | Failed]] = {}
        """Sub-calls in flight or answered."""

    async def ask(self, parent: Call, corpus: Corpus, query: Query) -> list[str | Failed]:
        """Answer the prompts of one query, concurrently; a failure takes its place in the results."""
        assert self._run.fatal is not None
        if self._run.fatal.done():
            return [Failed("the run is ending")] * len(query.prompts)
        if query.kind == "tool":
            return [await self._tool(parent, query.model or "", query.prompts[0])]
        model = self._run.models.named(query.model)
        if model is None:
            known = ", ".join(self._run.models.nameable)
            failed = Failed(f"model {query.model!r} may not be used here; these may: {known}")
            return [failed] * len(query.prompts)
        schema = None
        if query.schema is not None:
            try:
                schema = await asyncio.to_thread(parse_repl, query.schema)
            except UsageError as error:
                return [Failed(str(error))] * len(query.prompts)
        self._advise(parent, query)
        # A child with a REPL is the same only to its own parent: two that wait for each other would never end.
        scope = parent.address if query.kind == "rlm" and parent.recursive else parent.sample
        shared = self._shared(parent, model, query)
        refusal, asked = None, list[asyncio.Task[str | Failed]]()
        async with asyncio.TaskGroup() as group:
            for n, (prompt, context) in enumerate(zip(query.prompts, query.contexts, strict=True)):
                print_ = contexts.fingerprint(corpus, query, prompt, context)
                key = f"{scope} {model.name} {print_.hex()}" if print_ else ""
                if key in self._asked:
                    asked.append(group.create_task(_outcome(self._asked[key])))
                    continue
                if refusal := self._run.ledger.admit_subcall():
                    break
                head = shared[n]
                after = asked[head.first] if head.chars and head.first < n else None
                one = Asked(query.kind, prompt, context, schema, print_.hex(), head.chars, after)
                answering = group.create_task(self._answer(parent, corpus, model, one))
                asked.append(answering)
                if key:
                    self._asked[key] = answering
                    answering.add_done_callback(partial(self._forget_failed, key))
                if len(prompt) + contexts.length(context) > LARGE:
                    await asyncio.sleep(0)
        results = [one.result() for one in asked]
        if refusal is not None:
            results += [self._refuse(parent, refusal)] * (len(query.prompts) - len(asked))
        return results

    def _shared(self, parent: Call, model: Model, query: Query) -> list[Head]:
        """What the prompts begin with in common, where the provider of `model` wants to be told, and caches it."""
        if query.kind == "rlm" and parent.recursive:
            return [Head()] * len(query.prompts)
        least = int(least_cached(model) * CHARS_PER_TOKEN)
        if not least or len(query.prompts) < 2:
            return [Head()] * len(query.prompts)
        between = len(prompts.BETWEEN)
        return heads(query.prompts, query.contexts, contexts.length, between=between, least=least)

    def _forget_failed(self, key: str, answering: asyncio.Task[str | Failed]) -> None:
        if answering.cancelled() or answering.exception() or isinstance(answering.result(), Failed):
            del self._asked[key]

    def _advise(self, parent: Call, query: Query) -> None:
        """Many thin prompts draw one advice a call."""
        own = self._run.own[parent.address]
        if own.advised or len(query.prompts) <= prompts.MANY:
            return
        sizes = [len(p) + contexts.length(c) for p, c in zip(query.prompts, query.contexts, strict=True)]
        median = int(statistics.median(sizes))
        if median < prompts.THIN:
            own.advised = True
            own.remarks.append(prompts.thin(len(sizes), median, parent.sub_chars))

    async def _answer(self, parent: Call, corpus: Corpus, model: Model, asked: Asked) -> str | Failed:
        if not asked.prompt.strip() and not contexts.length(asked.context):
            return Failed("the prompt is empty: say what is to be answered")
        if asked.after is not None:  # what is sent at the same time reads no cache, and pays for writing it
            await asyncio.wait([asked.after])
        try:
            if asked.kind == "rlm" and parent.recursive:
                return await self._child(parent, corpus, model, asked)
            return await self._sub(parent, corpus, model, asked)
        except ConfigError as error:
            return self._end(error)
        except ModelError as error:
            return self._end(error) if error.terminal else Failed(str(error))
        except RlmError as error:  # a child's sandbox that does not start: its parent can go on
            return Failed(str(error))
        except Unwritable as error:
            return Failed(f"the context cannot be written to disk: {error}")

    async def _sub(self, parent: Call, corpus: Corpus, model: Model, asked: Asked) -> str | Failed:
        """A sub-call without a REPL: one completion; with a schema a value as JSON, for which it may take some."""
        prompt, context, schema = asked.prompt, asked.context, asked.schema
        size = len(prompt) + contexts.length(context)
        model = on_record(model, self._run.replies, parent.sample)
        if size > model.window * contexts.SURELY_TOO_LONG:
            return Failed(
                f"the prompt has {size:,} characters; {model.name} takes about {contexts.sub_chars(model):,}:"
                " cut the text into parts"
            )
        wanted = schema.as_object if schema is not None else None
        messages = prompts.sub(prompt, contexts.text_of(corpus, context), wanted, asked.shared)
        address = self._run.new_address(parent.address)
        chars = len(messages[-1].content)
        started = CallStarted(parent.address, parent.depth + 1, "llm", model.name, prompt, chars, asked.key)
        with self._run.open_call(address, started):
            checked = None
            if wanted is None or schema is None:
                completion = await self._run.dispatch.complete(address, model, messages, "sub")
            else:
                completion, checked = await ask_for(self._run.dispatch, address, model, messages, schema)
            if isinstance(completion, Refusal):
                self._run.close_call(address, Status.FAILED, completion.message)
                return self._refuse(parent, completion)
            self._run.seen.saw(messages[0].content)
            said = reply.spoken(completion)
            if checked is not None and checked.problem:
                self._run.close_call(address, Status.FAILED, f"{checked.problem}\n{said}")
                return Failed(prompts.unsatisfying(checked.problem, said))
            said = said if checked is None else json_text(checked.value)
            self._run.close_call(address, Status.COMPLETE if said else Status.FAILED, said)
        if completion.finish_reason == "length":
            self._run.emit(NoticeGiven("reply_cut", "a sub-call's reply was cut off by its output limit"), address)
        return said or Failed(f"{model.name} sent an empty reply")

    async def _child(self, parent: Call, corpus: Corpus, model: Model, asked: Asked) -> str | Failed:
        """A sub-call with a REPL of its own over just what it was given: slices of its parent's corpus, or a text."""
        prompt, context = asked.prompt, asked.context
        size, most = contexts.length(context), corpus.chars + contexts.LARGEST_TEXT
        if size > most:
            return Failed(f"the context has {size:,} characters, more than all there is: pass each slice once")
        spans = contexts.spans_of(context)
        address, depth = self._run.new_address(parent.address), parent.depth + 1
        whole = prompt if context is None else context
        chars = contexts.length(whole)
        started = CallStarted(parent.address, depth, "rlm", model.name, prompt, chars, asked.key)
        with self._run.open_call(address, started):
            async with self._repls[depth], contexts.own_corpus(corpus, spans, whole) as own:
                call = replace(
                    parent,
                    address=address,
                    kind="rlm",
                    depth=depth,
                    question=prompt,
                    model=model.name,
                    preview=contexts.preview(own, spans, None, self._run.job.settings.context_memory),
                    recursive=depth + 1 < self._run.job.settings.max_depth,
                    window_bytes=contexts.window_bytes(model),
                    landing=True,
                    schema=None,
                    strict=False,
                    asks_of_itself=context is None,
                    protocol=model.protocol,
                    reasons=model.reasons,
                    earlier=(),
                )
                if lack := prompts.lacking(call):
                    too_long = f"the prompt is {lack:,} bytes too long for {model.name}: pass text as context="
                    self._run.close_call(address, Status.FAILED, too_long)
                    return Failed(too_long)
                answer = await self._run.call(call, own, spans)
            if answer.partial and not answer.found:
                why = f"the child was stopped by {answer.stop_reason}"
                self._run.close_call(address, Status.FAILED, why)
                if answer.stop_reason in RUN_WIDE:
                    return self._refuse(parent, Refusal(answer.stop_reason, why))
                return Failed(why)
            text = answer_text(answer.value) if answer.found else prompts.NOTHING_FOUND
            if isinstance(answer.value, str):
                text += prompts.quotes_of_child(answer.quotes)
            if answer.partial:
                text = f"{prompts.partial_child(answer.stop_reason)}\n{text}"
            self._run.close_call(address, answer.status, text)
        return text

    async def _tool(self, parent: Call, name: str, arguments: str) -> str | Failed:
        """A call of a function of the user's. What it says is shown to models, so no key may be in it."""
        if self._run.tools is None or (objection := self._run.tools.objection(name)):
            return Failed(objection if self._run.tools is not None else "NameError: there are no tools")
        address, kept = self._run.new_address(parent.address), TOOL_CHARS
        shown = self._run.hidden(arguments)
        omitted = max(len(shown) - kept, 0)
        self._run.emit(ToolStarted(parent.address, parent.depth + 1, name, shown[:kept], omitted), address)
        returned = Returned(error="CancelledError: the call was cancelled")
        try:
            returned = await self._run.tools.call(name, arguments)
        finally:
            result, error, printed = map(self._run.hidden, (returned.result, returned.error, returned.printed))
            omitted = max(len(result) - kept, 0)
            took, printed = round(returned.duration_s, 4), printed[-PRINTED_CHARS:]
            self._run.emit(ToolFinished(name, result[:kept], omitted, error or None, printed, took), address)
        return Failed(error) if error else result

    def _refuse(self, parent: Call, refusal: Refusal) -> Failed:
        """A limit refused a sub-call: the parent's cell goes on, and lands after it."""
        own = self._run.own[parent.address]
        own.refused = own.refused or self._run.dispatch.hit(refusal, parent.address)
        return Failed(f"refused: {refusal.message}")

    def _end(self, error: RlmError) -> Failed:
        """No further request can succeed: the run ends at the next look."""
        assert self._run.fatal is not None
        if not self._run.fatal.done():
            self._run.fatal.set_result(error)
        return Failed(str(error))


async def _outcome(answering: asyncio.Task[str | Failed]) -> str | Failed:
    """What came of a sub-call that another one asked."""
    await asyncio.wait([answering])
    if answering.cancelled() or answering.exception():
        return Failed("the same prompt was being asked, and was given up")
    return answering.result()
