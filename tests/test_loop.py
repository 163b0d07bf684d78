"""The loop, driven by lists of replies: no model, no REPL, no clock."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, pairwise, repeat

import pytest

from rlm_cli import prompts
from rlm_cli.call import (
    Call,
    Complete,
    Completion,
    Entry,
    Execute,
    Handover,
    Message,
    Output,
    Preview,
    Reply,
    Tool,
    ToolCall,
    Trajectory,
    Turn,
)
from rlm_cli.errors import ConfigError, ModelError, RlmError
from rlm_cli.ledger import Refusal, StopReason
from rlm_cli.loop import NUDGES, converse
from rlm_cli.result import Answer, Quote

BUDGET = Refusal(StopReason.MAX_BUDGET, "the budget is used up")


SUMMARY = "So far: nothing in acme.txt."


def a_call(**changes: object) -> Call:
    preview = Preview(1, 1, (Entry("acme.txt", 1_000, 40, 0),), 1_000, 40, "head", "tail")
    values: dict[str, object] = {
        "address": "0",
        "kind": "root",
        "depth": 0,
        "question": "How long is the notice period?",
        "model": "scripted",
        "preview": preview,
        "sub_chars": 100_000,
        "recursive": False,
        "max_iterations": 20,
        "window_bytes": 400_000,
    }
    return Call(**(values | changes))  # type: ignore[arg-type]


def play(call: Call, sent: Sequence[str | Completion | Output | Refusal]) -> tuple[Answer, list[Complete | Execute]]:
    """Send these values to the loop, one an effect; the answer and the effects it asked for. A refusal at the end is
    sent for as long as it takes; summaries are written besides."""
    conversation = converse(call)
    effects = [next(conversation)]
    for value in chain(sent, repeat(sent[-1], 20) if isinstance(sent[-1], Refusal) else ()):
        try:
            effects.append(conversation.send(Completion(value) if isinstance(value, str) else value))
            while isinstance(effects[-1], Complete) and effects[-1].purpose == "summary":
                effects.append(conversation.send(Completion(SUMMARY)))
        except StopIteration as stop:
            answer: Answer = stop.value
            return answer, effects
    raise AssertionError(f"the loop goes on with {effects[-1]}")


def size(messages: Sequence[Message]) -> int:
    """Bytes of their contents."""
    return sum(len(message.content.encode()) for message in messages)


def code(source: str) -> str:
    return f"I look.\n```repl\n{source}\n```\n"


def test_code_runs_and_final_hands_over() -> None:
    """Reply, cell, output, reply, cell with FINAL: the value of that cell is the answer."""
    final = Output(answer=Handover("Thirty days [1].", (Quote("thirty days", "acme.txt"),)))
    answer, effects = play(a_call(), [code("print(1)"), Output("1\n"), code("FINAL('x')"), final])
    assert answer == Answer("Thirty days [1].", (Quote("thirty days", "acme.txt"),))
    assert [type(effect) for effect in effects] == [Complete, Execute, Complete, Execute]
    assert effects[1] == Execute("print(1)\n")


def test_history_is_append_only() -> None:
    """The messages of an iteration begin with those of the one before, so that providers cache them."""
    _, effects = play(
        a_call(), [code("a = 1"), Output(), code("b = 2"), Output("two"), code("FINAL(b)"), Output(answer=Handover(2))]
    )
    asked = [effect.messages for effect in effects if isinstance(effect, Complete)]
    for before, after in pairwise(asked):
        assert after[: len(before)] == before


def test_what_follows_the_first_block_is_cut() -> None:
    """A model that invents output and goes on is cut after its block, and told so."""
    reply = code("print(len(context))") + "Output: 1000000\n" + code("FINAL('a million')")
    _, effects = play(a_call(), [reply, Output("1000"), 'FINAL("a thousand")'])
    assert isinstance(effects[2], Complete)
    *_, said, heard = effects[2].messages
    assert "1000000" not in said.content
    assert "Only your first block ran" in heard.content


def test_output_error_and_variables_reach_the_model() -> None:
    """Printed text is kept beside the error, and new variables are named."""
    output = Output("so far\n", error="NameError: x", variables=(("rows", "list, 12 items"),))
    _, effects = play(a_call(), [code("x"), output, 'FINAL("done")'])
    assert isinstance(effects[2], Complete)
    heard = effects[2].messages[-1].content
    assert "so far" in heard
    assert "NameError: x" in heard
    assert "rows: list, 12 items" in heard


def test_nothing_printed_says_so() -> None:
    """A silent cell names the fix."""
    _, effects = play(a_call(), [code("x = 1"), Output(), 'FINAL("done")'])
    assert isinstance(effects[2], Complete)
    assert "print(" in effects[2].messages[-1].content


def test_three_nudges_then_the_landing() -> None:
    """Replies without code are nudged three times in a row; the next one lands without progress."""
    answer, effects = play(a_call(), ["Let me think."] * (NUDGES + 1) + [code("FINAL(1)"), Output(answer=Handover(1))])
    assert answer == Answer(1, (), StopReason.NO_PROGRESS)
    asked = [effect for effect in effects if isinstance(effect, Complete)]
    assert [effect.purpose for effect in asked] == ["iteration"] * (NUDGES + 1) + ["landing"]
    assert "nothing ran" in asked[1].messages[-1].content


def test_code_resets_the_nudges() -> None:
    """Only replies in a row count."""
    sent: list[str | Output] = []
    for n in range(3):
        sent += ["Let me think."] * NUDGES + [code(str(n)), Output("1")]
    answer, _ = play(a_call(), [*sent, 'FINAL("ok")'])
    assert answer == Answer("ok")


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ([BUDGET, code("FINAL('part')"), Output(answer=Handover("part"))], Answer("part", (), StopReason.MAX_BUDGET)),
        ([BUDGET, code("1/0"), Output(error="ZeroDivisionError"), "Part.\n> thirty days"],
         Answer("Part.", (Quote("thirty days"),), StopReason.MAX_BUDGET)),
        ([BUDGET, "In words at once.", "Words.\n> acme.txt: thirty days"],
         Answer("Words.", (Quote("thirty days", "acme.txt"),), StopReason.MAX_BUDGET)),
        ([code("x"), Output("seen so far", refused=BUDGET), BUDGET],
         Answer("No answer was handed over. The last output was:\nseen so far", (), StopReason.MAX_BUDGET)),
        ([code("x"), Output("seen", draft={"n": 3}), BUDGET, BUDGET], Answer({"n": 3}, (), StopReason.MAX_BUDGET)),
        ([BUDGET, BUDGET], Answer(None, (), StopReason.MAX_BUDGET)),
        ([code("x"), Output(refused=BUDGET, answer=Handover("42"))], Answer("42", (), StopReason.MAX_BUDGET)),
    ],
    ids=["by code", "by words after an error", "by words", "last output", "draft", "nothing", "answered in the cell"],
)  # fmt: skip
def test_landing(sent: list[str | Output | Refusal], expected: Answer) -> None:
    """After a limit: code without sub-calls, then words, then what the REPL holds; always marked partial."""
    answer, effects = play(a_call(), sent)
    assert answer == expected
    landings = [e for e in effects if isinstance(e, Execute) and not e.subcalls]
    assert len(landings) <= 1


QUOTED = Handover("Thirty [1].", (Quote("thirty days", "acme.txt"),))
WORK: dict[StopReason, list[str | Output | Refusal]] = {
    StopReason.MAX_BUDGET: [code("a"), Output("seen"), Refusal(StopReason.MAX_BUDGET, "no money")],
    StopReason.MAX_TOKENS: [code("a"), Output("seen"), Refusal(StopReason.MAX_TOKENS, "no tokens")],
    StopReason.TIMEOUT: [code("a"), Output("seen", refused=Refusal(StopReason.TIMEOUT, "no time"))],
    StopReason.MAX_SUBCALLS: [code("a"), Output("seen", refused=Refusal(StopReason.MAX_SUBCALLS, "no calls"))],
    StopReason.MAX_ITERATIONS: [code("a"), Output("seen"), code("b"), Output("seen")],
    StopReason.NO_PROGRESS: [code("a"), Output("seen"), *["Let me think."] * (NUDGES + 1)],
}
"""What leads to each limit, with something printed on the way."""
DOWN = ModelError("the server is down")
LANDINGS: dict[str, tuple[list[str | Output | Refusal | ModelError], object]] = {
    "code": ([code("FINAL(x)"), Output(answer=QUOTED)], QUOTED),
    "code, sent back for a quote": ([code("FINAL(x)"), Output(error="QuoteNotFound", held=QUOTED)], QUOTED),
    "final in prose": (
        ['FINAL("Thirty [1].", quotes=[("acme.txt", "thirty days")])', Output(answer=QUOTED)],
        QUOTED,
    ),
    "code fails, then words": (
        [code("1/0"), Output(error="ZeroDivisionError"), "Thirty [1].\n> acme.txt: thirty days"],
        QUOTED,
    ),
    "words, words": (["I think", "Thirty [1].\n> acme.txt: thirty days"], QUOTED),
    "a draft, then nothing": ([code("x"), Output(draft="so far"), DOWN], Handover("so far")),
    "words: not found": (["Hm.", "NOT FOUND"], Handover(None)),
    "only code": (["Hm.", code("print(1)")], None),
    "an empty reply": (["", ""], None),
    "down at once": ([DOWN], None),
    "down for words": (["Hm.", DOWN], None),
    "refused": ([Refusal(StopReason.TIMEOUT, "no time at all")], None),
}
"""How a landing goes, and what it hands over; None: what was printed last is reported as such."""


@pytest.mark.parametrize("limit", WORK)
@pytest.mark.parametrize("landing", LANDINGS)
def test_every_landing_at_every_limit(limit: StopReason, landing: str) -> None:
    """Whatever stops the work, and however the landing goes: one partial answer with its quotes and the true reason."""
    sent, expected = LANDINGS[landing]
    conversation = converse(a_call(max_iterations=2 if limit is StopReason.MAX_ITERATIONS else 9))
    effects: list[Complete | Execute] = [next(conversation)]
    with pytest.raises(StopIteration) as stopped:  # noqa: PT012 (which one ends it is the question)
        for value in (*WORK[limit], *sent):
            if isinstance(value, ModelError):
                effects.append(conversation.throw(value))
            else:
                effects.append(conversation.send(Completion(value) if isinstance(value, str) else value))
    answer: Answer = stopped.value.value
    handed = expected or Handover("No answer was handed over. The last output was:\nseen")
    assert (answer.value, answer.quotes, answer.stop_reason) == (handed.value, handed.quotes, limit)
    assert answer.why
    assert sum(isinstance(effect, Execute) and not effect.subcalls for effect in effects) <= 1
    assert sum(isinstance(effect, Complete) and effect.purpose == "landing" for effect in effects) <= 2


def test_the_landing_code_runs_without_subcalls() -> None:
    """The landing's cell may not spend."""
    _, effects = play(a_call(), [BUDGET, code("FINAL(1)"), Output(answer=Handover(1))])
    assert effects[-1] == Execute("FINAL(1)\n", subcalls=False)


