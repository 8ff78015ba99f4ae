"""Stage augment: speed-perturbed and noisy training sets; development and test sets in every condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Iterator, List, Tuple, cast

from lhotse.cut import Cut

from hybrid.data.augment import NOISY, RERECORDED, NoiseCondition, make_noisy, make_rerecorded
from hybrid.data.noise import NoiseLibrary
from hybrid.data.noise_sources import open_noises, open_rooms
from hybrid.data.rooms import Rooms, SimulatedRooms
from hybrid.io import Problems
from hybrid.pipeline.corpus_settings import PYTHON
from hybrid.pipeline.recipe_run import RecipeRun, about
from hybrid.pipeline.sets import (
    CLEAN,
    DecodeSet,
    Manifest,
    SetList,
    augmented,
    has_prepared,
    prepared,
    write_cuts,
    write_set_list,
)

# Rooms and noises of a set are drawn from the run's seed and one of these: no two sets hear the same.
_DRAW = {"train": 1, "dev": 2, "test": 3}
# Test conditions are the same for everybody, whatever the seed of the training.
_TEST_SEED = 20260000


def augment(run: RecipeRun) -> None:
    """Write EXP/augment: a manifest a set, sets.json with their names, and the audio of noisy and re-recorded twins."""
    _Augment(run).run_all()


@dataclass(frozen=True)
class _Written:
    """A set that is written: its cuts, read whenever they are gone through, and their number."""

    cuts: Manifest
    count: int


class _Augment:
    """Sets are written cut by cut as they are made, and read again where others are made of them: of a set no more
    than ids and some thousands of cuts is ever in memory."""

    def __init__(self, run: RecipeRun) -> None:
        self.run = run
        self.settings = run.settings.augment
        self.rate: int = about(run)["rate"]
        self.problems: Problems = run.problems("augment")
        self.total = 0
        self.names: Dict[str, List[str]] = {"clean": [], "noisy": [], "unlabelled": [], "unlabelled_noisy": []}
        self.sets: Dict[str, _Written] = {}

    def run_all(self) -> None:
        self.clean_sets()
        with self.run.executor() as executor:
            if self.run.settings.corpus.noise:
                self.training_copies(executor)
            decoded = self.decode_sets(executor)
        write_set_list(self.run, SetList(**self.names, decode=decoded))
        self.problems.close(max(self.total, 1), self.run.settings.limits.problems)

    def kinds(self) -> List[Tuple[str, str, str]]:
        """Return (set as prepared, the name of the list of its clean copies, of its noisy ones) of training sets."""
        labelled = ("train", "clean", "noisy")
        more = [("unlabelled", "unlabelled", "unlabelled_noisy")] if has_prepared(self.run, "unlabelled") else []
        return [labelled, *more]

    def write(self, name: str, cuts: Iterable[Cut]) -> _Written:
        """Write the manifest of a set as its cuts come, and say how much it is."""
        count, seconds = 0, 0.0

        def counted() -> Iterator[Cut]:
            nonlocal count, seconds
            for cut in cuts:
                count, seconds = count + 1, seconds + cut.duration
                yield cut

        write_cuts(self.run.dir("augment") / f"{name}.jsonl.gz", counted(), root=self.run.exp)
        self.run.log(f"  {name}: {count} cuts, {seconds / 60:.1f} min")
        self.sets[name] = _Written(augmented(self.run, name), count)
        return self.sets[name]

    def clean_sets(self) -> None:
        """Write the training sets as recorded, and at other speeds."""
        for source, clean, _ in self.kinds():
            self.write(source, prepared(self.run, source))
            for factor in self.settings.speeds:
                self.write(f"{source}_sp{factor:g}", _at_speed(self.sets[source].cuts, factor))
            self.names[clean] = [name for name in self.sets if name.startswith(source)]

    def training_copies(self, executor: Any) -> None:
        """Write noisy copies of every clean training set."""
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
                    self.make(
                        name, self.sets[base], make_noisy, noises=noises, seed=seed, rooms=rooms, condition=condition,
                        copy=copy, executor=executor,
                    )  # fmt: skip
                    self.names[noisy].append(name)

    def decode_sets(self, executor: Any) -> List[DecodeSet]:
        """Write development and test sets: as recorded, and the twins of those recorded clean."""
        corpus, decoded = self.run.settings.corpus, []
        for eval_set in [DecodeSet(**row) for row in about(self.run)["sets"]]:
            written = self.write(eval_set.name, prepared(self.run, eval_set.set))
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
                self.make(twin.name, written, make, **common, **more)
                decoded.append(twin)
        return decoded

    def make(self, name: str, base: _Written, make: Any, **arguments: Any) -> None:
        """Write what make(cuts, ...) makes of a set, with the run's progress bar; it reports how many cuts it has just
        done."""
        steps = iter(self.run.progress(range(base.count), total=base.count, desc=name))

        def advance(count: int) -> None:
            for _ in range(count):
                next(steps, None)

        copies = make(
            base.cuts, progress=advance, out_dir=self.run.dir("augment") / name, problems=self.problems,
            rate=self.rate, lazy=True, **arguments,
        )  # fmt: skip
        self.write(name, copies)
        next(steps, None)  # closes the bar
        self.total += base.count

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


def _at_speed(cuts: Iterable[Cut], factor: float) -> Iterator[Cut]:
    return (cut.perturb_speed(factor).with_id(f"{cut.id}_sp{factor:g}") for cut in cuts)


def _seed(base: int, split: str, copy: int) -> int:
    return base * 1000 + _DRAW[split] * 100 + copy
