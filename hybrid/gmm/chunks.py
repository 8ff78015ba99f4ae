"""What a pass does with one chunk of utterances. Every function here runs in a worker, or in this process.

A job gets numbers and paths and gives sums: features, graphs and alignments are read from disk chunk by chunk and
written back there, so that a pass takes the memory of a chunk for each worker whatever the hours of speech. Sums are
added in the order of the chunks, so that their rounding does not depend on the number of workers.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple, TypeVar

import numpy as np

from hybrid.device import choose
from hybrid.gmm.align import Aligned, AlignOptions, align_chunk, equal_alignments
from hybrid.gmm.device import DeviceGmms
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.estimate import GmmStats, accumulate
from hybrid.gmm.feature_transform import FeatureTransform, adapt
from hybrid.gmm.fmllr import Transforms, compose, estimate_fmllr, frame_terms, speaker_stats
from hybrid.gmm.graphs import Graphs
from hybrid.gmm.lda import LdaStats
from hybrid.gmm.mllt import MlltStats
from hybrid.gmm.store import Chunk, Store
from hybrid.hmm.alignment import convert_all, phone_segments, windows
from hybrid.hmm.build_tree import TreeStats
from hybrid.hmm.graph import TrainingGraphs
from hybrid.hmm.senones import Senones
from hybrid.io import load_tensors, read_json, save_tensors, write_json
from hybrid.lexicon.lang import Lang
from hybrid.parallel import ordered_map, worker_number

Result = TypeVar("Result")


@dataclass(frozen=True)
class Data:
    """Where features come from: the store, the transform, and the folders of speakers' transforms and alignments."""

    store: Store
    feature_transform: FeatureTransform
    graphs: Optional[Path] = None
    alignments: Optional[Path] = None
    transforms: Optional[Path] = None

    def load(self, index: int) -> Tuple[Chunk, np.ndarray]:
        """Returns a chunk, and its features [N, D] with the speakers' transforms if there are any."""
        chunk = self.store.chunk(index)
        features = self.feature_transform.apply(chunk.base, chunk.lengths)
        if self.transforms is not None:
            features = adapted(chunk, features, load_transforms(self.transforms, index))
        return chunk, features

    def aligned(self, index: int) -> Aligned:
        assert self.alignments is not None
        return Aligned.load(chunk_file(self.alignments, index))

    def frames(self, index: int) -> Frames:
        """Returns the frames of the aligned utterances of a chunk."""
        chunk, features = self.load(index)
        return Frames.of(chunk, features, self.aligned(index))


class Frames(NamedTuple):
    """features [N, D] and transition ids [N] of the aligned utterances; mask: which frames of the chunk they are."""

    features: np.ndarray
    tids: np.ndarray
    mask: np.ndarray

    @classmethod
    def of(cls, chunk: Chunk, features: np.ndarray, aligned: Aligned) -> Frames:
        mask = np.repeat(aligned.lengths > 0, chunk.lengths)
        return cls(features if mask.all() else features[mask], aligned.tids, mask)


def chunk_file(folder: Path, index: int, suffix: str = "safetensors") -> Path:
    return Path(folder) / f"{index:06d}.{suffix}"


def map_chunks(executor: Optional[Executor], work: Callable[[int], Result], store: Store) -> Iterator[Result]:
    """Returns work(index) for every chunk, in order; at most a few of them are under way."""
    indices = range(store.num_chunks)
    return map(work, indices) if executor is None else ordered_map(executor, work, indices)


def adapted(chunk: Chunk, features: np.ndarray, transforms: Transforms) -> np.ndarray:
    out = np.empty_like(features)
    for speaker, rows in chunk.speaker_rows():
        out[rows] = adapt(features[rows], transforms[speaker])
    return out


def load_transforms(folder: Path, index: int) -> Transforms:
    names = read_json(chunk_file(folder, index, "json"))
    return dict(zip(names, load_tensors(chunk_file(folder, index))["transforms"], strict=True))


def save_transforms(folder: Path, index: int, transforms: Transforms) -> None:
    write_json(chunk_file(folder, index, "json"), list(transforms))
    save_tensors(chunk_file(folder, index), {"transforms": np.stack(list(transforms.values())).astype(np.float32)})


# ------------------------------------------------------------------ graphs and the flat start


def compile_graphs(index: int, *, store: Store, lang: Lang, senones: Senones, folder: Path) -> Dict[str, str]:
    """Writes the graphs of a chunk.

    Returns {id: reason} of utterances that have none or are too short for their words.
    """
    about = store.about(index)
    compiler = TrainingGraphs(lang, senones, transition_scale=0.0, self_loop_scale=0.0)
    graphs, reasons = Graphs.compile(compiler, about["texts"], about["ids"])
    for number, (identifier, frames) in enumerate(zip(about["ids"], about["frames"])):
        if graphs.start[number] >= 0 and frames < graphs.shortest[number]:
            reasons[identifier] = (
                f"too short for its words: {frames} frames of 10 ms, they need {graphs.shortest[number]}"
            )
    graphs.save(chunk_file(folder, index))
    return reasons


