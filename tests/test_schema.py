"""What an answer must look like: the short form, schemas that are none, what bends, and how the loop sends back."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_loop import BUDGET, a_call, code

from rlm_cli.call import Check, Complete, Completion, Execute, Handover, Output
from rlm_cli.errors import ModelError, UsageError
from rlm_cli.ledger import Refusal, StopReason
from rlm_cli.loop import SENT_BACK, converse
from rlm_cli.result import Answer, Quote, Status, exit_code
from rlm_cli.schema import LONGEST_SCHEMA, YES_NO, Schema, is_file, judged, parse, parse_repl

STR, INT, NUM, BOOL = ({"type": kind} for kind in ("string", "integer", "number", "boolean"))
DATE, TIME = {"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}


def shape(**fields: object) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def schema(tree: object) -> Schema:
    return parse(json.dumps(tree), "there")


@pytest.mark.parametrize(
    ("spec", "tree"),
    [
        ("party", shape(party=STR)),
        ("party, amount float, signed date", shape(party=STR, amount=NUM, signed=DATE)),
        ("name, age int, bio: a description", shape(name=STR, age=INT, bio=STR | {"description": "a description"})),
        ("n integer,x number,ok boolean,t text,at datetime", shape(n=INT, x=NUM, ok=BOOL, t=STR, at=TIME)),
        ("tags[], sums float[], days []", shape(tags={"type": "array", "items": STR}, sums={"type": "array", "items": NUM}, days={"type": "array", "items": STR})),
        ("a?, b int?", shape(a={"type": ["string", "null"]}, b={"type": ["integer", "null"]})),
        ("b date[]?", shape(b={"type": ["array", "null"], "items": DATE})),
        ("name: who, perhaps\nage int", None),
        ("name: who signed, and where\n\n  age int: in years,\n", shape(name=STR | {"description": "who signed, and where"}, age=INT | {"description": "in years"})),
        ("[party, amount float]", {"type": "array", "items": shape(party=STR, amount=NUM)}),
        ("[\nparty\namount float: net, in EUR\n]", {"type": "array", "items": shape(party=STR, amount=NUM | {"description": "net, in EUR"})}),
        ("größe float, due_date date, x-y", shape(größe=NUM, due_date=DATE, **{"x-y": STR})),
        ('{"type": "string"}', STR),
    ],
)  # fmt: skip
def test_the_short_form(spec: str, tree: dict[str, Any] | None) -> None:
    """Fields as in `llm --schema`, with dates, lists, null and a list of objects; every field is required, no other allowed."""
    if tree is None:
        tree = shape(name=STR | {"description": "who, perhaps"}, age=INT)
    assert parse(spec, "--schema").tree == tree


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "the schema is empty"),
        ("a,,b", "field 2 is empty"),
        ("a, b flot", "field 2, 'b': there is no type 'flot': there are str, int"),
        ("a int b", "field 1: 'a int b' is no field"),
        ("a, 2nd", "field 2: '2nd' is no field"),
        ("a, b, a int", "field 3: 'a' is there twice"),
        ("[a, b", "the [ at the beginning is not closed"),
        ('{"type": "object",\n "x" 1}', "Expecting ':' delimiter at line 2, column 6"),
        ("{" * 100_000, "at most 50,000"),
        ('{"a":' * 7_000 + "1" + "}" * 7_000, "nested too deeply"),
        ('{"items":' * 300 + "{}" + "}" * 300, "nested too deeply"),
        ('{"type": "objekt"}', "$.type: 'objekt' is no type; there are array"),
        ('{"type": "object", "properties": {"a": {"minimum": "3"}}}', "$.properties.a.minimum: '3' is not of type 'number'"),
        ('{"type": "string", "pattern": "("}', "$.pattern: '(' is not a 'regex'"),
        ('{"party": "str", "amount": "float"}', "the schema says nothing of the value"),
        ('{"$ref": "https://example.com/s.json"}', "$.$ref refers to 'https://example.com/s.json', and nothing is fetched"),
        ('{"type": "array", "items": {"$ref": "other.json"}}', "$.items.$ref refers to 'other.json'"),
        ('{"type": "array", "items": {"$ref": "#/$defs/x"}}', "$.items.$ref refers to '#/$defs/x', which is not there"),
        ('{"$ref": "#nowhere"}', "the schema cannot be followed"),
        ('{"$ref": "#"}', "it refers to itself without end"),
        (json.dumps({"type": "string", "description": "x" * LONGEST_SCHEMA}), "at most 50,000"),
    ],
)  # fmt: skip
def test_what_is_no_schema_is_told_with_its_place(spec: str, words: str) -> None:
    """A usage error that names the source and the place, whatever was typed."""
    with pytest.raises(UsageError, match=r"^there: ") as caught:
        parse(spec, "there")
    assert words in str(caught.value).replace("there: ", "", 1)


@given(st.text(max_size=80) | st.text("ab,:?[]{}\n \"'intfloat", max_size=40))
def test_any_spec_is_read_or_refused(spec: str) -> None:
    """Whatever was typed: a schema that can be asked for, or a usage error."""
    is_file(spec)
    try:
        read = parse(spec, "there")
    except UsageError:
        return
    assert parse(read.text, "there") == read


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("schema.json", True), ("./schema", True), ("a/b.schema", True), ("contract.schema", True), ("my schemas/a.json", True),
        ("party", False), ("party, amount", False), ("bio: see a/b.txt, or c", False), ('{"a": "b.json"}', False), ("[a, b]", False),
        ("a\nb: x/y.json", False),
    ],
)  # fmt: skip
def test_what_names_a_file(spec: str, named: bool) -> None:
    """By its spelling alone: what a SPEC means does not depend on the folder."""
    assert is_file(spec) is named


@pytest.mark.parametrize(
    ("wanted", "value", "bent"),
    [
        (INT, "30", 30), (INT, " -7 ", -7), (INT, 3.0, 3), (INT, "0", 0), (INT, 10**30, 10**30), (INT, str(10**30), 10**30),
        (NUM, "3.50", 3.5), (NUM, "30", 30), (NUM, "-1.5e3", -1500.0), (NUM, 3, 3), (NUM, 3.0, 3.0), (NUM, "0.1", 0.1),
        (STR, 30, "30"), (STR, 3.5, "3.5"), (STR, '"x"', '"x"'),
        (BOOL, "true", True), (BOOL, "False", False), (BOOL, True, True),
        (DATE, "2026-11-25", "2026-11-25"), (DATE, "2026-11-25 00:00:00", "2026-11-25"), (DATE, "2026-11-25T00:00:00.000", "2026-11-25"),
        (TIME, "2026-11-25T10:30:00Z", "2026-11-25T10:30:00Z"), (TIME, "2026-11-25 10:30:00", "2026-11-25T10:30:00"),
        (TIME, "2026-11-25T10:30:00+01:00", "2026-11-25T10:30:00+01:00"), (TIME, "2026-11-25T10:30", "2026-11-25T10:30"),
        ({"type": "array", "items": INT}, "[1, 2]", [1, 2]), ({"type": "array", "items": INT}, ["1", 2.0], [1, 2]),
        (shape(a=INT), '{"a": "1"}', {"a": 1}), (shape(a=INT), 'Here:\n```json\n{"a": 1}\n```\nDone.', {"a": 1}),
        (shape(a=INT), 'It is {"a": 1}, as said [1].', {"a": 1}),
        ({"type": ["integer", "null"]}, "5", 5), ({"type": ["integer", "null"]}, None, None),
        ({"anyOf": [INT, {"type": "null"}]}, "5", 5), ({"oneOf": [shape(a=INT), shape(b=NUM)]}, {"b": "2.5"}, {"b": 2.5}),
        ({"allOf": [{"$ref": "#/$defs/n"}], "$defs": {"n": INT}}, "5", 5),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [INT, BOOL]}, ["1", "true"], [1, True]),
    ],
)  # fmt: skip
def test_what_bends(wanted: object, value: object, bent: object) -> None:
    """Nothing is lost by it, and the type is the one that was asked for."""
    checked = schema(wanted).check(value)
    assert (checked.problem, checked.value, type(checked.value)) == ("", bent, type(bent))


@pytest.mark.parametrize(
    ("wanted", "value", "words"),
    [
        (INT, "007", "$: '007' is not of type 'integer'"), (INT, "1,200", "1,200"), (INT, 3.5, "3.5"), (INT, "3.0", "3.0"),
        (INT, True, "True"), (INT, "5 days", "5 days"), (INT, "", "''"), (INT, "1" * 100_000, "…"), (INT, 1e300, "1e+300"),
        (NUM, "$3", "$3"), (NUM, "1e999", "1e999"), (NUM, "0.1234567890123456789012345", "0.123456"), (NUM, "nan", "nan"),
        (STR, True, "True"), (STR, None, "None"), (STR, ["a"], "['a']"),
        (BOOL, "yes", "yes"), (BOOL, 1, "1"), (BOOL, "truely", "truely"),
        (DATE, "2026-02-30", "is not a 'date'"), (DATE, "2026-11-25 10:30:00", "is not a 'date'"), (DATE, "25.11.2026", "is not a 'date'"),
        (DATE, "20261125", "is not a 'date'"), (TIME, "2026-11-25", "is not a 'date-time'"), (TIME, "soon", "is not a 'date-time'"),
        (shape(a=INT, b=STR), {"a": "x"}, "$.a: 'x' is not of type 'integer'\n$: 'b' is a required property"),
        (shape(a=INT), {"a": 1, "b": 2}, "'b' was unexpected"), (shape(a=INT), "no idea", "is not of type 'object'"),
        ({"type": "array", "items": INT}, ["a"] * 9, "$[4]: 'a' is not of type 'integer'\nand 4 more"),
        ({"type": "array", "items": INT}, "3", "is not of type 'array'"),
        ({"type": "string", "pattern": "^[A-Z]{3}$"}, "eur", "does not match"), ({"enum": [1, 2]}, "1", "is not one of"),
        ({"type": "string", "format": "email"}, "nobody", "is not a 'email'"),
    ],
)  # fmt: skip
def test_what_does_not_bend(wanted: object, value: object, words: str) -> None:
    """What would lose, or add, something is told with its place, at no more length than a model needs; the value stays."""
    checked = schema(wanted).check(value)
    assert words in checked.problem
    assert checked.value == value
    assert len(checked.problem) < 2_500


@pytest.mark.parametrize(
    "value",
    [["x"] * 5_000_000, "\n".join("`" * n for n in range(2_000, 3, -1)), "```\n" * 500_000, "[" * 1_000_000, {"a": [[0] * 9] * 99_999}],
)  # fmt: skip
def test_hostile_values_end(value: object) -> None:
    """What code hands over may be of any size and shape: it is checked, or not, in seconds and in little memory."""
    began = time.monotonic()
    assert schema(shape(a={"anyOf": [{"type": "array", "items": INT}, {"type": "null"}]})).check(value).problem
    assert time.monotonic() - began < 20


def test_ten_thousand_rows_bend() -> None:
    """More complaints than are looked at in one pass."""
    rows = [{"a": str(n), "b": str(n)} for n in range(12_000)]
    checked = parse("[a int, b int]", "there").check(rows)
    assert (checked.problem, checked.value[-1]) == ("", {"a": 11_999, "b": 11_999})


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists))
def test_what_satisfies_a_schema_is_not_touched(value: object) -> None:
    """A value of the type that is wanted comes back as it was."""
    wanted = schema({"type": ["null", "boolean", "integer", "number", "string", "array"]})
    assert wanted.check(value).value is value


def test_a_value_is_not_changed_in_place() -> None:
    """The caller's own stays what it was, accepted or not."""
    given = {"a": "1"}
    assert schema(shape(a=INT)).check(given).value == {"a": 1}
    assert given == {"a": "1"}


