"""LF-MMI denominators of AN4 in three sizes, and outputs of networks to meet them: what benchmarks.denominator reads.

All are made from the speech, as the stages gmm, senones, ce and lfmmi of a recipe do, with less training:

1. monophones, then triphones on deltas, of a few passes each, align the training set; phones and durations at 30 ms;
2. for each size a tree of triphones over the one-state topology, and a phone LM, which make the graph;
3. for each size a small LSTM, trained for a few epochs on the tree's pdfs. Its log posteriors minus the log priors, on
   utterances that it did not see, are the outputs: log-likelihood ratios, as at the start of LF-MMI.

Everything is kept in a folder, and made once.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import torch

from benchmarks import an4_speech
from hybrid.data.batches import IGNORE, Batches, Utterance
from hybrid.data.transforms import stack_frames
from hybrid.gmm.bootstrap import BootstrapOptions, StepOptions, TrainedSteps, train_steps
from hybrid.gmm.chunks import map_chunks
from hybrid.gmm.trees import position_questions
from hybrid.hmm.alignment import network_pdfs
from hybrid.hmm.build_tree import TreeStats, build_tree, phone_questions
from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import network_topology
from hybrid.io import load_tensors, save_tensors, write_json
from hybrid.lexicon.lang import Lang
from hybrid.nnet.lstm import LstmConfig, LstmModel
from hybrid.nnet.priors import count_priors
from hybrid.pipeline.senones import Segments, coarse
from hybrid.pipeline.sets import FRAME_SUBSAMPLING_FACTOR
from hybrid.train.ce import CrossEntropy
from hybrid.train.config import TrainerConfig
from hybrid.train.denominator import make_denominator
from hybrid.train.fsa import Fsa
from hybrid.train.phone_lm import train_phone_lm
from hybrid.train.trainer import Trainer

HELD_OUT = 8  # every eighth utterance is kept from the networks
EPOCHS = 6
STEP_OPTIONS = {"mono": StepOptions(6, 500), "tri1": StepOptions(6, 3000, 600, 300.0)}


@dataclass(frozen=True)
class Size:
    """width (phones in a window), central, shared_roots, leaves, threshold and min_count of the tree; phone_lm:
    settings of train_phone_lm."""

    width: int
    central: int
    shared_roots: bool
    leaves: int
    threshold: float
    min_count: float
    phone_lm: Dict[str, Any]


# Context of the tree (position of the phone in it), roots shared by a phone's places in a word or not, how many leaves,
# and how much of a phone LM: 1.8k, 16k and 73k arcs. AN4 has 130 words: only the finest contexts make 3,000 leaves.
SIZES = {
    "small": Size(2, 1, True, 215, 50.0, 10.0, {"order": 2, "no_prune_order": 2}),
    "medium": Size(3, 1, True, 1090, 1.0, 12.0, {"order": 4, "no_prune_order": 3, "max_extra_states": 2000}),
    "large": Size(4, 2, False, 3600, 10.0, 3.0, {"order": 3, "no_prune_order": 2, "max_extra_states": 130}),
}


class Alignment:
    """The training set, aligned by a triphone system; `data` and `lang` are what it was made with."""

    def __init__(self, data: Path, folder: Path) -> None:
        mfcc = an4_speech.features(data, folder)
        self.lang: Lang = an4_speech.lang(data)
        self.silence = np.asarray(self.lang.silence_ids)
        self.store = an4_speech.store(mfcc, folder / "train" / "store")
        self.steps: TrainedSteps = train_steps(
            self.store, self.lang, BootstrapOptions(STEP_OPTIONS), folder / "train", features={},
            systems=("mono", "tri1"), log=lambda line: None,
        )  # fmt: skip
        self.senones: Senones = self.steps.models["tri1"].senones

    def segments(self, size: Size) -> Tuple[Segments, TreeStats]:
        """Phones and durations at 30 ms by utterance, and statistics of the contexts that the size's tree sees."""
        work = partial(
            coarse, data=self.steps.data, senones=self.senones, silence=self.silence, width=size.width,
            central=size.central,
        )  # fmt: skip
        segments: Segments = {}
        total: List[TreeStats] = []
        for found, _failed, part in map_chunks(None, work, self.store):
            segments.update(found)
            total = [part] if not total else [(total[0] + part).merged()]
        return segments, total[0]

    def features(self) -> Dict[str, np.ndarray]:
        """Cepstra of three frames in one, float32 [T30, 39] by utterance."""
        stacked = {}
        for chunk in self.store:
            for identifier, begin, length in zip(chunk.ids, chunk.offsets, chunk.lengths):
                stacked[identifier] = stack_frames(chunk.base[begin : begin + length], FRAME_SUBSAMPLING_FACTOR)
        return stacked


