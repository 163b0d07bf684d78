"""`--schema`, `-e`, `--strict` and `llm_query(schema=…)` end to end: the installed command against a scripted server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Rlm
from scripted import SENTINEL_KEY, Reply, ScriptedServer
from test_ask import ACME, ROOT, Write, ask, block, is_root, result_of, script

GOOD, BAD = {"party": "Acme", "days": 30}, {"party": "Acme", "days": "thirty"}
FORM = "party, days int"
QUOTED = ", quotes=['thirty days']"


def final(value: object, more: str = "") -> str:
    return block(f"FINAL({value!r}{more})")


def test_the_answer_is_the_object(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """A value that will not do goes back with the error; stdout is JSON alone, the quotes are on stderr."""
    write("a.txt", ACME)
    replies = [final(BAD), block("_answer['days'] = '30'\nFINAL(_answer, quotes=['thirty days'])")]
    for form in ((), ("--json",)):
        with ScriptedServer(script(*replies)) as server:
            code, out, err = ask(rlm, server, "--mode", "rlm", "--schema", FORM, *form, "Q?", "docs", cwd=tmp_path)
        assert code == 0, err
        if form:
            result = result_of(out)
            assert (result["status"], result["answer"], result["found"]) == ("complete", GOOD, True)
            assert result["citations"][0]["located"] == "exact"
            [notice] = [n for n in result["notices"] if n["code"] == "answer_rejected"]
            assert "$.days: 'thirty' is not of type 'integer'" in notice["message"]
        else:
            assert json.loads(out) == GOOD
            assert "[1] docs/a.txt:40  “thirty days”" in err
        assert '"days":{"type":"integer"}' in server.requests[0].prompt
        assert "$.days: 'thirty' is not of type 'integer'" in server.requests[1].prompt


@pytest.mark.parametrize("mode", ["rlm", "direct"])
def test_three_values_that_will_not_do(rlm: Rlm, write: Write, tmp_path: Path, mode: str) -> None:
    """Exit 8: nothing on stdout, the place on stderr, the last value in --json."""
    write("a.txt", ACME)
    replies = [final(BAD) if mode == "rlm" else json.dumps(BAD)] * 3
    for form in ((), ("--json",)):
        with ScriptedServer(replies) as server:
            code, out, err = ask(rlm, server, "--mode", mode, "--schema", FORM, *form, "Q?", "docs", cwd=tmp_path)
        assert code == 8, err
        assert "does not satisfy the schema" in err
        assert "$.days: 'thirty' is not of type 'integer'" in err
        assert "Traceback" not in err
        if not form:
            assert out == ""
            continue
        result = result_of(out)
        assert (result["exit_code"], result["status"], result["stop_reason"]) == (8, "invalid", "final")
        assert (result["answer"], result["error"]["code"]) == (BAD, "invalid")
        assert [n["code"] for n in result["notices"]].count("answer_rejected") == 3
    assert rlm("show").out.count('"days": "thirty"') == 1


def test_direct_mode_asks_again(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """One call with the whole text, then the same with the reply and the error; quotes stand after the JSON."""
    write("a.txt", ACME)
    good = f"```json\n{json.dumps(GOOD)}\n```\n\n> on thirty days' notice"
    with ScriptedServer(["Thirty days.", "", good]) as server:
        code, out, err = ask(rlm, server, "--schema", FORM, "--json", "Q?", "docs", cwd=tmp_path)
    result = result_of(out)
    assert (code, result["answer"], result["mode"]) == (0, GOOD, "direct"), err
    assert result["citations"][0]["located"] == "exact"
    assert server.requests[0].prompt.endswith("Question: Q?")
    assert [m["role"] for m in server.requests[1].messages] == ["user", "assistant", "user"]
    assert "'Thirty days.' is not of type 'object'" in server.requests[1].prompt


@pytest.mark.parametrize(
    ("mode", "replies", "code", "answer", "status"),
    [
        ("rlm", ["True"], 0, True, "complete"), ("rlm", ["'No.'"], 1, False, "complete"), ("rlm", ["'maybe'"] * 3, 8, "maybe", "invalid"),
        ("direct", ["True"], 0, True, "complete"), ("direct", ["'yes'"], 0, True, "complete"), ("direct", ["False"], 1, False, "complete"), ("direct", ["'No.'"], 1, False, "complete"),
        ("direct", ["None"], 1, None, "not_found"), ("direct", ["'maybe'", "True"], 0, True, "complete"), ("direct", ["'maybe'"] * 3, 8, "maybe", "invalid"),
    ],
)  # fmt: skip
def test_a_yes_no_question(
    rlm: Rlm, write: Write, tmp_path: Path, mode: str, replies: list[str], code: int, answer: object, status: str
) -> None:
    """-e: 0 yes, 1 no or not found, 8 anything else; JSON's answer is the boolean."""
    write("a.txt", ACME)
    words = [block(f"FINAL({r})") if mode == "rlm" else "NOT FOUND" if r == "None" else r.strip("'") for r in replies]
    with ScriptedServer(words) as server:
        got, out, err = ask(rlm, server, "--mode", mode, "-e", "--json", "Is it?", "docs", cwd=tmp_path)
    result = result_of(out)
    assert (got, result["exit_code"], result["answer"], result["status"]) == (code, code, answer, status), err


