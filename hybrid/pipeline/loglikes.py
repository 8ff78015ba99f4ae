"""Log-likelihoods of a development and a test set under each system, as decoding takes them."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from hybrid.data.array_index import ArrayPlace
from hybrid.data.cmvn import normalised
from hybrid.data.feature_config import kind_of
from hybrid.decode.acoustics import Acoustics, GmmAcoustics, load_acoustics
from hybrid.decode.run import Loglikes, decode_hypotheses
from hybrid.errors import DataError
from hybrid.gmm.adapt import adapt_speakers, silent_pdfs
from hybrid.gmm.feature_transform import adapt
from hybrid.gmm.fmllr import Transforms
from hybrid.gmm.model import GmmModel
from hybrid.io import read_json, save_tensors, write_json
from hybrid.pipeline.gmm import lang_of
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.set_features import SetFeatures
from hybrid.pipeline.sets import DecodeSet, feature_folder
from hybrid.pipeline.stored_loglikes import compute_and_store, store
from hybrid.pipeline.systems import System
from hybrid.score.results import decode_folder

Sets = Sequence[DecodeSet]
KEPT = 1 << 29  # bytes of a set's log-likelihoods by Gaussians that are kept, and of those by a network in memory


def set_loglikes(
    run: RecipeRun, system: System, sets: Sets, executor: Any, search: Mapping[str, Any], stage: str = "decode"
) -> Iterator[Tuple[DecodeSet, Loglikes, float]]:
    """Yield each set with its log-likelihoods {utterance: [frames, num_pdfs]} under a system, and the seconds that they
    took. The first set is the development set that chose the scales for all of them. They are kept in files until the
    next set is asked for. They are far larger than the features: where a set's take more than KEPT, those of Gaussians
    are computed where they are decoded, each time.

    search: what first passes decode with (beam, max_active). stage: in whose folder the files are.
    """
    compute: Callable[[DecodeSet, Path], Loglikes]
    if system.first_pass:
        compute = _Adapted(run, system, sets[0], executor, search)
    else:
        compute = _Unadapted(run, system, executor)
    scratch = run.dir(stage) / ".loglikes"
    try:
        for eval_set in sets:
            shutil.rmtree(scratch, ignore_errors=True)  # also what a killed run has left
            started = time.perf_counter()
            loglikes = compute(eval_set, scratch)
            yield eval_set, loglikes, time.perf_counter() - started
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def model_folder(run: RecipeRun, system: System) -> Path:
    """Return the folder of a system's acoustic model."""
    return run.dir(system.trained_as) / "model" if system.network else run.dir("gmm") / system.trained_as


def _features(run: RecipeRun, acoustics: Acoustics, eval_set: DecodeSet) -> SetFeatures:
    """Open the features of a set that a model reads."""
    kind = kind_of(acoustics.features)
    return SetFeatures(feature_folder(run, eval_set.name, kind), kind)


@dataclass(frozen=True)
class _OfGaussians:
    """Makes the log-likelihoods [frames, num_pdfs] of an utterance, from the cepstra on disk on.

    folder: of the model; written: when, in nanoseconds; place: of the cepstra; mean, deviation: of the speaker;
    transform: the speaker's [D, D + 1], with which the mixtures of speakers' transforms are taken; None for none."""

    folder: Path
    written: int
    place: ArrayPlace
    mean: np.ndarray
    deviation: Optional[np.ndarray]
    transform: Optional[np.ndarray]

    def __call__(self) -> np.ndarray:
        return _model(self.folder, self.written).loglikes(self.features(), adapted=self.transform is not None)

    def features(self) -> np.ndarray:
        """Return what the mixtures read, [frames, D]."""
        x = normalised(self.place.read(), self.mean, self.deviation)
        y = _model(self.folder, self.written).feature_transform.apply(x, [len(x)])
        return y if self.transform is None else adapt(y, self.transform)


@lru_cache(maxsize=2)
def _model(folder: Path, written: int) -> GmmModel:
    """The Gaussians of a folder, read once in each process, and again when they have been written again."""
    return GmmModel.load(folder)


def _of_gaussians(
    acoustics: GmmAcoustics, features: SetFeatures, transforms: Optional[Transforms] = None
) -> Dict[str, _OfGaussians]:
    """Return the log-likelihoods of a set, made when they are asked for: with the speakers' transforms, or by the
    mixtures without any."""
    written = (acoustics.folder / "model.safetensors").stat().st_mtime_ns
    return {
        name: _OfGaussians(
            acoustics.folder, written, features.place(name), *features.stats(name).shift_and_scale(acoustics.norm_vars),
            None if transforms is None else transforms[features.speakers[name]],
        )
        for name in features
    }  # fmt: skip


class _Transformed(Mapping[str, np.ndarray]):
    """What the mixtures read of each utterance, made when it is asked for."""

    def __init__(self, loglikes: Mapping[str, _OfGaussians]) -> None:
        self.loglikes = loglikes

    def __len__(self) -> int:
        return len(self.loglikes)

    def __iter__(self) -> Iterator[str]:
        return iter(self.loglikes)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.loglikes[name].features()


