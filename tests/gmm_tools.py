"""A small language whose sounds are drawn from known Gaussians, for the tests of alignment and GMM training."""

from __future__ import annotations

from typing import Dict, List, Tuple

import hmm_tools
import numpy as np

from hybrid.gmm.align import UtteranceGraph
from hybrid.gmm.train import TrainingSet
from hybrid.hmm.graph import TrainingGraphs
from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import bootstrap_topology, network_topology
from lexicon.lang import Lang
from lexicon.lexicon import Lexicon

WORDS = {"AB": ["a b"], "BA": ["b a"], "ACE": ["a c"], "CAB": ["c a b", "c b"]}
DIM = 4


def make_lang() -> Lang:
    return Lang.create(Lexicon.from_dict(WORDS))


def make_senones(lang: Lang, kind: str = "bootstrap") -> Senones:
    phones = lang.phone_ids
    silence = lang.silence_ids
    rest = [phone for phone in phones if phone not in silence]
    topology = (
        bootstrap_topology(rest, silence, num_silence_states=3) if kind == "bootstrap" else network_topology(phones)
    )
    return Senones.monophone(topology, {lang.phone_names[p]: p for p in phones}, lang.phone_groups())


def compile_graphs(lang: Lang, senones: Senones, texts: Dict[str, str]) -> Dict[str, UtteranceGraph]:
    compiler = TrainingGraphs(lang, senones, transition_scale=0.0, self_loop_scale=0.0)
    return {i: UtteranceGraph.from_fst(compiler.compile(lang.word_ids(text, i), i)) for i, text in texts.items()}


def corpus(lang: Lang, count: int = 30, seed: int = 0, by_left: float = 0.0) -> Tuple[TrainingSet, Dict[str, str]]:
    """Utterances of one to four words; each state sounds like a point of its own, moved by its left phone.

    The features follow a random walk through the states; `by_left`: how far the left phone moves them.
    """
    rng = np.random.default_rng(seed)
    senones = make_senones(lang)
    points = rng.normal(0, 3.0, (senones.num_pdfs, DIM))
    moves = rng.normal(0, 1.0, (max(lang.phone_ids) + 1, DIM)) * by_left
    texts: Dict[str, str] = {}
    features: Dict[str, np.ndarray] = {}
    for number in range(count):
        words = rng.choice(list(WORDS), rng.integers(1, 5)).tolist()
        phones: List[int] = list(lang.silence_ids[:1])
        for word in words:
            spelled = WORDS[word][rng.integers(len(WORDS[word]))]
            phones += [lang.phones[name] for name in spelled.split()]
        phones += lang.silence_ids[:1]
        _tids, durations, pdfs = hmm_tools.random_walk(senones, phones, rng, lang.silence_ids)
        left = np.repeat([0, *phones[:-1]], durations)
        name = f"u{number:03d}"
        texts[name] = " ".join(words)
        features[name] = (points[pdfs] + moves[left] + rng.normal(size=(len(pdfs), DIM))).astype(np.float32)
    return TrainingSet(sorted(texts), features, compile_graphs(lang, senones, texts)), texts
