"""What a provider's failure means, by class: who is at fault, what to try, whether to ask again; the key in none."""

from __future__ import annotations

import asyncio
import email.utils
import json
from dataclasses import dataclass
from typing import Any

import pytest
from scripted import SENTINEL_KEY, Reply, ScriptedServer

from rlm_cli.call import Message
from rlm_cli.errors import ConfigError, ModelError, RlmError, UnknownModel
from rlm_cli.ledger import Usage
from rlm_cli.models import connect
from rlm_cli.models.waits import asked_to_wait

GEMINI_DAY = (
    '{"error": {"code": 429, "message": "You exceeded your current limit", "details": [{"quotaId":'
    ' "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}, {"retryDelay": "31s"}]}}'
)
TOO_LONG = "This model's maximum context length is 128000 tokens. However, your messages resulted in 214748 tokens."


@dataclass(frozen=True, slots=True)
class Class:
    """One class of failures: how the server shows it, and what must come of it."""

    reply: Reply
    says: str
    kind: type[RlmError] = ModelError
    exit_code: int = 5
    traits: tuple[str, ...] = ()
    """Attributes of the error that are true; all others of the list are false."""


TRAITS = ("retriable", "terminal", "too_long", "rate", "overload", "cut_short")
CLASSES = {
    "wrong key": Class(Reply(f"Incorrect API key: {SENTINEL_KEY}", 401), "API key", ConfigError, 3),
    "no right": Class(Reply(f"Key {SENTINEL_KEY[:9]}… may not", 403), "API key", ConfigError, 3),
    "no quota": Class(
        Reply("You exceeded your current quota", 429, message={"code": "insufficient_quota"}),
        "no credit",
        traits=("terminal",),
    ),
    "no money": Class(Reply("Insufficient Balance", 402), "no credit", traits=("terminal",)),
    "quota of the day": Class(
        Reply(status=429, body=GEMINI_DAY.replace("limit", "allowance").encode()), "of the day", traits=("terminal",)
    ),
    "unknown model": Class(Reply("The model `x` does not exist", 404), "no such model", UnknownModel, 3),
    "too long": Class(
        Reply(TOO_LONG, 400, message={"code": "context_length_exceeded"}), "272,000 tokens", traits=("too_long",)
    ),
    "too large": Class(Reply("payload", 413), "272,000 tokens", traits=("too_long",)),
    "more than a minute may": Class(
        Reply("Request too large for x: Limit 10000, Requested 12345", 429), "too long", traits=("too_long",)
    ),
    "content filter": Class(
        Reply("The response was filtered by the content management policy", 400, message={"code": "content_filter"}),
        "refused to answer",
    ),
    "filtered reply": Class(Reply("", finish_reason="content_filter"), "refused to answer"),
    "options": Class(Reply("temperature must be below 2", 400), "the request was refused (400)"),
    "rate limit": Class(
        Reply("slow down", 429, {"Retry-After": "7"}), "rate limit", traits=("retriable", "rate", "overload")
    ),
    "overloaded": Class(Reply("Overloaded", 529), "529", traits=("retriable", "overload")),
    "unavailable": Class(Reply("no", 503), "503", traits=("retriable", "overload")),
    "server error": Class(Reply(f"oops {SENTINEL_KEY}", 500), "500", traits=("retriable",)),
    "bad gateway": Class(Reply("no", 502), "502", traits=("retriable",)),
    "timeout of its own": Class(Reply("late", 504), "504", traits=("retriable",)),
    "hung up": Class(Reply(cut="closed"), "closed before a reply", traits=("retriable",)),
    "cut in mid-body": Class(Reply("x" * 1_000, cut="body"), "broke off", traits=("retriable", "cut_short")),
    "no JSON": Class(Reply(body=b"<html>"), "no JSON", traits=("retriable", "cut_short")),
    "no choices": Class(Reply(top={"choices": []}), "without choices", traits=("retriable",)),
}


def failure(reply: Reply, transport: str = "auto") -> RlmError:
    async def main(base_url: str) -> None:
        environ = {"OPENAI_API_KEY": SENTINEL_KEY, "OPENAI_API_BASE": base_url}
        model = connect("openai/gpt-5.4-mini", models={}, keys={}, environ=environ, transport=transport)
        try:
            await model.complete([Message("user", "hi")], max_output_tokens=9, sub=False)
        finally:
            await model.close()

    with ScriptedServer([reply]) as server, pytest.raises(RlmError) as caught:
        asyncio.run(main(server.base_url))
    assert len(server.requests) == 1
    return caught.value


@pytest.mark.parametrize("transport", ["lean", "litellm"])
@pytest.mark.parametrize("name", CLASSES)
def test_classes_of_failures(name: str, transport: str) -> None:
    """Each is told in three parts, has the exit code of who is at fault, and says whether another try makes sense."""
    wanted = CLASSES[name]
    error = failure(wanted.reply, transport)
    assert type(error) is wanted.kind
    assert error.exit_code == wanted.exit_code
    assert wanted.says in error.message
    assert error.why
    assert error.hint
    said = f"{error!r} {error} {error.why} {error.hint} {error.__cause__!r} {error.__context__!r}"
    assert SENTINEL_KEY[:9] not in said
    assert tuple(trait for trait in TRAITS if getattr(error, trait, False)) == wanted.traits


@pytest.mark.parametrize(
    ("headers", "said", "seconds"),
    [
        ({"retry-after": "7"}, "", 7),
        ({"retry-after": "0.5"}, "", 0.5),
        ({"retry-after": email.utils.formatdate(1_000_042, usegmt=True)}, "", 42),
        ({"retry-after": email.utils.formatdate(5, usegmt=True)}, "", 0),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after-ms": "1500", "retry-after": "2"}, "", 1.5),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m30s"}, "", 90),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, "", 0.02),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "1m30s"}, "", None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "whenever"}, "", None),
        ({}, json.dumps({"details": [{"retryDelay": "31.5s"}]}), 31.5),
        ({}, "Rate limit reached. Please try again in 7m12.5s. Visit …", 432.5),
        ({}, "Please try again in 250ms.", 0.25),
        ({}, "Please try again in a while.", None),
        ({"retry-after": "9" * 400}, "", None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], said: str, seconds: float | None) -> None:
    """Seconds, a date, milliseconds, the reset of what is used up, and what stands in the body; else nothing."""
    assert asked_to_wait(headers, said, 1_000_000) == (None if seconds is None else pytest.approx(seconds))


def test_what_a_useless_reply_cost_is_known() -> None:
    """A filtered reply was billed; its usage is on the failure."""
    usage: dict[str, Any] = {"prompt_tokens": 100, "completion_tokens": 9, "total_tokens": 109}
    error = failure(Reply("", finish_reason="content_filter", usage=usage))
    assert isinstance(error, ModelError)
    assert error.usage == Usage(100, 9)