def _kept(
    loglikes: Dict[str, _OfGaussians], features: SetFeatures, num_pdfs: int, scratch: Path, executor: Any
) -> Loglikes:
    """Return log-likelihoods as `_of_gaussians` makes them, computed and in files if a set's are not too large."""
    if 4 * num_pdfs * sum(map(features.frames, features)) > KEPT:
        return loglikes
    return compute_and_store(loglikes, scratch, executor)


def _of_network(
    acoustics: Acoustics, features: SetFeatures, scratch: Path, executor: Any, jobs: int
) -> Loglikes:
    """Return the log-likelihoods of a set under a network, in a file in `scratch`, computed for some speakers at a
    time."""
    shift = getattr(acoustics, "frame_subsampling_factor", 1)
    speakers = features.speakers
    sizes = {name: 4 * acoustics.num_pdfs * -(-features.frames(name) // shift) for name in features}
    parts = _parts(sizes, speakers if acoustics.per_speaker else {name: name for name in sizes})
    return store(
        (acoustics.loglikes({name: features[name] for name in part}, speakers, executor=executor, jobs=jobs)
         for part in parts), scratch,
    )  # fmt: skip


def _parts(sizes: Mapping[str, int], speakers: Mapping[str, str]) -> Iterator[List[str]]:
    """Yield the utterances in parts of whole speakers, of at most KEPT bytes, or of one speaker."""
    by_speaker: Dict[str, List[str]] = {}
    for name in sizes:
        by_speaker.setdefault(speakers[name], []).append(name)
    part: List[str] = []
    total = 0
    for names in by_speaker.values():
        size = sum(sizes[name] for name in names)
        if part and total + size > KEPT:
            yield part
            part, total = [], 0
        part, total = part + names, total + size
    yield part


class _Unadapted:
    """A model without speakers' transforms, as hybrid.load has it: Gaussians, or a network."""

    def __init__(self, run: RecipeRun, system: System, executor: Any) -> None:
        self.run, self.executor = run, executor
        self.acoustics = load_acoustics(model_folder(run, system), system.network)

    def __call__(self, eval_set: DecodeSet, scratch: Path) -> Loglikes:
        features = _features(self.run, self.acoustics, eval_set)
        if isinstance(self.acoustics, GmmAcoustics):
            lazy = _of_gaussians(self.acoustics, features)
            return _kept(lazy, features, self.acoustics.num_pdfs, scratch, self.executor)
        return _of_network(self.acoustics, features, scratch, self.executor, self.run.jobs)


class _Adapted:
    """Speaker-adapted Gaussians: the first pass's hypotheses give transforms, those of the adapted features better
    ones, as often as decode.adapt_passes says (Kaldi's steps/decode_fmllr.sh).

    The passes between use the acoustic scale and penalty that the development set chose for the first pass. Transforms
    stay in EXP/decode/SYSTEM/CONDITION/SET.fmllr.safetensors.
    """

    def __init__(
        self, run: RecipeRun, system: System, dev: DecodeSet, executor: Any, search: Mapping[str, Any]
    ) -> None:
        self.run, self.system = run, system
        self.acoustics = GmmAcoustics(run.dir("gmm") / system.trained_as)
        self.silent = silent_pdfs(self.acoustics.model, np.asarray(lang_of(run, system.trained_as).silence_ids))
        path = decode_folder(run.exp, system.first_pass, dev.condition, dev.set) / "wer.json"
        if not path.exists():
            raise DataError(
                f"{system.name} starts from hypotheses of {system.first_pass}, which is not decoded",
                file=path,
                remedy=f"name {system.first_pass} in decode.systems, too",
            )
        settings = read_json(path)["settings"]
        self.point = (float(settings["acoustic_scale"]), float(settings["word_penalty"]))
        self.graph = run.dir("graph") / f"{system.graph}.fst"
        self.search, self.executor = search, executor

    def __call__(self, eval_set: DecodeSet, scratch: Path) -> Loglikes:
        features = _features(self.run, self.acoustics, eval_set)
        unadapted = loglikes = _of_gaussians(self.acoustics, features)
        transforms: Transforms = {}
        for index in range(self.run.settings.decode.adapt_passes):
            paths = decode_hypotheses(
                loglikes, self.graph, points=[self.point], executor=self.executor, **self.search
            )
            pdfs = {identifier: by_point[0].pdfs for identifier, by_point in paths.items()}
            transforms = adapt_speakers(
                self.acoustics.model, _Transformed(unadapted), pdfs, features.speakers, self.silent,
                transforms if index else None,
            )  # fmt: skip
            loglikes = _of_gaussians(self.acoustics, features, transforms)
        folder = decode_folder(self.run.exp, self.system.name, eval_set.condition, eval_set.set).parent
        if transforms:
            save_tensors(
                folder / f"{eval_set.set}.fmllr.safetensors", {"transforms": np.stack(list(transforms.values()))}
            )
            write_json(folder / f"{eval_set.set}.fmllr.json", list(transforms))
        return _kept(loglikes, features, self.acoustics.num_pdfs, scratch, self.executor)
