"""The plan of `--dry-run`: what would be read, what would be sent where, what it costs at most. Sends nothing.

With `--verbose` every document is listed with what was made of it; what was skipped is listed always, since a plan is
looked at to find that out.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..documents import Documents
from ..prepare import Job, Models
from ..prompts import goes_on
from ..sandbox import KERNEL_ENFORCED, Sandbox
from ..tools import Tools
from ..views.figures import usd
from ..views.lines import listed, manifest_line
from ..views.safe import clean, one_line


def plan_text(
    job: Job,
    models: Models,
    documents: Documents,
    mode: str,
    sandbox: Sandbox | None,
    for_real: str,
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
    if tools is not None:
        lines.append(f"tools  {one_line(tools.listed(), 2_000)}: outside the sandbox, with your rights")
    endpoints = dict.fromkeys(m.endpoint for m in models.all if m.endpoint)
    lines.append("sends text to  " + (" · ".join(endpoints) or "nobody: no language model is used"))
    lines.append(_cost(job, models))
    lines.append(f"nothing was sent. run it:  {for_real}")
    return clean("\n".join(lines)) + "\n"


def _listed(job: Job, documents: Documents) -> Iterator[str]:
    if job.settings.verbose:
        for document in documents.corpus.documents:
            yield listed(document)


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


def _cost(job: Job, models: Models) -> str:
    if all(model.price is not None and not (model.price.input or model.price.output) for model in models.all):
        return "cost   nothing"
    budget = job.settings.max_budget
    high = f"high {usd(budget)} (your --max-budget)" if budget is not None else "no cap (--max-budget none)"
    unknown = [model.name for model in models.all if model.price is None]
    return f"cost   {high}" + (
        f"; the price of {', '.join(unknown)} is not known and is not held by it" if unknown else ""
    )
