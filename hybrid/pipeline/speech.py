"""The speech that networks train on, as sources of utterances (data/utterances.py) that are read when asked for.

What is held of an utterance are numbers: in which set it is and where, which clean cut it is a copy of, how long it is.
Features, means of speakers and alignments are those on disk.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np
from lhotse.cut import Cut

from hybrid.data.network_features import NetworkFeatures, open_network_features
from hybrid.data.text_column import TextColumn
from hybrid.data.utterances import JoinedUtterances, Utterance, check_ids, check_utterance
from hybrid.errors import DataError
from hybrid.pipeline.alignments import Alignments, open_alignments
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.sets import clean_cut_of, clean_set, feature_folder, set_list


class Copies(NamedTuple):
    """Which copy of what each utterance is, as CopySampler takes it: pools, copies int [N]; noisy bool [N]."""

    pools: np.ndarray
    copies: np.ndarray
    noisy: np.ndarray

    def take(self, places: np.ndarray) -> Copies:
        return Copies(*(column[places] for column in self))

    @staticmethod
    def joined(parts: Sequence[Copies]) -> Copies:
        """Return those of sources one after the other, which share neither pools nor copies."""
        pools, copies = ([part[i] for part in parts] for i in (0, 1))
        for columns in (pools, copies):
            offset = 0
            for number, column in enumerate(columns):
                columns[number] = column + offset
                offset += int(column.max(initial=-1)) + 1
        return Copies(np.concatenate(pools), np.concatenate(copies), np.concatenate([part.noisy for part in parts]))


@dataclass(frozen=True, eq=False)
class Clean:
    """The clean cuts that utterances are copies of, by number: their ids, and those aligned, of several sets, first."""

    ids: TextColumn
    alignments: Tuple[Alignments, ...]
    ends: np.ndarray  # the number behind the last cut of each set of alignments

    def place(self, number: int) -> Tuple[Alignments, int]:
        """Return the set and the place in it of the alignment of cut `number`."""
        part = int(np.searchsorted(self.ends, number, side="right"))
        return self.alignments[part], number - (int(self.ends[part - 1]) if part else 0)


@dataclass(frozen=True, eq=False)
class Speech:
    """Utterances of sets. A number of each: `part` of `sets` that it is in, `row` there; `clean` of the clean cut that
    it is a copy of; lengths, with which an alignment agrees; `text` of `texts`.

    extra of an utterance: "clean_cut", the id of its clean cut, and "text".
    """

    sets: Tuple[NetworkFeatures, ...]
    cuts: Clean
    texts: TextColumn
    part: np.ndarray
    row: np.ndarray
    clean: np.ndarray
    text: np.ndarray
    lengths: np.ndarray
    copies: Copies

    def __len__(self) -> int:
        return len(self.row)

    @property
    def dim(self) -> int:
        return self.sets[0].dim if self.sets else 0

    @property
    def num_aligned(self) -> int:
        """The number of clean cuts with an alignment: `clean` is below it where an utterance has one."""
        return int(self.cuts.ends[-1]) if len(self.cuts.ends) else 0

    def id(self, index: int) -> str:
        return self.sets[self.part[index]].index.ids[self.row[index]]

    def clean_cut(self, index: int) -> str:
        return self.cuts.ids[int(self.clean[index])]

    def text_of(self, index: int) -> str:
        return self.texts[int(self.text[index])]

    def features(self, index: int) -> np.ndarray:
        return self.sets[self.part[index]][int(self.row[index])][: self.lengths[index]]

    def pdfs(self, index: int) -> np.ndarray:
        """Read the pdfs of an utterance, int32 [T30]."""
        alignments, place = self.cuts.place(int(self.clean[index]))
        return alignments.pdfs(place)[: self.lengths[index]]

    def segments(self, index: int) -> Tuple[List[int], List[int]]:
        """Read phones and durations of the clean cut, the last phone as long as the utterance's frames ask."""
        alignments, place = self.cuts.place(int(self.clean[index]))
        phones, durations = alignments.segments(place)
        durations[-1] -= durations.sum() - self.lengths[index]
        return phones.tolist(), durations.tolist()

    def __getitem__(self, index: int) -> Utterance:
        index = range(len(self))[index]
        pdfs = self.pdfs(index) if self.clean[index] < self.num_aligned else None
        extra = {"clean_cut": self.clean_cut(index), "text": self.text_of(index)}
        utterance = Utterance(self.id(index), self.features(index), pdfs, extra)
        check_utterance(utterance, self.dim)
        return utterance

    def take(self, places: Any) -> Speech:
        """Return some of the utterances (their places)."""
        places = np.asarray(places, np.int64)
        columns = ("part", "row", "clean", "text", "lengths")
        taken = {name: getattr(self, name)[places] for name in columns}
        return replace(self, **taken, copies=self.copies.take(places))