def test_iterations_are_limited() -> None:
    """After the last iteration the call lands, and earlier the model is told that few are left."""
    answer, effects = play(a_call(max_iterations=2), [code("1"), Output("1")] * 2 + ['FINAL("late")'])
    assert answer == Answer("late", (), StopReason.MAX_ITERATIONS)
    asked = [effect for effect in effects if isinstance(effect, Complete)]
    assert "1 iteration left" in asked[1].messages[-1].content


def test_on_limit_fail_ends_without_a_landing() -> None:
    """Stop empty-handed: no landing request is paid for."""
    answer, effects = play(a_call(landing=False), [BUDGET])
    assert answer == Answer(None, (), StopReason.MAX_BUDGET)
    assert len(effects) == 1


def test_no_two_user_messages_in_a_row() -> None:
    """Some providers refuse or merge them."""
    _, effects = play(a_call(), ["", "", code("x"), Output("y", refused=BUDGET), "Words.", "Words."])
    for effect in effects:
        if isinstance(effect, Complete):
            roles = [message.role for message in effect.messages]
            assert all(a != b for a, b in pairwise(roles))
            assert all(message.content for message in effect.messages)


HELD = Output(error="QuoteNotFound", held=Handover("Thirty", (Quote("thirty weeks"),)))


@pytest.mark.parametrize(
    "after", [[BUDGET], ["no code here"] * (NUDGES + 1), [code("print(1)"), Output(refused=BUDGET)]]
)
def test_an_answer_that_was_sent_back_stands_if_no_other_comes(after: list[str | Output | Refusal]) -> None:
    """A quote that is not there costs a reply, never the answer; a better answer takes its place."""
    answer, _ = play(a_call(), [code("FINAL('Thirty')"), HELD, *after])
    assert answer == Answer("Thirty", (Quote("thirty weeks"),))
    mended, _ = play(a_call(), [code("FINAL('Thirty')"), HELD, code("FINAL('30')"), Output(answer=Handover("30"))])
    assert mended == Answer("30")


