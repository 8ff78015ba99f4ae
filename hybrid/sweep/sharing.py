"""Stages that one run has done, given to another that would make the same: hard links, so that they cost no room.

Which: a stage that the receiving run has still to do, and whose mark in the giving run is "done" with the very
fingerprint that the receiving run wants and with the same outputs of the stages it needs. Nothing is linked that would
be deleted and made anew.

Why links are safe. A file that has two names must never be written in place, in either folder. Of a run's folder only
files of done stages are linked; a stage's folder is written by its stage alone, and a done stage is either kept or its
folder deleted, which takes one name away and leaves the other run's. A stage that "goes on" where it was stopped (and
may truncate or append: log.jsonl of the trainer) is one with the mark "started", which a shared stage never has: its
folder is made anew first. What is written in place or locked lies outside: logs/ is copied, .lock and .workers stay,
marks are written through hybrid.io, and results.json (`Stage.outside`) is made again by its stage.

Why a kill at any moment does no harm: the links are made under another name, renamed to the stage's folder when all are
there, and the mark is written last; a folder without a mark counts as nothing. The giver's mark is read again after its
files are linked: a run deletes the mark before the folder, so that a mark which stands says that the folder was whole.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence

from hybrid.errors import HybridError
from hybrid.io import disk_errors
from hybrid.marks import Stage, StageMarks
from hybrid.run import Run
from hybrid.stages import claimed, delete_folder


def share(stages_of: Callable[[Run], Sequence[Stage]], run: Run, givers: Sequence[Run]) -> List[str]:
    """Links into `run` every stage that one of `givers` has done alike; returns their names.

    stages_of: what makes the stages of a run.

    Raises ConfigError where another run is at work in the folder, DiskError.
    """
    shared = []
    all_marks = [StageMarks(stages_of(giver), giver) for giver in givers if (giver.exp / "marks").is_dir()]
    if not all_marks:
        return []
    with claimed(run):
        for leftover in run.exp.glob(".*.shared.tmp"):  # by a kill
            delete_folder(leftover)
        stages = stages_of(run)
        marks = StageMarks(stages, run)
        for stage in stages:
            if run.learn():  # sizes that follow from the hours of speech, which a stage just shared tells
                marks.forget()
            try:
                if stage.outside or marks.state(stage)[0] != "to do":
                    continue
                fingerprint = marks.wanted(stage)["fingerprint"]
            except HybridError:
                break  # inputs that an earlier stage is to write, or that are missing: the run itself will tell
            if any(_give(giver, marks, stage, fingerprint) for giver in all_marks):
                shared.append(stage.name)
    return shared


def _give(giver: StageMarks, marks: StageMarks, stage: Stage, fingerprint: str) -> bool:
    mark = giver.read(stage)
    if mark is None or mark["state"] != "done" or mark.get("fingerprint") != fingerprint:
        return False
    if mark.get("sources") != marks.sources(stage):
        return False
    folder = marks.run.dir(stage.name)
    temporary = folder.with_name(f".{stage.name}.shared.tmp")
    with disk_errors(folder):
        delete_folder(temporary)
        complete = _link_files(giver.run.dir(stage.name), temporary, mark.get("files", {}))
        if not complete or giver.read(stage) != mark:
            delete_folder(temporary)
            return False
        marks.remove(stage)
        delete_folder(folder)
        os.replace(temporary, folder)
        _copy_log(giver, marks, stage)
        marks.write(stage, {**mark, "number": marks.numbers[stage.name], "shared_from": _name(giver.run.exp)})
    return True


def _link_files(source: Path, target: Path, files: Dict[str, Any]) -> bool:
    """False where a file is gone or not of its size."""
    if not source.is_dir():
        return False
    target.mkdir(parents=True)
    for top, folders, _ in os.walk(source, followlinks=True):
        for name in folders:
            (target / Path(top, name).relative_to(source)).mkdir(exist_ok=True)
    for name, size in files.items():
        # realpath: a link to a symbolic link would share the name of a file and not the file
        real = Path(os.path.realpath(source / name))
        try:
            if real.stat().st_size != size:
                return False
        except FileNotFoundError:
            return False
        _link(real, target / name)
    return True


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links, or too many names of one file
        shutil.copyfile(source, target)


def _copy_log(giver: StageMarks, marks: StageMarks, stage: Stage) -> None:
    source, target = (
        holder.run.exp / "logs" / f"{holder.numbers[stage.name]:02d}-{stage.name}.log" for holder in (giver, marks)
    )
    if source.exists() and not target.exists():
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)


def _name(exp: Path) -> str:
    """RUN/seedN."""
    return "/".join(exp.parts[-2:])