@pytest.mark.parametrize("text", ["true", "True.", "Yes", "**yes**", "yes [1].", "`true`", '"Yes!"'])
def test_words_that_mean_yes(text: str) -> None:
    """One word, in whatever dress; no is read the same way."""
    assert YES_NO.read(text).value is True
    assert YES_NO.check(text).value is True
    assert YES_NO.read(text.lower().replace("true", "no").replace("yes", "no")).value is False


@pytest.mark.parametrize("value", ["Yes, mostly", "yes and no", "maybe", "", 1, 0, [], {"answer": True}, "nothing"])
def test_anything_else_is_neither(value: Any) -> None:
    """Half an answer is not turned into a whole one."""
    assert "True or False is wanted" in YES_NO.check(value).problem


@pytest.mark.parametrize(
    ("wanted", "text", "value"),
    [
        (shape(a=INT), '{"a": 1}', {"a": 1}), (INT, "30", 30), (STR, '"thirty"', "thirty"), (STR, "thirty days", "thirty days"),
        ({"type": "array", "items": STR}, '```\n["x"]\n```', ["x"]), (STR, "See [1].", "See [1]."), (BOOL, "false", False),
        ({"type": "array", "items": shape(a=INT)}, 'Two:\n[{"a": 1}, {"a": 2}]\n', [{"a": 1}, {"a": 2}]),
    ],
)  # fmt: skip
def test_values_in_words(wanted: object, text: str, value: object) -> None:
    """JSON alone, in a fence or in a sentence; else the text itself."""
    assert schema(wanted).read(text).value == value


