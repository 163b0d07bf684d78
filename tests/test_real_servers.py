"""Both ways to a model against servers that nobody here wrote: `pytest -m slow tests/test_real_servers.py`.

The proxy of litellm, with replies of its configuration; the server of llama.cpp (xllamacpp brings it ready-made) with a
model of random weights over bytes, half a megabyte, which is written on the spot. Each is installed into a virtual
environment of the test's own; where that fails the tests are skipped with what pip said.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scripted import SENTINEL_KEY

from rlm_cli.call import Completion, Message
from rlm_cli.errors import ConfigError, ModelError, RlmError
from rlm_cli.models import connect
from rlm_cli.reply import REPL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
WAYS = ("lean", "litellm")


def installed(folder: Path, *packages: str) -> Path:
    """A Python that has these packages."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    done = subprocess.run([python, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{', '.join(packages)} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
    return python


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@contextmanager
def running(command: list[str | Path], folder: Path, ready: str, **environ: str) -> Iterator[None]:
    """A server, from when it answers at `ready` on."""
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=dict(os.environ) | environ)
        try:
            until = time.monotonic() + 180
            while process.poll() is None and time.monotonic() < until:
                try:
                    urllib.request.urlopen(ready, timeout=2).close()
                    break
                except OSError:
                    time.sleep(0.3)
            else:
                pytest.skip("the server did not start: " + (folder / "log").read_text()[-300:])
            yield
        finally:
            process.terminate()
            process.wait()


def ask(base: str, way: str, *messages: Message, model: str = "openai/tiny", key: str = SENTINEL_KEY) -> Completion:
    async def main() -> Completion:
        table = {"model": model, "api_base": base, "key": {"env": "KEY"}}
        there = connect("mine", models={"mine": table}, keys={}, environ={"KEY": key}, transport=way)
        try:
            return await there.complete(messages, max_output_tokens=8, sub=True)
        finally:
            await there.close()

    return asyncio.run(main())


def failure(base: str, way: str, *messages: Message, model: str = "openai/tiny", key: str = SENTINEL_KEY) -> RlmError:
    with pytest.raises(RlmError) as caught:
        ask(base, way, *messages, model=model, key=key)
    assert SENTINEL_KEY[:12] not in f"{caught.value!r} {caught.value.why} {caught.value.hint}"
    return caught.value


HI = Message("user", "hi")
PROXY = f"""
model_list:
  - model_name: tiny
    litellm_params: {{model: openai/tiny, api_key: none, mock_response: "It is thirty days."}}
  - model_name: busy
    litellm_params: {{model: openai/busy, api_key: none, mock_response: "litellm.RateLimitError"}}
litellm_settings: {{num_retries: 0, telemetry: false}}
router_settings: {{num_retries: 0, disable_cooldowns: true}}
general_settings: {{master_key: {SENTINEL_KEY}}}
"""


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("proxy")
    python = installed(folder / "venv", "litellm[proxy]")
    (folder / "config.yaml").write_text(PROXY)
    port = free_port()
    command = [python.with_name("litellm"), "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with running(command, folder, f"http://127.0.0.1:{port}/health/liveliness", **environ):
        yield f"http://127.0.0.1:{port}/v1"


@pytest.mark.parametrize("way", WAYS)
def test_the_proxy_of_litellm(proxy: str, way: str) -> None:
    """A reply with usage; a model it does not have and a rate limit are what they are. A wrong key it calls a lost
    database, with a 400: that ends the call, and shows no key."""
    completion = ask(proxy, way, HI)
    assert (completion.text, completion.finish_reason) == ("It is thirty days.", "stop")
    assert completion.usage.input_tokens > 0
    assert ask(proxy, way, HI, model="litellm_proxy/tiny").text == "It is thirty days."
    wrong = failure(proxy, way, HI, key=SENTINEL_KEY + "x")
    assert isinstance(wrong, ConfigError) or (isinstance(wrong, ModelError) and not wrong.retriable)
    assert "no such model" in failure(proxy, way, HI, model="openai/nobody").message
    busy = failure(proxy, way, HI, model="openai/busy")
    assert isinstance(busy, ModelError)
    assert busy.retriable
    assert busy.message == "mine: rate limit"


TINY = """
import sys
import gguf, numpy as np
width, hidden, heads, layers = 64, 128, 4, 2
w = gguf.GGUFWriter(sys.argv[1], "llama")
w.add_context_length(4096); w.add_embedding_length(width); w.add_block_count(layers)
w.add_feed_forward_length(hidden); w.add_head_count(heads); w.add_head_count_kv(heads)
w.add_layer_norm_rms_eps(1e-5); w.add_rope_dimension_count(width // heads); w.add_vocab_size(259)
kind = gguf.TokenType
w.add_tokenizer_model("llama")
w.add_token_list([b"<unk>", b"<s>", b"</s>"] + [f"<0x{n:02X}>".encode() for n in range(256)])
w.add_token_scores([0.0] * 259)
w.add_token_types([kind.UNKNOWN, kind.CONTROL, kind.CONTROL] + [kind.BYTE] * 256)
w.add_bos_token_id(1); w.add_eos_token_id(2); w.add_unk_token_id(0)
random = np.random.default_rng(7)
def put(name, *shape):
    data = np.ones(shape) if len(shape) == 1 else random.normal(0, 0.1, shape)
    w.add_tensor(name + ".weight", data.astype(np.float32))
put("token_embd", 259, width); put("output_norm", width); put("output", 259, width)
for n in range(layers):
    for name in ("attn_norm", "ffn_norm"):
        put(f"blk.{n}.{name}", width)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        put(f"blk.{n}.{name}", width, width)
    put(f"blk.{n}.ffn_gate", hidden, width); put(f"blk.{n}.ffn_up", hidden, width); put(f"blk.{n}.ffn_down", width, hidden)
w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
"""
SERVE = """
import sys, time
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.hostnames, params.port = sys.argv[1], ["127.0.0.1"], int(sys.argv[2])
params.n_ctx, params.n_parallel, params.warmup = 4096, 1, False
server = xllamacpp.Server(params)
while True:
    time.sleep(1)
"""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("llama")
    python = installed(folder / "venv", "xllamacpp", "gguf")
    subprocess.run([python, "-c", TINY, folder / "tiny.gguf"], check=True)
    port = free_port()
    command: list[str | Path] = [python, "-c", SERVE, folder / "tiny.gguf", str(port)]
    with running(command, folder, f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}/v1"


@pytest.mark.parametrize("way", WAYS)
def test_the_server_of_llama_cpp(llama: str, way: str) -> None:
    """Noise, but noise with a length and a usage; functions are taken; a text that is too long is said to be."""
    completion = ask(llama, way, HI)
    assert completion.finish_reason == "length"
    assert (completion.usage.output_tokens, completion.usage.input_tokens > 8) == (8, True)
    offered = ask(llama, way, Message("system", "s", tools=(REPL,)), HI)
    assert offered.usage.input_tokens > completion.usage.input_tokens
    error = failure(llama, way, Message("user", "word " * 6_000))
    assert isinstance(error, ModelError)
    assert error.too_long