def make(data: Path, folder: Path) -> None:
    """FOLDER/SIZE/{graph,outputs}.safetensors and about.json of every size, those that are not there yet."""
    missing = [name for name in SIZES if not (folder / name / "about.json").exists()]
    if not missing:
        return
    alignment = Alignment(data, folder)
    features = alignment.features()
    for name in missing:
        size = SIZES[name]
        segments, stats = alignment.segments(size)
        senones = build_senones(size, stats, alignment)
        phone_lm = train_phone_lm({i: phones.tolist() for i, (phones, _) in segments.items()}, **size.phone_lm)
        graph = make_denominator(phone_lm, senones)
        graph.save(folder / name / "graph.safetensors")
        utterances = [
            Utterance(i, features[i], network_pdfs(*segments[i], senones, alignment.silence)) for i in sorted(segments)
        ]
        outputs, frames, accuracy = network_outputs(utterances, senones.num_pdfs, folder / name / "network")
        pdfs = np.concatenate([utterance.pdfs for utterance in utterances[::HELD_OUT]])  # type: ignore[misc]
        save_tensors(folder / name / "outputs.safetensors", {"outputs": outputs, "frames": frames, "pdfs": pdfs})
        shutil.rmtree(folder / name / "network")
        about = {"num_pdfs": senones.num_pdfs, "states": graph.num_states, "arcs": graph.num_arcs, "accuracy": accuracy}
        write_json(folder / name / "about.json", about)


def build_senones(size: Size, stats: TreeStats, alignment: Alignment) -> Senones:
    """As the stage senones."""
    lang = alignment.lang
    topology = network_topology(lang.phone_ids)
    groups = lang.phone_groups() if size.shared_roots else [[phone] for phone in lang.phone_ids]
    questions = [*phone_questions(stats, size.central, lang.phone_groups()), *position_questions(lang)]
    tree, _sums = build_tree(
        stats, topology, groups, central=size.central, max_leaves=size.leaves, threshold=size.threshold,
        questions=questions, unsplit=lang.silence_ids, min_count=size.min_count,
    )  # fmt: skip
    return Senones(topology, tree, alignment.senones.phones)


def network_outputs(
    utterances: List[Utterance], num_pdfs: int, folder: Path
) -> Tuple[np.ndarray, np.ndarray, float]:
    """Trains on all but every eighth utterance; of those: outputs float16 [all frames, num_pdfs], frames of each, and
    the share of frames whose best pdf, by posterior, is the aligned one."""
    train = [u for n, u in enumerate(utterances) if n % HELD_OUT]
    held = utterances[::HELD_OUT]
    stacked = np.concatenate([utterance.features for utterance in train])
    model = LstmModel(LstmConfig(stacked.shape[1], num_pdfs, hidden=128, layers=1, bidirectional=True), seed=0)
    model.set_input_stats(stacked.mean(0, dtype=np.float64), stacked.std(0, dtype=np.float64))
    config = TrainerConfig(epochs=EPOCHS, lr=4e-3, parallel_directions=False, device="cpu", log_every=0)
    Trainer(
        model, CrossEntropy(0.0), Batches(train, 1500, 0), Batches(held, 1500, 0, shuffle=False), config, folder,
        log=lambda line: None,
    ).fit()  # fmt: skip
    priors = count_priors([u.pdfs for u in train if u.pdfs is not None], num_pdfs)
    log_priors = torch.from_numpy(np.log(priors)).float()
    outputs, right = [], 0
    with torch.no_grad():
        for utterance in held:
            x = torch.from_numpy(utterance.features)[None]
            posteriors = torch.log_softmax(model(x, torch.tensor([utterance.num_frames]))["logits"][0], dim=1)
            right += int((posteriors.argmax(1).numpy() == utterance.pdfs).sum())
            outputs.append((posteriors - log_priors).numpy().astype(np.float16))
    frames = np.asarray([len(rows) for rows in outputs])
    return np.concatenate(outputs), frames, right / int(frames.sum())


@dataclass(frozen=True)
class Problem:
    """A graph, and outputs [B, T, num_pdfs] float32 of B utterances, their lengths [B] and aligned pdfs [B, T]
    (-100 in the padding)."""

    graph: Fsa
    num_pdfs: int
    outputs: torch.Tensor
    lengths: torch.Tensor
    pdfs: torch.Tensor

    @property
    def seconds(self) -> float:
        return float(self.lengths.sum()) * 0.01 * FRAME_SUBSAMPLING_FACTOR


def load(folder: Path, name: str, count: int, frames: int, flat: bool = False) -> Problem:
    """The `count` held-out utterances whose lengths are nearest to `frames`, longest first.

    flat: noise of the standard normal distribution in place of the network's outputs.
    """
    arrays = load_tensors(folder / name / "outputs.safetensors")
    lengths, num_pdfs = arrays["frames"], arrays["outputs"].shape[1]
    ends = np.cumsum(lengths)
    chosen = sorted(np.argsort(np.abs(lengths - frames), kind="stable")[:count], key=lambda n: -lengths[n])
    longest = int(lengths[chosen[0]])
    outputs = torch.zeros(len(chosen), longest, num_pdfs)
    pdfs = torch.full((len(chosen), longest), IGNORE)
    for row, n in enumerate(chosen):
        rows = slice(int(ends[n] - lengths[n]), int(ends[n]))
        outputs[row, : lengths[n]] = torch.from_numpy(arrays["outputs"][rows]).float()
        pdfs[row, : lengths[n]] = torch.from_numpy(arrays["pdfs"][rows]).long()
    if flat:
        outputs = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0))
    graph = Fsa.load(folder / name / "graph.safetensors")
    return Problem(graph, num_pdfs, outputs, torch.from_numpy(lengths[chosen]).long(), pdfs)
