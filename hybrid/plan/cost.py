"""The plan: bytes on disk, hours of GPUs, days, bytes on the network, of a teacher and a student on given speech.

    frames of a phase = hours heard * 3600 / frame shift, hours heard = hours * passes
    frames a second   of one GPU: peak * utilisation / operations a frame; forward 2, training 6 a weight (models.py);
                      sequence training: 1 / (1 / training + 1 / denominator)
    GPU-hours         frames / rate / 3600
    days              GPU-hours / (24 * GPUs * efficiency); the efficiency of a training by the simulator (simulate.py)
    steps             frames / (batch * workers)

Labelling needs no network: every GPU has its own part of the speech. With --gpus 0 the same in cores: a worker of the
network is then a machine of some cores, within which nothing is lost.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Optional, Tuple

from hybrid.data.topk_codec import Codec
from hybrid.errors import ConfigError
from hybrid.plan.assumptions import Values
from hybrid.plan.methods import Bmuf, Ddp, Gtc, Method
from hybrid.plan.models import Count
from hybrid.plan.network import Network
from hybrid.plan.rates import Rates
from hybrid.plan.simulate import LogNormal, simulate

GZIPPED = 46.5 / 51  # bytes a frame on disk, manifests counted, over packed ones: benchmarks/README.md
CORE_DENOMINATOR = 7200.0  # frames a second at 3,064 pdfs and 70,033 arcs: 4.61 ms for 33 1/3 frames, there
GPU_DENOMINATOR = 1.15e6  # a quarter of the floor there, 89,600 frames in 19.5 ms
FEWEST_STEPS = 20  # of a worker, to tell the spread of its times


@dataclass(frozen=True)
class Training:
    """One phase by one method. sent: bytes a worker sends in the whole phase; seconds a step; days of the phase."""

    method: str
    compute: float
    wait: float
    transfer: float
    efficiency: float
    sent_step: float
    sent: float
    sent_all: float
    days: float


@dataclass(frozen=True)
class Phase:
    """rate: frames a second of one GPU or core; unit_hours of these; days where nothing is lost."""

    name: str
    hours: float
    passes: float
    frames: float
    rate: float
    unit_hours: float
    days: float
    steps: float = 0.0
    by_method: Tuple[Training, ...] = ()


@dataclass(frozen=True)
class Plan:
    unit: str  # "GPU" or "core"
    units: int
    workers: int
    teacher: Count
    student: Count
    disk: Dict[str, Tuple[float, float]]  # what -> bytes of one copy, and with its copies
    feeding: Dict[str, float]
    phases: Tuple[Phase, ...]
    values: Values
    notes: List[str] = field(default_factory=list)

    def phase(self, name: str) -> Phase:
        return next(phase for phase in self.phases if phase.name == name)

    def to_dict(self) -> Dict[str, Any]:
        return {
            "unit": self.unit,
            "units": self.units,
            "workers": self.workers,
            "teacher": self.teacher.to_dict(),
            "student": self.student.to_dict(),
            "disk": {name: {"one": size, "all": copies} for name, (size, copies) in self.disk.items()},
            "feeding": self.feeding,
            "phases": [asdict(phase) for phase in self.phases],
            "assumptions": [
                {"group": group, "name": name, "value": value, "unit": unit, "source": why}
                for group, name, value, unit, why in self.values.rows()
            ],
            "notes": self.notes,
        }


def plan(
    values: Values,
    teacher: Count,
    student: Count,
    rates: Optional[Rates] = None,
    *,
    seed: int = 0,
) -> Plan:
    """Computes the plan. Raises ConfigError for what cannot be planned, or rates of other models."""
    gpus, cores = values.whole("gpus"), values.whole("cores")
    if not gpus and not cores:
        raise ConfigError("neither a GPU nor a core", remedy="give --gpus, or --gpus 0 and --cores")
    if not values["labelled"] + values["unlabelled"]:
        raise ConfigError("no hours of speech", remedy="give --labelled or --unlabelled")
    unit, units = ("GPU", gpus) if gpus else ("core", cores)
    group = 1 if gpus else min(cores, values.whole("cores-a-worker"))  # units of one worker
    if rates is not None:
        _take(values, rates, teacher, student, unit)
    notes: List[str] = []
    _derive(values, teacher, student, unit)
    phases = _phases(values, units, group, teacher, student, seed)
    feeding = _feeding(values, phases)
    needed = math.ceil(feeding["cores_training"] * gpus)
    if gpus and cores and cores < needed:
        notes.append(f"{cores} cores do not keep {gpus} GPUs busy: {needed:,} are needed.")
    workers = math.ceil(units / group)
    return Plan(unit, units, workers, teacher, student, _disk(values), feeding, phases, values, notes)


def _take(values: Values, rates: Rates, teacher: Count, student: Count, unit: str) -> None:
    """Measured rates in the place of defaults."""
    if (rates.device == "cuda") != (unit == "GPU"):
        raise ConfigError(
            f"rates measured on {rates.device} in a plan for {unit}s",
            remedy="--gpus 0 --cores N for rates of a core" if unit == "GPU" else "--gpus N for rates of a GPU",
        )
    for name, model in (("teacher", teacher), ("student", student)):
        measured = rates.parts.get(name)
        if measured is not None and measured["parameters"] != model.parameters:
            raise ConfigError(
                f"the rates are of a {name} of {measured['parameters']:,} parameters, the plan's has "
                f"{model.parameters:,}",
                remedy=f"give the same --{name}, --senones and --input-dim, or measure again",
            )
    if "teacher" in rates.parts:
        values.measured("teacher-rate", rates.parts["teacher"]["frames_per_second"])
    if "student" in rates.parts:
        values.measured("student-rate", rates.parts["student"]["frames_per_second"])
    targets = rates.parts.get("targets", {})
    if targets and (targets["k"], targets["senones"]) == (values["k"], values["senones"]):
        values.measured("target-bytes", targets["bytes_per_frame"])
        values.measured("write-rate", targets["write"])
        values.measured("read-rate", targets["read"])
    for name in ("scan", "decode") if "gtc" in rates.parts else ():
        values.measured(name, rates.parts["gtc"][name])
    if rates.network is not None and math.isfinite(rates.network.bandwidth):
        values.measured("bandwidth", rates.network.bandwidth)
        values.measured("latency", rates.network.latency)
    if rates.times is not None and all(len(row) >= FEWEST_STEPS for row in rates.times.rows):
        values.measured("spread", max(LogNormal.fitted(row).spread for row in rates.times.rows))


def _derive(values: Values, teacher: Count, student: Count, unit: str) -> None:
    codec = Codec(values.whole("senones"), values.whole("k"))
    packed = f"{codec.frame_bytes} packed (topk_codec.py), {GZIPPED:.2f} of it on disk (benchmarks/README.md)"
    values.derive("target-bytes", codec.frame_bytes * GZIPPED, packed)
    values.derive("feature-bytes", 2 * values["input-dim"], "float16, as hybrid pack stores them")
    if unit == "GPU":
        flops = values["gpu-tflops"] * values["utilisation"] * 1e12
        basis = "gpu-tflops * utilisation"
        values.derive("denominator-rate", GPU_DENOMINATOR, "a quarter of what memory allows (benchmarks/README.md)")
    else:
        flops, basis = values["core-tflops"] * 1e12, "core-tflops"
        values.derive("denominator-rate", CORE_DENOMINATOR, "a core, 3,064 pdfs (benchmarks/README.md)")
    values.derive("teacher-rate", flops / teacher.forward_flops, f"{basis} / {teacher.forward_flops / 1e6:.0f} MFLOP")
    values.derive("teacher-training-rate", values["teacher-rate"] / 3, "a third of teacher-rate")
    values.derive("student-rate", flops / student.training_flops, f"{basis} / {student.training_flops / 1e6:.0f} MFLOP")


def _phases(values: Values, units: int, group: int, teacher: Count, student: Count, seed: int) -> Tuple[Phase, ...]:
    labelled, unlabelled = values["labelled"], values["unlabelled"]
    training, denominator = values["teacher-training-rate"], values["denominator-rate"]

    def sequence(rate: float) -> float:
        return 1 / (1 / rate + 1 / denominator)

    rate = values["student-rate"]
    hours_heard = unlabelled * values["passes"] + labelled * values["labelled-passes"]
    speech = labelled + unlabelled
    rows = (
        ("teacher", labelled, values["teacher-epochs"], training, teacher),
        ("teacher, sequence", labelled, values["teacher-sequence-epochs"], sequence(training), teacher),
        ("labelling", speech, 1.0, values["teacher-rate"], None),
        ("student", speech, hours_heard / speech, rate, student),
        ("student, sequence", labelled, values["sequence-epochs"], sequence(rate), student),
    )
    methods: Tuple[Method, ...] = (
        Ddp(values["overlap"], values["gradient-bytes"]),
        Gtc(values["density"], values["element-bytes"], values["decode"], values["scan"]),
        Bmuf(values.whole("period"), values["gradient-bytes"]),
    )
    network = Network(values["bandwidth"], values["latency"])
    workers = math.ceil(units / group)
    phases = []
    for name, hours, passes, phase_rate, model in rows:
        frames = hours * passes * 3600 / values["frame-shift"]
        unit_hours = frames / phase_rate / 3600
        days = unit_hours / units / 24
        steps, by_method = 0.0, []
        if model is not None:
            steps = frames / (values["batch"] * workers)
            times = LogNormal(values["batch"] / (phase_rate * group), values["spread"])
            for method in methods:
                (cost,) = simulate(method, times, network, model.parameters, [workers], seed=seed)
                sent = method.sent(workers, model.parameters)
                phase_days = days / cost.efficiency
                by_method.append(
                    Training(
                        method.name, cost.compute, cost.wait, cost.transfer, cost.efficiency,
                        sent, sent * steps, sent * steps * workers, phase_days,
                    )
                )  # fmt: skip
        phases.append(Phase(name, hours, passes, frames, phase_rate, unit_hours, days, steps, tuple(by_method)))
    return tuple(phases)


def _disk(values: Values) -> Dict[str, Tuple[float, float]]:
    seconds = (values["labelled"] + values["unlabelled"]) * 3600
    frames = seconds / values["frame-shift"]
    sizes = {
        "audio": seconds * values["audio-bytes"],
        "targets": frames * values["target-bytes"],
        "shards": values["copies"] * frames * _shard_bytes(values),
    }
    sizes["total"] = sum(sizes.values())
    return {name: (size, size * values["replication"]) for name, size in sizes.items()}


def _shard_bytes(values: Values) -> float:
    """Of a frame in training shards, which hold the targets beside the features."""
    return values["feature-bytes"] + values["target-bytes"]


def _feeding(values: Values, phases: Tuple[Phase, ...]) -> Dict[str, float]:
    """What must come to one GPU or core in a second while the student learns, and the cores that prepare it."""
    rate, teacher = values["student-rate"], values["teacher-rate"]
    frames = next(phase.frames for phase in phases if phase.name == "labelling")
    return {
        "bytes_per_second": rate * _shard_bytes(values),
        "cores_training": rate / values["stream-rate"],
        "cores_labelling": teacher / values["write-rate"] + teacher * values["frame-shift"] / values["pack-rate"],
        "write_core_hours": frames / values["write-rate"] / 3600,
        "pack_core_hours": values["copies"] * frames * values["frame-shift"] / values["pack-rate"] / 3600,
        "read_core_hours": frames / values["read-rate"] / 3600,
    }
