"""One tiny call through the same door as every other: does this model answer here, how fast, at what cost.

No retry and no tools: what is wanted is whether key, address and name are right, and a second answer would not be
truer. The output limit is small, so a model that thinks may be cut off in thought; that is an answer too.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass
from typing import Any

from ..call import Completion, Message
from ..errors import ModelError, RlmError
from ..ledger import Usage
from . import Model

PROMPT = "Reply with the one word: yes"
OUTPUT_TOKENS = 64
INPUT_CEILING = 200
"""Tokens: the prompt and what a server puts around it, which some bill."""
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Check:
    """How it went. `seconds`: from the request to the whole reply. `cost_usd` None = unknown."""

    name: str
    endpoint: str | None
    seconds: float
    usage: Usage
    cost_usd: float | None
    error: RlmError | None = None

    def to_json(self) -> dict[str, Any]:
        """Every key is always there."""
        error = self.error
        return {
            "name": self.name,
            "endpoint": self.endpoint,
            "ok": error is None,
            "seconds": round(self.seconds, 3),
            "usage": asdict(self.usage),
            "cost_usd": self.cost_usd,
            "error": None if error is None else {"code": error.code, "message": str(error), "hint": error.hint},
        }


def ceiling_usd(model: Model) -> float | None:
    """What the call costs at most; None = unknown."""
    return None if model.price is None else model.price.ceiling(INPUT_CEILING, OUTPUT_TOKENS)


async def check(model: Model) -> Check:
    """Ask once and close the model. Failures of the provider are part of what is returned, nothing is raised."""
    began = time.monotonic()
    error: RlmError | None = None
    completion = Completion("")
    try:
        await model.ready()
        began = time.monotonic()
        limit = min(OUTPUT_TOKENS, model.max_output)
        async with asyncio.timeout(TIMEOUT_S):
            completion = await model.complete([Message("user", PROMPT)], max_output_tokens=limit, sub=False)
    except TimeoutError:
        error = ModelError(f"{model.name}: no reply within {TIMEOUT_S:.0f} s", hint="look at the server, or its load")
    except RlmError as failure:
        error = failure
    finally:
        seconds = time.monotonic() - began
        await model.close()
    return Check(model.name, model.endpoint, seconds, completion.usage, completion.usd(model.price), error)
