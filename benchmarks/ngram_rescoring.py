"""Another n-gram model of millions of n-grams in the lattices of a run: memory and time, and whether the words are
those of a search in that model's own graph.

    python -m benchmarks.ngram_rescoring EXP FOLDER [--lattices 250 500 1000] [--times 1 2 4 8] [--text FILE]
    python -m benchmarks.ngram_rescoring EXP FOLDER --equality [--most 600000] [--utterances 200]
        [--search 11:1500:8 15:7000:12]

EXP: a decoded run whose graph's model was pruned (lm.max_ngrams), which is only read; FOLDER: what is made once.

Memory and time. FOLDER/model.safetensors is the mixture of EXP/lm/full.safetensors with a model of order 4 of sentences
drawn from that (--words of them) and of those of FILE that it has the words of: its n-grams say nothing about errors,
but must be stored and found. Lattices are those of the first pass, one a file; of --times utterances in one, of their
log-likelihoods one after the other, searched as one. For each number of lattices a process of its own loads both models
as a worker does and rescores: CPU seconds of the rescoring and of the best path, not of reading. Beside it, on the
first --peer lattices and without taking off the first model: composition with G of the same model (kaldifst.compose,
and its shortest path), and the memory of KenLM with the model, where it is installed; KenLM rescores no lattices.

--equality: see benchmarks/ngram_equality.py.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Callable, Mapping, NamedTuple, Optional, Sequence

import kaldifst
import numpy as np
import psutil

from benchmarks import ngram_equality
from benchmarks.ngram_lattices import (
    FIRST,
    MODEL,
    Place,
    make_first,
    make_lattices,
    make_model,
    read_lattice,
)
from hybrid.decode.ngram_rescoring import NgramRescorer
from hybrid.decode.word_lattice import WordLattice
from hybrid.fst import ARC, FstArrays, from_arrays, to_arrays
from hybrid.lexicon.tables import read_table
from hybrid.lm import arpa
from hybrid.lm.arrays import NgramArrays
from hybrid.lm.grammar import arpa_to_fst


def main(arguments: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--system", default="lfmmi")
    parser.add_argument("--sets", nargs="+", default=["adults_clean", "children_clean"], help="folders of EXP/features")
    parser.add_argument("--lattices", type=int, nargs="+", default=[250, 500, 1000])
    parser.add_argument("--times", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--words", type=int, default=2_000_000)
    parser.add_argument("--text", type=Path, nargs="+", default=[])
    parser.add_argument("--peer", type=int, default=100)
    parser.add_argument("--equality", action="store_true")
    parser.add_argument("--most", type=int, default=600_000)
    parser.add_argument("--utterances", type=int, default=200)
    parser.add_argument("--search", nargs="+", default=[], metavar="BEAM:ACTIVE:LATTICE", help="default: the run's")
    options = parser.parse_args(arguments)
    place = Place(options.exp, options.folder, options.system, tuple(options.sets))
    options.folder.mkdir(parents=True, exist_ok=True)
    if not (options.folder / FIRST).exists():
        in_process(make_first, place)
    if options.equality:
        in_process(ngram_equality.compare, place, options.most, options.utterances, options.search)
        return
    most = max(options.lattices)
    if not (options.folder / MODEL).exists():
        in_process(make_model, place, options.words, options.text)
    fewest = min(options.lattices)
    sizes = [(number, 1) for number in options.lattices] + [(fewest, times) for times in options.times if times > 1]
    for number, times in [(most, 1), *sizes]:
        if len(list(place.lattices(times).glob("*.safetensors"))) < number:
            in_process(make_lattices, place, number, times, most)
    print(HEADER, flush=True)
    for number, times in sizes:
        print(line(in_process(rescored, place, number, times, True)), flush=True)
    print("without taking off the first model:")
    print(line(in_process(rescored, place, options.peer, 1, False)), flush=True)
    print(line(in_process(composed, place, options.peer)), flush=True)
    print(line(in_process(by_kenlm, place)), flush=True)


def in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function gives in a process of its own, whose peak memory is the function's."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


class Row(NamedTuple):
    """A line of the table. arcs, made: of a lattice before and after, on average; load: CPU seconds; before, loaded,
    peak: bytes of the process without the models, with them, and at most; cpu: seconds of the work."""

    name: str
    lattices: int
    times: int
    arcs: float
    made: float
    load: float
    before: float
    loaded: float
    cpu: float
    peak: float


HEADER = (
    f"{'':24} {'lattices':>8} {'in one':>6} {'arcs':>7} {'made':>8} {'load s':>7} {'models MB':>9} {'CPU s':>7} "
    f"{'ms each':>8} {'peak MB':>8}"
)


def line(row: Row) -> str:
    text = f"{row.name:24} {row.lattices:8d} {row.times:6d} {row.arcs:7.0f} {row.made:8.0f} {row.load:7.2f} "
    each = 1e3 * row.cpu / max(row.lattices, 1)
    return text + f"{(row.loaded - row.before) / 1e6:9.0f} {row.cpu:7.2f} {each:8.2f} {row.peak / 1e6:8.0f}"


def measured(
    name: str, place: Place, number: int, times: int, load: Callable[[], Any],
    work: Callable[[Any, Any], int], prepare: Callable[[WordLattice], Any] = lambda lattice: lattice,
) -> Row:  # fmt: skip
    """Measure the work on what is prepared of each lattice, with what `load` gives; it returns the arcs it made."""
    process = psutil.Process()
    before, began = process.memory_info().rss, time.process_time()
    loaded = load()
    load_seconds = time.process_time() - began
    loaded_bytes = process.memory_info().rss
    arcs, made, cpu = 0, 0, 0.0
    if number:
        work(loaded, prepare(read_lattice(place, 0, times)))  # compiles
    for each in range(number):
        lattice = read_lattice(place, each, times)
        arcs += len(lattice.source)
        prepared = prepare(lattice)
        began = time.process_time()
        made += work(loaded, prepared)
        cpu += time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    share = max(number, 1)
    return Row(name, number, times, arcs / share, made / share, load_seconds, before, loaded_bytes, cpu, peak)


def rescored(place: Place, number: int, times: int, with_first: bool) -> Row:
    """Measure our rescoring, at the scale and beam of the run's second pass."""
    search, beam = place.search(), place.lattice_beam()

    def load() -> NgramRescorer:
        first = NgramArrays.load(place.folder / FIRST) if with_first else None
        return NgramRescorer(first, NgramArrays.load(place.folder / MODEL), read_table(place.words()))

    def work(rescorer: NgramRescorer, lattice: WordLattice) -> int:
        result = rescorer(lattice, acoustic_scale=search.acoustic_scale, beam=beam)
        result.scaled(1.0).best_path(search.acoustic_scale)
        return len(result.lattice.source)

    return measured("ours", place, number, times, load, work)


