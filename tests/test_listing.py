"""`rlm models`: what can be used here, servers that answer on this machine, one tiny call."""

from __future__ import annotations

import json
import os
import shlex
import socket
import tomllib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Rlm
from scripted import SENTINEL_KEY, Reply, ScriptedServer

from rlm_cli import models, prepare
from rlm_cli.cli.configuration import resolve
from rlm_cli.cli.doctor import _servers
from rlm_cli.cli.listing import models as command
from rlm_cli.errors import ConfigError
from rlm_cli.models import OFFLINE, catalog
from rlm_cli.models.addresses import address_in
from rlm_cli.models.servers import KINDS, NOBODY, Server, ollama_window, read_models, running
from rlm_cli.settings import Settings

NOWHERE = dict.fromkeys(
    ("OLLAMA_API_BASE", "LM_STUDIO_API_BASE", "LLAMAFILE_API_BASE", "HOSTED_VLLM_API_BASE"), "http://127.0.0.1:9/v1"
)
"""No server of the machine the tests run on."""
KEYS = {name for provider in catalog.PROVIDERS for name in provider.variables}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment without keys, servers and configuration, and a file for one."""
    for name in KEYS | {"OLLAMA_HOST", "CI", "OPENAI_API_BASE", "RLM_MODEL"}:
        monkeypatch.delenv(name, raising=False)
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rlm_cli.models.servers.PROBE_S", 10.0)  # the machine the tests run on may be busy
    file = tmp_path / "own.toml"
    file.write_text("")
    return file


def listed(
    file: Path, capsys: pytest.CaptureFixture[str], *words: str, **options: Any
) -> tuple[int, dict[str, Any], str]:
    """The exit code, the object of --json, and stderr."""
    code = command(list(words), {"config_file": str(file), "json": True} | options)
    said = capsys.readouterr()
    assert SENTINEL_KEY not in said.out + said.err
    found: dict[str, Any] = json.loads(said.out)
    return code, found, said.err


def shown(file: Path, capsys: pytest.CaptureFixture[str], *words: str, **options: Any) -> str:
    command(list(words), {"config_file": str(file)} | options)
    said = capsys.readouterr()
    assert SENTINEL_KEY not in said.out + said.err
    return said.out


def test_the_object_has_every_key(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`rlm.models/1` has the same keys whatever is known, and those that `rlm help models` lists."""
    from rlm_cli.cli.topics import LISTED

    code, found, _ = listed(here, capsys)
    assert (code, found["schema"]) == (0, "rlm.models/1")
    assert [name.removesuffix("[]") for name, _ in LISTED] == list(found)
    assert found["default"] == {
        "name": OFFLINE,
        "sub": OFFLINE,
        "origin": "no model being configured",
        "fallback": True,
    }
    assert [entry["name"] for entry in found["models"]] == [OFFLINE]
    explained = next(text for name, text in LISTED if name == "models[]")
    assert all(key in explained for key in found["models"][0])
    assert (found["servers"], found["check"]) == ([], None)
    assert {p["provider"] for p in found["without_key"]} == {p.name for p in catalog.PROVIDERS if p.root}


def resolve_one(name: str) -> models.Model:
    return models.connect(name, models={}, keys={}, environ={"GROQ_API_KEY": SENTINEL_KEY})


