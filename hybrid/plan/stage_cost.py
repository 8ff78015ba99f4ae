"""What a stage of a recipe is planned to take, and what that rests on, in words."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import List

from hybrid.plan import stage_costs as costs


@dataclass(frozen=True)
class StageCost:
    """Of one stage. disk, scratch: bytes that stay, and that it writes besides and deletes; memory: bytes of the main
    process, worker_memory: of each worker; processes: how many can share the work, 0: as many as there are jobs. why:
    what the numbers rest on."""

    name: str
    cpu_seconds: float
    disk: float = 0.0
    scratch: float = 0.0
    memory: float = costs.PROCESS.value
    worker_memory: float = 0.0
    processes: float = 0.0
    why: List[str] = field(default_factory=list)

    def wall_seconds(self, jobs: int) -> float:
        return self.cpu_seconds / (min(self.processes, jobs) if self.processes else jobs)

    def peak_memory(self, jobs: int) -> float:
        return self.memory + jobs * self.worker_memory

    def scaled(self, cpu: float, disk: float, memory: float, why: str) -> StageCost:
        """Return the costs times what a finished run took of its own plan."""
        return replace(
            self, cpu_seconds=cpu * self.cpu_seconds, disk=disk * self.disk, memory=memory * self.memory,
            worker_memory=memory * self.worker_memory, why=[why],
        )  # fmt: skip


def told(*used: costs.Cost) -> List[str]:
    return [_tell(cost) for cost in used]


def _tell(cost: costs.Cost) -> str:
    value = f"{cost.value / costs.MB:,.4g} MB, of" if cost.unit.startswith("bytes") and cost.value >= 1e5 else (
        f"{cost.value:,.4g}"
    )  # fmt: skip
    return f"{value} {cost.unit} ({cost.source})"