def test_quotes_that_strict_wants() -> None:
    """An answer without one will not do; not found is always an answer."""
    assert "no quote" in judged(None, True, "x", ()).problem
    assert judged(None, True, "x", (Quote("x"),)).problem == ""
    assert judged(YES_NO, True, None, ()).problem == ""
    assert "True or False" in judged(YES_NO, True, "x", ()).problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"type": "string", "pattern": "(a+)+$"}', "'pattern' cannot be used here"),
        ('{"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}', "cannot be used here"),
        ('{"allOf": [{"type": "string"}]}', "'allOf' cannot be used here"),
        ('{"type": "array", "items": {"uniqueItems": true}}', "'uniqueItems' cannot be used here"),
        ('{"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"pattern": "(a+)+$"}]}', "'$schema' cannot be used here"),
        ('{"type": "array", "items": [{"pattern": "(a+)+$"}]}', "is not of type 'object', 'boolean'"),
        (json.dumps({"anyOf": [{"enum": [2]}] * 150}), "301 fields, choices and values in one"),
        ("a, b flot", "there is no type"),
        ("schema.json", "is no field"),
        ("a" * 10_001, "at most 10,000"),
    ],
)  # fmt: skip
def test_code_passes_what_is_checked_in_bounded_time(text: str, words: str) -> None:
    """Hostile code must not hang the host by a schema, nor name its files."""
    with pytest.raises(UsageError, match=r"^schema") as caught:
        parse_repl(text)
    assert words in str(caught.value)


