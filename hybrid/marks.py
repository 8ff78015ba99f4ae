"""Stages, and the marks that tell which of them are up to date (hybrid/stages.py says how they are used)."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple, Union

from hybrid import fingerprint
from hybrid.errors import ConfigError, DataError
from hybrid.io import read_json, write_json
from hybrid.measure import versions
from hybrid.run import Run

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_RESERVED = {"marks", "logs"}
_INPUTS = ".inputs.json"  # in EXP: what files held when they were looked at, by their names, sizes and times
_KEPT = 64  # entries of it


@dataclass(frozen=True)
class Stage:
    """One step of a recipe.

    `needs` names earlier stages; `settings` names the settings or sections whose change redoes the stage; `inputs`
    gives files and folders from outside of the run's folder (called with the Run); `version` is raised when the code of
    the stage changes its results; `seeded` is False where nothing in the stage is random; `outside` names files of the
    run's folder that the stage writes beside its own folder. `run` is handed a view of the Run that lets it read what
    it declares here, and nothing else (Run.view).
    """

    name: str
    run: Callable[[Run], Any]
    needs: Tuple[str, ...] = ()
    settings: Tuple[str, ...] = ()
    inputs: Optional[Callable[[Run], Iterable[Path]]] = None
    version: int = 1
    seeded: bool = True
    outside: Tuple[str, ...] = ()


def find(stages: Sequence[Stage], which: Union[int, str]) -> int:
    """Returns the number of a stage given by number or name. Raises ConfigError."""
    names = [stage.name for stage in stages]
    text = str(which)
    if text in names:
        return names.index(text)
    if text.isdigit() and int(text) < len(stages):
        return int(text)
    close_names = difflib.get_close_matches(text, names, n=1)
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(names))
    raise ConfigError(
        f"no stage {text}" + (f"; near it: {close_names[0]}" if close_names else "") + f"; the stages are: {listed}"
    )


def check(stages: Sequence[Stage]) -> None:
    earlier: List[str] = []
    for stage in stages:
        if not _NAME.fullmatch(stage.name) or stage.name in _RESERVED or stage.name in earlier:
            raise ValueError(f"{stage.name!r} cannot be the name of a stage (or stands twice)")
        missing = [name for name in stage.needs if name not in earlier]
        if missing:
            raise ValueError(f"stage {stage.name} needs {missing}, which do not come before it")
        earlier.append(stage.name)


def states(stages: Sequence[Stage], run: Run) -> List[Tuple[int, Stage, str, str]]:
    """Returns (number, stage, state, reason) of every stage, for `--list`; nothing is written.

    The state is "done", "started" (killed, will go on) or "to do".
    """
    check(stages)
    marks = StageMarks(stages, run)
    rows, pending = [], set()
    for number, stage in enumerate(stages):
        # A stage may read what an earlier one is still to write (a download): its inputs cannot be looked at yet.
        blockers = [name for name in stage.needs if name in pending]
        state, reason = ("to do", f"after {blockers[0]}") if blockers else marks.state(stage)
        if state != "done":
            pending.add(stage.name)
        rows.append((number, stage, state, reason))
    return rows


class StageMarks:
    """The marks of a run and what they say about each stage."""

    def __init__(self, stages: Sequence[Stage], run: Run) -> None:
        self.stages = {stage.name: stage for stage in stages}
        self.numbers = {stage.name: number for number, stage in enumerate(stages)}
        self.run = run
        self._wanted: Dict[str, Dict[str, Any]] = {}
        self._contents = _read_contents(run.exp / _INPUTS)

    def before(self, stage: Stage) -> List[str]:
        """Returns the names of all stages that `stage` rests on, in their order."""
        names: Set[str] = set()
        pending = list(stage.needs)
        while pending:
            name = pending.pop()
            if name not in names:
                names.add(name)
                pending += self.stages[name].needs
        return sorted(names, key=lambda name: self.numbers[name])

    def path(self, stage: Stage) -> Path:
        return self.run.exp / "marks" / f"{self.numbers[stage.name]:02d}-{stage.name}.json"

    def read(self, stage: Stage) -> Optional[Dict[str, Any]]:
        """Reads the mark of a stage; None where there is none that can be read. A renumbered stage keeps its mark."""
        for path in [self.path(stage), *self._others(stage)]:
            try:
                mark = read_json(path)
            except DataError:
                continue
            if isinstance(mark, dict) and mark.get("state") in ("started", "done"):
                return mark
        return None

    def write(self, stage: Stage, mark: Dict[str, Any]) -> None:
        write_json(self.path(stage), mark)
        self.keep_contents()
        for path in self._others(stage):
            path.unlink()

    def keep_contents(self) -> None:
        """Writes what was found of inputs, for the next run."""
        write_json(self.run.exp / _INPUTS, dict(list(self._contents.items())[-_KEPT:]))

    def renumber(self, stage: Stage) -> None:
        """Puts a mark that stands under another number where it belongs now."""
        mark = self.read(stage)
        if mark is not None and self._others(stage):
            self.write(stage, {**mark, "number": self.numbers[stage.name]})

    def remove(self, stage: Stage) -> None:
        for path in [self.path(stage), *self._others(stage)]:
            path.unlink(missing_ok=True)

    def _others(self, stage: Stage) -> List[Path]:
        """Returns the marks that the stage left under other numbers."""
        pattern = re.compile(rf"\d+-{stage.name}\.json")
        paths = sorted((self.run.exp / "marks").glob(f"*-{stage.name}.json"))
        return [path for path in paths if pattern.fullmatch(path.name) and path != self.path(stage)]

    def forget(self) -> None:
        """Forgets what has been worked out, because the settings have changed: sizes that follow from the hours of
        speech."""
        self._wanted.clear()

    def wanted(self, stage: Stage) -> Dict[str, Any]:
        """Returns what the stage depends on, part by part, and the fingerprint of it all."""
        if stage.name not in self._wanted:
            run = self.run
            parts: Dict[str, Any] = {
                "stage": stage.name,
                "version": [stage.version, versions().get("hybrid-asr", "")],
                "settings": self.settings(stage),
                "seed": run.seed if stage.seeded else None,
                "needs": {name: self.wanted(self.stages[name])["fingerprint"] for name in stage.needs},
                "inputs": None if stage.inputs is None else self._content(list(stage.inputs(run))),
            }
            self._wanted[stage.name] = {**parts, "fingerprint": fingerprint.of_value(parts)}
        return self._wanted[stage.name]

    def _content(self, inputs: Sequence[Path]) -> str:
        """Returns the hash of the content of files; they are read only if they have changed since this run last was at
        work."""
        times = fingerprint.of_times(inputs, self.run.data)
        if times is None:
            return fingerprint.of_inputs(inputs, self.run.data)
        content = self._contents.pop(times, None) or fingerprint.of_inputs(inputs, self.run.data)
        self._contents[times] = content  # the last
        return content

    def settings(self, stage: Stage) -> Dict[str, Any]:
        """Returns the settings that the stage depends on, with their values now."""
        return {name: value for prefix in stage.settings for name, value in self.run.config.under(prefix).items()}

    def sources(self, stage: Stage) -> Dict[str, Any]:
        """Returns the content of the folders that the stage reads, as their marks tell it."""
        return {name: (self.read(self.stages[name]) or {}).get("output") for name in stage.needs}

    def state(self, stage: Stage) -> Tuple[str, str]:
        """Returns the state of a stage and the reason of it: ("done" | "started" | "to do", why)."""
        mark, dependencies = self.read(stage), self.wanted(stage)
        if mark is None:
            return "to do", "never run"
        if mark.get("fingerprint") != dependencies["fingerprint"]:
            return "to do", _difference(mark, dependencies)
        for name, output in self.sources(stage).items():
            if mark.get("sources", {}).get(name) != output:
                return "to do", f"the outputs of {name} have changed"
        folder = self.run.dir(stage.name)
        if mark["state"] == "started":
            return "started", "stopped before its end"
        for name, size in mark.get("files", {}).items():
            try:
                same = (folder / name).stat().st_size == size
            except OSError:
                return "to do", f"{stage.name}/{name} is gone" if folder.is_dir() else "its folder is gone"
            if not same:
                return "to do", f"{stage.name}/{name} has changed"
        for name in stage.outside:
            if not (self.run.exp / name).is_file():
                return "to do", f"{name} is gone"
        return ("done", "up to date") if folder.is_dir() else ("to do", "its folder is gone")


def _read_contents(path: Path) -> Dict[str, str]:
    """Returns what an earlier run has kept; nothing where that is no such file."""
    try:
        kept = read_json(path)
    except DataError:
        return {}
    if not isinstance(kept, dict) or not all(isinstance(content, str) for content in kept.values()):
        return {}
    return kept


def _difference(mark: Dict[str, Any], dependencies: Dict[str, Any]) -> str:
    """Says what has changed since the mark, in words."""
    old, new = mark.get("settings", {}), dependencies["settings"]
    changes = [f"{key} {old.get(key)!r} -> {new.get(key)!r}" for key in {**old, **new} if old.get(key) != new.get(key)]
    if changes:
        return "settings have changed: " + ", ".join(changes[:5])
    for key, text in (("seed", "the seed has changed"), ("inputs", "its inputs have changed")):
        if mark.get(key) != dependencies[key]:
            return text
    for name, value in dependencies["needs"].items():
        if mark.get("needs", {}).get(name) != value:
            return f"{name} has changed"
    return "the code has changed"
