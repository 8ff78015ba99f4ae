"""Lattices rescored by an LSTM against lists of their best sentences: what is found, and what it costs.

    python -m benchmarks.neural_rescoring EXP --model LM [--rows list 2 3 4 none] [--number 100] [--utterances 200]
        [--system lfmmi] [--condition clean] [--set adults] [--lm-scale 0.5] [--beam 8] [--together 1]
        [--folder exp/neural-rescoring]

EXP: a run that has been decoded; LM: a left-to-right model that `hybrid rescore train-lm` trained. Utterances at equal
distances in the set are searched at the run's scale and penalty, and their lattices kept in the folder: the same
command reads them again. In each, `lm-scale` of the graph's n-gram gives way to LM. Rows: `list`, the 100 best
sentences of the lattice, each scored whole; a number n, the lattice rescored with histories of n words; `none`, with
histories that are never merged. Each row is a process of its own, with one thread.

total: the mean cost of the words that are found, with their exact neural cost, above the lowest that any row found;
lower, higher: percent of the utterances where it is below and above the list's by more than 0.01; same: where the words
are the list's. ms: CPU milliseconds a lattice, the reading of files left out, the search for the n best within; states
and arcs: of the rescored lattice, those on a way to the end. MB: the peak of resident memory, sampled, above what it is
before the first lattice, after half of the lattices and after all. narrowed: lattices in which the beam was halved.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
import psutil

from hybrid.data.arrays import read_arrays
from hybrid.data.feature_config import kind_of
from hybrid.decode.acoustics import load_acoustics
from hybrid.decode.decoder import Decoder
from hybrid.decode.neural_rescoring import NeuralRescorer
from hybrid.decode.trained import find_search, find_system
from hybrid.decode.word_lattice import WordLattice
from hybrid.io import load_tensors, read_json, save_tensors, write_json
from hybrid.lexicon.tables import read_table
from hybrid.lm.arrays import NgramArrays
from hybrid.lm.load import read_any
from hybrid.lm.model import LN10
from hybrid.lm.text import END, START
from hybrid.measure import Meter
from hybrid.parallel import set_threads
from hybrid.pipeline.sets import speakers_of
from hybrid.rescore.neural import NeuralScorer
from hybrid.score.wer import align, count

FIELDS = ("frame", "source", "target", "word", "graph", "acoustic", "start", "offsets", "pdfs")


class Row(NamedTuple):
    """words, total: of each utterance what was found, and its cost."""

    words: List[Tuple[int, ...]]
    total: np.ndarray
    milliseconds: float
    megabytes: Tuple[float, float]
    states: float
    arcs: float
    narrowed: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", default=["list", "2", "3", "4", "none"])
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--utterances", type=int, default=200)
    parser.add_argument("--system", default="lfmmi")
    parser.add_argument("--condition", default="clean")
    parser.add_argument("--set", default="adults")
    parser.add_argument("--lm-scale", type=float, default=0.5)
    parser.add_argument("--beam", type=float, default=8.0)
    parser.add_argument("--together", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("exp/neural-rescoring"))
    options = parser.parse_args()
    set_threads(1)
    if not (options.folder / "about.json").exists():
        write_all(options)
    about = read_json(options.folder / "about.json")
    rows = {}
    for name in options.rows:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            rows[name] = pool.submit(measure, options, name, about["scale"]).result()
    first = [lattice.best_path(about["scale"]).words for lattice in read_all(options.folder)]
    _print(rows, first, about, read_table(options.exp / "lang" / "words.txt"))


def write_all(options: argparse.Namespace) -> None:
    """Search, and keep the lattices, with the references and the scale."""
    system = find_system(options.exp, options.system, options.condition)
    acoustics = load_acoustics(system.model, system.network)
    point = find_search(options.exp, system, options.condition, acoustics.scale)
    kind = kind_of(acoustics.features)
    cuts, features = read_arrays(options.exp / "features" / f"{options.set}_{options.condition}" / kind, kind)
    chosen = list(cuts)[:: max(1, len(list(cuts)) // options.utterances)][: options.utterances]
    decoder = Decoder(system.graph, beam=point.beam, max_active=point.max_active, word_penalty=point.word_penalty)
    arrays: Dict[str, np.ndarray] = {}
    references: Dict[str, str] = {}
    loglikes = acoustics.loglikes({cut.id: features[cut.id] for cut in chosen}, speakers_of(cuts))
    for cut in chosen:
        raw = decoder.lattice(loglikes[cut.id], point.acoustic_scale, cut.id, lattice_beam=options.beam)
        if raw is None:
            continue
        lattice = raw.determinised(point.acoustic_scale, lattice_beam=options.beam, pdfs=False)
        arrays.update({f"{cut.id} {field}": getattr(lattice, field) for field in FIELDS})
        references[cut.id] = " ".join(supervision.text or "" for supervision in cut.supervisions)
    options.folder.mkdir(parents=True, exist_ok=True)
    save_tensors(options.folder / "lattices.safetensors", arrays)
    write_json(options.folder / "about.json", {"scale": point.acoustic_scale, "references": references})


def read_all(folder: Path) -> List[WordLattice]:
    tensors = load_tensors(folder / "lattices.safetensors")
    names = read_json(folder / "about.json")["references"]
    return [WordLattice(**{field: tensors[f"{name} {field}"] for field in FIELDS}) for name in names]


def measure(options: argparse.Namespace, name: str, scale: float) -> Row:
    set_threads(1)
    words = read_table(options.exp / "lang" / "words.txt")
    first = read_any(options.exp / "lm" / "lm.arpa")
    scorer = NeuralScorer.load(options.model)
    lattices = read_all(options.folder)
    history = None if name == "none" else 4 if name == "list" else int(name)
    rescorer = NeuralRescorer(scorer.model, scorer.tokens, words, first=first, history=history)
    of_list = _List(scorer, first, rescorer.names, scale, options.lm_scale, options.number)

    def of_lattices(group: Sequence[WordLattice]) -> List[Tuple[Any, ...]]:
        if name == "list":
            return [(*of_list(lattice), 0, 0, False) for lattice in group]
        found = []
        for one in rescorer.rescore_all(group, acoustic_scale=scale, lm_scale=options.lm_scale, beam=options.beam):
            path = one.scaled(options.lm_scale).best_path(scale)
            narrowed = one.beam < options.beam
            found.append((path.words, path.cost, len(one.lattice.frame), len(one.lattice.source), narrowed))
        return found

    of_lattices(sorted(lattices, key=lambda lattice: len(lattice.source))[:1])  # what is to be compiled is
    results: List[Tuple[Any, ...]] = []
    before, at_half = psutil.Process().memory_info().rss, 0
    with Meter(interval=0.05) as meter:
        began = time.thread_time()
        for begin in range(0, len(lattices), options.together):
            if begin >= len(lattices) // 2 and not at_half:
                at_half = meter.peak_bytes
            results += of_lattices(lattices[begin : begin + options.together])
        seconds = time.thread_time() - began
    found, total, states, arcs, narrowed = zip(*results, strict=True)
    return Row(
        list(found), np.array(total), 1e3 * seconds / len(lattices),
        ((at_half - before) / 1e6, (meter.peak_bytes - before) / 1e6), float(np.mean(states)), float(np.mean(arcs)),
        sum(narrowed),
    )  # fmt: skip


class _List:
    """The best of a lattice's best sentences, each scored whole by both models."""

    def __init__(
        self, scorer: NeuralScorer, first: NgramArrays, names: Dict[int, str], scale: float, lm_scale: float,
        number: int,
    ) -> None:  # fmt: skip
        self.scorer, self.first, self.names = scorer, first, names
        self.scale, self.lm_scale, self.number = scale, lm_scale, number

    def __call__(self, lattice: WordLattice) -> Tuple[Tuple[int, ...], float]:
        entries = lattice.nbest(self.number, self.scale)
        sentences = [[self.names[word] for word in entry.words] for entry in entries]
        differences = -self.scorer.score(sentences) - np.array([self.first_cost(words) for words in sentences])
        totals = np.array([entry.cost for entry in entries]) + self.lm_scale * differences
        best = int(totals.argmin())
        return entries[best].words, float(totals[best])

    def first_cost(self, words: Sequence[str]) -> float:
        order = self.first.order
        numbers = self.first.numbers([START, *words, END])
        row = np.concatenate([np.full(order - 1, -1, np.int32), numbers])
        windows = np.lib.stride_tricks.sliding_window_view(row, order)[1:]  # the first ends in <s>
        return -LN10 * float(self.first.scores(windows)[0].sum())


