"""What a provider's failure means: whose fault it is, whether to try again, and when. Read by class, status and words.

litellm flattens failures: OpenAI's `insufficient_quota` and a rate limit are both a 429 of one class, a cut connection
is a 500, a 422 says it is a 400. So status comes first and words decide what status cannot; the words are those of the
large providers and are confessed here. Nothing in a message may contain the key: providers echo it, in part too.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import time
from collections.abc import Iterator
from typing import Any

from ..errors import ConfigError, ModelError, RlmError, UnknownModel
from ..schema import Schema
from .connection import NO_KEY, Connection
from .keys import scrub
from .waits import asked_to_wait

LONGEST_QUOTE = 400
"""Characters of a provider's own words that are shown."""

_QUOTA = re.compile(
    r"insufficient_quota|exceeded your current quota|credit balance|insufficient (?:balance|credits|funds)"
    r"|billing|payment required|more credits",
    re.IGNORECASE,
)
_TOO_LONG = re.compile(
    r"context_length_exceeded|context (?:length|window|size)|maximum context|prompt is too long|too many tokens"
    r"|input is too long|exceeds? the (?:maximum|limit).{0,40}tokens|request too large",
    re.IGNORECASE,
)
_NEVER_FITS = re.compile(r"request too large", re.IGNORECASE)
"""A 429 that waiting does not mend: one request has more tokens than a minute may."""
_OF_THE_DAY = re.compile(r"PerDay|per-day|daily (?:limit|quota)", re.IGNORECASE)
"""Gemini says "retry in 30 s" with it all the same."""
_FILTERED = re.compile(r"content_filter|content (?:management )?policy|safety (?:system|settings)", re.IGNORECASE)
_NO_KEY = re.compile(
    r"api[_ ]?key.{0,60}(?:must be set|missing|not (?:set|provided|found))|missing.{0,20}api[_ ]?key|no api key",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"model.{0,80}(?:not found|not exist)|unknown model|no such model|invalid model name|LLM Provider NOT provided",
    re.IGNORECASE,
)
_WRAPPING = re.compile(r"^(?:(?:litellm\.)?\w+(?:Error|Timeout)\s*:\s*|Timeout Error:\s*|\w+(?:Exception|Error) - )")
_BILLING = "look at the provider's billing page"
_SPELLING = "look at how the provider spells its models"
_OPTIONS = "look at --option and the options of [models.NAME]"
_ELSEWHERE = "ask in other words, or another model: --model, or fallback in the configuration"
_HUNG_UP = frozenset({"ReadError", "WriteError", "RemoteProtocolError", "ServerDisconnectedError", "ClientOSError"})
"""Classes of httpx and aiohttp; litellm makes a 500 of them."""
_RETRIABLE = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_OVERLOAD = frozenset({503, 529})


def translate(error: BaseException, connection: Connection) -> RlmError:
    """The error a user, and a retry, can act on. The order of the questions matters: the surest signs come first."""
    name = connection.name
    said = provider_words(error, connection.key)
    whole = f"{said} {_codes(error)}"
    status = getattr(error, "status_code", None)
    kind = type(error).__name__
    refused = status in (400, 422)
    if status == 402 or (status in (400, 403, 429) and _QUOTA.search(whole)):
        return ModelError(f"{name}: the account has no credit left", why=said, hint=_BILLING, terminal=True)
    if status in (401, 403) or kind in ("AuthenticationError", "PermissionDeniedError") or _NO_KEY.search(whole):
        return ConfigError(f"{name}: the provider did not accept the API key", why=said, hint=_key_hint(connection))
    never_fits = status == 429 and _NEVER_FITS.search(whole)
    too_long = kind == "ContextWindowExceededError" or status == 413 or never_fits
    if too_long or (refused and _TOO_LONG.search(whole)):
        size = f"the text is too long for {name}, whose window is {connection.window:,} tokens"
        return ModelError(size, why=said, hint="pass less text at a time", too_long=True)
    if kind == "ContentPolicyViolationError" or (refused and _FILTERED.search(whole)):
        filtered = f"its provider's content filter: {said}"
        return ModelError(f"{name} refused to answer", why=filtered, hint=_ELSEWHERE)
    if status == 404 or (refused and _NO_MODEL.search(whole)):
        return UnknownModel(f"{name}: there is no such model at {connection.endpoint}", why=said, hint=_SPELLING)
    if kind in ("UnsupportedParamsError", "TypeError"):
        return ConfigError(f"{name} does not take these options", why=said, hint=_OPTIONS)
    if status == 429 and _OF_THE_DAY.search(whole):
        return ModelError(f"{name}: the quota of the day is used up", why=said, hint=_BILLING, terminal=True)
    if status == 429:
        after = retry_after(error)
        hint = "wait, ask for less at a time (-j), or raise the limit at the provider"
        return ModelError(f"{name}: rate limit", why=said, hint=hint, retriable=True, retry_after=after, rate=True)
    if _redirected(error):
        elsewhere = f"{name}: {connection.endpoint} redirects elsewhere"
        return ConfigError(elsewhere, why="nothing is sent to an address that was not named", hint="correct api_base")
    if (why := _unreachable(error)) is not None:
        hint = "is the server running there?" if connection.loopback else "check the network, and the address"
        if "certificate verify failed" in why:
            hint = "SSL_CERT_FILE=FILE names the authority to trust, if it is a company's own"
        unreachable = f"{name}: no connection to {connection.endpoint}"
        return ModelError(unreachable, why=why, hint=hint, retriable=True)
    after, broke_off = retry_after(error), _broke_off(error)
    if status in _RETRIABLE or kind in ("APIConnectionError", "Timeout") or broke_off or _kinds(error) & _HUNG_UP:
        if broke_off:
            what = "its reply broke off, or is no JSON"
        elif _kinds(error) & _HUNG_UP:
            what = "the connection was closed before a reply came"
        else:
            what = f"the server answered {status}" if status else "no usable reply"
        hint = "look at the log of the server" if connection.loopback else "try again later, or another model"
        return ModelError(
            f"{name}: {what}",
            why=said,
            hint=hint,
            retriable=True,
            retry_after=after,
            cut_short=broke_off,
            overload=status in _OVERLOAD,
        )
    refusal = f"{name}: the request was refused{f' ({status})' if status else ''}"
    return ModelError(refusal, why=said, hint=_OPTIONS)


