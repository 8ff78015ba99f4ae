"""Running a recipe from Python, and reading what a run has left: `hybrid.run`, `hybrid.open_run`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Union

from hybrid.errors import DataError
from hybrid.io import PathLike, read_json
from hybrid.parallel import prepare_environment
from hybrid.score.results import DEV, Row, read_results, table


@dataclass(frozen=True)
class FinishedRun:
    """A run's folder. results: the rows of results.json; config: its settings by dotted name."""

    exp: Path

    @property
    def results(self) -> List[Row]:
        """The rows of results.json; [] where the stage score has not run."""
        path = self.exp / "results.json"
        return read_results(path) if path.exists() else []

    @property
    def config(self) -> Dict[str, Any]:
        config: Dict[str, Any] = read_json(self.exp / "config.json")
        return config

    def table(self) -> str:
        """Return the word error rates as Markdown."""
        return table(self.results)

    def wer(self, system: str, condition: str = "clean", set: str = "", tuned_on: str = "dev") -> float:
        """Return the word error rate in percent of one cell; set: "" is the only test set, or the first.

        Raises DataError where there is none."""
        for row in self.results:
            matches = (row["system"], row["condition"], row["tuned_on"]) == (system, condition, tuned_on)
            if matches and (row["set"] == set if set else row["set"] != DEV):
                return float(row["wer"])
        raise DataError(f"no result of {system} on {condition} {set}".rstrip(), file=self.exp / "results.json")

    def load(self, system: Optional[str] = None) -> Any:
        """Return the recogniser of a system (hybrid.load)."""
        from hybrid.decode.load import load

        return load(self.exp, system=system)


def run(
    recipe: str,
    data: Optional[PathLike] = None,
    exp: Optional[PathLike] = None,
    *,
    set: Optional[Mapping[str, Any]] = None,
    seed: int = 0,
    stage: Optional[Union[int, str]] = None,
    stop_stage: Optional[Union[int, str]] = None,
) -> FinishedRun:
    """Run what is not up to date of a recipe (a name of ours, or a TOML file), as `hybrid run` does.

    data: --data DIR; exp: the folder of the run, by default exp/RECIPE; set: settings by dotted name, as
    {"model.hidden": 128}. Raises HybridError, ConfigError among it for a wrong setting.
    """
    prepare_environment()
    from hybrid.pipeline.recipe import find_recipe
    from hybrid.stages import run_stages

    selected = find_recipe(str(recipe))
    config = selected.config([f"{name}={_toml(value)}" for name, value in (set or {}).items()])
    folder = Path(exp) if exp is not None else Path("exp") / selected.name
    recipe_run = selected.run(
        folder, config, data=None if data is None else Path(data), seed=seed, command="hybrid.run"
    )
    run_stages(selected.stages(recipe_run), recipe_run, stage, stop_stage)
    return FinishedRun(folder)


def open_run(exp: PathLike) -> FinishedRun:
    """Return what lies in the folder of a run. Raises DataError where it is none."""
    folder = Path(exp)
    if not (folder / "run.json").is_file():
        raise DataError("no run in this folder", file=folder, remedy="give the folder that `hybrid run --exp` wrote")
    return FinishedRun(folder)


def _toml(value: Any) -> str:
    """Return a value as --set takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return str(value)