def _print(rows: Dict[str, Row], first: List[Tuple[int, ...]], about: Dict[str, Any], words: Dict[str, int]) -> None:
    names = {number: word for word, number in words.items()}
    references = [text.split() for text in about["references"].values()]

    def wer(found: List[Tuple[int, ...]]) -> float:
        pairs = zip(references, found, strict=True)
        errors = sum(count(align(reference, [names[word] for word in ids])).errors for reference, ids in pairs)
        return 100 * errors / sum(map(len, references))

    lowest = np.min([row.total for row in rows.values()], axis=0)
    listed = rows.get("list")
    columns = "total  lower higher   same    WER     ms  states   arcs  MB half   all narrowed"
    print(f"{len(references)} utterances, the first pass's best path has {wer(first):.2f} % errors")
    print(f"{'row':6} {columns}")
    for name, row in rows.items():
        shares = ["-"] * 3
        if listed is not None:
            same = np.mean([a == b for a, b in zip(row.words, listed.words, strict=True)])
            less, more = (row.total < listed.total - 0.01).mean(), (row.total > listed.total + 0.01).mean()
            shares = [f"{100 * share:.1f}" for share in (less, more, same)]
        cells = " ".join(f"{share:>6}" for share in shares)
        print(
            f"{name:6} {(row.total - lowest).mean():5.3f} {cells} {wer(row.words):6.2f} {row.milliseconds:6.1f} "
            f"{row.states:7.0f} {row.arcs:6.0f} {row.megabytes[0]:8.1f} {row.megabytes[1]:5.1f} {row.narrowed:8d}"
        )


if __name__ == "__main__":
    main()