def test_what_a_provider_is_asked_for() -> None:
    """An object, wrapped where it is none; strict in OpenAI's sense only where every object is closed."""
    assert parse("a, b int[]", "x").is_closed
    assert parse("[a]", "x").as_object.is_closed
    assert parse("[a]", "x").as_object.tree["properties"]["value"] == parse("[a]", "x").tree
    assert parse("a", "x").as_object == parse("a", "x")
    for tree in ({"type": "object"}, {"type": "object", "properties": {"a": STR}}, {**shape(a=STR), "required": []}):
        assert not schema(tree).is_closed


@pytest.mark.parametrize(
    ("status", "error", "number", "is_no", "code"),
    [
        (Status.COMPLETE, None, None, False, 0), (Status.COMPLETE, None, None, True, 1), (Status.NOT_FOUND, None, None, True, 1),
        (Status.NOT_FOUND, None, None, False, 0), (Status.PARTIAL, None, None, True, 6), (Status.INVALID, 8, None, True, 8),
        (Status.INVALID, None, None, False, 8), (Status.FAILED, 5, None, True, 5), (Status.STOPPED, 8, 2, True, 130),
    ],
)  # fmt: skip
def test_one_function_makes_the_exit_code(
    status: Status, error: int | None, number: int | None, is_no: bool, code: int
) -> None:
    """130/143 > 70 > 3/5/7 > 8 > 6 > 1 > 0."""
    assert exit_code(status, error, number, is_no=is_no) == code


# ── the loop ────────────────────────────────────────────────────────────────────────────────────────────────────────

WANTED = parse("party, days int", "there")
GOOD, BAD = {"party": "Acme", "days": 30}, {"party": "Acme", "days": "thirty"}


def play(
    sent: Sequence[str | Completion | Output | Refusal | ModelError], wanted: Schema | None = WANTED, **changes: object
) -> tuple[Answer, list[Complete | Execute]]:
    """As `test_loop.play`, with answers checked as a run checks them."""
    call = a_call(schema=wanted, **changes)
    conversation = converse(call)
    effects: list[Complete | Execute] = []
    effect: Complete | Execute | Check = next(conversation)
    replies = iter(sent)
    try:
        while True:
            if isinstance(effect, Check):
                checked = judged(call.schema, call.strict, effect.value, effect.quotes, effect.spoken)
                effect = conversation.send(checked)
                continue
            effects.append(effect)
            value = next(replies)
            if isinstance(value, ModelError):
                effect = conversation.throw(value)
            else:
                effect = conversation.send(Completion(value) if isinstance(value, str) else value)
    except StopIteration as stop:
        answer: Answer = stop.value
        assert isinstance(answer, Answer), "the replies have run out"
        assert not [value for value in replies if not isinstance(value, Refusal)]  # those are sent as long as it takes
        return answer, effects


