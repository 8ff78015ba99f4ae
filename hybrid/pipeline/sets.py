"""Which sets of cuts a run has, where they are, and what they hold.

Training sets are clean (`train`, `train_sp0.9`, `train_sp1.1`) and their noisy copies (`train_noisy1` ...), and where
there is untranscribed speech `unlabelled` and its likes. Development and test sets (`DecodeSet`) are any number, each
with a condition; the clean ones have noisy and re-recorded twins where there are noises and rooms.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Mapping, Sequence

from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.serialization import deserialize_item

from hybrid.data.sources import absolute_sources, relative_sources
from hybrid.io import PathLike, iter_jsonl, read_json, write_json, write_jsonl
from hybrid.run import Run

CLEAN = "clean"
FRAME_SUBSAMPLING_FACTOR = 3  # frames of features in a network frame
FRAME_SHIFT = 0.01  # seconds
OUTPUT_FRAME_SHIFT = FRAME_SHIFT * FRAME_SUBSAMPLING_FACTOR


@dataclass(frozen=True)
class DecodeSet:
    """A set to be decoded. set: its name in tables ("dev", "test", ...); role: "dev" or "test"; condition: "clean",
    "noisy", "rerecorded" or any word."""

    set: str
    role: str
    condition: str

    @property
    def name(self) -> str:
        """The name of the files of the set: dev_clean."""
        return f"{self.set}_{self.condition}"


@dataclass(frozen=True)
class TrainingSet(DecodeSet):
    """A training set that is decoded like others: its files are named by `set` alone, as train_noisy1."""

    @property
    def name(self) -> str:
        return self.set


@dataclass(frozen=True)
class SetList:
    """The names of the sets that the stage augment leaves: clean training sets and their noisy copies, likewise of
    untranscribed speech, and the sets to be decoded."""

    clean: List[str]
    noisy: List[str]
    unlabelled: List[str]
    unlabelled_noisy: List[str]
    decode: List[DecodeSet]

    @property
    def training(self) -> List[str]:
        return self.clean + self.noisy

    @property
    def every(self) -> List[str]:
        return [*self.training, *self.unlabelled, *self.unlabelled_noisy, *(eval_set.name for eval_set in self.decode)]

    @property
    def dev(self) -> List[DecodeSet]:
        return [eval_set for eval_set in self.decode if eval_set.role == "dev"]

    @property
    def test(self) -> List[DecodeSet]:
        return [eval_set for eval_set in self.decode if eval_set.role == "test"]

    @property
    def clean_dev(self) -> DecodeSet:
        """The development set as recorded."""
        return self.dev[0]

    def dev_for(self, condition: str) -> DecodeSet:
        """Return the development set that chooses scales for a condition: its own, else the noisy one where it is not
        clean, else the clean one."""
        by_condition = {dev.condition: dev for dev in reversed(self.dev)}
        conditions = (condition, *(() if condition == CLEAN else ("noisy",)))
        return next((by_condition[name] for name in conditions if name in by_condition), self.clean_dev)


def write_set_list(run: Run, names: SetList) -> None:
    write_json(run.dir("augment") / "sets.json", asdict(names))


def set_list(run: Run) -> SetList:
    values = read_json(run.dir("augment") / "sets.json")
    return SetList(**{**values, "decode": [DecodeSet(**row) for row in values["decode"]]})


def write_cuts(path: PathLike, cuts: Iterable[Cut], root: PathLike = "") -> None:
    """Write a manifest. Audio below `root`, the run's folder, is named relative to the manifest's folder, so that a run
    can be moved; all other by its absolute path."""
    folder = Path(path).parent
    write_jsonl(path, (relative_sources(cut.to_dict(), folder, root or None) for cut in cuts))


def read_cuts(path: PathLike) -> CutSet:
    """Read a whole manifest; audio that it names by a relative path is looked for from its own folder.

    Raises DataError as read_jsonl."""
    return CutSet.from_cuts(Manifest(path))


class Manifest:
    """The cuts of a manifest, read whenever they are gone through, one in memory at a time. Raises as `read_cuts`."""

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)

    def __iter__(self) -> Iterator[Cut]:
        return (deserialize_item(absolute_sources(row, self.path.parent)) for row in iter_jsonl(self.path))


def prepared(run: Run, name: str) -> Manifest:
    return Manifest(run.dir("prepare") / f"{name}.jsonl.gz")


def has_prepared(run: Run, name: str) -> bool:
    return (run.dir("prepare") / f"{name}.jsonl.gz").exists()


def augmented(run: Run, name: str) -> Manifest:
    return Manifest(run.dir("augment") / f"{name}.jsonl.gz")


def feature_folder(run: Run, name: str, kind: str) -> Path:
    return run.dir("features") / name / kind


def speakers_of(cuts: Iterable[Cut]) -> Dict[str, str]:
    return {cut.id: cut.supervisions[0].speaker for cut in cuts}


def texts_of(cuts: Iterable[Cut]) -> Dict[str, str]:
    return {cut.id: cut.supervisions[0].text for cut in cuts}


def clean_cut_of(cut_id: str, custom: Mapping[str, str]) -> str:
    """Return the clean cut whose alignment a cut uses: its own where it is clean."""
    return custom.get("clean_cut", cut_id)


def clean_set(name: str, dev: Sequence[DecodeSet]) -> str:
    """Return the set whose alignment and targets a set uses: train_sp0.9_noisy1 -> train_sp0.9; dev_noisy ->
    dev_clean."""
    if name in [dev_set.name for dev_set in dev]:
        return dev[0].name
    return name.split("_noisy")[0]