def align_equally(index: int, *, data: Data, folder: Path, seed: int) -> int:
    chunk = data.store.about(index)
    graphs = Graphs.load(chunk_file(_need(data.graphs), index))
    alignments = equal_alignments(graphs, np.asarray(chunk["frames"]), seed + 1000 * index)
    alignments.save(chunk_file(folder, index))
    return int((alignments.lengths > 0).sum())


def _need(path: Optional[Path]) -> Path:
    assert path is not None
    return path


def moments(index: int, *, data: Data) -> Tuple[float, np.ndarray, np.ndarray]:
    """Returns the number of frames of a chunk, their sum [D] and their sum of squares [D]."""
    _chunk, features = data.load(index)
    x = features.astype(np.float64)
    return float(len(x)), x.sum(0), np.square(x).sum(0)


def convert_alignments(
    index: int, *, data: Data, old: Senones, new: Senones, context_free: np.ndarray, folder: Path
) -> None:
    alignments = data.aligned(index)
    converted = convert_all([tids for tids in alignments.each() if tids is not None], old, new, context_free)
    tids = np.concatenate(converted) if converted else alignments.tids
    Aligned(tids, alignments.lengths, alignments.loglike).save(chunk_file(folder, index))


# ------------------------------------------------------------------ statistics


@dataclass(frozen=True)
class PassJob:
    """One pass: align where `align_to` is given, estimate transforms where `adapt_to` is, then statistics."""

    data: Data
    gmms: DiagGmms
    tid2pdf: np.ndarray
    num_tids: int
    silent: np.ndarray  # [num_tids + 1]: tids of silence phones, which take no part in adaptation
    search: Optional[DiagGmms] = None  # the mixtures to align with, silence boosted
    costs: Optional[np.ndarray] = None
    options: AlignOptions = AlignOptions()
    align_to: Optional[Path] = None
    adapt_to: Optional[Path] = None
    keep: bool = False  # alignments that are there already, of an earlier run that was killed
    device: str = "cpu"  # or what the process that works through a chunk chooses its device by (hybrid/device.py)


@dataclass
class PassResult:
    """stats; counts of transition ids [num_tids + 1]; aligned, failed, retried: utterances; reasons: why each has
    failed; gain of fMLLR, and the frames adapted."""

    stats: GmmStats
    counts: np.ndarray
    aligned: int = 0
    failed: List[str] = field(default_factory=list)
    reasons: List[str] = field(default_factory=list)
    retried: int = 0
    gain: float = 0.0
    adapted: float = 0.0

    def __add__(self, other: PassResult) -> PassResult:
        return PassResult(*(getattr(self, name) + getattr(other, name) for name in vars(self)))


def run_chunk(index: int, *, job: PassJob) -> PassResult:
    device = choose(job.device, worker_number())
    chunk, features = job.data.load(index)
    if job.align_to is None:
        alignments = job.data.aligned(index)
    elif job.keep and chunk_file(job.align_to, index).exists():
        alignments = Aligned.load(chunk_file(job.align_to, index))
    else:
        graphs = Graphs.load(chunk_file(_need(job.data.graphs), index))
        assert job.costs is not None
        search = job.search or job.gmms
        loglikes = None if device == "cpu" else DeviceGmms(search, device).loglikes(features)
        alignments = align_chunk(
            features, chunk.lengths, graphs, search, job.tid2pdf, job.costs, job.options, loglikes
        )
        alignments.save(chunk_file(job.align_to, index))
    result = PassResult(GmmStats.zeros(job.gmms), np.zeros(job.num_tids + 1))
    result.aligned = int((alignments.lengths > 0).sum())
    failed = np.flatnonzero(alignments.lengths == 0).tolist()
    result.failed, result.reasons = [chunk.ids[n] for n in failed], [alignments.reason(n) for n in failed]
    result.retried = alignments.retried
    frames = Frames.of(chunk, features, alignments)
    if job.adapt_to is not None:
        before = None if job.data.transforms is None else load_transforms(job.data.transforms, index)
        transforms, result.gain, result.adapted = estimate_chunk(chunk, frames, job.gmms, job.tid2pdf, job.silent)
        total = transforms if before is None else {name: compose(transforms[name], before[name]) for name in transforms}
        save_transforms(job.adapt_to, index, total)
        frames = Frames.of(chunk, adapted(chunk, features, transforms), alignments)
    result.counts = np.bincount(frames.tids, minlength=job.num_tids + 1).astype(np.float64)
    if device == "cpu":
        accumulate(job.gmms, frames.features, job.tid2pdf[frames.tids], result.stats)
    else:
        DeviceGmms(job.gmms, device).accumulate(frames.features, job.tid2pdf[frames.tids], result.stats)
    return result