def handing(value: object, **more: Any) -> list[str | Output]:
    """A turn whose code hands over this value."""
    return [code("FINAL(x)"), Output(answer=Handover(value), **more)]


def heard(effect: Complete | Execute) -> str:
    assert isinstance(effect, Complete)
    return effect.messages[-1].content


def test_the_root_is_told_the_schema() -> None:
    """In its first message, before the question; of a yes/no question in words."""
    _, effects = play(handing(GOOD))
    assert WANTED.text in heard(effects[0])
    assert heard(effects[0]).rstrip().endswith('"How long is the notice period?"')
    _, effects = play(handing(True), YES_NO)
    assert "FINAL(True" in heard(effects[0])
    _, effects = play([code("1"), Output(answer=Handover("x", (Quote("q"),)))], None, strict=True)
    assert "at least one quote" in heard(effects[0])


def test_an_answer_that_bends_is_taken() -> None:
    """No request is spent on a spelling."""
    answer, effects = play(handing({"party": "Acme", "days": "30"}))
    assert (answer, len(effects)) == (Answer(GOOD), 2)


def test_an_error_goes_back_twice_and_then_the_run_is_over() -> None:
    """The model hears what is wrong and where its value is; the third bad value is the last."""
    answer, effects = play([*handing(BAD), *handing(GOOD)])
    assert answer == Answer(GOOD)
    assert "$.days: 'thirty' is not of type 'integer'" in heard(effects[2])
    assert "`_answer`" in heard(effects[2])
    answer, effects = play(handing(BAD) * (SENT_BACK + 1))
    assert (answer.value, answer.stop_reason) == (BAD, StopReason.FINAL)
    assert "$.days" in answer.problem
    assert len(effects) == 2 * (SENT_BACK + 1)


def test_an_answer_in_prose_is_sent_back_too() -> None:
    """FINAL outside of a block; its value never was in the REPL."""
    answer, effects = play(['FINAL("thirty days")', f"FINAL({GOOD})"])
    assert answer == Answer(GOOD)
    assert "is not of type 'object'" in heard(effects[1])
    assert "`_answer`" not in heard(effects[1])


def test_not_found_satisfies_any_schema() -> None:
    """FINAL(None) means: the documents do not say."""
    answer, _ = play(handing(None), strict=True)
    assert answer == Answer(None)


@pytest.mark.parametrize("strict", [True, False])
def test_an_answer_without_a_quote(strict: bool) -> None:
    """With --strict it goes back like any other that will not do."""
    proved = Output(answer=Handover("x", (Quote("q"),)))
    answer, effects = play([*handing("x"), *([code("FINAL(x)"), proved] if strict else [])], None, strict=strict)
    assert answer == Answer("x", (Quote("q"),) if strict else ())
    assert len(effects) == (4 if strict else 2)


def held(value: object) -> Output:
    return Output(error="QuoteNotFound", held=Handover(value))


def test_a_held_answer_stands_only_if_it_satisfies() -> None:
    """One that was sent back for its quotes hears of both faults; it is kept only where its value will do."""
    answer, _ = play([code("FINAL(x)"), held({"party": "Acme", "days": "30"}), BUDGET])
    assert answer == Answer(GOOD)
    answer, effects = play([code("FINAL(x)"), held(BAD), *handing(GOOD)])
    assert answer == Answer(GOOD)
    assert "QuoteNotFound" in heard(effects[2])
    assert "$.days" in heard(effects[2])
    answer, _ = play([code("FINAL(x)"), held(GOOD), *handing(BAD) * (SENT_BACK + 1)])
    assert answer == Answer(GOOD)


