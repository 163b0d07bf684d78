"""`rlm help TOPIC`: pages made of the tables, and a schema that real results keep."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any

import pytest
from conftest import Rlm

from rlm_cli.cli.commands import TOPICS, exit_codes, variables
from rlm_cli.cli.topics import LEVELS, SANDBOXES
from rlm_cli.result import Compared, Result
from rlm_cli.result_schema import result_schema
from rlm_cli.sandbox import KERNEL_ENFORCED, LOCKDOWNS
from rlm_cli.settings import Settings, spelling_of, variable


def page(rlm: Rlm, topic: str) -> str:
    ran = rlm("help", topic)
    assert (ran.code, ran.err) == (0, "")
    assert all(len(line) <= 100 for line in ran.out.splitlines())
    return " ".join(ran.out.split())


def test_every_topic_is_listed_and_has_a_page(rlm: Rlm) -> None:
    """`rlm help` names them; each fits a terminal."""
    listed = rlm("help")
    assert listed.code == 0
    for topic, what in TOPICS:
        assert re.search(rf"^  {topic} +{re.escape(what)}$", listed.out, re.MULTILINE)
        assert page(rlm, topic)


def test_the_tables_are_whole(rlm: Rlm) -> None:
    """Every exit code, every variable, every setting without a flag, every sandbox and level."""
    codes, environment, config, sandbox = (
        page(rlm, topic) for topic in ("exit-codes", "environment", "config", "sandbox")
    )
    assert all(f"{code} {meaning}" in codes for code, meaning in exit_codes())
    assert all(name in environment for name, _ in variables())
    for field in fields(Settings):
        spelling = spelling_of(field.name)
        if spelling.configurable and spelling.kind != "table":
            assert variable(field.name) in environment
        if not spelling.flags:
            assert f" {field.name} " in config
    assert {name for name, _ in SANDBOXES} == set(LOCKDOWNS) - {"auto"}
    assert [name for name, _ in LEVELS][:3] == list(KERNEL_ENFORCED)
    for told in ("uname", "processors", "parent's process id", "no quota", "bugs of the kernel", "Never run on a Mac"):
        assert told in sandbox


def test_results_keep_the_schema(rlm: Rlm) -> None:
    """The schema is that of real results, of an answer as of errors early and late, and no key is unknown to it."""
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    printed = json.loads(rlm("help", "output").out)
    assert printed == result_schema()
    validator.check_schema(printed)
    strict = validator(closed(printed))
    (rlm.home / "d.txt").write_text("The notice period is thirty days.\n", encoding="utf-8")
    asked = ("ask", "--json", "-m", "offline/extractive", "--mode", "rlm", "What is the notice period?")
    for words in ((*asked, "d.txt"), (*asked, "none.txt"), (*asked, "--timeout", "soon", "d.txt")):
        strict.validate(json.loads(rlm(*words).out))
    strict.validate(Result("").to_json())
    compared = Compared(asked=3, answered=2, agreeing=2, groups=[["0.1", "0.3"]], chosen="0.1")
    strict.validate(Result("", samples=compared).to_json())


def closed(schema: Any) -> Any:
    """The same, with nothing allowed that it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    more = {"additionalProperties": False} if "properties" in schema and schema.get("type") == "object" else {}
    return {key: closed(value) for key, value in schema.items()} | more