def test_keys_are_told_by_their_place(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By variable or place in the configuration; a command that prints one is not run to list; what would answer is first."""
    mark = tmp_path / "was-run"
    here.write_text(
        f"""
        [keys]
        groq = {{ command = "touch {mark}" }}
        deepseek = {{ env = "NOT_SET" }}
        [models.mine]
        model = "openai/x"
        api_base = "http://127.0.0.1:9/v1"
        key = {{ command = "touch {mark}" }}
        window = 5000
        price = {{ input = 1, output = 2.5 }}
        """
    )
    monkeypatch.setenv("MISTRAL_API_KEY", SENTINEL_KEY)
    _, found, _ = listed(here, capsys)
    entries = {entry["name"]: entry for entry in found["models"]}
    groq, mine = entries["groq/openai/gpt-oss-120b"], entries["mine"]
    assert groq["key"] == {"present": True, "origin": "[keys] groq", "needed": True}
    assert (mine["key"]["origin"], mine["window"], mine["price"]["output"]) == ("[models.mine] key", 5000, 2.5)
    assert (mine["transport"], groq["transport"]) == ("lean", resolve_one("groq/openai/gpt-oss-120b").transport)
    assert entries["mistral/mistral-large-latest"]["key"]["origin"] == "MISTRAL_API_KEY"
    assert (mine["tools"], mine["schema"], mine["reasoning"], groq["tools"]) == (None, None, None, True)
    assert all(entries[name]["usable"] for name in ("mine", "mistral/mistral-large-latest", OFFLINE))
    assert not mark.exists()
    lost = entries["deepseek/deepseek-v4-pro"]
    assert (lost["usable"], lost["key"]["present"], lost["window"] is None) == (False, False, False)
    assert "NOT_SET" in lost["problem"]["message"]
    assert found["default"]["name"] == found["models"][0]["name"] == "groq/openai/gpt-oss-120b"
    out = shown(here, capsys)
    assert "rlm ask uses groq/openai/gpt-oss-120b, because of [keys] groq in the configuration" in out
    assert "cannot be used: [keys] deepseek" in out


def test_one_model_in_full(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of it, also when it cannot be used; then why, as `rlm ask` would say it, and exit 3."""
    code, found, err = listed(here, capsys, "anthropic/claude-sonnet-4-6")
    (entry,) = found["models"]
    assert (code, entry["usable"], entry["problem"]["why"]) == (3, False, "ANTHROPIC_API_KEY is not set")
    assert entry["window"] >= 200_000
    assert entry["price"]["output"] > entry["price"]["input"] > entry["price"]["cached"] > 0
    assert "export ANTHROPIC_API_KEY" in err
    monkeypatch.setenv("ANTHROPIC_API_KEY", SENTINEL_KEY)
    assert listed(here, capsys, "anthropic/claude-sonnet-4-6")[0] == 0
    assert "rlm ask -m anthropic/claude-sonnet-4-6" in shown(here, capsys, "anthropic/claude-sonnet-4-6")
    code, found, err = listed(here, capsys, "antropic/x\x1b]0;t\x07")
    assert (code, found["models"][0]["window"]) == (3, None)
    assert "anthropic/x" in err
    assert "\x1b" not in err


def test_a_configured_model_that_cannot_be_used_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A listing is no failure: it says what is wrong with what was configured."""
    here.write_text('model = "openai/gpt-5.4-mini"\n')
    code, found, _ = listed(here, capsys)
    assert (code, found["models"][0]["usable"], found["default"]["fallback"]) == (0, False, False)
    assert "which cannot be used: no API key for openai/gpt-5.4-mini" in shown(here, capsys)


def test_which_model(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--model, RLM_MODEL, the configuration, the first provider with a key, offline/extractive: each before the next."""

    def chosen(flags: Mapping[str, str]) -> tuple[str, str]:
        resolved = resolve(flags, config_file=str(here))
        s = resolved.settings
        found = models.choose(s.model, resolved.origins["model"], os.environ, keys=s.keys)
        return found.name, found.origin

    assert chosen({}) == (OFFLINE, "no model being configured")
    monkeypatch.setenv("GROQ_API_KEY", SENTINEL_KEY)
    assert chosen({})[1] == "GROQ_API_KEY in the environment"
    monkeypatch.setenv("ANTHROPIC_API_KEY", SENTINEL_KEY)  # earlier in the documented table
    assert chosen({})[1] == "ANTHROPIC_API_KEY in the environment"
    here.write_text('model = "a/file"')
    assert chosen({}) == ("a/file", str(here))
    monkeypatch.setenv("RLM_MODEL", "a/variable")
    assert chosen({}) == ("a/variable", "RLM_MODEL")
    assert chosen({"model": "a/flag"}) == ("a/flag", "--model")


def test_an_answer_relied_on_unseen_comes_of_a_model_that_was_named() -> None:
    """-e, --strict and --schema refuse the last resort as CI and --json do; naming it is fine."""
    for asked in ({"exit_status": True}, {"strict": True}, {"schema": "party"}, {}):
        for named in (None, OFFLINE):
            job = prepare.Job("q", (), Settings(model=named, **asked), environ={}, careful=not asked)
            if named is None:
                with pytest.raises(ConfigError, match="no model is configured"):
                    prepare.connect_models(job)
            else:
                assert not prepare.connect_models(job).fallback


def test_asking_looks_for_no_server(rlm: Rlm) -> None:
    """It would hand documents to whatever listens there, even where the environment says where that is."""
    with ScriptedServer([]) as server:
        done = rlm("ask", "Where is it?", stdin="It is here.\n", env=dict(at(server.base_url)))
        assert (done.code, server.connections) == (0, 0)
    assert "no language model" in done.err


def test_the_documented_table_is_the_one_that_decides() -> None:
    """`rlm help models` and the manual name every default model of every provider."""
    from rlm_cli.cli.manual import page
    from rlm_cli.cli.topics import _models

    for told in ("\n".join(_models()), page().replace("\\-", "-")):
        for provider in catalog.PROVIDERS:
            names = (provider.root, provider.sub, *provider.variables[: provider.root is not None])
            assert all(name in told for name in names if name)


# ── servers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def answering(*rows: Any) -> list[str] | None:
    found = read_models({"data": list(rows)})
    return None if found is NOBODY else [served.name for served in found]


def test_what_a_server_lists_is_read_with_care() -> None:
    """Both spellings; names that no line can hold are left out, and so is what lists nothing."""
    assert answering({"id": "a"}, {"id": "b c"}, {"id": "a"}) == ["a", "b c"]
    assert (
        answering({"id": "a\x1b[2J"}, {"id": "b\n"}, {"id": ""}, {"id": " "}, {"id": 7}, {}, "x", {"id": "x" * 999})
        == []
    )
    assert len(answering(*({"id": str(n)} for n in range(1_000))) or ()) == 200
    assert [m.name for m in read_models({"models": [{"name": "q:8b", "model": "q:8b"}]})] == ["q:8b"]
    for listed in (None, [], "x", {}, {"data": "x"}, {"data": {}}, {"error": "no"}):
        assert read_models(listed) is NOBODY
    for row, window in (
        ({"id": "a", "max_model_len": 4096}, 4096),
        ({"id": "a", "meta": {"n_ctx": 512}}, 512),
        ({"id": "a", "max_model_len": "big", "meta": 3}, None),
        ({"id": "a", "max_model_len": True}, None),
    ):
        assert read_models({"data": [row]})[0].window == window


def at(base: str, *, kind: int = 1) -> Mapping[str, str]:
    names = ("OLLAMA_API_BASE", "LM_STUDIO_API_BASE", "LLAMAFILE_API_BASE", "HOSTED_VLLM_API_BASE")
    return NOWHERE | {names[kind]: base}


def test_whoever_does_not_answer_in_time_is_left_out() -> None:
    """A port that takes the connection and says nothing costs the limit and no more; a key that is wanted is said."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent, ScriptedServer([]) as server:
        environ = NOWHERE | {
            "OLLAMA_API_BASE": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "LM_STUDIO_API_BASE": server.base_url,
            "HOSTED_VLLM_API_BASE": "no address",
            "LLAMAFILE_API_BASE": "http://[::1",
        }
        (found,) = running(environ, seconds=2)
    assert (found.kind.name, found.address, [m.name for m in found.models or ()]) == (
        "LM Studio",
        server.base_url,
        ["scripted"],
    )
    assert running(NOWHERE) == []


def test_what_an_ollama_could_do(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model in full says what window it was made for, and the configuration that uses it, which does."""
    shows = json.dumps({"model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40_960}}).encode()
    with ScriptedServer(lambda request: Reply(body=shows)) as server:
        monkeypatch.setenv("OLLAMA_API_BASE", f"http://127.0.0.1:{server.port}")
        out = shown(here, capsys, "ollama_chat/scripted")
        for broken in (b"", b"[]", b'{"model_info": 7}', b'{"model_info": {"a.context_length": "x"}}'):
            shows = broken
            assert ollama_window(f"http://127.0.0.1:{server.port}", "scripted") is None
    assert "40,960 tokens are possible" in out
    lines = out.partition("[models.mine]")[2].partition("and then")[0]
    tables = tomllib.loads("[models.mine]" + lines)["models"]
    model = models.connect("mine", models=tables, keys={}, environ={})
    assert (model.window, model.endpoint) == (40_960, f"127.0.0.1:{server.port}")


def test_where_ollama_is() -> None:
    """`OLLAMA_HOST` as Ollama's own client reads it; what litellm knows goes first."""
    ollama = catalog.provider("ollama_chat")
    assert ollama is not None
    for said, address in (
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":5000", "http://127.0.0.1:5000"),
        ("[::]:5000", "http://[::1]:5000"),
        ("https://gpu.example", "https://gpu.example:443"),
        ("http://box:5000/", "http://box:5000"),
    ):
        assert address_in({"OLLAMA_HOST": said}, ollama) == address
    assert address_in({"OLLAMA_HOST": "a", "OLLAMA_API_BASE": "http://b"}, ollama) == "http://b"
    with pytest.raises(ConfigError, match="OLLAMA_HOST"):
        address_in({"OLLAMA_HOST": "box:port"}, ollama)
    assert (
        models.connect("ollama_chat/x", models={}, keys={}, environ={"OLLAMA_HOST": "0.0.0.0:77"}).endpoint
        == "127.0.0.1:77"
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_line_to_copy_can_be_used(kind: Any) -> None:
    """Whatever the server and its model are called: the line names it, address included, and nothing else."""
    server = Server(kind, "http://127.0.0.1:77/v1", False, ())
    for name in ("qwen3:8b", "Qwen/Qwen3 8B", "it's $HOME; `x`"):
        (served,) = read_models({"data": [{"id": name}]})
        *before, program, ask, flag, full = shlex.split(server.words(served))
        assert (program, ask, flag, full) == ("rlm", "ask", "-m", f"{kind.provider}/{name}")
        environ = dict(word.split("=", 1) for word in before)
        model = models.connect(full, models={}, keys={}, environ=environ, local=True)
        assert (model.endpoint == "127.0.0.1:77") == kind.named_address


def test_a_server_that_answers_is_listed_and_its_line_works(
    rlm: Rlm, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The line of the listing, typed as it stands, is answered by that server."""
    (tmp_path / "a.txt").write_text("The pump was built in Leeds.")
    with ScriptedServer(lambda request: "Leeds [1].\n\n> The pump was built in Leeds.") as server:
        found = replace(running(at(server.base_url, kind=3))[0], given=False)
        assert found.models is not None
        *before, _, ask, flag, name = shlex.split(found.words(found.models[0]))
        environ = {"OPENAI_API_BASE": "http://127.0.0.1:9"} | dict(word.split("=", 1) for word in before)
        done = rlm(ask, flag, name, "Where was it built?", str(tmp_path / "a.txt"), env=environ)
        assert (done.code, done.out.partition("\n")[0]) == (0, "Leeds [1].")
        for word, value in at(server.base_url, kind=3).items():
            monkeypatch.setenv(word, value)
        assert "vLLM answers at" in shown(here, capsys)
        assert [finding.text for finding in _servers(Settings())] == [
            f'vLLM answers at {server.base_url} · rlm ask -m hosted_vllm/scripted "QUESTION" FILE · rlm models lists the'
            " others"
        ]


def test_check(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One call with a bounded reply, its ceiling said before; usage and cost after; 5 when the provider fails, 3 for a key."""
    with ScriptedServer(["yes", Reply("down", 500), Reply(f"Incorrect API key {SENTINEL_KEY}", 401)]) as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", SENTINEL_KEY)
        code, found, err = listed(here, capsys, "openai/gpt-4o-mini", check=True)
        check = found["check"]
        assert (code, check["ok"], check["usage"]["output_tokens"] > 0, check["cost_usd"] > 0) == (0, True, True, True)
        assert "at most" in err
        assert server.requests[0].body["max_tokens"] <= 64
        for expected in (5, 3):
            code, found, err = listed(here, capsys, "openai/gpt-4o-mini", check=True)
            assert (code, found["check"]["ok"], found["check"]["error"]["message"] != "") == (expected, False, True)
        assert len(server.requests) == 3
    code, found, err = listed(here, capsys, "openai/gpt-4o-mini", check=True)
    assert (code, found["check"]["error"]["code"]) == (5, "model")