def test_old_outputs_are_shortened_near_the_window() -> None:
    """The request stays within the window; the newest output stays whole."""
    sent: list[str | Output] = []
    for n in range(10):
        sent += [code(f"print({n})"), Output(f"<{n}>" + "x" * 5_000)]
    _, effects = play(a_call(window_bytes=30_000), [*sent, 'FINAL("done")'])
    messages = [effect for effect in effects if isinstance(effect, Complete)][-1].messages
    assert size(messages) <= 30_000
    last = messages[2:]
    assert len(last[-1].content) > 5_000
    assert "old output" in last[1].content


@pytest.mark.parametrize("window", [12_000, 16_000])
def test_old_turns_are_left_out_and_the_newest_is_cut(window: int) -> None:
    """A small window keeps the system prompt, the question and what is new, counted in bytes."""
    sent: list[str | Output] = []
    for n in range(40):
        sent += [code(f"print({n})"), Output(f"<{n}>" + "長" * 5_000)]
    _, effects = play(a_call(window_bytes=window, max_iterations=50), [*sent, 'FINAL("done")'])
    messages = [effect for effect in effects if isinstance(effect, Complete)][-1].messages
    assert size(messages) <= window
    assert [message.role for message in messages[:3]] == ["system", "user", "assistant"]
    assert "earlier turns left out here" in messages[3].content
    assert messages[2].content == SUMMARY
    assert "<39>" in messages[-1].content
    assert "cut to fit the window" in messages[-1].content