class JoinedSpeech(JoinedUtterances):
    """Several sources that know their copies as one."""

    @property
    def copies(self) -> Copies:
        return Copies.joined([source.copies for source in self.sources])  # type: ignore[attr-defined]


def open_speech(run: RecipeRun, names: Sequence[str], about: Mapping[str, Any], *, aligned: bool) -> Speech:
    """Open the named sets for training; about: features.json of the network.

    aligned: only utterances that have an alignment, noisy ones their clean cut's; those without are named in
    problems.jsonl of the stage senones. Raises DataError as `open_network_features`, for alignments of other lengths,
    for an utterance that stays and cannot be used, and for an id that two have.
    """
    dev = set_list(run).dev
    bases = list(dict.fromkeys(clean_set(name, dev) for name in names)) if aligned else []
    alignments = tuple(open_alignments(run, base) for base in bases)
    columns = _Columns(alignments)
    for name in run.progress(names, desc="open"):
        columns.add(run, name, about)
    return columns.speech()


class _Numbers:
    """Numbers of strings, in the order in which they come."""

    def __init__(self) -> None:
        self.texts = TextColumn()
        self._numbers: Dict[str, int] = {}

    def __call__(self, text: str) -> int:
        number = self._numbers.setdefault(text, len(self.texts))
        if number == len(self.texts):
            self.texts.append(text)
        return number


class _Columns:
    """A Speech that grows, a set at a time."""

    def __init__(self, alignments: Tuple[Alignments, ...]) -> None:
        self.sets: List[NetworkFeatures] = []
        self.clean, self.texts, self.pools = _Numbers(), _Numbers(), _Numbers()
        for each in alignments:
            for place in range(len(each)):
                self.clean(each.index.ids[place])
        self.alignments = alignments
        self.ends = np.cumsum([len(each) for each in alignments], dtype=np.int64)
        self.columns: Dict[str, List[np.ndarray]] = {name: [np.zeros(0, dtype)] for name, dtype in _COLUMNS.items()}

    def add(self, run: RecipeRun, name: str, about: Mapping[str, Any]) -> None:
        numbers = {column: array("i") for column in ("clean", "text", "pool")}
        noisy = "_noisy" in name
        speed = name.split("_noisy")[0][len(name.split("_")[0]) :]  # "_sp0.9", which ends the ids of that set

        def visit(cut: Cut) -> None:
            clean_cut = clean_cut_of(cut.id, cut.custom or {})
            numbers["clean"].append(self.clean(clean_cut))
            numbers["text"].append(self.texts(cut.supervisions[0].text or ""))
            numbers["pool"].append(self.pools(f"{int(noisy)}{clean_cut.removesuffix(speed)}"))

        folder = feature_folder(run, name, "logmel")
        features = open_network_features(folder, about, visit)
        if self.sets and len(features) and features.dim != self.sets[0].dim:
            problem = f"{features.dim} features a frame where the others have {self.sets[0].dim}"
            raise DataError(problem, file=folder, remedy="run the features stage again")
        rows = {
            "part": np.full(len(features), len(self.sets)), "row": np.arange(len(features)),
            "noisy": np.full(len(features), noisy), "lengths": features.lengths,
            **{column: np.array(values) for column, values in numbers.items()},
        }  # fmt: skip
        if self.alignments:
            rows = self._aligned(features, rows)
        for place in sorted(set(features.unusable).intersection(rows["row"].tolist())):
            raise features.unusable[place]
        self.sets.append(features)
        for column, values in rows.items():
            self.columns[column].append(values.astype(_COLUMNS[column]))

    def _aligned(self, features: NetworkFeatures, rows: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Keep the utterances with an alignment, as long as both are."""
        kept = rows["clean"] < int(self.ends[-1])
        rows = {column: values[kept] for column, values in rows.items()}
        pdfs = np.concatenate([each.lengths for each in self.alignments])[rows["clean"]]
        for number in np.flatnonzero(np.abs(pdfs - rows["lengths"]) > 1).tolist():
            raise DataError(
                f"{rows['lengths'][number]} network frames of features, {pdfs[number]} of alignment",
                utterance=features.index.ids[int(rows["row"][number])],
                remedy="run the senones stage again",
            )
        return {**rows, "lengths": np.minimum(rows["lengths"], pdfs)}

    def speech(self) -> Speech:
        columns = {name: np.concatenate(parts) for name, parts in self.columns.items()}
        copies = Copies(columns.pop("pool"), np.arange(len(columns["row"]), dtype=np.int32), columns.pop("noisy"))
        clean = Clean(self.clean.texts, self.alignments, self.ends)
        speech = Speech(tuple(self.sets), clean, self.texts.texts, **columns, copies=copies)
        check_ids(len(speech), speech.id)
        return speech


_COLUMNS = {
    "part": np.int16, "row": np.int32, "clean": np.int32, "text": np.int32, "pool": np.int32, "noisy": np.bool_,
    "lengths": np.int64,
}  # fmt: skip
