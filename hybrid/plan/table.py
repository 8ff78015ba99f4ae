"""A plan as text."""

from __future__ import annotations

from dataclasses import replace
from typing import List, Sequence

from hybrid.plan.cost import Phase, Plan
from hybrid.plan.models import PAPER, Count, count


def amount(value: float, unit: str = "B") -> str:
    """Returns a value with three digits and a decimal prefix: 5.58e12 -> 5.58 TB."""
    for power, prefix in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if value >= 0.9995 * 10**power:
            return f"{_three(value / 10**power)} {prefix}{unit}"
    return f"{_three(value)} {unit}"


def _three(value: float) -> str:
    """At least three digits, none of them an exponent."""
    if value >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.095 else f"{value:.2g}"


def as_text(found: Plan) -> str:
    values = found.values
    unit, workers = found.unit, found.workers
    machines = f"{found.units:,} {unit}{'s' if found.units != 1 else ''}"
    if unit == "core":
        machines += f" ({workers:,} worker{'s' if workers != 1 else ''})"
    lines = [
        f"{values['labelled']:,.0f} h labelled, {values['unlabelled']:,.0f} h unlabelled, on {machines}",
        "",
        "models, parameters counted from their settings",
        _model("teacher", found.teacher),
        *_as_the_paper_has_it(found.teacher),
        _model("student", found.student),
        "",
        _disk_head(values["replication"]),
        *(f"  {name:18}{amount(size):>12}{amount(copies):>12}" for name, (size, copies) in found.disk.items()),
        "",
        *_work(found),
        "",
        *_network(found),
        "",
        *_feeding(found),
        "",
        *_assumptions(found),
    ]
    lines += [*([""] if found.notes else []), *found.notes]
    return "\n".join(lines)


def _disk_head(replication: float) -> str:
    return f"{'disk':20}{'one copy':>12}{f'x {replication:g}':>12}"


def _model(name: str, model: Count) -> str:
    paper = f"paper: {PAPER[name] / 1e6:.0f} M ({100 * (model.parameters / PAPER[name] - 1):+.1f} %)"
    layers = [size for part, size in model.parts.items() if part.startswith("layer ")]
    others = [f"{part} {size:,}" for part, size in model.parts.items() if not part.startswith("layer ")]
    sizes = f"first layer {layers[0]:,}"
    if len(layers) > 1:
        sizes += f", {len(layers) - 1} x {layers[1]:,}"
    flops = f"{model.forward_flops / 1e6:.0f} MFLOP a frame forward, {model.training_flops / 1e6:.0f} in training"
    return f"  {name}  {model.name}: {model.parameters:,}; {paper}; {flops}\n           {'; '.join([sizes, *others])}"


def _as_the_paper_has_it(teacher: Count) -> List[str]:
    """The paper's sizes and its parameters do not agree for the teacher (models.py)."""
    config = replace(teacher.config, hidden=768, layers=5, bidirectional=True, proj=0)
    if config == teacher.config:
        return []
    paper_model = count(config)
    share = 100 * (paper_model.parameters / PAPER["teacher"] - 1)
    return [f"           (the paper's sizes, {paper_model.name}, count {paper_model.parameters:,}: {share:+.1f} %)"]


def _work(plan: Plan) -> List[str]:
    unit = plan.unit
    methods = [training.method for training in plan.phases[0].by_method]
    head = f"{'work':20}{'hours heard':>13}{'frames':>9}{f'frames/s, {unit}':>16}{f'{unit}-hours':>12}{'days':>9}"
    head += "".join(f"{method:>9}" for method in methods)
    rows = [head + "   days with waits and transfers"]
    totals = [0.0] * (2 + len(methods))
    for phase in plan.phases:
        days = [training.days for training in phase.by_method] or [phase.days] * len(methods)
        for place, value in enumerate((phase.unit_hours, phase.days, *days)):
            totals[place] += value
        rows.append(
            f"  {phase.name:18}{phase.hours * phase.passes:13,.0f}{phase.frames:9.2g}{phase.rate:16,.0f}"
            f"{phase.unit_hours:12,.0f}{_three(phase.days):>9}" + "".join(f"{_three(value):>9}" for value in days)
        )
    rows.append(f"  {'total':56}{totals[0]:12,.0f}" + "".join(f"{_three(value):>9}" for value in totals[1:]))
    return rows


def _network(plan: Plan) -> List[str]:
    rows = [
        f"{'network':20}{'a step, each':>14}{'each':>10}{'all':>10}{'compute':>10}{'wait':>8}{'transfer':>10}"
        f"{'efficiency':>12}   of training; ms a step"
    ]
    for phase in plan.phases:
        for training in phase.by_method:
            rows.append(
                f"  {phase.name + ', ' + training.method:26}{amount(training.sent_step):>6}{amount(training.sent):>10}"
                f"{amount(training.sent_all):>10}{_three(1e3 * training.compute):>10}{_three(1e3 * training.wait):>8}"
                f"{_three(1e3 * training.transfer):>10}{100 * training.efficiency:10.1f} %"
            )
    trained = [phase for phase in plan.phases if phase.by_method]
    hours = plan.values["batch"] * plan.values["frame-shift"] / 3600  # hours a worker and step
    steps = plan.phase("student").steps
    rows.insert(1, f"  a step hears {_three(hours * plan.workers)} h of speech; the student makes {steps:,.0f} steps")
    for place, training in enumerate(trained[0].by_method):
        sent, sent_all = _sums(trained, place)
        rows.append(f"  {'all, ' + training.method:32}{amount(sent):>10}{amount(sent_all):>10}")
    return rows


def _sums(phases: Sequence[Phase], place: int) -> List[float]:
    return [
        sum(phase.by_method[place].sent for phase in phases),
        sum(phase.by_method[place].sent_all for phase in phases),
    ]


def _feeding(plan: Plan) -> List[str]:
    feeding, unit, units = plan.feeding, plan.unit, plan.units
    return [
        f"feeding: {amount(feeding['bytes_per_second'])}/s of features and targets to each {unit}, student learning ("
        f"{amount(units * feeding['bytes_per_second'])}/s in all)",
        f"  cores that read it: {_three(feeding['cores_training'])} a {unit}"
        f" ({_three(units * feeding['cores_training'])} in all); that label beside each {unit}, features and targets:"
        f" {_three(feeding['cores_labelling'])} ({_three(units * feeding['cores_labelling'])} in all)",
        f"  core-hours: {_three(feeding['write_core_hours'])} to write the targets,"
        f" {_three(feeding['read_core_hours'])} to read them once,"
        f" {_three(feeding['pack_core_hours'])} to pack the speech",
    ]


def _assumptions(plan: Plan) -> List[str]:
    rows: List[str] = ["assumptions; each is an option of its name"]
    last = ""
    for group, name, value, unit, why in plan.values.rows():
        if group != last:
            rows.append(f"  {group}")
            last = group
        rows.append(f"    {name:24}{_plain(value):>14} {unit:22} {why}")
    return rows


def _plain(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}" if value < 1e9 else f"{value:.4g}"
    return f"{value:.4g}"