def test_the_landing_may_mend_it() -> None:
    """A limit after a bad value: the landing's value counts, as a partial answer, by code or in words."""
    answer, effects = play([*handing(BAD), BUDGET, *handing(GOOD)])
    assert answer == Answer(GOOD, (), StopReason.MAX_BUDGET)
    assert "must satisfy the schema" in heard(effects[3])
    answer, effects = play(
        [*handing(BAD), BUDGET, *handing(BAD), f"```json\n{json.dumps(GOOD)}\n```\n> acme.txt: thirty"]
    )
    assert answer == Answer(GOOD, (Quote("thirty", "acme.txt"),), StopReason.MAX_BUDGET)
    assert WANTED.text in heard(effects[-1])
    assert "$.days" in heard(effects[-1])


@pytest.mark.parametrize(
    ("after", "value"),
    [
        ([BUDGET, *handing({"days": "?"}), "No JSON here."], "No JSON here."),
        ([BUDGET, *handing({"days": "?"}), "NOT FOUND"], {"days": "?"}),
        ([BUDGET, *handing({"days": "?"}), *[BUDGET] * 9], {"days": "?"}),
        ([BUDGET, "Hm.", "NOT FOUND"], BAD),
        ([BUDGET, "Hm.", ModelError("down")], BAD),
        (["Hm."] * 2 + ["NOT FOUND"], BAD),
    ],
    ids=["words", "nothing in words", "refused words", "nothing", "failure", "no progress"],
)  # fmt: skip
def test_the_last_value_is_kept_where_none_satisfies(after: list[Any], value: object) -> None:
    """For --json: what was handed over last, and why it will not do, and which limit ended the run."""
    answer, _ = play([*handing(BAD), *after])
    assert answer.value == value
    assert answer.problem
    assert answer.partial


def test_a_guess_is_sent_back_once_it_is_a_value() -> None:
    """What is no value is told so first; a value that stood fixed before the first look is held, and seen again."""
    guess, blind = code(f"print(len(docs))\nFINAL({GOOD})"), code(f"print(len(docs))\nFINAL({BAD})")
    answer, effects = play([guess, Output("1", answer=Handover(GOOD)), *handing(GOOD)])
    assert answer == Answer(GOOD)
    assert "it is not taken yet" in heard(effects[2])
    held, _ = play([guess, Output("1", answer=Handover(GOOD)), BUDGET])
    assert held == Answer(GOOD)
    _, effects = play([blind, Output("1", answer=Handover(BAD)), *handing(GOOD)])
    assert "The answer was not taken" in heard(effects[2])
    assert "it is not taken yet" not in heard(effects[2])


def test_what_prose_calls_its_answer_is_held_against_the_schema() -> None:
    """A landing takes it if it is a value, and asks for one if it is not; a refusal does not make a value unheard."""
    looked = [code("print(1)"), Output("1")]
    value = f"Final answer: {json.dumps(GOOD)}"
    answer, effects = play([*looked, value, value])
    assert (answer.value, answer.stop_reason, answer.problem) == (GOOD, StopReason.NO_PROGRESS, "")
    assert len([effect for effect in effects if isinstance(effect, Complete)]) == 3
    answer, effects = play([*looked, *["Final answer: thirty"] * 2, json.dumps(GOOD)])
    assert (answer.value, answer.problem) == (GOOD, "")
    assert WANTED.text in heard(effects[-1])
    no = "I'm sorry, but I can't help with that."
    answer, _ = play([*handing(BAD), no, no, no, no])
    assert (answer.value, bool(answer.problem), answer.stop_reason) == (BAD, True, StopReason.NO_PROGRESS)


def test_what_was_printed_last_is_no_value() -> None:
    """Without a schema it is better than nothing; with one it is nothing. A draft may be a value."""
    refused = Output("seen so far", refused=BUDGET)
    answer, _ = play([code("x"), refused, "Hm.", ModelError("down")])
    assert answer == Answer(None, (), StopReason.MAX_BUDGET)
    answer, _ = play(
        [code("x"), Output(draft={"party": "Acme", "days": "30"}, refused=BUDGET), "Hm.", ModelError("down")]
    )
    assert answer == Answer(GOOD, (), StopReason.MAX_BUDGET)


def test_without_a_landing_a_bad_value_is_still_told() -> None:
    """--on-limit fail: no further request, and the last value with the limit's name."""
    answer, _ = play([*handing(BAD), BUDGET], landing=False)
    assert (answer.value, answer.stop_reason, bool(answer.problem)) == (BAD, StopReason.MAX_BUDGET, True)