def test_a_small_window_over_thirty_iterations() -> None:
    """8,000 tokens: first old outputs are shortened, then a summary stands for old turns; between two such cuts the
    requests are append-only; what is new is whole."""
    sent: list[str | Output] = []
    for n in range(30):
        sent += [code(f"print({n})"), Output(f"<{n}> " + "word " * 400 + f"</{n}>")]
    _, effects = play(a_call(window_bytes=18_000, max_iterations=31), [*sent, 'FINAL("done")'])
    asked = [effect for effect in effects if isinstance(effect, Complete)]
    assert all(size(effect.messages) <= 18_000 for effect in asked)
    iterations = [effect.messages for effect in asked if effect.purpose == "iteration"]
    assert len(iterations) == 31
    assert all(f"</{n}>" in messages[-1].content for n, messages in enumerate(iterations[1:]))
    kept = [after[: len(before)] == before for before, after in pairwise(iterations)]
    assert kept.count(False) <= 20
    summaries = [effect.messages[-1].content for effect in asked if effect.purpose == "summary"]
    assert 1 <= len(summaries) <= 12
    assert all("will be left out from now on" in text for text in summaries)
    assert iterations[-1][2].content == SUMMARY


def test_what_the_next_request_begins_with_is_marked() -> None:
    """A request marks its system prompt and its last message, which the next one begins with; a request at the end marks
    what the last ordinary one did, so that it is read and nothing is written that nobody reads."""
    sent: list[str | Output] = [code("print(0)"), Output("0"), code("print(1)"), Output("1", refused=BUDGET)]
    _, effects = play(a_call(), [*sent, "words", "words"])
    asked = [effect for effect in effects if isinstance(effect, Complete)]
    assert [effect.purpose for effect in asked] == ["iteration"] * 2 + ["landing"] * 2
    marked = [[n for n, one in enumerate(effect.messages) if one.shared] for effect in asked]
    assert marked[:3] == [[0, 1], [0, 3], [0, 3]]
    assert asked[2].messages[3] == asked[1].messages[3]
    assert all(one.shared in (0, len(one.content)) for effect in asked for one in effect.messages)
    assert all("shared" not in one.plain() for effect in asked for one in effect.messages)


def test_a_summary_that_is_refused_is_done_without() -> None:
    """The run goes on; the model is told that turns are missing."""
    conversation = converse(a_call(window_bytes=10_000))
    next(conversation)
    effect: Complete | Execute = conversation.send(Completion(code("print(0)")))
    for n in range(1, 12):
        effect = conversation.send(Output("x" * 3_000))
        if isinstance(effect, Complete) and effect.purpose == "summary":
            break
        conversation.send(Completion(code(f"print({n})")))
    assert isinstance(effect, Complete)
    assert effect.purpose == "summary"
    after = conversation.send(BUDGET)
    assert isinstance(after, Complete)
    assert after.purpose == "iteration"
    assert "left out here" in after.messages[3].content


def test_the_same_again_is_remarked_on_and_ends_the_third_time() -> None:
    """A model that goes in circles is told, then landed."""
    sent: list[str | Output] = [code("print(1)"), Output("1")] * 3
    answer, effects = play(a_call(), [*sent, "FINAL('so be it')"])
    assert answer == Answer("so be it", (), StopReason.NO_PROGRESS)
    assert answer.why == "the same code gave the same result 3 times"
    asked = [effect.messages[-1].content for effect in effects if isinstance(effect, Complete)]
    assert prompts.REPEATED not in asked[1]
    assert prompts.REPEATED in asked[2]
    other, _ = play(a_call(), [code("print(1)"), Output("1"), code("print(1)"), Output("2")] * 3 + ["FINAL('ok')"])
    assert other.stop_reason is StopReason.NO_PROGRESS  # the same three times, if not in a row
    fine, _ = play(a_call(), [value for n in range(9) for value in (code("print(x)"), Output(str(n)))] + ["FINAL(1)"])
    assert fine == Answer(1)


