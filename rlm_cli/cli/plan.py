"""The plan of `--dry-run`: what would be read, what would be sent where, what it may cost. Sends nothing.

Every document is listed with what was made of it, up to `LISTED` of them (all with `--verbose`); what was skipped is
listed always, since a plan is looked at to find that out.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..documents import Documents
from ..forecast import Forecast
from ..prepare import Job, Models
from ..prompts import goes_on
from ..sandbox import KERNEL_ENFORCED, Sandbox
from ..tools import Tools
from ..views.figures import count, plural, usd
from ..views.lines import listed, manifest_line
from ..views.safe import clean, one_line

LISTED = 200
"""Documents: more would only push the plan's end out of sight."""


def plan_text(
    job: Job,
    models: Models,
    documents: Documents,
    mode: str,
    sandbox: Sandbox | None,
    for_real: str,
    cost: Forecast,
    tools: Tools | None = None,
) -> str:
    """The plan, some lines; ends in a newline. `sandbox`: where code will run, if any will; `for_real`: the line that
    asks. Raises `SandboxError`."""
    lines = [*_listed(job, documents), manifest_line(documents.loaded())]
    lines += [f"skipped  {one_line(s.path)}: {one_line(s.reason)}" for s in documents.manifest.skipped]
    lines += [
        f"excluded {number:,} by {one_line(rule)}" for rule, number in sorted(documents.manifest.excluded.items())
    ]
    if job.earlier is not None:
        lines += [goes_on(job.earlier.run, len(job.earlier.cells)), *documents.manifest.notices]
    lines += _setup(job, models, mode, sandbox)
    for name, others in models.stand_ins.items():
        lines += [f"instead of {name}, where it fails  {' · '.join(m.name for m in others)}"] if others else []
    if tools is not None:
        lines.append(f"tools  {one_line(tools.listed(), 2_000)}: outside the sandbox, with your rights")
    endpoints = dict.fromkeys(f"{m.endpoint} ({m.transport})" for m in models.all if m.endpoint)
    lines.append("sends text to  " + (" · ".join(endpoints) or "nobody: no language model is used"))
    lines += cost_lines(cost)
    lines.append(f"nothing was sent. run it:  {for_real}")
    return clean("\n".join(lines)) + "\n"


def _listed(job: Job, documents: Documents) -> Iterator[str]:
    most = None if job.settings.verbose else LISTED
    yield from map(listed, documents.listing[:most])
    if (left := len(documents.listing[LISTED:])) and most:
        yield f"… and {plural(left, 'more document')}: -v, or rlm read --list, shows all"


def _setup(job: Job, models: Models, mode: str, sandbox: Sandbox | None) -> Iterator[str]:
    which = f"root {models.root.name}   sub {models.sub.name}   "
    if sandbox is None:
        yield which + "one call with the whole text"
        return
    proof = sandbox.proof
    yield which + f"depth {job.settings.max_depth}   sandbox {sandbox.name} ({proof.level})"
    if proof.level not in KERNEL_ENFORCED:
        yield "code of the model runs with your rights: the kernel does not enforce this sandbox"
    else:
        yield "code cannot  " + " · ".join(proof.refused)


def cost_lines(cost: Forecast) -> list[str]:
    """Low, expected, high, and how they come about."""
    if cost.is_free:
        return ["cost   nothing"]
    high = "no cap (--max-budget none)" if cost.high is None else f"high {usd(cost.high)} ({cost.high_is})"
    if cost.unknown:
        unknown = f"the price of {', '.join(cost.unknown)} is not known"
        tokens = f"low ~{count(cost.low.tokens)} tokens   expected ~{count(cost.expected.tokens)} tokens"
        held = f"{high}, which does not hold it" if cost.high is not None else high
        lines = [f"cost   unknown: {unknown}   {held}", f"       {tokens}"]
    else:
        lines = [f"cost   low {usd(cost.low.usd)}   expected {usd(cost.expected.usd)}   {high}"]
    if cost.subcalls:
        part = "all of it once" if cost.share == 1 else f"{cost.share:.0%} of it"
        read = f"{plural(cost.subcalls, 'sub-call')} read {part}, {plural(cost.turns, 'turn')} of {cost.root}"
        lines.append(f"       expected: {read}; low: it is found by searching")
    if cost.high is not None and (cost.expected.usd or 0.0) > cost.high:
        lines.append("       expected is more than --max-budget: the answer may be partial (exit 6)")
    return lines