def composed(place: Place, number: int) -> Row:
    """Measure the composition of a lattice with G, and the shortest path in it."""
    scale = place.search().acoustic_scale

    def load() -> Any:
        return grammar_of(NgramArrays.load(place.folder / MODEL), read_table(place.words()))

    def work(grammar: Any, lattice: Any) -> int:
        product = kaldifst.compose(lattice, grammar)
        kaldifst.shortest_path(product)
        return sum(product.num_arcs(state) for state in range(product.num_states))

    name = "kaldifst.compose with G"
    return measured(name, place, number, 1, load, work, lambda lattice: acceptor(lattice, scale))


def grammar_of(model: NgramArrays, words: Mapping[str, int]) -> kaldifst.StdVectorFst:
    """Return G of a model, whose back-off arcs bear no label."""
    arrays = to_arrays(arpa_to_fst(model, words))
    arrays.arcs["ilabel"][arrays.arcs["ilabel"] == words["#0"]] = 0
    grammar = from_arrays(arrays)
    kaldifst.arcsort(grammar, sort_type="ilabel")
    return grammar


def acceptor(lattice: WordLattice, scale: float) -> kaldifst.StdVectorFst:
    """Return a lattice as an FST over words, its costs added up."""
    arcs = np.zeros(len(lattice.source), ARC)
    arcs["ilabel"] = arcs["olabel"] = lattice.word
    arcs["weight"], arcs["nextstate"] = lattice.costs(scale), lattice.target
    offsets = np.searchsorted(lattice.source, np.arange(len(lattice.frame) + 1))
    fst = from_arrays(FstArrays(0, lattice.final.astype(np.float32), offsets, arcs))
    kaldifst.arcsort(fst, sort_type="olabel")
    return fst


def by_kenlm(place: Place) -> Row:
    """Measure the memory and the loading of the model in KenLM's hash tables, from an ARPA file."""
    try:
        import kenlm
    except ImportError:
        return Row("KenLM is not installed", 0, 1, *[0.0] * 7)
    path = place.folder / "model.arpa"
    if not path.exists():
        in_process(write_arpa, place)
    return measured("KenLM: the model alone", place, 0, 1, lambda: kenlm.Model(str(path)), lambda *_: 0)


def write_arpa(place: Place) -> None:
    arpa.write(place.folder / "model.arpa", NgramArrays.load(place.folder / MODEL))


if __name__ == "__main__":
    main()
