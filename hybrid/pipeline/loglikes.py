"""Log-likelihoods of a development and a test set under each system, as decoding takes them."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

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
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.sets import DecodeSet, gmm_features, network_features, speakers_of
from hybrid.pipeline.systems import System
from hybrid.score.results import decode_folder

Loglikes = Dict[str, np.ndarray]
Sets = Sequence[DecodeSet]


def set_loglikes(
    run: RecipeRun, system: System, sets: Sets, executor: Any, search: Mapping[str, Any]
) -> Iterator[Tuple[DecodeSet, Loglikes, float]]:
    """Yield each set with its log-likelihoods {utterance: [frames, num_pdfs]} under a system, and the seconds that they
    took. The first set is the development set that chose the scales for all of them.

    search: what first passes decode with (beam, max_active).
    """
    compute: Callable[[DecodeSet], Loglikes]
    if system.network:
        compute = _Network(run, system, executor)
    elif system.first_pass:
        compute = _Adapted(run, system, sets[0], executor, search)
    else:
        compute = _Plain(run, system)
    for one in sets:
        started = time.perf_counter()
        found = compute(one)
        yield one, found, time.perf_counter() - started


class _Gaussians:
    def __init__(self, run: RecipeRun, system: System) -> None:
        self.run, self.system = run, system
        self.model: GmmModel = gmm_stage.load(run, system.trained_as)

    def features(self, one: DecodeSet) -> Tuple[Any, Dict[str, np.ndarray]]:
        variance = self.run.settings.gmm.variance_normalisation
        cuts, base = gmm_features(self.run, one.name, variance=variance)
        return cuts, {i: self.model.feature_transform.apply(x, [len(x)]) for i, x in base.items()}

    def unadapted(self, features: Mapping[str, np.ndarray]) -> Loglikes:
        return {i: np.ascontiguousarray(self.model.first_pass.loglikes(x).T) for i, x in features.items()}


class _Plain(_Gaussians):
    """Gaussians without speakers' transforms."""

    def __call__(self, one: DecodeSet) -> Loglikes:
        return self.unadapted(self.features(one)[1])


class _Adapted(_Gaussians):
    """Speaker-adapted Gaussians: the first pass's hypotheses give transforms, those of the adapted features better
    ones, as often as decode.adapt_passes says (Kaldi's steps/decode_fmllr.sh).

    The passes between use the acoustic scale and penalty that the development set chose for the first pass. Transforms
    stay in EXP/decode/SYSTEM/CONDITION/SET.fmllr.safetensors.
    """

    def __init__(
        self, run: RecipeRun, system: System, dev: DecodeSet, executor: Any, search: Mapping[str, Any]
    ) -> None:
        super().__init__(run, system)
        lang = gmm_stage.lang_of(run, system.trained_as)
        self.silent = silent_pdfs(self.model, np.asarray(lang.silence_ids))
        path = decode_folder(run.exp, system.first_pass, dev.condition, dev.set) / "wer.json"
        if not path.exists():
            raise DataError(
                f"{system.name} starts from hypotheses of {system.first_pass}, which is not decoded",
                file=path,
                remedy=f"name {system.first_pass} in decode.systems, too",
            )
        chosen = read_json(path)["settings"]
        self.point = (float(chosen["acoustic_scale"]), float(chosen["word_penalty"]))
        self.graph = run.dir("graph") / f"{system.graph}.fst"
        self.search, self.executor = search, executor

    def __call__(self, one: DecodeSet) -> Loglikes:
        cuts, features = self.features(one)
        speakers = speakers_of(cuts)
        loglikes = self.unadapted(features)
        transforms: Transforms = {}
        for number in range(self.run.settings.decode.adapt_passes):
            paths = decode_hypotheses(
                loglikes, self.graph, points=[self.point], executor=self.executor, **self.search
            )
            pdfs = {i: by_point[0].pdfs for i, by_point in paths.items()}
            transforms = adapt_speakers(
                self.model, features, pdfs, speakers, self.silent, transforms if number else None
            )
            loglikes = {i: self.model.loglikes(adapt(x, transforms[speakers[i]])) for i, x in features.items()}
        folder = decode_folder(self.run.exp, self.system.name, one.condition, one.set).parent
        if transforms:
            save_tensors(folder / f"{one.set}.fmllr.safetensors", {"transforms": np.stack(list(transforms.values()))})
            write_json(folder / f"{one.set}.fmllr.json", list(transforms))
        return loglikes


class _Network:
    """A network's outputs; where it has priors, log posterior less log prior."""

    def __init__(self, run: RecipeRun, system: System, executor: Any) -> None:
        folder = run.dir(system.trained_as) / "model"
        self.run, self.executor = run, executor
        self.model, _about = load_model(folder)
        self.cmvn: str = read_json(folder / "features.json")["normalise"]
        self.priors = priors_of_model(folder)

    def __call__(self, one: DecodeSet) -> Loglikes:
        _cuts, matrices = network_features(self.run, one.name, self.cmvn)
        data: List[Utterance] = [Utterance(identifier, x) for identifier, x in matrices.items()]
        return compute_loglikes(self.model, data, self.priors, executor=self.executor, jobs=self.run.jobs)
