"""The one place where aligning meets the training of Gaussians: features, the ladder of models, the best path.

A model is trained on the very corpus that is aligned (as the Montreal Forced Aligner's `train`), or taken from a run
of a recipe or of an earlier alignment. Nothing else in hybrid/align knows what a model is made of.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from lhotse import CutSet, MonoCut

from hybrid.align.loop import LoopCounts
from hybrid.data.arrays import read_arrays
from hybrid.data.features import FrontEnd, Mfcc, config_from_json, config_to_json, extract
from hybrid.data.transforms import apply_cmvn, deltas
from hybrid.errors import DataError, ModelError
from hybrid.gmm import deltas as triphones
from hybrid.gmm import mono
from hybrid.gmm.align import AlignOptions, UtteranceGraph, align, viterbi
from hybrid.gmm.train import GmmModel, TrainingSet
from hybrid.hmm.graph import TrainingGraphs, min_frames
from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import bootstrap_topology
from hybrid.io import PathLike, Problems, load_tensors, read_json
from hybrid.parallel import ordered_map
from lexicon.lang import Lang

SYSTEMS = ("tri3", "tri2", "tri1", "mono")  # of a run, the best first
FRAME_SHIFT = 0.01
LOOP = "loop.safetensors"  # counts of the phone loop, beside a model that was trained here
CHUNK = 40  # utterances of a worker's task
Progress = Callable[..., Iterable[Any]]
Log = Callable[[str], None]


class BestPath(NamedTuple):
    """The best path of an utterance: transition ids [T] and score a frame; `tids` None where there is none."""

    id: str
    tids: Optional[np.ndarray]
    loglike: float
    reason: str = ""


@dataclass
class Speech:
    """Features [T, D] of each utterance, normalised per speaker; `speakers` by id."""

    features: Dict[str, np.ndarray]
    speakers: Dict[str, str]


@dataclass
class Engine:
    """A model with the words of the corpus; `about` is what features.json says. Can be sent to worker processes."""

    model: GmmModel
    lang: Lang
    about: Mapping[str, Any]
    options: AlignOptions

    @property
    def senones(self) -> Senones:
        return self.model.senones

    def loglikes(self, features: np.ndarray) -> np.ndarray:
        """Features of `Speech` [T, D] -> log-likelihoods of all pdfs [T, num_pdfs]."""
        return self.model.loglikes(self._full(features))

    def _full(self, features: np.ndarray) -> np.ndarray:
        return deltas(features, order=int(self.about["deltas"]))

    def align(
        self, ids: Sequence[str], speech: Speech, words: Mapping[str, Sequence[str]], executor: Optional[Executor]
    ) -> Iterable[List[BestPath]]:
        """The best paths, a list for each CHUNK of `ids`, in their order."""
        jobs = (
            (self, [(i, speech.features[i], " ".join(words[i])) for i in ids[begin : begin + CHUNK]])
            for begin in range(0, len(ids), CHUNK)
        )
        return map(_align_chunk, jobs) if executor is None else ordered_map(executor, _align_chunk, jobs)


def _align_chunk(job: Tuple[Engine, List[Tuple[str, np.ndarray, str]]]) -> List[BestPath]:
    engine, utterances = job
    senones = engine.senones
    compiler = TrainingGraphs(engine.lang, senones, transition_scale=0.0, self_loop_scale=0.0)
    rows = []
    for identifier, features, text in utterances:
        try:
            graph, least = _graph(compiler, identifier, text)
            if len(features) < least:
                raise DataError(_too_short(len(features), least))
        except DataError as error:
            rows.append(BestPath(identifier, None, 0.0, error.what))
            continue
        pdfs, column = np.unique(senones.tid2pdf[graph.tids], return_inverse=True)
        loglikes = np.zeros((len(features), senones.num_tids), dtype=np.float32)
        scores = engine.model.gmms.loglikes(engine._full(features), pdfs)
        loglikes[:, graph.tids - 1] = scores[column.reshape(-1)].T
        tids, loglike, _ = viterbi(identifier, graph.fst(), loglikes, senones, engine.options)
        rows.append(BestPath(identifier, tids, loglike, "" if tids is not None else NO_PATH))
    return rows


NO_PATH = "no path through the words, even with the wide beam: the transcript is probably not what is said"


def _too_short(frames: int, least: int) -> str:
    return f"the audio is too short for its words: {frames} frames of 10 ms, they need {least}"


def _graph(compiler: TrainingGraphs, identifier: str, text: str) -> Tuple[UtteranceGraph, int]:
    fst = compiler.compile(compiler.lang.word_ids(text, identifier), identifier)
    return UtteranceGraph.from_fst(fst), min_frames(fst)


# ------------------------------------------------------------------ features


def front_end(about: Optional[Mapping[str, Any]]) -> FrontEnd:
    """Of a model's features.json, or the default of a new model."""
    return FrontEnd(Mfcc() if about is None else config_from_json(about["mfcc"]))


DEFAULT_FEATURES: Dict[str, Any] = {
    "mfcc": config_to_json(Mfcc()),
    "cmvn": {"per": "speaker", "variance": True},
    "deltas": 2,
}


