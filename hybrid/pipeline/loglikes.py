"""Log-likelihoods of a development and a test set under each system, as decoding takes them."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Mapping, NamedTuple, Tuple

import numpy as np

from hybrid.data.batches import Utterance
from hybrid.decode.run import decode_hypotheses
from hybrid.errors import DataError
from hybrid.gmm.adapt import adapt_speakers, silent_pdfs
from hybrid.gmm.feature_transform import adapt
from hybrid.gmm.fmllr import Transforms
from hybrid.gmm.model import GmmModel
from hybrid.io import read_json, save_tensors, write_json
from hybrid.nnet.infer import compute_loglikes
from hybrid.nnet.model_io import load_model
from hybrid.nnet.priors import priors_of_model
from hybrid.pipeline import gmm as gmm_stage
from hybrid.pipeline.sets import gmm_features, network_features, set_name, speakers_of
from hybrid.run import Run
from hybrid.score.results import decode_folder

SPLITS = ("dev", "test")
Loglikes = Dict[str, np.ndarray]


class System(NamedTuple):
    """A row of the tables: the model and graph it is of, and what makes its log-likelihoods.

    model: folder under EXP/gmm, or under EXP for a network; graph: EXP/graph/GRAPH.fst; needs: the system whose
    hypotheses it starts from.
    """

    name: str
    model: str
    graph: str
    loglikes: Callable[..., Tuple[Dict[str, Loglikes], Dict[str, float]]]
    needs: str = ""

    @property
    def network(self) -> bool:
        return self.graph == "network"


def plain_loglikes(
    run: Run, system: System, condition: str, executor: Any, search: Mapping[str, Any]
) -> Tuple[Dict[str, Loglikes], Dict[str, float]]:
    """Of Gaussians without speakers' transforms, by split; and the seconds that each took."""
    model = gmm_stage.load(run, system.model)
    found: Dict[str, Loglikes] = {}
    seconds = {}
    for split in SPLITS:
        started = time.perf_counter()
        _cuts, features = _features(run, model, set_name(split, condition))
        found[split] = {i: np.ascontiguousarray(model.first_pass.loglikes(x).T) for i, x in features.items()}
        seconds[split] = time.perf_counter() - started
    return found, seconds


def _features(run: Run, model: GmmModel, name: str) -> Tuple[Any, Dict[str, np.ndarray]]:
    cuts, base = gmm_features(run, name)
    return cuts, {i: model.feature_transform.apply(x, [len(x)]) for i, x in base.items()}


def adapted_loglikes(
    run: Run, system: System, condition: str, executor: Any, search: Mapping[str, Any]
) -> Tuple[Dict[str, Loglikes], Dict[str, float]]:
    """Of speaker-adapted Gaussians: the first pass's hypotheses give transforms, those of the adapted features better
    ones, as often as decode.adapt_passes says (Kaldi's steps/decode_fmllr.sh).

    The passes between use the acoustic scale and penalty that the development set chose for the first pass. Transforms
    stay in EXP/decode/SYSTEM/CONDITION/SPLIT.fmllr.safetensors.
    """
    model = gmm_stage.load(run, system.model)
    lang = gmm_stage.lang_of(run, system.model)
    silent = silent_pdfs(model, np.asarray(lang.silence_ids))
    path = decode_folder(run.exp, system.needs, condition, "dev") / "wer.json"
    if not path.exists():
        raise DataError(
            f"{system.name} starts from hypotheses of {system.needs}, which is not decoded",
            file=path,
            remedy=f"name {system.needs} in decode.systems, too",
        )
    chosen = read_json(path)["settings"]
    point = (float(chosen["acoustic_scale"]), float(chosen["word_penalty"]))
    graph = run.dir("graph") / f"{system.graph}.fst"
    found: Dict[str, Loglikes] = {}
    seconds = {}
    for split in SPLITS:
        started = time.perf_counter()
        cuts, features = _features(run, model, set_name(split, condition))
        speakers = speakers_of(cuts)
        loglikes = {i: np.ascontiguousarray(model.first_pass.loglikes(x).T) for i, x in features.items()}
        transforms: Transforms = {}
        for number in range(int(run.config["decode.adapt_passes"])):
            paths = decode_hypotheses(loglikes, graph, points=[point], executor=executor, **search)
            pdfs = {i: found_by_point[0].pdfs for i, found_by_point in paths.items()}
            transforms = adapt_speakers(model, features, pdfs, speakers, silent, transforms if number else None)
            loglikes = {i: model.loglikes(adapt(x, transforms[speakers[i]])) for i, x in features.items()}
        folder = decode_folder(run.exp, system.name, condition, split).parent
        if transforms:
            save_tensors(folder / f"{split}.fmllr.safetensors", {"transforms": np.stack(list(transforms.values()))})
            write_json(folder / f"{split}.fmllr.json", list(transforms))
        found[split] = loglikes
        seconds[split] = time.perf_counter() - started
    return found, seconds


def network_loglikes(
    run: Run, system: System, condition: str, executor: Any, search: Mapping[str, Any]
) -> Tuple[Dict[str, Loglikes], Dict[str, float]]:
    """Where the model has priors, log posterior less log prior; LF-MMI: the outputs as they are."""
    folder = run.dir(system.model) / "model"
    model, _about = load_model(folder)
    features = read_json(folder / "features.json")
    priors = priors_of_model(folder)
    found: Dict[str, Loglikes] = {}
    seconds = {}
    for split in SPLITS:
        started = time.perf_counter()
        _cuts, matrices = network_features(run, set_name(split, condition), features["normalise"])
        data = [Utterance(identifier, x) for identifier, x in matrices.items()]
        found[split] = compute_loglikes(model, data, priors, executor=executor, jobs=run.jobs)
        seconds[split] = time.perf_counter() - started
    return found, seconds


SYSTEMS = (
    System("mono", "mono", "mono", plain_loglikes),
    System("tri1", "tri1", "tri1", plain_loglikes),
    System("tri2", "tri2", "tri2", plain_loglikes),
    System("tri3_si", "tri3", "tri3", plain_loglikes),
    System("tri3", "tri3", "tri3", adapted_loglikes, needs="tri3_si"),
    *(
        System(name, name, "network", network_loglikes)
        for name in ("teacher_ce", "teacher_lfmmi", "ce", "lfmmi", "student_ce", "student_lfmmi")
    ),
)
