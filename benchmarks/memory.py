"""Peak memory and time of training networks as speech grows: a run's training set 1, 4 and 16 times.

    python -m benchmarks.memory EXP [--copies 1 4] [--stages data ce lfmmi] [--noisy 1] [--plot FILE.png]

EXP is a run of a recipe to its stage senones. Its set `train` and the first `noisy` copies of that are copied, features
and alignments, with other ids and speakers, so that all of it is other speech to the training, on the same disk as EXP
or where TMPDIR says. For each size and stage a fresh process does its work and prints the largest resident set that it
had (ru_maxrss) and its seconds an hour of speech:

    data      opens the sets, reads every utterance once and makes every numerator once: what reading costs
    ce        the stage ce, one epoch; lfmmi: the stage lfmmi from random parameters, one epoch

The network is tiny, so that what grows is the data: a real one takes its own memory besides, whatever the hours.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
from lhotse.utils import fastcopy

from benchmarks import growth
from benchmarks.runs import open_run
from hybrid.cpu import prefer_fast_kernels
from hybrid.data.arrays import iterate_arrays, write_arrays
from hybrid.io import read_json, write_json
from hybrid.lexicon.lang import Lang
from hybrid.pipeline.network import speech
from hybrid.pipeline.numerators import numerator_maker
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.senones import network_senones
from hybrid.pipeline.sets import OUTPUT_FRAME_SHIFT, set_list
from hybrid.pipeline.systems import system
from hybrid.pipeline.train_ce import train_ce
from hybrid.pipeline.train_lfmmi import PhoneSequences, train_lfmmi
from hybrid.train.phone_lm import train_phone_lm

STAGES = ("data", "ce", "lfmmi")
TINY = [
    "model.kind=lstm", "model.hidden=32", "model.layers=1", "model.bidirectional=false", "model.noisy_per_epoch=0",
    "ce.trainer.epochs=1", "lfmmi.trainer.epochs=1", "lfmmi.init_from=flat", "lfmmi.lm_words=0",
]  # fmt: skip


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path)
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    parser.add_argument("--noisy", type=int, default=1, help="noisy copies of the set (1)")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # the inner process, in a copied run
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(one(options.exp, options.stages[0])))
        return 0
    rows: List[Dict[str, Any]] = []
    print(f"{'stage':>6} {'copies':>7} {'hours':>7} {'peak MB':>8} {'CPU s/hour':>11} {'wall s/hour':>12}")
    for copies in options.copies:
        folder = Path(tempfile.mkdtemp(prefix="hybrid-memory-"))
        try:
            copy(options.exp, folder, copies, options.noisy)
            for stage in options.stages:
                command = [sys.executable, "-m", "benchmarks.memory", str(folder), "--one", "--stages", stage]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    print(done.stderr, file=sys.stderr)
                    return done.returncode
                rows.append({"stage": stage, "copies": copies, **json.loads(done.stdout.splitlines()[-1])})
                show(rows[-1])
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    if options.plot is not None:
        plot(rows, options.plot)
    return 0


def copy(exp: Path, folder: Path, copies: int, noisy: int) -> None:
    """Make a run of so many copies of the training set of a run; what is not copied is linked."""
    exp = exp.resolve()
    for path in exp.iterdir():
        if path.name in ("config.json", "run.json"):
            shutil.copy(path, folder / path.name)
        elif path.name in ("lang", "lm", "prepare"):
            (folder / path.name).symlink_to(path)
    sets = set_list(open_run(exp))
    names = ["train", *(name for name in sets.noisy if name.startswith("train_noisy"))][: 1 + noisy]
    kept = {"clean": ["train"], "noisy": names[1:], "unlabelled": [], "unlabelled_noisy": []}
    write_json(folder / "augment" / "sets.json", {**read_json(exp / "augment" / "sets.json"), **kept})
    (folder / "features").mkdir()
    (folder / "senones" / "ali").mkdir(parents=True)
    (folder / "senones" / "model").symlink_to(exp / "senones" / "model")
    (folder / "features" / "features.json").symlink_to(exp / "features" / "features.json")
    for dev in sets.dev:
        (folder / "features" / dev.name).symlink_to(exp / "features" / dev.name)
    (folder / "senones" / "ali" / sets.clean_dev.name).symlink_to(exp / "senones" / "ali" / sets.clean_dev.name)
    for name in names:
        _copy_set(Path("features", name, "logmel"), exp, folder, copies, ["logmel"], 0.01)
    _copy_set(Path("senones", "ali", "train"), exp, folder, copies, ["pdfs", "phones"], OUTPUT_FRAME_SHIFT)


def _copy_set(place: Path, exp: Path, folder: Path, copies: int, names: List[str], frame_shift: float) -> None:
    def items() -> Iterator[Tuple[Any, Any]]:
        for number in range(copies):
            end = f"-copy{number}"
            for cut, arrays in iterate_arrays(exp / place, *names):
                supervision = cut.supervisions[0]
                speaker = fastcopy(supervision, speaker=f"{supervision.speaker}{end}")
                custom = {**(cut.custom or {})}
                if "clean_cut" in custom:
                    custom["clean_cut"] += end
                yield fastcopy(cut, id=cut.id + end, supervisions=[speaker], custom=custom or None), arrays

    write_arrays(folder / place, items(), names=names, frame_shift=frame_shift)


def one(exp: Path, stage: str) -> Dict[str, Any]:
    """Do the work of a stage in this process."""
    run = open_run(exp)
    run.config = run.config.with_overrides(TINY)
    prefer_fast_kernels()
    began, cpu = time.monotonic(), time.process_time()
    steps: Dict[str, float] = {}
    if stage == "data":
        frames, steps = read_all(run)
    else:
        (exp / stage).mkdir()
        (train_ce if stage == "ce" else train_lfmmi)(run, system(stage))
        rows = [json.loads(line) for line in (exp / stage / "log.jsonl").read_text().splitlines()]
        frames = next(row["frames"] for row in rows if row["split"] == "train")
    hours = frames * OUTPUT_FRAME_SHIFT / 3600
    return {
        "hours": hours,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "cpu": (time.process_time() - cpu) / hours,
        "wall": (time.monotonic() - began) / hours,
        "steps": {name: seconds / hours for name, seconds in steps.items()},
    }


def read_all(run: RecipeRun) -> Tuple[int, Dict[str, float]]:
    """Read every training utterance and make its numerator; return the frames, and the CPU seconds of each step."""
    lang = Lang.load(run.dir("lang"))
    times = [time.process_time()]
    data = speech(run, set_list(run).training)
    times.append(time.process_time())
    for index in np.random.default_rng(0).permutation(len(data)).tolist():
        data[index]
    times.append(time.process_time())
    settings = run.settings.lfmmi.phone_lm
    phone_lm = train_phone_lm(
        PhoneSequences(run, lang, data, 0), order=settings.order, no_prune_order=settings.no_prune_order,
        max_extra_states=settings.max_extra_states, smoothing=settings.smoothing, phones=lang.phone_ids,
    )  # fmt: skip
    make = numerator_maker(run, lang, phone_lm, network_senones(run), "lfmmi")
    times.append(time.process_time())
    for index in range(len(data)):
        _ = make(data, index, 0, int(data.lengths[index])).min_frames
    times.append(time.process_time())
    names = ("opening", "reading", "phone LM", "numerators")
    return int(data.lengths.sum()), {name: end - begin for name, begin, end in zip(names, times, times[1:])}


def show(row: Dict[str, Any]) -> None:
    print(
        f"{row['stage']:>6} {row['copies']:7} {row['hours']:7.2f} {row['peak'] / 1e6:8.0f} {row['cpu']:11.1f} "
        f"{row['wall']:12.1f}   " + ", ".join(f"{name} {seconds:.2f}" for name, seconds in row["steps"].items()),
        flush=True,
    )  # fmt: skip


def plot(rows: List[Dict[str, Any]], path: Path) -> None:
    def panel(name: str, scale: float) -> Dict[str, List[Tuple[float, float]]]:
        lines: Dict[str, List[Tuple[float, float]]] = {}
        for row in rows:
            lines.setdefault(row["stage"], []).append((row["hours"], row[name] / scale))
        return lines

    growth.plot([("peak MB", panel("peak", 1e6)), ("CPU s an hour of speech", panel("cpu", 1))], path)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
