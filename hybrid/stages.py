"""Stages of a recipe: numbered, named, run once, and run again when what they depend on has changed.

    STAGES = [
        Stage("prepare", prepare, inputs=corpus_files),
        Stage("features", features, needs=("prepare",), settings=("features",)),
    ]

A stage writes into EXP/<name> (and the files that it names as `outside`) and nowhere else, and leaves a mark,
EXP/marks/NN-<name>.json, "started" when it begins and "done" when it ends. The mark holds the stage's fingerprint: a
hash of its name and version, the package's version, the values of the settings it names, the seed, the fingerprints of
the stages it needs and the content of its inputs.

    mark                                     what happens
    done, same fingerprint, files there      nothing: "up to date"
    started, same fingerprint                the stage runs in the folder as the killed run left it (it may resume)
    another fingerprint, or no mark          the folder is deleted, the stage runs
    done, but files of it are gone           likewise
    a stage it needs has other outputs now   likewise (same settings, other code)

Why a kill at any moment does no harm: a mark is whole or absent (hybrid.io); the mark is deleted before the folder, so
that a half-deleted folder has no mark; "started" is written after the old folder is gone and before the stage begins;
"done" is written last. Worker processes end with their run, and a new run waits until the last of them is gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import traceback
from concurrent.futures.process import BrokenProcessPool
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence, Union

from hybrid import fingerprint
from hybrid.device import choose
from hybrid.errors import ConfigError, DiskError, HybridError
from hybrid.io import disk_errors, read_json, write_json
from hybrid.marks import Stage, StageMarks, check, find, states
from hybrid.measure import Meter, commit, versions
from hybrid.parallel import set_threads, wait_for_workers
from hybrid.run import Run

__all__ = ["Run", "Stage", "StageFailed", "claimed", "delete_folder", "run_stages", "states"]

class StageFailed(Exception):
    """A defect of ours in a stage; its stack is in the log, the message says where."""


def run_stages(
    stages: Sequence[Stage],
    run: Run,
    first: Optional[Union[int, str]] = None,
    last: Optional[Union[int, str]] = None,
) -> None:
    """Runs what is not up to date among the stages `first` to `last` (numbers or names, both included).

    Raises ConfigError (unknown stage; EXP is another recipe's or no run's folder; another run is at work in it; an
    earlier stage that is needed is not up to date), what the stages raise as HybridError, and StageFailed.
    """
    check(stages)
    begin = 0 if first is None else find(stages, first)
    end = len(stages) - 1 if last is None else find(stages, last)
    if end < begin:
        raise ConfigError(f"--stop-stage {last} comes before --stage {first}")
    with claimed(run):
        set_threads(int(run.config.get("run.threads", 1)))
        device = str(run.config.get("run.device", "auto"))
        if device != "auto":
            choose(device)  # better now than in the first stage that computes there
        write_json(run.exp / "config.json", run.config.flat())
        marks = StageMarks(stages, run)
        for number in range(begin, end + 1):
            if run.learn():
                marks.forget()
                write_json(run.exp / "config.json", run.config.flat())
            for name in marks.before(stages[number]):
                state, reason = ("done", "") if marks.numbers[name] >= begin else marks.state(marks.stages[name])
                if state != "done":
                    raise ConfigError(
                        f"stage {stages[number].name} needs stage {name}, which is not up to date: {reason}",
                        remedy=f"run with --stage {name}, or without --stage",
                    )
            _run_stage(marks, number, run)
        marks.keep_contents()


def _run_stage(marks: StageMarks, number: int, run: Run) -> None:
    stage = next(stage for stage in marks.stages.values() if marks.numbers[stage.name] == number)
    state, reason = marks.state(stage)
    title = f"stage {number} {stage.name}"
    if state == "done":
        marks.renumber(stage)
        print(f"{title}: up to date", flush=True)
        return
    folder = run.dir(stage.name)
    attempts = 1
    if state == "started":
        attempts += int((marks.read(stage) or {}).get("attempts", 1))
    dependencies = marks.wanted(stage)
    mark: Dict[str, Any] = {
        "stage": stage.name,
        "number": number,
        "state": "started",
        **{key: dependencies[key] for key in ("fingerprint", "version", "settings", "seed", "needs", "inputs")},
        "sources": marks.sources(stage),
        "attempts": attempts,
        "start": _now(),
        "command": run.command,
        "commit": commit(),
        "versions": versions(),
    }
    run.log_file = run.exp / "logs" / f"{number:02d}-{stage.name}.log"
    try:
        with disk_errors(folder):
            if state != "started":
                marks.remove(stage)
                delete_folder(folder)
            marks.write(stage, mark)
            folder.mkdir(parents=True, exist_ok=True)
            _delete_temporary(folder)
        sources = [str(path) for path in (stage.inputs(run) if stage.inputs else ())]
        sources += [str(run.dir(name)) for name in stage.needs]
        run.log(f"{title}: {'goes on where it was stopped' if state == 'started' else reason}")
        run.log(f"  reads {', '.join(sources) or 'nothing'}")
        with Meter() as meter, _reported(title, run):
            stage.run(run.view(stage))
        with disk_errors(folder):
            files, output = fingerprint.of_folder(folder)
            mark.update(state="done", end=_now(), **meter.summary(), files=files, output=output)
            marks.write(stage, mark)
        run.log(
            f"  writes {folder}: {len(files)} files, {sum(files.values()) / 1e6:.1f} MB, in {meter.seconds:.1f} s "
            f"(CPU {meter.cpu_seconds:.1f} s, memory at most {meter.peak_bytes / 1e6:.0f} MB)"
        )
    finally:
        run.log_file = None


@contextlib.contextmanager
def _reported(title: str, run: Run) -> Iterator[None]:
    """Puts the end of a failed stage into its log; a defect of ours becomes StageFailed."""
    try:
        yield
    except KeyboardInterrupt:
        run.write_log("stopped by the user")
        raise
    except HybridError as error:
        with contextlib.suppress(HybridError):  # on a full disk the log cannot be written either
            run.write_log(f"error: {error}")
        raise
    except BrokenProcessPool as error:
        with contextlib.suppress(HybridError):
            run.write_log(traceback.format_exc())
        raise HybridError(
            f"{title}: a worker process was ended from outside, most often because memory ran out",
            remedy="run the same command again with fewer workers, --set run.jobs=1: it goes on where it was",
        ) from error
    except MemoryError as error:
        raise HybridError(
            f"{title}: memory ran out", remedy="run the same command again with fewer workers, --set run.jobs=1"
        ) from error
    except Exception as error:
        with contextlib.suppress(HybridError):
            run.write_log(traceback.format_exc())
        if _is_full_disk(error):
            raise DiskError(
                f"{title}: no space left",
                file=run.exp,
                remedy="free some space, then run the same command again: it goes on where it was",
            ) from error
        raise StageFailed(
            f"{title} failed by a defect: {type(error).__name__}: {error}; the details are in {run.log_file}"
        ) from error


def _is_full_disk(error: BaseException) -> bool:
    """Returns whether an error tells of a full disk: libraries that do not write through hybrid.io tell of a full disk
    in their own ways."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return os.strerror(errno.ENOSPC) in str(error)


