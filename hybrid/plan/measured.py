"""What a finished run took, stage by stage, beside what the plan says of it: `hybrid plan RECIPE --measured EXP`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Dict, List, NamedTuple, Sequence

from hybrid.config import Config, merged, nested
from hybrid.errors import ConfigError, DataError
from hybrid.io import read_json
from hybrid.parallel import cores
from hybrid.pipeline.recipe import defaults
from hybrid.pipeline.settings import read_settings
from hybrid.plan.speech_amounts import amounts_of_run
from hybrid.plan.stage_cost import StageCost
from hybrid.plan.stage_plan import plan_stages
from hybrid.plan.workload import Workload

_LEAST = 5.0  # CPU seconds, MB: of less nobody can tell what it costs at size


class Taken(NamedTuple):
    """What a stage took, by its mark: CPU seconds, bytes, peak bytes of memory."""

    cpu_seconds: float
    disk: float
    memory: float


@dataclass(frozen=True)
class Ratio:
    """What a stage took of what the plan says of it."""

    cpu: float
    disk: float
    memory: float


def taken_by(exp: Path) -> Dict[str, Taken]:
    """Return what the finished stages of a run took; a stage that was killed in between is left out, for its mark has
    the time of the last attempt alone. Raises DataError where there is none."""
    taken = {}
    for path in sorted((exp / "marks").glob("*.json")):
        mark = read_json(path)
        if mark.get("state") == "done" and mark.get("attempts") == 1:
            size = sum(mark["files"].values())
            taken[mark["stage"]] = Taken(mark["cpu_seconds"], size, 1e6 * mark["peak_memory_mb"])
    if not taken:
        raise DataError("no finished stage of a run here", file=exp / "marks",
                        remedy="give --measured the folder of a run (EXP) that has been done on this machine")
    return taken


def ratios_of(exp: Path) -> Dict[str, Ratio]:
    """Return what each finished stage of a run took of what the plan says for its settings and its speech.

    Raises DataError as `taken_by` and `amounts_of_run`, and for settings of another version."""
    taken = taken_by(exp)
    work = Workload(settings_of_run(exp), amounts_of_run(exp))
    jobs = work.settings.run.jobs or cores()
    names = [name for name in taken if (exp / name).is_dir()]
    ratios = {}
    for row in plan_stages(work, names):
        stage = taken[row.name]
        ratios[row.name] = Ratio(
            _ratio(stage.cpu_seconds, row.cpu_seconds, _LEAST), _ratio(stage.disk, row.disk, 1e6 * _LEAST),
            _ratio(stage.memory, row.peak_memory(jobs), 0.0),
        )  # fmt: skip
    return ratios


def settings_of_run(exp: Path) -> Any:
    """Return the settings that a run was made with; one that only this version has is as by default. Raises DataError
    for those that this version does not know."""
    path = exp / "config.json"
    try:
        return read_settings(Config(merged(defaults(), nested(read_json(path)))))
    except ConfigError as error:
        raise DataError(f"the settings of this run cannot be read: {error}", file=path,
                        remedy="give a run that was made with this version") from error  # fmt: skip


def scaled_by(rows: Sequence[StageCost], ratios: Dict[str, Ratio], exp: Path) -> List[StageCost]:
    """Return the rows times what each stage of the run took of its plan; a stage that the run lacks, or that took too
    little to tell, takes the middle CPU ratio of the others: the machine's."""
    middle = median(ratio.cpu for ratio in ratios.values())
    scaled = []
    for row in rows:
        ratio = ratios.get(row.name)
        if ratio is None:
            why = f"not in {exp}: {middle:.2f} times the table's CPU time, as the middle of its stages"
            scaled.append(row.scaled(middle, 1.0, 1.0, why))
        else:
            why = (f"measured in {exp}: {ratio.cpu:.2f} times the table's CPU time, {ratio.disk:.2f} times its disk, "
                   f"{ratio.memory:.2f} times its memory")  # fmt: skip
            scaled.append(row.scaled(ratio.cpu, ratio.disk, ratio.memory, why))
    return scaled


def _ratio(value: float, planned: float, least: float) -> float:
    return value / planned if planned > least and value > least else 1.0