def estimate_chunk(
    chunk: Chunk,
    frames: Frames,
    gmms: DiagGmms,
    tid2pdf: np.ndarray,
    silent: np.ndarray,
    posteriors_from: Optional[DiagGmms] = None,
) -> Tuple[Transforms, float, float]:
    """Estimates transforms of the chunk's speakers on top of `frames`.

    Returns the transforms, their gain, and the frames that they rest on.
    """
    pdfs = tid2pdf[frames.tids]
    a, b = frame_terms(
        gmms, frames.features, pdfs, None if posteriors_from is None else (posteriors_from, frames.features)
    )
    weights = (~silent[frames.tids]).astype(np.float32)
    place = np.r_[0, np.cumsum(frames.mask)]
    speakers, stats = [], []
    for speaker, rows in chunk.speaker_rows():
        span = slice(int(place[rows.start]), int(place[rows.stop]))
        speakers.append(speaker)
        stats.append(speaker_stats(frames.features[span], a[span], b[span], weights[span]))
    estimates = estimate_fmllr(stats)
    transforms = {speaker: transform for speaker, (transform, _) in zip(speakers, estimates)}
    frames_used = sum(terms.beta for terms, (_, gain) in zip(stats, estimates) if gain)
    return transforms, sum(gain for _, gain in estimates), frames_used


def tree_chunk(index: int, *, data: Data, senones: Senones, context_free: np.ndarray) -> TreeStats:
    """Returns triphone statistics of the aligned frames (Kaldi's acc-tree-stats --ci-phones=silence)."""
    frames = data.frames(index)
    contexts = []
    for tids in data.aligned(index).each():
        if tids is not None:
            phones, durations = phone_segments(tids, senones)
            contexts.append(np.repeat(windows(phones, 3, 1, context_free), durations, axis=0))
    no_windows = np.zeros((0, 3), np.int32)
    return TreeStats.from_frames(
        np.concatenate(contexts) if contexts else no_windows, senones.tid2class[frames.tids], frames.features
    )


def lda_chunk(index: int, *, data: Data, tid2pdf: np.ndarray, silent: np.ndarray, number: int) -> LdaStats:
    """Returns statistics of the spliced frames, whatever the feature transform's matrix; silence takes no part."""
    chunk = data.store.chunk(index)
    spliced = data.feature_transform.spliced(chunk.base, chunk.lengths)
    frames = Frames.of(chunk, spliced, data.aligned(index))
    used = ~silent[frames.tids]
    return LdaStats.from_frames(frames.features[used], tid2pdf[frames.tids[used]], number)


def mllt_chunk(index: int, *, data: Data, gmms: DiagGmms, tid2pdf: np.ndarray, silent: np.ndarray) -> MlltStats:
    frames = data.frames(index)
    used = ~silent[frames.tids]
    return MlltStats.from_frames(gmms, frames.features[used], tid2pdf[frames.tids[used]])


def fmllr_chunk(
    index: int, *, data: Data, gmms: DiagGmms, tid2pdf: np.ndarray, silent: np.ndarray, folder: Path,
    posteriors_from: Optional[DiagGmms] = None,
) -> Tuple[float, float]:
    """Writes transforms estimated from the alignments there are; returns (gain, frames)."""
    chunk, features = data.load(index)
    frames = Frames.of(chunk, features, data.aligned(index))
    transforms, gain, count = estimate_chunk(chunk, frames, gmms, tid2pdf, silent, posteriors_from)
    if data.transforms is not None:
        before = load_transforms(data.transforms, index)
        transforms = {name: compose(transforms[name], before[name]) for name in transforms}
    save_transforms(folder, index, transforms)
    return gain, count


def independent_chunk(index: int, *, data: Data, gmms: DiagGmms, tid2pdf: np.ndarray) -> GmmStats:
    """Returns statistics of features without transforms.

    The posteriors are those of features with transforms (Kaldi's gmm-acc-stats-twofeats).
    """
    frames = data.frames(index)
    chunk = data.store.chunk(index)
    plain = data.feature_transform.apply(chunk.base, chunk.lengths)[frames.mask]
    stats = GmmStats.zeros(gmms)
    accumulate(gmms, frames.features, tid2pdf[frames.tids], stats, others=plain)
    return stats


def total(parts: Iterable[Any]) -> Any:
    """Returns the sum of the parts in their order; None of none."""
    result = None
    for part in parts:
        result = part if result is None else result + part
    return result

