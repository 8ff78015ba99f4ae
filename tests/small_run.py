"""A run's folder with small untrained models and a little noise for speech, for tests of all that recognises."""

from __future__ import annotations

from pathlib import Path

import gmm_tools
import numpy as np
import soundfile
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment

from hybrid.data.features import LogMel, Mfcc, config_to_json
from hybrid.fst import write_fst
from hybrid.gmm.feature_transform import FeatureTransform
from hybrid.gmm.model import GmmModel
from hybrid.hmm.decoding_graph import decoding_graph
from hybrid.io import write_json
from hybrid.lexicon.lang import Lang
from hybrid.lm import ngram
from hybrid.lm.grammar import arpa_to_fst
from hybrid.nnet.model_io import build_model, save_model
from hybrid.score.results import ORDER, collect, write_decode

RATE = 8000
SEARCH = {"acoustic_scale": 0.7, "word_penalty": 0.25, "beam": 12.0, "max_active": 3000}
NETWORKS = {"ce": "speaker", "lfmmi": "utterance", "student_ce": "speaker+variance"}


def make_cuts(folder: Path, rate: int = RATE) -> CutSet:
    """Four speakers with two utterances each: noise whose colour changes every 80 ms."""
    rng = np.random.default_rng(1)
    cuts = []
    for number in range(8):
        parts = [np.convolve(rng.standard_normal(640), rng.standard_normal(9))[:640] for _ in range(12 + number)]
        path = folder / f"u{number}.wav"
        soundfile.write(path, (1 + number % 4) * 0.02 * np.concatenate(parts), rate)
        recording = Recording.from_file(path, recording_id=f"u{number}")
        supervision = SupervisionSegment(f"u{number}", f"u{number}", 0.0, recording.duration, speaker=f"s{number % 4}")
        cuts.append(MonoCut(f"u{number}", 0.0, recording.duration, 0, [supervision], recording=recording))
    return CutSet.from_cuts(cuts)


def gmm_of(lang: Lang, adapted: bool) -> GmmModel:
    rng = np.random.default_rng(3)
    senones = gmm_tools.make_senones(lang)
    gmms = gmm_tools.random_gmms(rng, senones.num_pdfs, 39)
    others = gmm_tools.random_gmms(rng, senones.num_pdfs, 39) if adapted else None
    if others is not None:
        others.weights, others.offsets = gmms.weights, gmms.offsets
        others.means = gmms.means + 0.3 * rng.standard_normal(gmms.means.shape)
        others.variances = gmms.variances
    return GmmModel(senones, gmms, FeatureTransform.deltas(13), others)


def make_run(exp: Path) -> Path:
    """Fill `exp` with untrained models mono, tri3, ce, lfmmi and student_ce, graphs, and results."""
    lang = gmm_tools.make_lang()
    lang.save(exp / "lang")
    grammar = arpa_to_fst(ngram.train([["AB", "BA"], ["ACE"], ["CAB", "AB"], ["BA"]], order=2), lang.words)

    def write_graph(name, senones):
        write_fst(exp / "graph" / f"{name}.fst", decoding_graph(lang, grammar, senones, self_loop_scale=0.1))

    mfcc = Mfcc(sampling_rate=RATE)
    for name, adapted in (("mono", False), ("tri3", True)):
        model = gmm_of(lang, adapted)
        about = {"mfcc": config_to_json(mfcc), "cmvn": {"per": "speaker", "variance": True}}
        model.save(exp / "gmm" / name, about)
        write_graph(name, model.senones)
    senones = gmm_tools.make_senones(lang, "network")
    write_graph("network", senones)
    logmel = LogMel(sampling_rate=RATE, num_bins=20)
    priors = np.random.default_rng(0).dirichlet(np.full(senones.num_pdfs, 5.0))
    for seed, (name, cmvn) in enumerate(NETWORKS.items()):
        network = build_model(
            "lstm", {"input_dim": 60, "num_pdfs": senones.num_pdfs, "hidden": 16, "layers": 1, "dropout": 0.0}, seed
        )
        for parameter in network.parameters():  # else all frames sound alike
            parameter.data *= 4
        features = {"logmel": config_to_json(logmel), "cmvn": cmvn, "frame_subsampling_factor": 3}
        save_model(
            exp / name / "model", network, features=features,
            config={"system": name, "seed": seed, "frame_shift": 0.03},
            writers={"senones": senones.save}, priors=priors if name.endswith("ce") else None,
        )  # fmt: skip
    write_json(exp / "features" / "features.json", {"backend": "kaldi_native_fbank"})
    errors = {"mono": 3, "tri3_si": 2, "tri3": 0, "ce": 2, "lfmmi": 1}
    write_json(exp / "decode" / ORDER, list(errors))
    for system, count in errors.items():
        for condition, more in (("clean", 0), ("noisy", 1 if system == "lfmmi" else -2)):
            words = ["AB"] * 10
            said = {"u": ["BA"] * max(count + 2 * more, 0) + words[max(count + 2 * more, 0) :]}
            settings = {**SEARCH, "acoustic_scale": 0.7 + more / 10}
            for split in ("dev", "test"):
                write_decode(
                    exp, {"u": words}, said, system=system, condition=condition, name=split, tuned_on="dev", seed=0,
                    settings=settings,
                )  # fmt: skip
    collect(exp)
    return exp
