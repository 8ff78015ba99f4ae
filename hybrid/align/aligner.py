"""The one place where aligning meets the training of Gaussians: features, the ladder of models, the best path.

A model is trained on the very corpus that is aligned (as the Montreal Forced Aligner's `train`), or taken from a run
of a recipe or of an earlier alignment. Nothing else in hybrid/align knows what a model is made of.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, Mapping, Optional, Sequence, Tuple

import numpy as np
from lhotse import CutSet, MonoCut

from hybrid.align.loop import LoopCounts
from hybrid.data.arrays import iterate_arrays, read_complete
from hybrid.data.features import FeatureExtractor, Mfcc, config_from_json, config_to_json, extract
from hybrid.device import for_workers
from hybrid.errors import ModelError
from hybrid.gmm.align import Aligned, AlignOptions
from hybrid.gmm.apply import align_store
from hybrid.gmm.bootstrap import SYSTEMS as STEPS
from hybrid.gmm.bootstrap import BootstrapOptions, StepOptions, train_steps
from hybrid.gmm.chunks import Data
from hybrid.gmm.model import GmmModel
from hybrid.gmm.passes import Context
from hybrid.gmm.store import Store, StoredUtterance
from hybrid.hmm.senones import Senones
from hybrid.io import PathLike, Problems, read_json
from hybrid.lexicon.lang import Lang

SYSTEMS = tuple(reversed(STEPS))  # of a run, the best first
FRAME_SHIFT = 0.01
LOOP = "loop.safetensors"  # counts of the phone loop, beside a model that was trained here
CHUNK_FRAMES = 30_000  # frames of a worker's task
ENOUGH = 30_000  # frames from which LDA and speakers' transforms are worth it: five minutes
Progress = Callable[..., Iterable[Any]]
Log = Callable[[str], None]


@dataclass
class Aligner:
    """A model with the words of the corpus, and its speech; can be sent to worker processes."""

    model: GmmModel
    lang: Lang
    data: Data

    @property
    def senones(self) -> Senones:
        return self.model.senones

    @property
    def num_chunks(self) -> int:
        return self.data.store.num_chunks

    def loglikes(self, features: np.ndarray) -> np.ndarray:
        """Return the log-likelihoods of all pdfs [T, num_pdfs] for features of `chunk` [T, D]."""
        gmms = self.model.gmms if self.data.transforms is not None else self.model.first_pass
        return np.ascontiguousarray(gmms.loglikes(features).T)

    def chunk(self, index: int) -> Iterator[Tuple[str, np.ndarray, Optional[np.ndarray], float]]:
        """Yield (id, features [T, D] adapted to the speaker, tids [T] or None, score a frame) of each utterance."""
        chunk, features = self.data.load(index)
        alignment = self.data.aligned(index)
        bounds = chunk.offsets
        for number, tids in enumerate(alignment.each()):
            loglike = float(alignment.loglike[number])
            yield chunk.ids[number], features[bounds[number] : bounds[number + 1]], tids, loglike


# ------------------------------------------------------------------ features


def extractor(about: Optional[Mapping[str, Any]]) -> FeatureExtractor:
    """Return the feature extractor that a model's features.json describes, or the default of a new model."""
    return FeatureExtractor(Mfcc() if about is None else config_from_json(about["mfcc"]))


DEFAULT_FEATURES: Dict[str, Any] = {
    "mfcc": config_to_json(Mfcc()),
    "cmvn": {"per": "speaker", "variance": True},
}


def make_features(
    cuts: Sequence[MonoCut],
    about: Mapping[str, Any],
    folder: PathLike,
    *,
    executor: Optional[Executor] = None,
    progress: Optional[Progress] = None,
    problems: Problems,
) -> str:
    """Computes what is not in `folder` yet; cuts whose audio cannot be used go to `problems`. Returns the content's
    fingerprint."""
    extract(
        CutSet.from_cuts(cuts), extractor(about), folder, executor=executor, progress=progress, problems=problems
    )  # fmt: skip
    return str(read_complete(folder)["fingerprint"])


def make_store(features: PathLike, words: Mapping[str, Sequence[str]], about: Mapping[str, Any], folder: Path) -> Store:
    """Make a store of the cepstra of the utterances that have `words`, by speaker."""

    def items() -> Iterator[StoredUtterance]:
        for cut, arrays in iterate_arrays(features, "mfcc"):
            if cut.id in words:
                yield StoredUtterance(cut.id, str(cut.supervisions[0].speaker), " ".join(words[cut.id]), arrays["mfcc"])

    return Store.create(folder, items, variance=bool(about["cmvn"]["variance"]), chunk_frames=CHUNK_FRAMES)