def test_a_prompt_that_was_too_long_is_sent_again_shorter() -> None:
    """The provider knows its window best: half of the history is asked with next."""
    call = a_call(window_bytes=40_000)
    conversation = converse(call)
    next(conversation)
    conversation.send(Completion(code("print(context)")))
    before = conversation.send(Output("x" * 16_000))
    after = conversation.throw(ModelError("too long", too_long=True))
    assert isinstance(before, Complete)
    assert isinstance(after, Complete)
    assert size(after.messages) <= 20_000 < size(before.messages)


def test_a_window_that_is_always_too_small_ends_the_run() -> None:
    """There is an end to making it shorter, no request is sent twice, and all of it is one iteration."""
    conversation = converse(a_call(window_bytes=200_000))
    next(conversation)
    conversation.send(Completion(code("print(context)")))
    asked = [conversation.send(Output("x" * 50_000))]
    with pytest.raises(ModelError, match="too long"):  # noqa: PT012 (one of many throws comes back)
        while True:
            asked.append(conversation.throw(ModelError("too long", too_long=True)))
    requests = [effect for effect in asked if isinstance(effect, Complete)]
    assert 2 < len(requests) < 9
    assert len({effect.messages for effect in requests}) == len(requests)
    assert {effect.iteration for effect in requests} == {2}


def test_the_window_that_was_found_is_kept() -> None:
    """What a provider refused once is not sent again with the next iteration."""
    conversation = converse(a_call(window_bytes=80_000))
    next(conversation)
    conversation.send(Completion(code("print(context)")))
    conversation.send(Output("x" * 40_000))
    conversation.throw(ModelError("too long", too_long=True))
    conversation.send(Completion(code("print(context)")))
    asked = conversation.send(Output("y" * 40_000))
    assert isinstance(asked, Complete)
    assert size(asked.messages) <= 40_000


def test_giant_replies_fit_the_window() -> None:
    """What a model wrote is shortened like what it printed, old and new."""
    sent: list[str | Output] = []
    for n in range(4):
        sent += [f"{'so I think ' * 5_000}\n{code(f'print({n})')}", Output(f"<{n}>" + "x" * 9_000)]
    _, effects = play(a_call(window_bytes=40_000), [*sent, 'FINAL("done")'])
    asked = [effect.messages for effect in effects if isinstance(effect, Complete)]
    assert all(size(messages) <= 40_000 for messages in asked)
    assert "<3>" in asked[-1][-1].content


def test_the_landing_fits_the_window_too() -> None:
    """Its request comes on top of a history that fills the window."""
    sent: list[str | Output] = []
    for n in range(12):
        sent += [code(f"print({n})"), Output(f"<{n}>" + "x" * 5_000)]
    _, effects = play(a_call(window_bytes=25_000), [*sent, BUDGET, "Words.", "Words."])
    landings = [effect for effect in effects if isinstance(effect, Complete) and effect.purpose == "landing"]
    assert len(landings) == 2
    assert all(size(effect.messages) <= 25_000 for effect in landings)


def test_a_child_whose_question_is_its_context_sees_both_ends_of_it() -> None:
    """`rlm_query(long_text)`: the REPL holds all of it, the first message what fits."""
    question = "begin " + "x" * 100_000 + " end"
    asked = prompts.turn(a_call(question=question, asks_of_itself=True, window_bytes=60_000), Trajectory())
    assert size(asked) < 40_000
    assert "begin xxx" in asked[1].content
    assert 'xxx end"' in asked[1].content
    assert "`context` holds all of it" in asked[1].content
    assert prompts.lacking(a_call(question=question, window_bytes=60_000)) > 40_000
    assert prompts.lacking(a_call(window_bytes=60_000)) == 0


def test_a_landing_without_money_for_its_history_asks_with_less() -> None:
    """What is left of the budget decides how much of the history a landing shows."""
    sent: list[str | Completion | Output | Refusal] = [code("print(context)"), Output("x" * 20_000), BUDGET, BUDGET]
    answer, effects = play(a_call(window_bytes=40_000), [*sent, code("FINAL(a)"), Output(answer=Handover("so far"))])
    assert answer == Answer("so far", (), StopReason.MAX_BUDGET)
    asked = [size(effect.messages) for effect in effects if isinstance(effect, Complete)]
    assert asked[-1] < asked[-2]


def test_a_landing_in_words_may_be_a_final() -> None:
    """A model that writes FINAL where no code runs any more has still answered."""
    said = 'FINAL("Thirty days [1].", quotes=[("acme.txt", "thirty days")])'
    for reply in (said, code(said)):
        answer, _ = play(a_call(), [BUDGET, code("print(1)"), Output("1"), reply])
        assert answer == Answer("Thirty days [1].", (Quote("thirty days", "acme.txt"),), StopReason.MAX_BUDGET)