def test_yes_no_on_stdout(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """`true`, `false` or `null`, so that a script can read it too."""
    write("a.txt", ACME)
    for said, printed, code in (("true", "true\n", 0), ("No", "false\n", 1), ("NOT FOUND", "null\n", 1)):
        with ScriptedServer([said]) as server:
            assert ask(rlm, server, "-e", "Is it?", "docs", cwd=tmp_path)[:2] == (code, printed)


@pytest.mark.parametrize(
    ("value", "quotes", "code", "words"),
    [
        ("'x'", "[('docs/a.txt', 'on thirty days')]", 0, ""),
        ("'x'", "[('docs/a.txt', 'on thirty days'), ('docs/a.txt', 'On   THIRTY days')]", 0, ""),
        ("'x'", "[]", 8, "it has no quote"),
        ("None", "[]", 8, "it has no quote"),
        ("'x'", "['on thirty days', 'on thirty weeks of notice']", 8, "quote [2] is not in the documents"),
        ("'x'", "['Nothing of note in both']", 8, "quote [1] is in several documents"),
    ],
)  # fmt: skip
def test_strict(rlm: Rlm, write: Write, tmp_path: Path, value: str, quotes: str, code: int, words: str) -> None:
    """Exit 8, nothing on stdout, unless there is a quote and every one was located in one document; --no-cite or not."""
    write("a.txt", f"{ACME}\nNothing of note in both.\n")
    write("b.txt", "Nothing of note in both.\n")
    with ScriptedServer([block(f"FINAL({value}, quotes={quotes})")] * 3) as server:
        got, out, err = ask(rlm, server, "--mode", "rlm", "--strict", "--no-cite", "Q?", "docs", cwd=tmp_path)
    assert (got, out) == (code, "" if code else "x\n"), err
    assert words in err
    assert "Traceback" not in err


def test_strict_asks_for_a_quote(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """An answer without one goes back; a yes/no question may be strict too, and 8 comes before 1."""
    write("a.txt", ACME)
    with ScriptedServer([final(False), final(False, QUOTED)]) as server:
        assert ask(rlm, server, "--mode", "rlm", "-e", "--strict", "Q?", "docs", cwd=tmp_path)[:2] == (1, "false\n")
    assert "no quote" in server.requests[1].prompt
    with ScriptedServer(["No"] * 3) as server:
        code, out, err = ask(rlm, server, "-e", "--strict", "Q?", "docs", cwd=tmp_path)
    assert (code, out) == (8, "")
    assert "not proved as --strict wants it" in err


def test_a_limit_and_a_schema(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """A partial answer that satisfies is exit 6; one that does not is 8, with the limit as the reason."""
    write("a.txt", ACME)
    for value, words, code, status in ((GOOD, "", 6, "partial"), (BAD, "Sorry.", 8, "invalid")):
        replies = [block("print(1)"), final(value), *([words] if words else [])]
        with ScriptedServer(replies) as server:
            got, out, err = ask(
                rlm, server, "--mode", "rlm", "--max-iterations", "1", "--schema", FORM, "--json", "Q?", "docs", cwd=tmp_path
            )  # fmt: skip
        result = result_of(out)
        assert (got, result["status"], result["stop_reason"]) == (code, status, "max_iterations"), err
        assert result["answer"] == (words or value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--schema", "a flot"), "--schema: field 1, 'a': there is no type 'flot'"),
        (("--schema", '{"type": "objekt"}'), "--schema: $.type: 'objekt' is no type"),
        (("--schema", "none.json"), "No such file or directory"),
        (("--schema", "broken.json"), "Expecting value at line 2, column 7"),
        (("--schema", "binary.json"), "it is not UTF-8"),
        (("--schema", "docs/"), "cannot be read"),
        (("--schema", '{"$ref": "http://127.0.0.1:1/x"}'), "nothing is fetched"),
        (("-e", "--schema", "a"), "-e and --schema exclude each other"),
    ],
)  # fmt: skip
def test_what_is_no_schema_costs_nothing(
    rlm: Rlm, write: Write, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    """A usage error with the place, before anything is sent; with -n too."""
    write("a.txt", ACME)
    (tmp_path / "broken.json").write_text('{\n "a": oops}')
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00\x80{}")
    for more in ((), ("-n",)):
        with ScriptedServer([]) as server:
            code, out, err = ask(rlm, server, *more, *words, "Q?", "docs", cwd=tmp_path)
            assert (code, out, server.requests) == (2, "", [])
        assert told in err


def test_a_schema_in_a_file(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """With $defs, patterns and a byte order mark."""
    write("a.txt", ACME)
    tree = {
        "$defs": {"code": {"type": "string", "pattern": "^[A-Z]{3}$"}},
        "type": "array",
        "items": {"$ref": "#/$defs/code"},
    }
    (tmp_path / "codes.json").write_text("\ufeff" + json.dumps(tree), encoding="utf-8")
    with ScriptedServer(['["EUR", "usd"]', '["EUR", "USD"]']) as server:
        code, out, err = ask(rlm, server, "--schema", "codes.json", "Q?", "docs", cwd=tmp_path)
    assert (code, out) == (0, '["EUR", "USD"]\n'), err
    assert "$[1]: 'usd' does not match" in server.requests[1].prompt


def test_a_pattern_that_takes_for_ever(rlm: Rlm, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up on, in a process of its own: the answer will not do, and the run goes on."""
    from rlm_cli import structured
    from rlm_cli.schema import parse

    monkeypatch.setattr(structured, "PATIENCE_S", 2.0)
    slow = parse('{"type": "string", "pattern": "^(a+)+$"}', "there")
    began = time.monotonic()
    assert "still at work" in structured.judge(slow, False, "a" * 40 + "!", (), False).problem
    assert time.monotonic() - began < 10
    assert structured.judge(slow, False, "aaa", (), False).problem == ""
    assert "no quote" in structured.judge(slow, True, "aaa", (), False).problem
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("raise SystemExit('hostile')")
    assert structured.judge(slow, False, '"aaa"', (), True).value == "aaa"


def test_a_ready_mapping_is_sent_back_too(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """`answer` with `ready`: it is not handed over again by the next block, before it was mended."""
    write("a.txt", ACME)
    replies = [
        block(f"answer = {{'content': {BAD!r}, 'ready': True}}"), block("print(1)"), block("print(2)"), block("print(3)"),
        block("answer['content'] = {**_answer, 'days': 30}\nanswer['ready'] = True"),
    ]  # fmt: skip
    with ScriptedServer(replies) as server:
        code, out, err = ask(rlm, server, "--mode", "rlm", "--schema", FORM, "Q?", "docs", cwd=tmp_path)
    assert (code, json.loads(out)) == (0, GOOD), err


def test_a_schema_in_the_project(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """A file beside the project's, wherever the command is typed, and none outside; -e goes without it."""
    write("a.txt", ACME)
    (tmp_path / "rlm.toml").write_text('schema = "form.json"\n')
    (tmp_path / "form.json").write_text('{"type": "integer"}')
    with ScriptedServer(["30", "true"]) as server:
        env = {name: value for name, value in server.env.items() if name.startswith("OPENAI")}
        ran = rlm("ask", "-m", "openai/x", "-b", "none", "Q?", "a.txt", env=env, cwd=tmp_path / "docs")
        assert (ran.code, ran.out) == (0, "30\n"), ran.err
        ran = rlm("ask", "-m", "openai/x", "-b", "none", "-e", "Q?", "a.txt", env=env, cwd=tmp_path / "docs")
        assert (ran.code, ran.out) == (0, "true\n"), ran.err
        for place in ("../secret.json", "/etc/secret.json", "~root/secret.json"):
            (tmp_path / "rlm.toml").write_text(f'schema = "{place}"\n')
            ran = rlm("ask", "-m", "openai/x", "Q?", "docs/a.txt", env=env, cwd=tmp_path)
            assert (ran.code, ran.out) == (3, "")
            assert "may not name a schema outside its folder" in ran.err
        assert len(server.requests) == 2


@pytest.mark.parametrize("flags", [("-e",), ("--strict",), ("--schema", "a")])
def test_somebody_relies_on_it(rlm: Rlm, flags: tuple[str, ...]) -> None:
    """No silent fallback: exit 3. What was named is asked, and is honest about what it cannot do."""
    readme = str(ROOT / "README.md")
    ran = rlm("ask", *flags, "Which exit code says that a limit ended the run?", readme)
    assert (ran.code, ran.out) == (3, "")
    for mode in ("rlm", "direct"):
        ran = rlm(
            "ask",
            *flags,
            "-m",
            "offline/extractive",
            "--mode",
            mode,
            "Which exit code says that a limit ended the run?",
            readme,
        )
        assert ran.code == (0 if flags == ("--strict",) else 8), ran.err
        assert ("limit" in ran.out) == (ran.code == 0)
        assert ran.code == 0 or "name a language model" in ran.err


def test_the_library_gives_values(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """`result.answer` is the value; one that will not do is raised, with the value on it."""
    import rlm_cli

    path = write("a.txt", "short")
    monkeypatch.setenv("OPENAI_API_KEY", SENTINEL_KEY)
    with ScriptedServer([json.dumps(GOOD), "No", *["Hm."] * 3]) as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.base_url)
        how: dict[str, Any] = {"model": "openai/x", "max_budget": None}
        result = rlm_cli.ask("Q?", path, schema=FORM, **how)
        assert (result.answer, json.loads(result.text)) == (GOOD, GOOD)
        result = rlm_cli.ask("Q?", path, exit_status=True, **how)
        assert (result.answer, result.exit_code) == (False, 1)
        with pytest.raises(rlm_cli.InvalidAnswer) as caught:
            rlm_cli.ask("Q?", path, schema=FORM, **how)
        assert caught.value.value == "Hm."
        with pytest.raises(rlm_cli.UsageError, match="exclude"):
            rlm_cli.ask("Q?", path, schema=FORM, exit_status=True, **how)


def test_who_has_no_schema_does_not_pay_for_one() -> None:
    """The validator takes 0.2 s to import."""
    program = (
        "import sys, rlm_cli\nrlm_cli.ask('What is it?', 'README.md', model='offline/extractive')\n"
        "assert 'rlm_cli.schema' in sys.modules\nassert not {'jsonschema', 'referencing'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


# ── sub-calls that give values ──────────────────────────────────────────────────────────────────────────────────────


def sub_prompts(server: ScriptedServer) -> list[str]:
    return [request.prompt for request in server.requests if not is_root(request.body)]


def test_llm_query_gives_a_value(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """A dict for a JSON Schema or the short form, a list for the short form in brackets; each bends as an answer does."""
    write("a.txt", ACME)
    code_ = (
        "one = llm_query('One?', context[:50], schema={'type': 'object', 'properties': {'days': {'type': 'integer'}}})\n"
        "two = llm_query_batched(['Two?', 'Three?'], schema='[party, days int]')\n"
        "FINAL([one['days'] + 1, two[0][0]['party'], len(two[1])])"
    )
    said = {
        "One?": '{"days": "30"}', "Two?": '```json\n{"value": [{"party": "Acme", "days": 3.0}]}\n```', "Three?": "[]",
    }  # fmt: skip

    def sub(prompt: str) -> str:
        assert "satisfies this JSON Schema" in prompt
        return next(reply for mark, reply in said.items() if mark in prompt)

    with ScriptedServer(script(block(code_), sub=sub)) as server:
        code, out, err = ask(rlm, server, "--mode", "rlm", "--json", "Q?", "docs", cwd=tmp_path)
    result = result_of(out)
    assert (code, json.loads(result["answer"])) == (0, [31, "Acme", 0]), err
    assert result["subcalls"] == {"ok": 3, "failed": 0, "retried": 0}
    assert all("response_format" not in request.body for request in server.requests)


def test_a_reply_that_will_not_do_is_asked_for_once_more(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """With the error; then it is an exception with the text, and of a batch only the failed are asked again."""
    write("a.txt", ACME)
    code_ = (
        "said = []\n"
        "said.append(llm_query('mends', schema='days int'))\n"
        "try:\n    llm_query('never', schema='days int')\nexcept SubcallError as e:\n    said.append(str(e))\n"
        "try:\n    llm_query_batched(['good', 'later'], schema='days int')\n"
        "except SubcallError as e:\n    said += [_results[0], type(_results[1]).__name__]\n"
        "said.append(llm_query_batched(['good', 'later'], schema='days int'))\n"
        "FINAL(said)"
    )
    asked: dict[str, int] = {}

    def answer(request: dict[str, Any]) -> str:
        if is_root(request):
            return block(code_)
        name = str(request["messages"][0]["content"]).split()[0]
        asked[name] = asked.get(name, 0) + 1
        bad = {"mends": 1, "never": 9, "later": 2, "good": 0}[name]
        return "thirty" if asked[name] <= bad else '{"days": 30}'

    with ScriptedServer(answer) as server:
        code, out, err = ask(rlm, server, "--mode", "rlm", "--json", "Q?", "docs", cwd=tmp_path)
    result = result_of(out)
    assert code == 0, err
    one, failed, *rest = json.loads(result["answer"])
    assert one == {"days": 30}
    assert "does not satisfy the schema ($: 'thirty' is not of type 'object')" in failed
    assert failed.endswith("It was: thirty")
    assert rest == [{"days": 30}, "SubcallError", [{"days": 30}, {"days": 30}]]
    assert asked == {"mends": 2, "never": 2, "good": 1, "later": 3}
    assert "'thirty' is not of type 'object'" in sub_prompts(server)[1]
    assert result["subcalls"] == {"ok": 3, "failed": 2, "retried": 0}


def test_the_provider_holds_the_reply_to_it_where_it_can(rlm: Rlm, write: Write, tmp_path: Path) -> None:
    """`response_format` where the price map says so; a provider that refuses it is asked without, then and later."""
    write("a.txt", ACME)
    code_ = "FINAL([llm_query(f'{n}?', schema='[party]')[0]['party'] for n in range(2)])"
    refused = 0

    def answer(request: dict[str, Any]) -> str | Reply:
        nonlocal refused
        if is_root(request):
            assert "response_format" not in request
            return block(code_)
        if "response_format" in request and refusing:
            refused += 1
            return Reply("response_format is not supported here", status=400)
        return '{"value": [{"party": "Acme"}]}'

    for refusing in (False, True):
        with ScriptedServer(answer) as server:
            ran = rlm(
                "ask", "-m", "openai/gpt-4o-mini", "--mode", "rlm", "--json", "Q?", "docs",
                env=server.env | {"HOME": str(rlm.home)}, cwd=tmp_path,
            )  # fmt: skip
        result = result_of(ran.out)
        assert (ran.code, json.loads(result["answer"])) == (0, ["Acme", "Acme"]), ran.err
        forms = [request.body.get("response_format") for request in server.requests[1:]]
        if refusing:
            assert [form is not None for form in forms] == [True, False, False]
        else:
            wanted = forms[0]["json_schema"]
            assert (wanted["strict"], wanted["schema"]["required"]) == (True, ["value"])
    assert refused == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("llm_query('x', schema=5)", "TypeError: a schema is a JSON Schema"),
        ("llm_query('x', schema='a' * 20_000)", "a schema of 20,000 characters"),
        ("llm_query('x', schema='a flot')", "SubcallError: schema: field 1, 'a': there is no type 'flot'"),
        ("llm_query('x', schema={'type': 'string', 'pattern': '(a+)+$'})", "'pattern' cannot be used here"),
        ("llm_query('x', schema='../secret.json')", "is no field"),
        ("llm_query_batched(['x', 'y'], schema={'type': 'strung'})", "'strung' is no type"),
        ("rlm_query('x', schema='a')", "unexpected keyword argument 'schema'"),
    ],
)  # fmt: skip
def test_a_schema_from_code_that_is_none(rlm: Rlm, write: Write, tmp_path: Path, call: str, words: str) -> None:
    """An error in the REPL that says what is wrong; no request."""
    write("a.txt", ACME)
    tried = f"try:\n    {call}\nexcept Exception as e:\n    FINAL(f'{{type(e).__name__}}: {{e}}')"
    with ScriptedServer([block(tried)]) as server:
        code, out, err = ask(rlm, server, "--mode", "rlm", "Q?", "docs", cwd=tmp_path)
    assert code == 0, err
    assert words in out