def make_features(
    cuts: Sequence[MonoCut],
    about: Mapping[str, Any],
    folder: PathLike,
    *,
    executor: Optional[Executor] = None,
    progress: Optional[Progress] = None,
    problems: Problems,
) -> Speech:
    """Computes what is not in `folder` yet; cuts whose audio cannot be used go to `problems`."""
    extract(
        CutSet.from_cuts(cuts), front_end(about), folder, executor=executor, progress=progress, problems=problems,
        name="mfcc",
    )
    found, features = read_arrays(folder, "mfcc")
    speakers = {cut.id: cut.supervisions[0].speaker for cut in found}
    if not features:
        return Speech({}, {})
    return Speech(apply_cmvn(features, speakers, variance=bool(about["cmvn"]["variance"])), speakers)


# ------------------------------------------------------------------ models


def find_model(path: PathLike) -> Tuple[Path, Path]:
    """(folder of the model, folder of its lang) for the folder of a run, of an alignment, or of a model itself.

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
    """The model and its features.json. Raises ModelError where a part is missing."""
    about = read_json(Path(folder) / "features.json")
    if not isinstance(about, dict) or not {"mfcc", "cmvn", "deltas"} <= set(about):
        raise ModelError("not what features of a GMM look like", file=Path(folder) / "features.json")
    return GmmModel.load(folder), about


def loop_counts(folder: PathLike, senones: Senones, base: Mapping[int, str]) -> Optional[LoopCounts]:
    """Of a model's training alignments, where it keeps them."""
    for place in (Path(folder) / LOOP, Path(folder).parent / LOOP):
        if place.exists():
            return LoopCounts.load(place)
    state = Path(folder) / "state.safetensors"
    if not state.exists():
        return None
    tensors = load_tensors(state)
    if not {"tids", "lengths"} <= set(tensors):
        return None
    counts = LoopCounts.zeros(senones, base)
    for tids in np.split(tensors["tids"], np.cumsum(tensors["lengths"])[:-1]):
        counts.add(tids, senones, base)
    return counts


def train(
    lang: Lang,
    speech: Speech,
    words: Mapping[str, Sequence[str]],
    folder: PathLike,
    *,
    options: AlignOptions,
    seed: int = 0,
    executor: Optional[Executor] = None,
    log: Log = print,
    progress: Progress,
) -> GmmModel:
    """Monophones, then triphones, in `folder`; goes on where a killed training was.

    Utterances that do not fit are left out of the training (aligning names them). Sizes follow the amount of speech.
    Raises DataError where none is left.
    """
    folder = Path(folder)
    senones = _monophones(lang)
    compiler = TrainingGraphs(lang, senones, transition_scale=0.0, self_loop_scale=0.0)
    graphs: Dict[str, UtteranceGraph] = {}
    features: Dict[str, np.ndarray] = {}
    for identifier in sorted(speech.features):
        try:
            graph, least = _graph(compiler, identifier, " ".join(words[identifier]))
        except DataError:
            continue
        if least <= len(speech.features[identifier]):
            graphs[identifier] = graph
            features[identifier] = deltas(speech.features[identifier])
    data = TrainingSet(sorted(graphs), features, graphs)
    shared: Dict[str, Any] = {"seed": seed, "executor": executor, "log": log, "progress": progress}
    shared["silence_phones"] = lang.silence_ids
    size = sizes(data.frames)
    model = mono.train_mono(
        senones, data, mono.options(gaussians=size["mono"], align=options), folder=folder / "mono", **shared
    )
    model.save(folder / "mono", DEFAULT_FEATURES)
    start = align(data.ids, features, graphs, model.gmms, model.senones, options, executor)
    data = TrainingSet([i for i in data.ids if i in start.tids], features, graphs)

    def compile_graphs(tree: Senones) -> Dict[str, UtteranceGraph]:
        again = TrainingGraphs(lang, tree, transition_scale=0.0, self_loop_scale=0.0)
        return {i: _graph(again, i, " ".join(words[i]))[0] for i in data.ids}

    model = triphones.train_deltas(
        model.senones,
        start,
        data,
        triphones.options(gaussians=size["tri"], align=options),
        groups=lang.phone_groups(),
        leaves=size["leaves"],
        graphs=compile_graphs,
        folder=folder / "tri1",
        **shared,
    )
    model.save(folder / "tri1", DEFAULT_FEATURES)
    return model


def sizes(frames: int) -> Dict[str, int]:
    """Gaussians and leaves for an amount of speech: those tuned on AN4 (250,000 frames), Kaldi's from 100 h on."""
    return {
        "mono": int(np.clip(frames // 170, 100, 1500)),
        "tri": int(np.clip(frames // 56, 200, 20000)),
        "leaves": int(np.clip(frames // 600, 40, 2500)),
    }


def _monophones(lang: Lang) -> Senones:
    silences = set(lang.silence_ids)
    rest = [phone for phone in lang.phone_ids if phone not in silences]
    names = {lang.phone_names[number]: number for number in lang.phone_ids}
    return Senones.monophone(bootstrap_topology(rest, lang.silence_ids), names, lang.phone_groups())
