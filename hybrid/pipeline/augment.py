"""Stage augment: speed-perturbed and noisy training sets; development and test sets in every condition."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple, cast

from lhotse import CutSet

from hybrid.data.augment import NOISY, RERECORDED, NoiseCondition, make_noisy, make_rerecorded
from hybrid.data.noise import NoiseLibrary
from hybrid.data.noise_sources import open_noises, open_rooms
from hybrid.data.rooms import Rooms, SimulatedRooms
from hybrid.io import Problems
from hybrid.pipeline.corpus_settings import PYTHON
from hybrid.pipeline.recipe_run import RecipeRun, about
from hybrid.pipeline.sets import CLEAN, DecodeSet, SetList, has_prepared, prepared, write_cuts, write_set_list

# Rooms and noises of a set are drawn from the run's seed and one of these: no two sets hear the same.
_DRAW = {"train": 1, "dev": 2, "test": 3}
# Test conditions are the same for everybody, whatever the seed of the training.
_TEST_SEED = 20260000


def augment(run: RecipeRun) -> None:
    """Write EXP/augment: a manifest a set, sets.json with their names, and the audio of noisy and re-recorded twins."""
    _Augment(run).run_all()


class _Augment:
    def __init__(self, run: RecipeRun) -> None:
        self.run = run
        self.settings = run.settings.augment
        self.rate: int = about(run)["rate"]
        self.problems: Problems = run.problems("augment")
        self.total = 0
        self.names: Dict[str, List[str]] = {"clean": [], "noisy": [], "unlabelled": [], "unlabelled_noisy": []}

    def run_all(self) -> None:
        sets = self.clean_sets()
        with self.run.executor() as executor:
            if self.run.settings.corpus.noise:
                self.training_copies(sets, executor)
            decoded = self.decode_sets(sets, executor)
        for name, cuts in sets.items():
            write_cuts(self.run.dir("augment") / f"{name}.jsonl.gz", cuts, root=self.run.exp)
            self.run.log(f"  {name}: {len(cuts)} cuts, {sum(cut.duration for cut in cuts) / 60:.1f} min")
        write_set_list(self.run, SetList(**self.names, decode=decoded))
        self.problems.close(max(self.total, 1), self.run.settings.limits.problems)

    def kinds(self) -> List[Tuple[str, str, str]]:
        """Return (set as prepared, the name of the list of its clean copies, of its noisy ones) of training sets."""
        labelled = ("train", "clean", "noisy")
        more = [("unlabelled", "unlabelled", "unlabelled_noisy")] if has_prepared(self.run, "unlabelled") else []
        return [labelled, *more]

    def clean_sets(self) -> Dict[str, CutSet]:
        """Return the training sets as recorded, and at other speeds."""
        sets: Dict[str, CutSet] = {}
        for source, clean, _ in self.kinds():
            sets[source] = prepared(self.run, source)
            for factor in self.settings.speeds:
                sets[f"{source}_sp{factor:g}"] = CutSet.from_cuts(
                    cut.perturb_speed(factor).with_id(f"{cut.id}_sp{factor:g}") for cut in sets[source]
                ).to_eager()
            self.names[clean] = [name for name in sets if name.startswith(source)]
        return sets

    def training_copies(self, sets: Dict[str, CutSet], executor: Any) -> None:
        """Add noisy copies of every clean training set to `sets`."""
        settings = self.settings
        condition = NoiseCondition(
            "noisy", snr=(settings.train_snr[0], settings.train_snr[1]),
            noises=(settings.train_noises[0], settings.train_noises[1]),
            gain=(settings.train_gain[0], settings.train_gain[1]),
        )  # fmt: skip
        noises = self.noises("train")
        for _, clean, noisy in self.kinds():
            for copy in range(1, settings.noisy_copies + 1):
                for base in self.names[clean]:
                    name, seed = f"{base}_noisy{copy}", _seed(self.run.seed, "train", copy)
                    rooms = SimulatedRooms(seed, number=settings.train_rooms)
                    sets[name] = self.make(
                        name, sets[base], make_noisy, noises=noises, seed=seed, rooms=rooms, condition=condition,
                        copy=copy, executor=executor,
                    )  # fmt: skip
                    self.names[noisy].append(name)

    def decode_sets(self, sets: Dict[str, CutSet], executor: Any) -> List[DecodeSet]:
        """Add development and test sets to `sets`: as recorded, and the twins of those recorded clean."""
        corpus, decoded = self.run.settings.corpus, []
        for eval_set in [DecodeSet(**row) for row in about(self.run)["sets"]]:
            cuts = sets[eval_set.name] = prepared(self.run, eval_set.set)
            decoded.append(eval_set)
            if eval_set.condition != CLEAN or not corpus.noise:
                continue
            common = {
                "noises": self.noises(eval_set.role), "seed": _seed(_TEST_SEED, eval_set.role, 0), "executor": executor
            }  # fmt: skip
            twins: List[Tuple[str, Any, Dict[str, Any]]] = [
                ("noisy", make_noisy, {"condition": NOISY})
            ]
            if corpus.rooms:
                twins.append(
                    ("rerecorded", make_rerecorded, {"condition": RERECORDED, "rooms": self.rooms(eval_set.role)})
                )
            for condition, make, more in twins:
                twin = DecodeSet(eval_set.set, eval_set.role, condition)
                sets[twin.name] = self.make(twin.name, cuts, make, **common, **more)
                decoded.append(twin)
        return decoded

    def make(self, name: str, cuts: CutSet, make: Any, **arguments: Any) -> CutSet:
        """Call make(cuts, ...) with the run's progress bar; it reports how many cuts it has just done."""
        steps = iter(self.run.progress(range(len(cuts)), total=len(cuts), desc=name))

        def advance(count: int) -> None:
            for _ in range(count):
                next(steps, None)

        copies: CutSet = make(
            cuts, progress=advance, out_dir=self.run.dir("augment") / name, problems=self.problems, rate=self.rate,
            **arguments,
        ).to_eager()  # fmt: skip
        next(steps, None)  # closes the bar
        self.total += len(cuts)
        return copies

    def noises(self, split: str) -> NoiseLibrary:
        """Return the noises of a split: the test set's are of no recording that training or development hears."""
        return cast(NoiseLibrary, self.opened("noises", self.run.settings.corpus.noise, open_noises, split))

    def rooms(self, split: str) -> Rooms:
        """Return the rooms of the re-recorded condition, never heard in training."""
        return cast(Rooms, self.opened("rooms", self.run.settings.corpus.rooms, open_rooms, split))

    def opened(self, kind: str, source: str, opener: Callable[..., Any], split: str) -> Any:
        """Return the noises or rooms of a source, opened by the recipe's Python, or by `read`."""
        if source == PYTHON:
            return self.run.hook.call(kind, self.run, split)
        return opener(self.run.source(source), split, data=self.run.data)


def _seed(base: int, split: str, copy: int) -> int:
    return base * 1000 + _DRAW[split] * 100 + copy
