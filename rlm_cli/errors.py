"""Every way a run can end badly, drawn as one tree.

    RlmError                 message, why, hint, exit_code
    ├─ UsageError      2     the command line
    ├─ ConfigError     3     a file, a key, a credential, an unknown model or sandbox
    │  └─ UnknownModel       the provider has no such model
    ├─ SourceError     4     nothing readable
    ├─ ModelError      5     the provider, after retries
    ├─ LimitReached    6     a limit, and nothing to hand over
    ├─ SandboxError    7     the place, not the code
    └─ InvalidAnswer   8     --schema / --strict not met

Failures are values inside a run and exceptions at its edge: the loop never catches these, it is sent
`Refusal` and `Output` values instead. An error is shown in three parts: what happened (`message`), why it
happened (`why`), what to try (`hint`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from .ledger import Usage


class RlmError(Exception):
    """The root of all errors that `rlm` raises on purpose; anything else is a bug (exit code 70)."""

    exit_code: ClassVar[int] = 70
    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.why = why
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}: {self.why}" if self.why else self.message


def internal(error: BaseException, trace: str | None = None) -> RlmError:
    """A bug as an error that can be shown; the exception itself is its cause. `trace`: where the run's journal is."""
    hint = f"the trace of the run is {trace}; RLM_DEBUG=1 shows where" if trace else "RLM_DEBUG=1 shows where"
    found = RlmError(f"internal error: {type(error).__name__}", why=str(error)[:500], hint=hint)
    found.__cause__ = error
    return found


class UsageError(RlmError):
    exit_code = 2
    code = "usage"


class ConfigError(RlmError):
    exit_code = 3
    code = "config"


class UnknownModel(ConfigError):
    """The provider said that it has no such model; another one may do."""


class SourceError(RlmError):
    exit_code = 4
    code = "source"


class ModelError(RlmError):
    """One request failed.

    `retriable`: another attempt may succeed. `retry_after`: seconds the server asked for, else None.
    `terminal`: no other request to this model can succeed either (no quota), so the run ends at once.
    `cut_short`: it was answered in part, or we gave up on it; it may be billed all the same. `usage`: what the provider
    counted for a reply that is of no use. `too_long`: the prompt did not fit the model's window. `schema_refused`: the
    provider does not take the schema that went with the request; without it, it may answer. `rate`: we ask too often,
    which is no failure of the request. `overload`: that, or the server has too much to do, or names a time: whoever
    asks it should ask less. `prompt_cut`: the server read a part of the prompt only, and answered all the same.
    """

    exit_code = 5
    code = "model"

    def __init__(
        self,
        message: str,
        *,
        why: str = "",
        hint: str = "",
        retriable: bool = False,
        retry_after: float | None = None,
        terminal: bool = False,
        cut_short: bool = False,
        usage: Usage | None = None,
        too_long: bool = False,
        schema_refused: bool = False,
        overload: bool = False,
        rate: bool = False,
        prompt_cut: bool = False,
    ) -> None:
        super().__init__(message, why=why, hint=hint)
        self.retriable = retriable
        self.retry_after = retry_after
        self.terminal = terminal
        self.cut_short = cut_short
        self.usage = usage
        self.too_long = too_long
        self.schema_refused = schema_refused
        self.overload = overload or rate or retry_after is not None
        self.rate = rate
        self.prompt_cut = prompt_cut


class LimitReached(RlmError):
    """A limit ended the run and there is nothing to hand over. `reason`: which one (a `StopReason`)."""

    exit_code = 6
    code = "limit"

    def __init__(self, reason: str, message: str, *, why: str = "", hint: str = "") -> None:
        flag = f"--{reason.replace('_', '-')}"
        has_flag = reason.startswith("max_") or reason == "timeout"
        super().__init__(message, why=why, hint=hint or (f"raise {flag}" if has_flag else ""))
        self.reason = reason


class SandboxError(RlmError):
    exit_code = 7
    code = "sandbox"


class InvalidAnswer(RlmError):
    """The answer does not satisfy `--schema`, `-e` or `--strict`. `value`: the last one that was handed over."""

    exit_code = 8
    code = "invalid"

    def __init__(self, message: str, *, value: Any = None, why: str = "", hint: str = "") -> None:
        super().__init__(message, why=why, hint=hint)
        self.value = value
