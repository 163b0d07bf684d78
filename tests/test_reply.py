"""Reading replies: one table of what models write, and what is made of it."""

from __future__ import annotations

import time

import pytest

from rlm_cli.call import Completion, Handover, Reply, ToolCall
from rlm_cli.reply import closing, read, words
from rlm_cli.result import Quote

CODE = "print(1)\n"


@pytest.mark.parametrize(
    "text",
    [
        "```repl\nprint(1)\n```",
        "Thought.\n```python\nprint(1)\n```\n",
        "```py\nprint(1)\n```",
        "```\nprint(1)\n```",
        "~~~python\nprint(1)\n~~~",
        "   ```repl\n   print(1)\n   ```",
        "````repl\nprint(1)\n````",
        "``` repl \nprint(1)\n```",
        "<think>```repl\nprint(2)\n```</think>\n```repl\nprint(1)\n```",
        "```repl\n```\n```repl\nprint(1)\n```",
        "- step\n\n  ```python\n  print(1)\n  ```",
    ],
)  # fmt: skip
def test_code_is_found(text: str) -> None:
    """Whatever the fence's tag, length, letter or indentation."""
    assert read(Completion(text)).code == CODE


def test_unclosed_fence_runs_when_complete() -> None:
    """A model that forgets the last fence is understood."""
    assert read(Completion("```repl\nprint(1)\n")).code == CODE


@pytest.mark.parametrize("reason", ["length", "stop"])
def test_cut_off_code_never_runs(reason: str) -> None:
    """Half a program is no program; one cut off by the output limit is none even if it compiles."""
    assert read(Completion("```repl\nprint((1", reason)).problem == "unfinished"
    assert read(Completion("```repl\nprint(1)", "length")).problem == "unfinished"


def test_fences_inside_strings_belong_to_the_code() -> None:
    """The compiler decides where a block ends."""
    code = 'text = """\n```\nnot the end\n```\n"""\nprint(text)\n'
    assert read(Completion(f"```repl\n{code}```\nAfterwards.")).code == code


def test_the_first_of_several_blocks_runs() -> None:
    """The rest is cut, and the reply says so."""
    reply = read(Completion("```repl\nprint(1)\n```\nOutput: 1\n```repl\nprint(2)\n```"))
    assert (reply.code, reply.cut) == (CODE, True)
    assert "Output" not in reply.kept


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('FINAL("Thirty days")', Handover("Thirty days")),
        ('The answer is clear.\n\nFINAL("It (really) says \\"30\\" days")', Handover('It (really) says "30" days')),
        ("FINAL(42)", Handover(42)),
        ("FINAL(None)", Handover(None)),
        ("FINAL(['a', 'b'])", Handover(["a", "b"])),
        ("FINAL(The notice period is thirty (30) days.)", Handover("The notice period is thirty (30) days.")),
        ('**FINAL("bold")**', Handover("bold")),
    ],
)
def test_final_in_prose(text: str, answer: Handover) -> None:
    """FINAL counts in prose when the text is unambiguous."""
    assert read(Completion(text)) == Reply(text, answer=answer)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("FINAL_VAR(result)", "FINAL_VAR(result)"),
        ('Done.\nFINAL_VAR("result")', 'FINAL_VAR("result")'),
        ("FINAL(result)", "FINAL(result)"),
        ('FINAL("Yes [1]", quotes=[("a.txt", "it is so")])', 'FINAL("Yes [1]", quotes=[("a.txt", "it is so")])'),
        ("FINAL(', '.join(names), quotes=found)", "FINAL(', '.join(names), quotes=found)"),
        ("x = len(context)\nprint(x)", "x = len(context)\nprint(x)"),
    ],
)
def test_expressions_in_prose_run_as_code(text: str, code: str) -> None:
    """A name in FINAL is a variable, and code without a fence is code."""
    assert read(Completion(text)).code == code


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        (" \n\t", "empty"),
        ("<think>only thoughts</think>", "thoughts"),
        ("I will use FINAL(x) when I know.", "plan"),
        ("I am sorry, I cannot help with that.", "refusal"),
        ("Yes", "no code"),
        ("FINAL(", "no code"),
        ("```repl\n```", "no code"),
    ],
)
def test_neither_code_nor_answer(text: str, problem: str) -> None:
    """Such replies are ordinary: the model is nudged."""
    assert read(Completion(text)).problem == problem


def test_a_prose_answer_cut_off_by_the_limit_does_not_count() -> None:
    """Half an answer is none."""
    assert read(Completion('FINAL("Thirty', "length")).problem == "no code"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Thirty days [1].\n> of thirty days", Handover("Thirty days [1].", (Quote("of thirty days"),))),
        ("A.\n\n> a.txt: “so”\n>  b c.txt: it", Handover("A.", (Quote("so", "a.txt"), Quote("it", "b c.txt")))),
        ("A.\n> note: no path of ours", Handover("A.", (Quote("note: no path of ours"),))),
        ("NOT FOUND", Handover(None)),
        ("**Not found.**\n\nThe agreement names no fee.", Handover(None)),
        ("NOT FOUND in § 4, but in § 5.", Handover("NOT FOUND in § 4, but in § 5.")),
        ("Red.\n> [2] c.txt: it is red", Handover("Red.", (Quote("it is red", "b!/c.txt"),))),
        ("Red.\n> Note: it is red", Handover("Red.", (Quote("Note: it is red", None),))),
        ("Not found.", Handover(None)),
        ("", Handover(None)),
        ("> only a quote", Handover("only a quote", (Quote("only a quote"),))),
    ],
)  # fmt: skip
def test_answers_in_words(text: str, answer: Handover) -> None:
    """The text, then `> quote` or `> path: quote` lines."""
    assert words(text, ["a.txt", "b c.txt", "b!/c.txt"]) == answer


def test_the_last_reply_needs_no_code() -> None:
    """Where nothing runs any more, a FINAL with quotes is read as it stands."""
    said = closing(Completion('FINAL("Yes [1]", quotes=[("a.txt", "it is so")])'))
    assert said == Handover("Yes [1]", (Quote("it is so", "a.txt"),))
    assert closing(Completion("I can't help with that.")) is None
    assert closing(Completion("", calls=(ToolCall("c", "repl", '{"code": "print(1)"}'),))) is None


@pytest.mark.parametrize(
    "text",
    ["<code>", "```\n", "{", "FINAL(", 'FINAL("x")\n', "<think>", "a<", "x y\n\n", "print(1)\n", "\\boxed{", "to=python ",
     " ", "(", "> x\n", "&lt;", "Action Input:", "answer is ", "```repl\nx y\n```\n"],
)  # fmt: skip
def test_no_reply_takes_long_to_read(text: str) -> None:
    """Of 60,000 characters, which is what a model can write: read in no more time than it takes to look."""
    began = time.process_time()
    read(Completion(text * (60_000 // len(text)) + "x"))
    assert time.process_time() - began < 3
