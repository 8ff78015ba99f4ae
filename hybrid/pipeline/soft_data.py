"""What students learn from: noisy speech with the targets that the teacher gives its clean twins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple, Union

import numpy as np

from hybrid.data.network_features import NetworkFeatures, open_network_features
from hybrid.data.target_store import StoredTargets
from hybrid.data.utterances import IGNORE, Utterance, check_utterance
from hybrid.io import read_json, write_json
from hybrid.pipeline.alignments import Alignments, open_alignments
from hybrid.pipeline.network import features_about
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.sets import clean_set, feature_folder, set_list
from hybrid.pipeline.soft_targets import read_soft, soft_sets, teacher_of
from hybrid.pipeline.speech import Copies, Speech, open_speech
from hybrid.pipeline.systems import is_aligned

Soft = Mapping[str, StoredTargets]


@dataclass(frozen=True, eq=False)
class SoftSpeech:
    """A source of utterances with what a teacher knows of their clean cuts: extra["soft"], stored targets, or
    extra["clean"], features that it reads. pdfs: of an alignment where there is one, else -100.

    Of each utterance: teacher, label int32 [N, 2], which of `teachers` (of `labels`) and the place in it; -1: none.
    """

    speech: Speech
    lengths: np.ndarray
    teachers: Tuple[Union[StoredTargets, NetworkFeatures], ...]
    teacher: np.ndarray
    labels: Tuple[Alignments, ...]
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.speech)

    @property
    def dim(self) -> int:
        return self.speech.dim

    @property
    def copies(self) -> Copies:
        return self.speech.copies

    def id(self, index: int) -> str:
        return self.speech.id(index)

    def features(self, index: int) -> np.ndarray:
        return self.speech.features(index)[: self.lengths[index]]

    def __getitem__(self, index: int) -> Utterance:
        index = range(len(self))[index]
        length = int(self.lengths[index])
        part, place = self.teacher[index].tolist()
        known = self.teachers[part][place][:length]
        pdfs = np.full(length, IGNORE, np.int64)
        part, place = self.label[index].tolist()
        if part >= 0:
            alignment = self.labels[part].pdfs(place)[:length]
            pdfs[: len(alignment)] = alignment
        key = "clean" if isinstance(known, np.ndarray) else "soft"
        extra = {"clean_cut": self.speech.clean_cut(index), key: known}
        utterance = Utterance(self.id(index), self.features(index), pdfs, extra)
        check_utterance(utterance, self.dim)
        return utterance

    def take(self, places: Any) -> SoftSpeech:
        """Return some of the utterances (their places)."""
        columns = {name: getattr(self, name)[places] for name in ("lengths", "teacher", "label")}
        return replace(self, speech=self.speech.take(places), **columns)


def stored(run: RecipeRun) -> bool:
    return not run.settings.student.online


def taught(run: RecipeRun, system: str) -> Dict[str, SoftSpeech]:
    """Return what student_ce learns from, "labelled" and "unlabelled"; EXP/SYSTEM/selection.json."""
    folder, _ = teacher_of(run, run.settings.student.targets)
    soft = read_soft(run, "targets", soft_sets(run)) if stored(run) else {}
    hard = run.settings.student.hard_weight > 0
    labelled = soft_utterances(run, set_list(run).training, soft, folder, hard=hard)
    return {"labelled": labelled, "unlabelled": untranscribed(run, system, soft, folder)}


def untranscribed(run: RecipeRun, system: str, soft: Soft, teacher: Path) -> SoftSpeech:
    """Return the unlabelled sets, clean and noisy; with student.confident below 1 those whose teacher is surest."""
    sets = set_list(run)
    data = soft_utterances(run, sets.unlabelled + sets.unlabelled_noisy, soft, teacher)
    return surest(run, system, data, soft)


def soft_utterances(
    run: RecipeRun, names: Sequence[str], soft: Soft, teacher: Path, hard: bool = False
) -> SoftSpeech:
    """Open the named sets with the targets of their clean twins, or where these are computed as they are needed (no
    `soft`), with the twins' features as the teacher reads them.

    pdfs: -100 but where `hard` asks for the alignment. Transcripts are not looked at. A cut whose clean cut has neither
    targets nor features is named in problems.jsonl of the stage that should have made them.
    """
    dev = set_list(run).dev
    bases = list(dict.fromkeys(clean_set(name, dev) for name in names))
    about = read_json(teacher / "features.json")
    teachers: List[Union[StoredTargets, NetworkFeatures]] = [
        soft[base] if soft else open_network_features(feature_folder(run, base, "logmel"), about)
        for base in bases if base in soft or not soft
    ]  # fmt: skip
    labels = [open_alignments(run, base) for base in bases] if hard and is_aligned(run.settings) else []
    speech = open_speech(run, names, features_about(run), aligned=False)
    places = _places(speech, teachers)
    kept = np.flatnonzero(places[:, 0] >= 0)
    speech, places = speech.take(kept), places[kept]
    known = np.zeros(len(kept), np.int64)
    for part, each in enumerate(teachers):
        inside = places[:, 0] == part
        known[inside] = each.lengths[places[inside, 1]]
    lengths = np.minimum(speech.lengths, known)
    return SoftSpeech(speech, lengths, tuple(teachers), places, tuple(labels), _places(speech, labels))


def _places(speech: Speech, sets: Sequence[Any]) -> np.ndarray:
    """Return which of `sets` has the clean cut of each utterance, and its place there, int32 [N, 2]; -1: none."""
    of_cuts = np.full((len(speech.cuts.ids), 2), -1, np.int32)
    numbers = {identifier: number for number, identifier in enumerate(speech.cuts.ids)}
    for part, each in enumerate(sets):
        for place, identifier in enumerate(each.index.ids):
            if identifier in numbers:
                of_cuts[numbers[identifier]] = part, place
    return of_cuts[speech.clean]


def surest(run: RecipeRun, system: str, data: SoftSpeech, soft: Soft) -> SoftSpeech:
    """Return the share student.confident of the unlabelled utterances, those whose teacher is surest; write
    EXP/SYSTEM/selection.json.

    Sure: the mean over frames of the entropy of the teacher's posteriors is low.
    Copies stay or go with their clean cut.
    """
    share = run.settings.student.confident
    if share == 1 or not len(data):
        return data
    entropy = {}
    for name in set_list(run).unlabelled:
        for identifier, soft_targets in soft[name].items():
            entropy[identifier] = float(np.mean(soft_targets.codec.posterior_entropy(*soft_targets.decode())))
    ranked = sorted(entropy, key=lambda identifier: (entropy[identifier], identifier))
    selected = set(ranked[: max(1, round(share * len(ranked)))])
    write_json(
        run.dir(system) / "selection.json",
        {
            "entropy": {identifier: round(entropy[identifier], 5) for identifier in ranked},
            "kept": len(selected),
            "of": len(ranked),
        },
    )
    highest = entropy[ranked[len(selected) - 1]]
    run.log(f"  {len(selected)} of {len(ranked)} unlabelled utterances, entropy up to {highest:.2f} nats a frame")
    return data.take([index for index in range(len(data)) if data.speech.clean_cut(index) in selected])
