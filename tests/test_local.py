"""`--local`: nothing leaves this machine, by whatever way, through litellm too."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from scripted import SENTINEL_KEY, ScriptedServer

from rlm_cli import prepare
from rlm_cli.call import Completion, Message
from rlm_cli.errors import ConfigError
from rlm_cli.models import OFFLINE, connect
from rlm_cli.models.connection import Surroundings, resolve
from rlm_cli.settings import Settings

HERE = "http://127.0.0.1:9/v1"
MINE = {"mine": {"model": "openai/x", "api_base": HERE}}


def once(name: str, models: dict[str, Any], environ: dict[str, str]) -> Completion:
    async def main() -> Completion:
        model = connect(name, models=models, keys={}, environ=environ, local=True)
        try:
            return await model.complete([Message("user", "hi")], max_output_tokens=9, sub=False)
        finally:
            await model.close()

    return asyncio.run(main())


def test_every_model_of_a_run_is_held_here() -> None:
    """Root, sub and those that code may name: one that is elsewhere ends the run before anything is sent."""
    keyed = {"OPENAI_API_KEY": SENTINEL_KEY}
    own = Settings(model="mine", local=True, models=MINE)
    assert prepare.connect_models(prepare.Job("q", (), own, environ=keyed)).root.endpoint == "127.0.0.1:9"
    for more in ({"model": "openai/gpt-5"}, {"sub_model": "openai/gpt-5"}, {"subcall_models": ("openai/gpt-5",)}):
        elsewhere = Settings(**({"model": "mine", "local": True, "models": MINE} | more))
        with pytest.raises(ConfigError, match="--local: openai/gpt-5 is not on this machine"):
            prepare.connect_models(prepare.Job("q", (), elsewhere, environ=keyed))
    assert connect(OFFLINE, models={}, keys={}, environ={}, local=True).endpoint is None
    with pytest.raises(ConfigError, match="--local"):  # what a key alone would choose
        prepare.connect_models(prepare.Job("q", (), Settings(local=True), environ=keyed))


@pytest.mark.parametrize(
    ("base", "held"),
    [
        ("http://localhost:9/v1", "http://localhost:9/v1"),
        ("https://localhost:9/v1", "https://localhost:9/v1"),
        ("http://[::1]:9/v1", "http://[::1]:9/v1"),
        ("http://2130706433:9/v1", "http://127.0.0.1:9/v1"),  # a name to urllib, a number to the resolver
        ("http://0x7f.1:9/v1", "http://127.0.0.1:9/v1"),
        ("https://2130706433:9/v1", None),
        ("http://0.0.0.0:9/v1", None),
        ("http://[::ffff:10.0.0.1]:9/v1", None),
        ("http://no-such-host.invalid:9/v1", None),
    ],
)
def test_a_name_is_looked_up_once(base: str, held: str | None) -> None:
    """What was found to be loopback is where the request goes: a second look-up could say another place."""
    around = Surroundings({"mine": {"model": "openai/x", "api_base": base}}, {}, (), True, {})
    if held is None:
        with pytest.raises(ConfigError, match="--local"):
            resolve("mine", around)
    else:
        assert resolve("mine", around).api_base == held


@pytest.mark.parametrize(
    "option", ["custom_llm_provider=openai", "use_litellm_proxy=true", "base_url=http://x", "model_list=[]"]
)
def test_no_option_leads_elsewhere(option: str) -> None:
    """litellm has arguments that send a request to somebody else."""
    with pytest.raises(ConfigError, match="is no option of a model"):
        resolve("mine", Surroundings(MINE, {}, (option,), True, {}))


@pytest.mark.parametrize("name", ["openai/x", "hosted_vllm/x", "llamafile/x"])
def test_proxies_see_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes to this machine goes there at once, whatever proxy the environment names, litellm's own included."""
    with ScriptedServer(["straight"]) as server, ScriptedServer([]) as proxy:
        for variable in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.port}")
        for variable in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(variable, "")
        monkeypatch.setenv("USE_LITELLM_PROXY", "True")
        monkeypatch.setenv("LITELLM_PROXY_API_BASE", f"http://127.0.0.1:{proxy.port}")
        assert once("mine", {"mine": {"model": name, "api_base": server.base_url}}, {}).text == "straight"
        assert (len(server.requests), proxy.connections) == (1, 0)