# ------------------------------------------------------------------ models


def find_model(path: PathLike) -> Tuple[Path, Path]:
    """Return (folder of the model, folder of its lang) for the folder of a run, of an alignment, or of a model itself.

    Raises ModelError that says where it was looked for.
    """
    path = Path(path)
    for parent in (path / "gmm", path / "model", path):
        for name in (*SYSTEMS, ""):
            folder = parent / name if name else parent
            if (folder / "senones").is_dir() and (folder / "features.json").is_file():
                for lang in (folder / "lang", folder.parent / "lang", folder.parent.parent / "lang"):
                    if (lang / "phones.txt").is_file():
                        return folder, lang
                raise ModelError("a model without its lang folder", file=folder, remedy="give the folder of the run")
    raise ModelError(
        "no GMM here",
        file=path,
        remedy="give the folder of a run (exp/an4), of an alignment (its OUT), or of a model (exp/an4/gmm/tri1)",
    )


def load(folder: PathLike) -> Tuple[GmmModel, Mapping[str, Any]]:
    """Return the model and its features.json. Raises ModelError where a part is missing."""
    about = read_json(Path(folder) / "features.json")
    if not isinstance(about, dict) or not {"mfcc", "cmvn"} <= set(about):
        raise ModelError("not what features of a GMM look like", file=Path(folder) / "features.json")
    return GmmModel.load(folder), about


def loop_counts(folder: PathLike, senones: Senones, base: Mapping[int, str]) -> Optional[LoopCounts]:
    """Return the counts of the phone loop from a model's training alignments; None where it keeps none."""
    folder = Path(folder)
    for place in (folder / LOOP, folder.parent / LOOP):
        if place.exists():
            return LoopCounts.load(place)
    mark = folder / "finished.json"
    if not mark.exists():
        return None
    counts = LoopCounts.zeros(senones, base)
    for path in sorted((folder / read_json(mark)["alignments"]).glob("*.safetensors")):
        count_chunk(counts, Aligned.load(path), senones, base)
    return counts


def count_chunk(counts: LoopCounts, found: Aligned, senones: Senones, base: Mapping[int, str]) -> None:
    for tids in found.each():
        if tids is not None:
            counts.add(tids, senones, base)


def train(
    lang: Lang,
    store: Store,
    about: Mapping[str, Any],
    folder: PathLike,
    *,
    options: AlignOptions,
    seed: int = 0,
    executor: Optional[Executor] = None,
    log: Log = print,
    progress: Progress,
) -> GmmModel:
    """Train monophones to speaker-adapted triphones in `folder`; goes on where a killed training was.

    Under five minutes of speech it ends with plain triphones. Utterances that do not fit take no part (aligning names
    them). Sizes follow the amount of speech. Raises DataError where none is left.
    """
    names = STEPS if store.frames >= ENOUGH else STEPS[:2]
    steps = train_steps(
        store, lang, BootstrapOptions(sizes(store.frames), options), Path(folder), features=about, systems=names,
        seed=seed, executor=executor, log=log, progress=progress, device=for_workers("auto"),
    )  # fmt: skip
    return steps.models[names[-1]]


def sizes(frames: int) -> Dict[str, StepOptions]:
    """Return the number of Gaussians and leaves for an amount of speech.

    They are those tuned on AN4 (250,000 frames), and Kaldi's from 100 h on.
    """
    leaves = int(np.clip(frames // 140, 40, 4200))  # at most: the threshold stops small corpora far earlier
    gaussians = int(np.clip(frames // 56, 200, 40_000))
    triphones = StepOptions(35, gaussians, leaves, 500.0 if frames < 1_000_000 else 300.0)
    return {
        "mono": StepOptions(40, int(np.clip(frames // 170, 100, 1500))),
        **{name: triphones for name in STEPS[1:]},
    }


def align(
    model: GmmModel,
    lang: Lang,
    store: Store,
    folder: Path,
    *,
    options: AlignOptions,
    executor: Optional[Executor] = None,
    log: Log = print,
    progress: Progress,
) -> Tuple[Aligner, Dict[str, str]]:
    """Find the best path of every utterance, kept by chunks in `folder`.

    Returns the aligner with the paths, and {id: reason} of the utterances that have none.
    """
    context = Context(
        folder, lang.silence_ids, executor=executor, log=log, progress=progress, device=for_workers("auto")
    )
    data, reasons = align_store(model, store, lang, options, context, keep=True)
    for index in range(store.num_chunks):
        alignment = data.aligned(index)
        for number, identifier in enumerate(store.about(index)["ids"]):
            if not alignment.lengths[number]:
                reasons.setdefault(identifier, alignment.reason(number))
    return Aligner(model, lang, data), reasons

