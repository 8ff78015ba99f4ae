"""Which runs a sweep's file asks for, with which settings, and which waits for which."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from hybrid.errors import ConfigError

RUN_SEED = "seed"  # as seed_setting: the seed of the whole run, and not a setting
Row = Tuple[str, str]  # run, system
Key = Tuple[str, int]  # run, seed


@dataclass(frozen=True)
class Variant:
    """A [[run]] of the file."""

    name: str
    settings: Tuple[str, ...]
    seeds: Tuple[int, ...]
    show: Tuple[str, ...] = ()  # none: all that it decodes
    labels: Mapping[str, str] = field(default_factory=dict)

    def label(self, system: str) -> str:
        return self.labels.get(system, f"{self.name}/{system}")


@dataclass(frozen=True)
class Sweep:
    """A whole file. published: words and numbers."""

    file: Path
    recipe: str
    title: str
    settings: Tuple[str, ...]
    seed_setting: str
    reference: Optional[Row]
    compare: Tuple[Tuple[Row, Row], ...]
    published: Tuple[Tuple[str, Tuple[float, ...]], ...]
    variants: Tuple[Variant, ...]

    def variant(self, name: str) -> Variant:
        return next(variant for variant in self.variants if variant.name == name)


@dataclass(frozen=True)
class Job:
    """One run of one seed. settings: as `--set` takes them. seed: of the run itself (`--seed`)."""

    key: Key
    exp: Path
    settings: Tuple[str, ...]
    seed: int

    @property
    def name(self) -> str:
        return f"{self.key[0]}/seed{self.key[1]}"

    @property
    def log(self) -> Path:
        return self.exp.with_name(f"{self.exp.name}.log")


def jobs(sweep: Sweep, exp: Path, more: Sequence[str] = ()) -> List[Job]:
    """Returns all runs in the file's order. more: settings from the command line."""
    planned = []
    for variant in sweep.variants:
        for seed in variant.seeds:
            settings = [*sweep.settings, *variant.settings, *more]
            if sweep.seed_setting != RUN_SEED:
                settings.append(f"{sweep.seed_setting}={seed}")
            run_seed = seed if sweep.seed_setting == RUN_SEED else 0
            planned.append(Job((variant.name, seed), exp / variant.name / f"seed{seed}", tuple(settings), run_seed))
    return planned


def sources(
    sweep: Sweep, chosen: Sequence[Job], finished: Callable[[Key], bool]
) -> Dict[Key, Optional[Key]]:
    """Returns the run that each chosen one waits for; None for that which is made from nothing.

    finished: whether a run that is not chosen is done. Raises ConfigError where a run that has not begun would have
    to wait for one that is neither chosen nor finished.
    """
    keys = [job.key for job in chosen]
    first = sweep.variants[0]
    waits_for: Dict[Key, Optional[Key]] = {}
    for job in chosen:
        name, seed = job.key
        root = (first.name, first.seeds[0])
        candidates = [(first.name, seed)] if name != first.name and seed in first.seeds else []
        candidates += [root] if job.key != root else []
        ready = [key for key in candidates if key in keys or finished(key)]
        if ready:
            waits_for[job.key] = ready[0]
        elif name == first.name:
            begins = next(key for key in keys if key[0] == name)
            waits_for[job.key] = begins if begins != job.key else None
        elif job.exp.exists():
            waits_for[job.key] = None
        else:
            raise ConfigError(
                f"the run {job.name} starts from {candidates[0][0]}/seed{candidates[0][1]}, which is not finished",
                file=sweep.file,
                remedy=f"add {first.name} to --only and its seed to --seeds, or leave these options out",
            )
    return waits_for