@pytest.mark.parametrize("said", [code("print(1)"), "```\nx = 1\n```", "FINAL_VAR(total)", "total = 3\nFINAL(total)"])
def test_a_landing_that_is_only_code_is_no_answer(said: str) -> None:
    """No code runs any more, and a program is nothing to hand over: what was printed last is."""
    answer, _ = play(a_call(), [code("x"), Output("seen so far", refused=BUDGET), "Hm.", said])
    assert answer.value == "No answer was handed over. The last output was:\nseen so far"
    answer, _ = play(a_call(), [BUDGET, "Hm.", "It is three, by\n```python\nprint(1 + 2)\n```"])
    assert str(answer.value).startswith("It is three")


def test_only_the_newest_draft_is_kept() -> None:
    """Each may be as large as an answer; the newest is what the landing needs."""
    sent: list[str | Completion | Output | Refusal] = []
    for n in range(3):
        sent += [code(f"answer = {n}"), Output(draft=Handover(n))]
    conversation = converse(a_call())
    next(conversation)
    for value in sent:
        conversation.send(Completion(value) if isinstance(value, str) else value)  # type: ignore[arg-type]
    kept = [turn.output.draft for turn in conversation.gi_frame.f_locals["trajectory"].turns if turn.output]
    assert kept == [None, None, Handover(2)]


@pytest.mark.parametrize("error", [ConfigError("no such key"), ModelError("down"), ModelError("long", too_long=True)])
def test_an_answer_that_was_reached_outlives_any_failure(error: RlmError) -> None:
    """The answer is held back once for its quotes; what goes wrong then does not lose it."""
    held = Output(error="a quote was not found", held=Handover("Thirty days."))
    conversation = converse(a_call())
    next(conversation)
    conversation.send(Completion(code("FINAL(a)")))
    conversation.send(held)
    with pytest.raises(StopIteration) as stopped:  # noqa: PT012
        while True:  # one that was too long is tried shorter first
            conversation.throw(error)
    assert stopped.value.value.value == "Thirty days."


@pytest.mark.parametrize(
    "text",
    ["FINAL({(1, 2): 3})", 'FINAL("a", quotes=5)', "FINAL({1, 2})", "FINAL(1, 2)", "FINAL(1e999)", "FINAL(b'x')"],
)
def test_a_final_that_is_no_answer_is_for_the_repl_to_explain(text: str) -> None:
    """Outside of a block too: the model gets the error that the cell would give."""
    _, effects = play(a_call(), [text, Output(error="TypeError"), "FINAL(3)"])
    assert isinstance(effects[1], Execute)


def test_the_question_can_be_read_back() -> None:
    """The offline model and the visualizer find the question by its mark, whatever it holds."""
    for question in ("Plain?", 'With "quotes" inside?', "Two\nlines?"):
        first = prompts.turn(a_call(question=question), Trajectory())[1].content
        assert prompts.question_of(first) == question


