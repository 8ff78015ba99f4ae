"""Stages read what they declare, and every setting is read by something: seen in whole runs."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Dict, List, Set

import pytest
from conftest import PROJECT
from mini_demo import SETTINGS
from recipe_tools import recipe_run
from recorded_runs import Recorder, record, recording

from hybrid.config import Config, Undeclared
from hybrid.marks import Stage
from hybrid.pipeline.recipe import defaults
from hybrid.run import Run
from hybrid.stages import run_stages
from hybrid.train.config import TrainerConfig

# With teachers, students and a schedule; what the first run leaves out: pieces of words, held-out speakers, a TDNN-F.
STUDENTS = [
    "prepare.train_minutes=0.8", "prepare.unlabelled_minutes=0.3", "corpus.dev=", "corpus.dev_speakers=3",
    "corpus.units=pieces", "lang.pieces=60", "gmm.last=mono", "gmm.learn_probs=none",
    "student.enabled=true", "student.confident=0.8", "student.hard_weight=0.2", "student_lfmmi.soft=1.0",
    "scheduled.enabled=true", "scheduled.shard_size=20", "scheduled.chunks=unlabelled 100%, labelled 100%",
    "model.kind=tdnnf", "model.tdnnf.hidden=24", "model.tdnnf.bottleneck=8", "model.tdnnf.small=8",
    "model.tdnnf.big=24", "model.tdnnf.strides=[1, 3]", "teacher_model.kind=lstm", "teacher_model.hidden=16",
    "teacher_model.layers=1", "teacher_ce.trainer.epochs=1", "teacher_lfmmi.trainer.epochs=1",
    "student_lfmmi.trainer.epochs=1", 'decode.systems=["student_lfmmi"]', 'decode.tune_on=["dev"]',
    "limits.problems=0.5",
]  # fmt: skip

# Settings that no stage reads, each with its reason.
ELSEWHERE = {
    "corpus.python": "loaded before the first stage; the file is an input of all stages that call it",
    "student_ce.label_smoothing": "ce's, which [student_ce] is like; another value is refused: soft targets are soft",
    "student_ce.priors": "likewise: a student's priors follow from what its teacher's outputs are",
}


# Declared by a stage that does not read it in these runs, each with its reason.
FOR_OTHER_RUNS = {
    "prepare: corpus.python": ELSEWHERE["corpus.python"],
    "teacher_lfmmi: teacher_model": "of a flat start; here it starts from teacher_ce",
    "student_ce: student.confident": "of data in memory; here the stage shards has chosen",
    # What all that learns from targets declares alike; all of them rest on student_ce, or on its targets.
    **dict.fromkeys((f"student_lfmmi: {name}" for name in ("scheduled", "student.hard_weight", "student.online",
                                                           "student.targets", "student.temperature")), "students"),
    "shards: student.temperature": "students",
    "occupancies: student.targets": "students",
    # prepare reads it, and all rest on that.
    "ce: limits": "networks",
    "teacher_ce: limits": "networks",
}  # fmt: skip


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    return record(tmp_path_factory.mktemp("students") / "exp", [*SETTINGS, *STUDENTS])


@pytest.fixture(scope="module")
def runs(recorded_demo: Recorder, students: Recorder) -> Dict[str, Recorder]:
    return {"demo": recorded_demo, "students": students}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["demo", "students"])
def test_no_stage_opens_files_of_a_stage_that_it_does_not_need(runs: Dict[str, Recorder], name: str) -> None:
    recorder = runs[name]
    known = {stage.name for stage in recorder.stages}
    foreign: Dict[str, Set[str]] = {}
    for stage in recorder.stages:
        folders = {folder for folder, _ in recorder.opened[stage.name]} & known
        undeclared = folders - {stage.name, *stage.needs}
        if undeclared:
            foreign[stage.name] = undeclared
    assert foreign == {}
    # The hook sees something, else all of this could pass on nothing.
    seen = {stage: {folder for folder, _ in files} for stage, files in recorder.opened.items()}
    assert {"prepare", "features"} <= seen["features"] and "augment" in seen["features"]
    assert "features" in seen["gmm"] and "lang" in seen["gmm"]
    if name == "demo":
        assert {"features", "senones"} <= seen["ce"] and "lm" in seen["lfmmi"] and "ce" in seen["lfmmi"]
        assert {"decode", "features"} <= seen["decode"]
    else:
        assert "targets" in seen["shards"] and "shards" in seen["student_ce"] and "student_ce" in seen["student_lfmmi"]
        assert "teacher_lfmmi" in seen["targets"] and "occupancies" in seen["student_lfmmi"]


@pytest.mark.slow
def test_every_setting_is_read_by_some_stage(runs: Dict[str, Recorder]) -> None:
    flat = Config(defaults()).flat()
    known = [name for name in [*flat, "corpus.test"] if not name.startswith("sizes.")]
    read = set().union(*(recorder.settings(known) for recorder in runs.values()))
    # [trainer] is what the tables of the networks are like.
    read |= {f"trainer.{name.rsplit('.', 1)[1]}" for name in read if ".trainer." in name}
    assert len(known) > 200
    assert sorted(set(known) - read) == sorted(ELSEWHERE)


@pytest.mark.slow
def test_no_stage_declares_a_setting_or_a_folder_for_nothing(runs: Dict[str, Recorder]) -> None:
    """A section may have some that only other runs read. What is declared for nothing makes a stage run again."""
    idle: Set[str] = set()
    for stage in {stage.name for recorder in runs.values() for stage in recorder.stages}:
        here = [recorder for recorder in runs.values() if stage in {one.name for one in recorder.stages}]
        declared = {name for recorder in here for one in recorder.stages if one.name == stage for name in one.settings}
        read = set().union(*(recorder.read[stage] for recorder in here))
        for name in declared:
            if not any(one == name or one.startswith(f"{name}.") for one in read):
                idle.add(f"{stage}: {name}")
    assert ", ".join(sorted(idle - set(FOR_OTHER_RUNS))) == ""


def test_the_settings_of_a_training_are_read_by_the_trainer() -> None:
    """They reach it as one object: each is an attribute that some module reads."""
    asked: Set[str] = set()
    for path in sorted((PROJECT / "hybrid" / "train").glob("*.py")):
        if path.name != "config.py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            asked |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    inside = {"schedule", "bmuf"}
    names = [name for name in TrainerConfig.__dataclass_fields__ if name not in inside]
    in_config = {"device", "dropout_schedule", "momentum", "weight_decay", "threads", "checkpoint_updates"}
    assert len(names) > 15 and [name for name in names if name not in asked | in_config] == []


# ------------------------------------------------------------------ that what is undeclared is seen


def test_the_recorder_sees_files_of_other_stages_and_settings(tmp_path: Path) -> None:
    def one(run: Run) -> None:
        (run.dir("one") / "out").write_text("1")

    def two(run: Run) -> None:
        (run.exp / "one" / "out").read_text()  # past Run.dir
        assert run.config["a.x"] == 1

    stages = [Stage("one", one), Stage("two", two, settings=("a",))]
    recorder = Recorder(tmp_path / "exp")
    with recording(recorder):
        run = Run(tmp_path / "exp", Config({"a": {"x": 1, "y": 2}}))
        run_stages([recorder.watched(stage) for stage in stages], run)
    assert recorder.opened["two"] == {("one", "out")} and recorder.opened["one"] == {("one", "out")}
    assert recorder.settings(["a.x", "a.y"]) == {"a.x"}


UNDECLARED: List[str] = ["decode.beam", "ce.batch_frames", "corpus.dev", "student.k"]


@pytest.mark.parametrize("name", UNDECLARED)
def test_a_stage_of_the_recipe_cannot_read_what_it_does_not_declare(tmp_path: Path, name: str) -> None:
    run = recipe_run(tmp_path / "exp")
    view = run.view(Stage("features", print, needs=("prepare",), settings=("features", "model.hidden", "limits")))
    section, own = name.split(".")
    with pytest.raises(Undeclared, match=f"features reads the setting {section}"):
        getattr(getattr(view.settings, section), own)
    with pytest.raises(Undeclared, match=f"{name} is read by a stage that declares run, features"):
        view.config[name]
    assert view.settings.features.logmel.num_bins == 64 and view.settings.model.hidden == 128
    with pytest.raises(Undeclared, match="the stage features reads the setting model.layers"):
        view.settings.model.layers  # noqa: B018
    with pytest.raises(Undeclared, match="EXP/gmm is read by a stage that declares features, prepare"):
        view.dir("gmm")
    assert view.dir("prepare") == tmp_path / "exp" / "prepare" and run.dir("gmm") == tmp_path / "exp" / "gmm"