@contextlib.contextmanager
def claimed(run: Run) -> Iterator[None]:
    """Makes (or recognises) EXP and locks it, so that two runs do not write into one folder. Raises ConfigError."""
    exp = run.exp
    note = exp / "run.json"
    if exp.exists() and not exp.is_dir():
        raise ConfigError("--exp is a file", file=exp, remedy="give a folder")
    if exp.is_dir() and not note.exists() and any(not path.name.startswith(".") for path in exp.iterdir()):
        # Stages delete what they find in their folders: never in a folder that is not ours.
        raise ConfigError("--exp is a folder with other things in it", file=exp, remedy="give a new or empty folder")
    if note.exists() and read_json(note).get("recipe") != run.recipe:
        raise ConfigError(
            f"--exp holds a run of the recipe {read_json(note).get('recipe')}", file=exp, remedy="give another folder"
        )
    with disk_errors(exp):
        exp.mkdir(parents=True, exist_ok=True)
        lock = open(exp / ".lock", "a+", encoding="utf-8")  # noqa: SIM115  closed below, which unlocks it
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise ConfigError(
                f"another run is at work in this folder (process {lock.read().strip() or 'unknown'})",
                file=exp,
                remedy="wait until it ends, or give another --exp",
            ) from None
        if not wait_for_workers(exp):
            raise ConfigError(
                "worker processes of a run that was killed are still at work in this folder",
                file=exp,
                remedy="end them, or wait, then run the same command again",
            )
        with disk_errors(exp):
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
        write_json(note, {"recipe": run.recipe, "seed": run.seed, "command": run.command})
        yield


def delete_folder(folder: Path) -> None:
    """Deletes a stage's folder; where it is a link, the link alone."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.is_dir():
        shutil.rmtree(folder)


def _delete_temporary(folder: Path) -> None:
    """Removes what a killed run was just writing."""
    for path in folder.rglob(".*.tmp"):
        if path.is_file() and fingerprint.is_temporary(path.name):
            path.unlink()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