@pytest.mark.parametrize("recursive", [True, False])
def test_the_examples_are_good_code(recursive: bool) -> None:
    """Every block of the system prompt is a program, and no slot of the text was left unfilled."""
    system = prompts.turn(a_call(recursive=recursive, sub_chars=90_000), Trajectory())[0].content
    blocks = re.findall(r"```repl\n(.*?)```", system, re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        compile(block, "example", "exec")
    assert "{d.path}" in blocks[-1]
    assert "76950" in blocks[-1]
    assert not re.search(r"\{(kind|header|sub_chars|part|recursive|replies|subcalls)", system)
    assert ("rlm_query(" in system) == recursive


def asked_of(effects: Sequence[Complete | Execute]) -> list[tuple[Message, ...]]:
    return [effect.messages for effect in effects if isinstance(effect, Complete)]


def test_prose_after_a_look_is_nudged_once_and_then_asked_for_in_words() -> None:
    """Who has seen an output and talks gets one reminder; then one request for words, and none for code."""
    prose = "The notice period is thirty days."
    said = "Thirty days [1].\n> acme.txt: of thirty days"
    answer, effects = play(a_call(), [code("print(1)"), Output("1"), prose, prose, said])
    assert answer == Answer("Thirty days [1].", (Quote("of thirty days", "acme.txt"),), StopReason.NO_PROGRESS)
    purposes = [effect.purpose for effect in effects if isinstance(effect, Complete)]
    assert purposes == ["iteration"] * 3 + ["landing"]
    assert "FINAL(" in asked_of(effects)[2][-1].content


@pytest.mark.parametrize(
    ("prose", "value", "quotes"),
    [
        ("**Final Answer:** thirty days", "thirty days", ()),
        ("So it is \\boxed{30}.", "30", ()),
        ("Thirty days.\n> acme.txt: of thirty days", "Thirty days.", (Quote("of thirty days", "acme.txt"),)),
    ],
)
def test_prose_that_claims_to_be_the_answer_costs_no_further_request(
    prose: str, value: str, quotes: tuple[Quote, ...]
) -> None:
    """It was nudged and says it again: the landing takes it as it is, as partial."""
    answer, effects = play(a_call(), [code("print(1)"), Output("1"), prose, prose])
    assert answer == Answer(value, quotes, StopReason.NO_PROGRESS)
    assert len(asked_of(effects)) == 3


def test_a_claim_before_any_look_is_no_answer() -> None:
    """What was never looked up is asked for like any other prose."""
    prose = "Final Answer: thirty days"
    _, effects = play(a_call(), [prose] * (NUDGES + 1) + ["NOT FOUND"])
    assert len(asked_of(effects)) == NUDGES + 2


@pytest.mark.parametrize("handed", [False, True])
def test_a_refusal_is_an_error_and_no_answer(handed: bool) -> None:
    """In prose after one nudge, at once where it was handed over; an answer that came before stands."""
    no = "I'm sorry, I can't help with that."
    sent: list[str | Output] = [code("FINAL(no)"), Output(answer=Handover(no))] if handed else [no, no]
    with pytest.raises(ModelError, match="refused to answer") as caught:
        play(a_call(), sent)
    assert no in caught.value.why
    if not handed:
        answer, _ = play(a_call(), [code("FINAL('Thirty')"), HELD, no, no])
        assert answer.value == "Thirty"


def test_a_refusal_at_the_end_is_no_answer_either() -> None:
    """Words asked for after a limit may decline; then the run ends empty-handed, and says so."""
    answer, _ = play(a_call(), [BUDGET, "", "I'm unable to assist with that."])
    assert answer == Answer(None, (), StopReason.MAX_BUDGET)


def test_an_answer_guessed_before_the_first_look_is_sent_back_once() -> None:
    """A fixed text handed over by the block that looks first: the output is shown, and the answer must come again."""
    guess = code("print(docs[0].text)\nFINAL('thirty days')")
    seen = Output("sixty days", answer=Handover("thirty days"))
    answer, effects = play(a_call(), [guess, seen, code("FINAL('sixty days')"), Output(answer=Handover("sixty days"))])
    assert answer == Answer("sixty days")
    assert "before you had seen its output" in asked_of(effects)[1][-1].content
    kept, _ = play(a_call(), [guess, seen, BUDGET])
    assert kept.value == "thirty days"
    later, _ = play(a_call(), [code("print(1)"), Output("1"), guess, seen])
    assert later == Answer("thirty days")
    proved, _ = play(a_call(), [guess, Output("x", answer=Handover("thirty days", (Quote("thirty"),)))])
    assert proved.value == "thirty days"


def calling(source: str, id: str = "c1") -> Completion:
    arguments = json.dumps({"code": source})
    return Completion("I look.", "tool_calls", calls=(ToolCall(id, "repl", arguments),))


@pytest.mark.parametrize("protocol", ["tools", "auto"])
def test_calls_and_results_are_the_history(protocol: str) -> None:
    """A call stays a call, its output is its result; the REPL is offered from the start, or once it was called."""
    answer, effects = play(
        a_call(protocol=protocol),
        [calling("print(1)"), Output("one\n"), calling("FINAL(1)", "c2"), Output(answer=Handover(1))],
    )
    assert answer == Answer(1)
    first, second = asked_of(effects)
    assert [tool.name for tool in first[0].tools] == (["repl"] if protocol == "tools" else [])
    assert [tool.name for tool in second[0].tools] == ["repl"]
    assert second[: len(first)][1:] == first[1:]
    said, result = second[-2:]
    assert (said.role, said.content, said.calls[0].id) == ("assistant", "I look.", "c1")
    assert (result.role, result.result_of, result.content.split("\n")[1]) == ("tool", "c1", "one")


def test_without_the_protocol_a_call_is_a_block() -> None:
    """`protocol = text`: a model that calls all the same is understood, and the history stays text."""
    _, effects = play(a_call(), [calling("print(1)"), Output("1"), calling("FINAL(1)"), Output(answer=Handover(1))])
    _, second = asked_of(effects)
    assert second[-2] == Message("assistant", "I look.\n```repl\nprint(1)\n```")
    assert (second[-1].role, second[0].tools) == ("user", ())


def test_bad_arguments_go_back_as_the_result() -> None:
    """The call is answered with what is wrong; its arguments are JSON in the history, whatever they were."""
    bad = Completion("", "tool_calls", calls=(ToolCall("c1", "read file!", "the file a.txt"),))
    _, effects = play(a_call(protocol="tools"), [bad, calling("FINAL(1)"), Output(answer=Handover(1))])
    _, second = asked_of(effects)
    assert second[-1].result_of == "c1"
    assert "held no code" in second[-1].content
    assert (second[-2].calls[0].name, json.loads(second[-2].calls[0].arguments)) == ("repl", {"code": "the file a.txt"})


def test_the_landing_asks_beside_the_result() -> None:
    """The closing request is the user's, not the word of a function."""
    _, effects = play(
        a_call(protocol="tools"),
        [calling("print(1)"), Output("1", refused=BUDGET), calling("FINAL(1)"), Output(answer=Handover(1))],
    )
    last = asked_of(effects)[-1]
    assert [message.role for message in last[-3:]] == ["assistant", "tool", "user"]
    assert "Call `repl` one last time" in last[-1].content


def test_a_long_call_is_cut_as_text() -> None:
    """Arguments cannot be cut in the middle; a turn that is too long becomes a block, and the request stays valid."""
    long = calling("x = '" + "y" * 30_000 + "'")
    _, effects = play(
        a_call(protocol="tools", window_bytes=30_000),
        [long, Output("1"), calling("FINAL(1)"), Output(answer=Handover(1))],
    )
    _, second = asked_of(effects)
    assert sum(len(message.written.encode()) for message in second) <= 30_000
    assert not any(message.calls or message.result_of for message in second)


@pytest.mark.parametrize(
    ("protocol", "reasons", "words"),
    [("text", False, "a few lines of thought and then one block"), ("text", True, "Reply with one block"),
     ("tools", False, "a few lines of thought and then call the function"), ("tools", True, "Call the function `repl`")],
)  # fmt: skip
def test_one_line_of_the_prompt_varies(protocol: str, reasons: bool, words: str) -> None:
    """Models that do not reason by themselves are told to think in a few lines before their code."""
    plain = prompts.turn(a_call(), Trajectory())[0].content.splitlines()
    system = prompts.turn(a_call(protocol=protocol, reasons=reasons), Trajectory())[0].content.splitlines()
    assert words in "\n".join(system)
    differing = [line for line, other in zip(system, plain, strict=True) if line != other]
    assert len(differing) <= (2 if protocol == "tools" else 1)


def test_turns_of_an_earlier_run_are_no_looks_and_no_nudges() -> None:
    """A follow-up begins anew: it has seen nothing yet, and was not asked in vain."""
    earlier = tuple(Turn(Reply("I look."), None, told) for told in ("Output:\n1",) * 5)
    answer, effects = play(a_call(earlier=earlier), [*["Thirty."] * NUDGES, "FINAL(1)"])
    assert answer == Answer(1)
    guess = code("print(len(docs))\nFINAL('thirty')")
    answer, effects = play(
        a_call(earlier=earlier), [guess, Output("1", answer=Handover("thirty")), "FINAL('thirty days')"]
    )
    assert answer == Answer("thirty days")
    assert "not taken yet" in [effect for effect in effects if isinstance(effect, Complete)][-1].messages[-1].content


def test_a_refusal_that_was_held_is_no_answer() -> None:
    """Not even where nothing else can be asked for any more."""
    held = Output(error="QuoteNotFound", held=Handover("I'm sorry, but I can't help with that."))
    with pytest.raises(ModelError, match="refused to answer"):
        play(a_call(), [code("FINAL(x)"), held, BUDGET])


@pytest.mark.parametrize("arguments", [{"input": "acme"}, {"code": "DE"}, {"key": "x", "limit": 3}])
def test_a_function_of_the_users_is_called_by_code(arguments: dict[str, object]) -> None:
    """A model that calls it as it would call the REPL: code that does, whatever its arguments are named."""
    called = Completion("", "tool_calls", calls=(ToolCall("c1", "lookup", json.dumps(arguments)),))
    call = a_call(protocol="tools", tools=(Tool("lookup", "(**names)", ""),))
    _, effects = play(call, [called, Output("30"), "FINAL(1)"])
    assert effects[1] == Execute(f"lookup(**{arguments})")
    asked = effects[2]
    assert isinstance(asked, Complete)
    assert [tool.name for tool in asked.messages[0].tools] == ["repl"]
    assert (asked.messages[-2].calls, asked.messages[-1].role) == (called.calls, "tool")


def test_what_could_not_be_read_is_told() -> None:
    """A model that does not know what is missing cannot say that its answer is about the rest."""
    preview = replace(a_call().preview, unread=("scan.pdf (no text layer)",))
    _, effects = play(a_call(preview=preview), [code("FINAL('x')"), Output(answer=Handover("x"))])
    assert isinstance(effects[0], Complete)
    assert "Could not be read: scan.pdf (no text layer)\n" in effects[0].messages[1].content