def of_request(error: BaseException, connection: Connection, schema: Schema | None) -> RlmError:
    """`translate`, for a request that a schema may have gone with."""
    failure = translate(error, connection)
    if schema is not None and takes_no_schema(error):
        return ModelError(failure.message, why=failure.why, hint=failure.hint, schema_refused=True)
    return failure


def failed_generation(error: BaseException) -> str | None:
    """What the model wrote where the provider refused its reply for how it calls a function: Groq gives it back."""
    for link in _chain(error):
        body = getattr(link, "body", None)
        detail = body.get("error", body) if isinstance(body, dict) else None
        if detail is None and (found := re.search(r"\{.*\}", str(link), re.DOTALL)) is not None:
            try:
                detail = json.loads(found[0]).get("error")
            except (ValueError, AttributeError):
                continue
        if isinstance(detail, dict) and detail.get("code") == "tool_use_failed":
            written = detail.get("failed_generation")
            return written if isinstance(written, str) and written.strip() else None
    return None


def takes_no_schema(error: BaseException) -> bool:
    """Whether a request may have been refused for the schema that went with it: its text was in order then."""
    if type(error).__name__ in ("UnsupportedParamsError", "JSONSchemaValidationError"):
        return True
    said = str(error)
    ours = _TOO_LONG.search(said) or _FILTERED.search(said) or _QUOTA.search(said) or _NO_MODEL.search(said)
    return getattr(error, "status_code", None) in (400, 422) and not ours


def provider_words(error: BaseException, key: str | None) -> str:
    """What the provider said, on one line, without litellm's wrapping and without any part of the key."""
    text = " ".join(str(error).partition("Traceback (most recent call last)")[0].split())
    while True:
        bare = _WRAPPING.sub("", text)
        if bare == text:
            break
        text = bare
    text = scrub(text, key)
    return text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + "…"


def retry_after(error: BaseException) -> float | None:
    """Seconds the server asks to wait, None where it says nothing."""
    headers = getattr(error, "litellm_response_headers", None) or getattr(error, "headers", None) or {}
    lower = {str(name).lower(): str(value) for name, value in headers.items()}
    return asked_to_wait(lower, f"{error} {_codes(error)}", time.time())


def _redirected(error: BaseException) -> bool:
    """Whether the server sent us elsewhere; some of litellm's providers make a 500 of it."""
    links = list(_chain(error))
    answers = [getattr(at, "status_code", 0) for link in links for at in (link, getattr(link, "response", None))]
    return any(isinstance(status, int) and 300 <= status < 400 for status in answers)


def _unreachable(error: BaseException) -> str | None:
    """Why no connection came about, in the system's words; None when there was one."""
    kinds = _kinds(error)
    if kinds & {"ConnectTimeout", "ConnectionTimeoutError"}:
        return "it did not answer in time"
    if "ClientHttpProxyError" in kinds:
        return f"the proxy answered {getattr(error, 'status', '')}"
    if "ClientProxyConnectionError" in kinds:
        return "the proxy that the environment names cannot be reached"
    if not kinds & {"ConnectError", "ClientConnectorError"}:
        return None
    system = next((link for link in reversed(list(_chain(error))) if isinstance(link, OSError)), None)
    if isinstance(system, ssl.SSLError):
        more = getattr(system, "verify_message", None)
        return f"TLS: {str(system.reason).replace('_', ' ').lower()}{f' ({more})' if more else ''}"
    number = system.errno if system is not None else None
    if number is None or number <= 0:  # the resolver counts its own errors downwards
        return str(getattr(system, "strerror", None) or "connection error")
    return os.strerror(number)


def _broke_off(error: BaseException) -> bool:
    """Whether an answer had begun: then it may be billed."""
    return bool(_kinds(error) & {"ClientPayloadError", "JSONDecodeError", "NoReply"})


def _kinds(error: BaseException) -> set[str]:
    """The names of the classes in the chain of exceptions, inherited ones included."""
    return {kind.__name__ for link in _chain(error) for kind in type(link).__mro__}


def _codes(error: BaseException) -> str:
    """The error codes and details in the chain of exceptions: litellm drops them, its clients have them."""
    return " ".join(str(code) for link in _chain(error) for code in _code(link) if code)


def _code(error: BaseException) -> tuple[Any, ...]:
    body = getattr(error, "body", None)
    if not isinstance(body, dict):
        return (getattr(error, "code", None),)
    details = body.get("details")
    return body.get("code"), json.dumps(details) if details else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _key_hint(connection: Connection) -> str:
    from . import catalog

    provider = catalog.provider(connection.provider)
    variable = provider.variables[0] if provider else "the key"
    if connection.key in (None, NO_KEY):
        name = connection.name if re.fullmatch(r"[\w-]+", connection.name, re.ASCII) else "NAME"
        return f'give it one: [models.{name}] key = {{ env = "{variable}" }}'
    return f"check {variable}, or [keys] in the configuration"
