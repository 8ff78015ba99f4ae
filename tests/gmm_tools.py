"""A small language whose sounds are drawn from known Gaussians, for the tests of alignment and GMM training."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Sequence

import hmm_tools
import numpy as np

from hybrid.gmm.chunks import Data
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.feature_transform import FeatureTransform
from hybrid.gmm.graphs import Graphs
from hybrid.gmm.passes import Context
from hybrid.gmm.store import CHUNK_FRAMES, Store, StoredUtterance
from hybrid.gmm.trees import compile_all
from hybrid.hmm.graph import TrainingGraphs
from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import bootstrap_topology, network_topology
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon

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


def compile_graphs(lang: Lang, senones: Senones, texts: Sequence[str]) -> Graphs:
    compiler = TrainingGraphs(lang, senones, transition_scale=0.0, self_loop_scale=0.0)
    graphs, reasons = Graphs.compile(compiler, texts, [f"u{n}" for n in range(len(texts))])
    assert not reasons
    return graphs


def random_gmms(rng: np.random.Generator, num_pdfs: int = 4, dim: int = 3, most: int = 4) -> DiagGmms:
    sizes = rng.integers(1, most + 1, num_pdfs)
    offsets = np.r_[0, np.cumsum(sizes)]
    weights = np.concatenate([rng.dirichlet(np.full(size, 3.0)) for size in sizes])
    count = offsets[-1]
    return DiagGmms(weights, rng.normal(size=(count, dim)), rng.uniform(0.3, 2.0, (count, dim)), offsets)


def draw(rng: np.random.Generator, gmms: DiagGmms, pdfs: np.ndarray) -> np.ndarray:
    """float32 [T, D]: a frame from the mixture of each of `pdfs` [T]."""
    rows = [rng.choice(np.arange(*gmms.offsets[p : p + 2]), p=gmms.weights[slice(*gmms.offsets[p : p + 2])])
            for p in pdfs]
    noise = rng.normal(size=(len(pdfs), gmms.dim))
    return (gmms.means[rows] + np.sqrt(gmms.variances[rows]) * noise).astype(np.float32)


def distortions(speakers: int, amount: float, dim: int = DIM, seed: int = 5) -> List[np.ndarray]:
    """[D, D + 1] of each speaker: what his voice makes of a sound; they average to no change."""
    rng = np.random.default_rng(seed)
    change = amount * rng.normal(size=(speakers, dim, dim + 1))
    return [np.eye(dim, dim + 1) + one for one in change - change.mean(0)]


def speech(
    lang: Lang,
    count: int = 30,
    seed: int = 0,
    by_left: float = 0.0,
    speakers: int = 1,
    distort: float = 0.0,
    language: int = 0,
) -> List[StoredUtterance]:
    """Utterances of one to four words; each state sounds like a point of its own, moved by its left phone.

    The features follow a random walk through the states; `by_left`: how far the left phone moves them; `distort`: how
    far each speaker's voice is from the others'. The points depend on `language` alone.
    """
    senones = make_senones(lang)
    world = np.random.default_rng(language)
    points = world.normal(0, 3.0, (senones.num_pdfs, DIM))
    moves = world.normal(0, 1.0, (max(lang.phone_ids) + 1, DIM)) * by_left
    voices = distortions(speakers, distort)
    rng = np.random.default_rng(seed)
    items = []
    for number in range(count):
        words = rng.choice(list(WORDS), rng.integers(1, 5)).tolist()
        phones: List[int] = list(lang.silence_ids[:1])
        for word in words:
            spelled = WORDS[word][rng.integers(len(WORDS[word]))]
            phones += [lang.phones[name] for name in spelled.split()]
        phones += lang.silence_ids[:1]
        _tids, durations, pdfs = hmm_tools.random_walk(senones, phones, rng, lang.silence_ids)
        left = np.repeat([0, *phones[:-1]], durations)
        x = points[pdfs] + moves[left] + rng.normal(size=(len(pdfs), DIM))
        voice = voices[number % speakers]
        x = x @ voice[:, :-1].T + voice[:, -1]
        items.append(StoredUtterance(f"u{number:03d}", f"s{number % speakers}", " ".join(words), x.astype(np.float32)))
    return items


def make_store(folder: Path, items: Sequence[StoredUtterance], chunk_frames: int = CHUNK_FRAMES) -> Store:
    return Store.create(folder, lambda: items, variance=False, chunk_frames=chunk_frames)


def quiet(folder: Path, lang: Optional[Lang] = None, **more) -> Context:
    folder.mkdir(parents=True, exist_ok=True)
    return Context(folder, (lang or make_lang()).silence_ids, log=lambda message: None, **more)


def make_data(
    folder: Path, lang: Lang, senones: Senones, items: Sequence[StoredUtterance], chunk_frames: int = CHUNK_FRAMES
) -> Data:
    """The store, graphs of `senones`, and a feature transform that leaves the frames as they are."""
    store = make_store(folder / "store", items, chunk_frames)
    data = Data(store, FeatureTransform.splice(store.base_dim, 0, 0))
    return compile_all(lang, senones, data, folder / "graphs", quiet(folder, lang))[0]


def alignments(data: Data) -> Dict[str, Optional[np.ndarray]]:
    """{id: tids [T], None where it is not aligned}."""
    found: Dict[str, Optional[np.ndarray]] = {}
    for index in range(data.store.num_chunks):
        found.update(zip(data.store.about(index)["ids"], data.aligned(index).each(), strict=True))
    return found
