"""The plan of a recipe as text."""

from __future__ import annotations

from typing import List

from hybrid.plan.recipe_plan import RecipePlan, giga


def as_text(plan: RecipePlan) -> str:
    """Return a table of the stages, their sum, what the machine has, warnings, and what each line rests on."""
    width = max(len(row.name) for row in plan.rows)
    speech = plan.work.speech
    sets = ", ".join(f"{name} {amount.hours:.2f} h" for name, amount in {"dev": speech.dev, **speech.tests}.items())
    lines = [
        f"{plan.name}: {speech.train.hours:,.2f} h of transcribed training speech"
        + (f", {speech.unlabelled.hours:,.2f} h untranscribed" if speech.unlabelled.hours else "") + f"; {sets}",
        f"on CPUs, {plan.jobs} worker process{'es' if plan.jobs != 1 else ''}",
        "",
        f"{'stage':{width}}  {'CPU time':>10}  {'wall time':>10}  {'disk GB':>8}  {'memory GB':>9}",
    ]
    for row in plan.rows:
        lines.append(
            f"{row.name:{width}}  {_time(row.cpu_seconds):>10}  {_time(row.wall_seconds(plan.jobs)):>10}  "
            f"{giga(row.disk):>8}  {giga(row.peak_memory(plan.jobs)):>9}"
            + (f"  and {giga(row.scratch)} GB for a while" if row.scratch > 1e9 else "")
        )
    lines.append(f"{'all':{width}}  {_time(plan.cpu_seconds):>10}  {_time(plan.wall_seconds):>10}  "
                 f"{giga(plan.disk):>8}  {giga(plan.memory):>9}")  # fmt: skip
    machine = plan.machine
    lines += ["", f"this machine: {machine.cores} core{'s' if machine.cores != 1 else ''}, "
              f"{giga(machine.free_disk)} GB of disk free, {giga(machine.memory)} GB of memory"]  # fmt: skip
    lines += [f"WARNING {warning}" for warning in plan.warnings]
    lines += ["", "what is planned for:", *(f"  {note}" for note in speech.notes)]
    lines += ["", "what each line rests on (--measured EXP: what a run on this machine took):"]
    for row in plan.rows:
        lines += _reasons(f"  {row.name:{width}}  ", row.why)
    return "\n".join(lines)


def _reasons(head: str, why: List[str]) -> List[str]:
    return [f"{head if number == 0 else ' ' * len(head)}{reason}" for number, reason in enumerate(why)]


def _time(seconds: float) -> str:
    """Return seconds in the unit that suits them, two digits: 33 s, 1.2 min, 140 h."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            value = seconds / size
            return f"{value:,.0f} {unit}" if value >= 9.95 else f"{value:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
