"""Stages augment and features."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from lhotse import CutSet

from hybrid.data.augment import NOISY, RERECORDED, Prescription, make_noisy, make_rerecorded
from hybrid.data.features import FrontEnd, LogMel, Mfcc, config_to_json, extract
from hybrid.data.rooms import SimulatedRooms
from hybrid.errors import ConfigError
from hybrid.io import Problems, write_json
from hybrid.pipeline.recipe import Recipe
from hybrid.pipeline.sets import (
    CONDITIONS,
    augmented,
    feature_folder,
    has_unlabelled,
    prepared,
    set_list,
    set_name,
    write_cuts,
    write_set_list,
)
from hybrid.run import Run

# Rooms and noises of a set are drawn from the run's seed and one of these: no two sets hear the same.
_DRAW = {"train": 1, "dev": 2, "test": 3}
# The test conditions are one prescription for everybody, whatever the seed of the training.
_TEST_SEED = 20260000


def augment(run: Run, recipe: Recipe) -> None:
    """Speed-perturbed and noisy training sets; development and test sets in three conditions."""
    settings = run.config.section("augment")
    for factor in settings["speeds"]:
        if not 0.5 <= factor <= 2.0 or factor == 1.0:
            raise ConfigError(f"augment.speeds: {factor}", remedy="give factors such as 0.9 and 1.1")
    sets: Dict[str, CutSet] = {}
    names: Dict[str, List[str]] = {}
    for first, clean, noisy in kinds(run):
        sets[first] = prepared(run, first)
        for factor in settings["speeds"]:
            sets[f"{first}_sp{factor:g}"] = CutSet.from_cuts(
                cut.perturb_speed(factor).with_id(f"{cut.id}_sp{factor:g}") for cut in sets[first]
            ).to_eager()
        names[clean], names[noisy] = [name for name in sets if name.startswith(first)], []
    folder = run.dir("augment")
    problems = run.problems("augment")
    total = 0
    with run.executor() as executor:
        noises = recipe.noises(run, "train")
        prescription = Prescription(
            "noisy",
            snr=tuple(settings["train_snr"]),
            noises=tuple(settings["train_noises"]),
            gain=tuple(settings["train_gain"]),
        )
        every = [
            (copy, base, noisy)
            for _, clean, noisy in kinds(run)
            for copy in range(1, settings["noisy_copies"] + 1)
            for base in names[clean]
        ]
        for copy, base, noisy in every:
            name = f"{base}_noisy{copy}"
            sets[name] = _with_progress(
                run, name, sets[base], make_noisy, noises=noises,
                seed=_seed(run.seed, "train", copy), rooms=SimulatedRooms(
                    _seed(run.seed, "train", copy), number=settings["train_rooms"]
                ),
                out_dir=folder / name, prescription=prescription, executor=executor, copy=copy, problems=problems,
            )
            total += len(sets[base])
            names[noisy].append(name)
        for split in ("dev", "test"):
            cuts = prepared(run, split)
            seed = _seed(_TEST_SEED, split, 0)
            noises = recipe.noises(run, split)
            sets[set_name(split, "clean")] = cuts
            common: Dict[str, Any] = {"noises": noises, "seed": seed, "executor": executor, "problems": problems}
            name = set_name(split, "noisy")
            sets[name] = _with_progress(
                run, name, cuts, make_noisy, out_dir=folder / name, prescription=NOISY, **common
            )
            name = set_name(split, "rerecorded")
            sets[name] = _with_progress(
                run, name, cuts, make_rerecorded, rooms=recipe.rooms(run, split), out_dir=folder / name,
                prescription=RERECORDED, **common,
            )
            total += 2 * len(cuts)
    for name, cuts in sets.items():
        write_cuts(folder / f"{name}.jsonl.gz", cuts)
        run.log(f"  {name}: {len(cuts)} cuts, {sum(cut.duration for cut in cuts) / 60:.1f} min")
    decode = [set_name(split, condition) for split in ("dev", "test") for condition in CONDITIONS]
    write_set_list(run, {**names, "decode": decode})
    problems.close(max(total, 1), run.config["limits.problems"])


def kinds(run: Run) -> List[Tuple[str, str, str]]:
    """(set as prepared, the name of the list of its clean copies, of its noisy ones) of training sets."""
    labelled = ("train", "clean", "noisy")
    return [labelled, ("unlabelled", "unlabelled", "unlabelled_noisy")] if has_unlabelled(run) else [labelled]


def _seed(base: int, split: str, copy: int) -> int:
    return base * 1000 + _DRAW[split] * 100 + copy


def _with_progress(run: Run, name: str, cuts: CutSet, make: Any, **arguments: Any) -> CutSet:
    """make(cuts, progress=...) with the run's progress bar; it reports how many cuts it has just done."""
    steps = iter(run.progress(range(len(cuts)), total=len(cuts), desc=name))

    def done(count: int) -> None:
        for _ in range(count):
            next(steps, None)

    made: CutSet = make(cuts, progress=done, **arguments).to_eager()
    next(steps, None)  # closes the bar
    return made


def features(run: Run, recipe: Recipe) -> None:
    """MFCC of the clean training sets and of all sets to be decoded; log mel of every set."""
    names = set_list(run)
    settings = run.config.section("features")
    mfcc = FrontEnd(Mfcc(**settings.get("mfcc", {})), backend=settings["backend"])
    logmel = FrontEnd(LogMel(**settings.get("logmel", {})), backend=settings["backend"])
    wanted = [(name, mfcc) for name in names["clean"] + names["decode"]]
    wanted += [(name, logmel) for kind in names for name in names[kind]]
    rows: List[Dict[str, Any]] = []
    total = 0
    with run.executor() as executor:
        for name, front_end in wanted:
            cuts = augmented(run, name)
            found = Problems(run.dir("features") / f"{name}-{front_end.kind}.problems.jsonl", "features")
            extract(
                cuts,
                front_end,
                feature_folder(run, name, front_end.kind),
                executor=executor,
                problems=found,
                progress=run.bar(f"{name} {front_end.kind}"),
            )
            rows += found.rows
            total += len(cuts)
    write_json(
        run.dir("features") / "features.json",
        {"mfcc": config_to_json(mfcc.config), "logmel": config_to_json(logmel.config), "backend": mfcc.backend_used},
    )
    problems = run.problems("features")
    problems.rows = rows
    problems.close(total, run.config["limits.problems"])
