"""Runs in this process that note what each stage reads: settings, and files of the run's folder that Python opens.

What C++ opens (graphs, tensors) is not seen here; its paths come from Run.dir, which refuses folders that a stage does
not declare.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
import sys
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple
from unittest import mock

from mini_demo import SETTINGS, small_media

from hybrid.config import Config
from hybrid.marks import Stage
from hybrid.parallel import SerialExecutor
from hybrid.pipeline import corpus_settings, network_settings, second_pass_settings
from hybrid.pipeline import settings as sections
from hybrid.pipeline.recipe import find_recipe
from hybrid.run import Run
from hybrid.stages import run_stages

BUILDING = "(which stages there are)"
# Of the run that several tests share (conftest.py, recorded_demo).
DEMO = [
    *SETTINGS, "model.vtlp.enabled=true", "lfmmi.lm_words=200", "lm.prune=0.0001", 'rescore.systems=["mono"]',
    'rescore.passes=["ngram","lattice-lstm","lattice-transformer","pll+bert+linear"]', "rescore.nbest=4",
    "rescore.train_lists=10", "rescore.train_nbest=3", "text_models.least=1", "text_models.lstm.hidden=8",
    *(f"text_models.{name}.{size}" for name in ("transformer", "masked") for size in ("dim=8", "layers=1", "heads=1")),
    *(f"text_models.{name}.epochs=1" for name in ("lstm", "transformer", "masked", "bert")),
    "text_models.bert.distil_epochs=1",
]  # fmt: skip


class Recorder:
    """read: stage -> settings by dotted name; opened: stage -> (folder of EXP, file) that it has opened."""

    def __init__(self, exp: Path) -> None:
        self.exp = os.path.realpath(exp)
        self.stage: Optional[str] = None
        self.stages: List[Stage] = []
        self.read: Dict[str, Set[str]] = defaultdict(set)
        self.opened: Dict[str, Set[Tuple[str, str]]] = defaultdict(set)
        self._paths: Dict[int, str] = {}
        self._kept: Any = None  # the object whose parts' ids are known, so that no other takes them

    def watched(self, stage: Stage) -> Stage:
        def work(run: Any) -> None:
            with self.at(stage.name, getattr(run, "_settings", None)):
                stage.run(run)

        return replace(stage, run=work)

    @contextmanager
    def at(self, stage: str, settings: Any) -> Iterator[None]:
        """settings: typed ones, or a Declared of them."""
        self._kept = getattr(settings, "__dict__", {}).get("_settings", settings)
        self._paths = dict(_paths(self._kept)) if is_dataclass(self._kept) else {}
        self.stage = stage
        try:
            yield
        finally:
            self.stage, self._paths = None, {}

    def saw_field(self, owner: Any, name: str) -> None:
        where = self._paths.get(id(owner)) if self.stage else None
        if where is not None:
            self.read[self.stage or ""].add(f"{where}.{name}" if where else name)

    def saw_key(self, config: Config, key: str) -> None:
        if self.stage and config._visible is not None:  # the view of a stage
            self.read[self.stage].add(key)

    def saw_file(self, path: Any) -> None:
        if self.stage is None or not isinstance(path, (str, bytes, os.PathLike)):
            return
        full = os.path.realpath(os.fsdecode(path))
        if full.startswith(self.exp + os.sep):
            folder, _, file = os.path.relpath(full, self.exp).partition(os.sep)
            if file:
                self.opened[self.stage].add((folder, file))

    def settings(self, known: Sequence[str]) -> Set[str]:
        """Those of the known ones that a stage has read: by themselves, or with the table that they are in."""
        names = set().union(*self.read.values())
        return {name for name in known if name in names or any(name.startswith(f"{one}.") for one in names & TABLES)}


# Sections that are taken whole, as a dictionary.
TABLES = {f"{name}.trainer" for name in sections.Settings.__dataclass_fields__}
_active: Optional[Recorder] = None


def _hook(event: str, arguments: Tuple[Any, ...]) -> None:
    if event == "open" and _active is not None:
        _active.saw_file(arguments[0])


@functools.cache
def _install() -> None:
    sys.addaudithook(_hook)  # stays until the process ends


def _paths(value: Any, where: str = "") -> Iterator[Tuple[int, str]]:
    """The id of every section with its dotted name."""
    yield id(value), where
    for one in fields(value):
        inner = object.__getattribute__(value, one.name)
        if is_dataclass(inner):
            yield from _paths(inner, f"{where}.{one.name}" if where else one.name)


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """While it lasts, what stages under `recorder.watched` read is noted, and pools of workers work in this process."""
    global _active
    _install()
    read_key: Callable[..., Any] = Config.__getitem__

    def key(self: Config, name: str) -> Any:
        recorder.saw_key(self, name)
        return read_key(self, name)

    def attribute(self: Any, name: str) -> Any:
        if not name.startswith("__"):
            recorder.saw_field(self, name)
        return object.__getattribute__(self, name)

    modules = (sections, corpus_settings, network_settings, second_pass_settings)
    classes = {kind for module in modules for _, kind in inspect.getmembers(module, inspect.isclass)}
    kinds = [kind for kind in classes if dataclasses.is_dataclass(kind)]
    patches = [mock.patch.object(kind, "__getattribute__", attribute) for kind in kinds]
    patches += [mock.patch.object(Config, "__getitem__", key)]
    patches += [mock.patch.object(Run, "executor", lambda self: SerialExecutor())]
    _active = recorder
    try:
        for patch in patches:
            patch.start()
        yield
    finally:
        for patch in reversed(patches):
            patch.stop()
        _active = None


def record(exp: Path, settings: Sequence[str], *, stop: Optional[str] = None) -> Recorder:
    """A run of the demo in `exp`, to the stage `stop`."""
    from hybrid.recipes.demo import media

    recorder = Recorder(exp)
    recipe = find_recipe("demo")
    run = recipe.run(exp, recipe.config(settings))
    with mock.patch.object(media, "PIECES", media.PIECES), recording(recorder):
        small_media()
        with recorder.at(BUILDING, run.settings):
            stages = recipe.stages(run)
        recorder.stages = stages
        run_stages([recorder.watched(stage) for stage in stages], run, last=stop)
    return recorder
