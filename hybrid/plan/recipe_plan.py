"""The plan of a recipe: its stages with their costs, and whether the machine has room for them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import psutil

from hybrid.parallel import cores
from hybrid.pipeline.systems import chosen, gmm_steps, wanted_networks
from hybrid.plan.measured import ratios_of, scaled_by
from hybrid.plan.speech_amounts import Amounts
from hybrid.plan.stage_cost import StageCost
from hybrid.plan.stage_plan import peak_disk, plan_stages
from hybrid.plan.workload import Workload

_DAYS = 7.0  # above which a time is worth a word


@dataclass(frozen=True)
class Machine:
    """What there is: cores, bytes free on the disk of a folder, bytes of memory (of the control group, where it has a
    limit)."""

    cores: int
    free_disk: float
    memory: float

    @classmethod
    def here(cls, folder: Path) -> Machine:
        """Return this machine; `folder` is where the run is to lie, which need not be there yet."""
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        return cls(cores(), float(shutil.disk_usage(there).free), _memory())


def _memory() -> float:
    total = float(psutil.virtual_memory().total)
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return total
    return min(total, float(limit)) if limit.isdigit() else total


@dataclass(frozen=True)
class RecipePlan:
    """name: of the recipe; rows: its stages in their order; warnings: where the machine is too small for it."""

    name: str
    work: Workload
    rows: List[StageCost]
    jobs: int
    machine: Machine
    warnings: List[str]

    @property
    def disk(self) -> float:
        """Bytes at most, while the run lasts."""
        return peak_disk(self.rows)

    @property
    def cpu_seconds(self) -> float:
        return sum(row.cpu_seconds for row in self.rows)

    @property
    def wall_seconds(self) -> float:
        return sum(row.wall_seconds(self.jobs) for row in self.rows)

    @property
    def memory(self) -> float:
        return max(row.peak_memory(self.jobs) for row in self.rows)

    def to_dict(self) -> Dict[str, Any]:
        """Return the plan for JSON: seconds, bytes, hours."""
        return {
            "recipe": self.name,
            "jobs": self.jobs,
            "stages": [
                {"stage": row.name, "cpu_seconds": row.cpu_seconds, "wall_seconds": row.wall_seconds(self.jobs),
                 "disk": row.disk, "scratch": row.scratch, "memory": row.peak_memory(self.jobs), "why": row.why}
                for row in self.rows
            ],
            "total": {"cpu_seconds": self.cpu_seconds, "wall_seconds": self.wall_seconds, "disk": self.disk,
                      "memory": self.memory},
            "machine": vars(self.machine),
            "speech": {"train": self.work.speech.train.hours, "dev": self.work.speech.dev.hours,
                       "test": {name: amount.hours for name, amount in self.work.speech.tests.items()}},
            "notes": self.work.speech.notes,
            "warnings": self.warnings,
        }  # fmt: skip


def plan_recipe(
    name: str, settings: Any, speech: Amounts, names: Sequence[str], machine: Machine, measured: Optional[Path] = None
) -> RecipePlan:
    """Return the plan of a recipe's stages.

    settings: sized by the hours; names: of the stages; measured: the folder of a finished run, whose costs take the
    place of the table's. Raises DataError for such a folder that is none.
    """
    work = Workload(settings, speech)
    rows = plan_stages(work, names)
    if measured is not None:
        rows = scaled_by(rows, ratios_of(measured), measured)
    jobs = settings.run.jobs or machine.cores
    plan = RecipePlan(name, work, rows, jobs, machine, [])
    plan.warnings.extend(_warnings(plan))
    return plan


def _warnings(plan: RecipePlan) -> List[str]:
    """Say where the machine is too small, and which settings make the run smaller."""
    warnings = []
    machine, jobs = plan.machine, plan.jobs
    if jobs > machine.cores:
        warnings.append(f"run.jobs is {jobs}, and this machine has {machine.cores} cores: lower run.jobs, or count on "
                        f"{jobs / machine.cores:.1f} times the time")  # fmt: skip
    if plan.disk > machine.free_disk:
        warnings.append(f"disk: {giga(plan.disk)} GB are wanted, {giga(machine.free_disk)} GB are free; "
                        + _smaller_on_disk(plan))  # fmt: skip
    for row in plan.rows:
        if row.peak_memory(jobs) > machine.memory:
            fits = int((machine.memory - row.memory) // row.worker_memory) if row.worker_memory else 0
            remedy = f"lower run.jobs to {fits}" if fits >= 1 else _smaller_in_memory(row.name)
            warnings.append(f"memory: {row.name} takes {giga(row.peak_memory(jobs))} GB with {jobs} jobs, there are "
                            f"{giga(machine.memory)} GB; {remedy}")  # fmt: skip
    slowest = max(plan.rows, key=lambda row: row.wall_seconds(jobs))
    if slowest.wall_seconds(jobs) > _DAYS * 86400:
        warnings.append(f"time: {slowest.name} alone takes {slowest.wall_seconds(jobs) / 86400:,.0f} days here; "
                        + _faster(plan, slowest.name))  # fmt: skip
    return warnings


def _smaller_on_disk(plan: RecipePlan) -> str:
    """Say what each setting that makes noisy speech or copies would save."""
    work = plan.work
    settings = work.settings
    copies, speeds = work.noisy_copies, len(settings.augment.speeds)
    made = sum(row.disk for row in plan.rows if row.name in ("augment", "features"))
    training = sum(amount.hours for amount in work.training)
    every = training + sum(amount.hours for amount in work.decoded)
    remedies = []
    if copies > 1:
        saved = made * (training * (copies - 1) / (copies + 1)) / every
        remedies.append(f"augment.noisy_copies=1 saves some {giga(saved)} GB")
    if speeds:
        saved = made * training * (1 - 1 / work.speed_hours) / every
        remedies.append(f"augment.speeds=[] some {giga(saved)} GB")
    if copies:
        remedies.append("augment.noisy_copies=0 leaves the noisy training copies out")
    return "; ".join(remedies) or "give a folder on another disk with --exp"


def _smaller_in_memory(stage: str) -> str:
    if stage in ("lm", "graph", "decode"):
        return "a smaller graph takes less: lm.max_ngrams, lm.prune"
    return "it takes a machine with more memory"


def _faster(plan: RecipePlan, stage: str) -> str:
    if stage in [row.name for row in wanted_networks(plan.work.settings)]:
        return (f"a GPU, which this plan does not count, trains faster; or fewer {stage}.trainer.epochs, "
                "model.noisy_per_epoch, model.clean_per_epoch, model.hidden")  # fmt: skip
    if stage == "decode":
        systems = ", ".join(row.name for row in chosen(plan.work.settings))
        return f"fewer of decode.systems ({systems}), a lower decode.max_active"
    if stage == "gmm":
        return f"fewer passes, or gmm.last before {gmm_steps(plan.work.settings)[-1]}"
    return "more jobs on a machine with more cores"


def giga(value: float) -> str:
    """Return bytes as gigabytes: 0.013, 1.4, 280; 0 for what is below a megabyte."""
    number = value / 1e9
    if number < 0.001:
        return "0"
    return f"{number:,.0f}" if number >= 9.95 else f"{number:.1f}" if number >= 0.995 else f"{number:.2g}"

