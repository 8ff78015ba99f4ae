"""Decoding graphs of a large vocabulary over a run's own senones: what they cost to make, and graphs to time searches
with (benchmarks.search, recognise).

    python -m benchmarks.big_graphs EXP OUT --arpa FILE --dictionary FILE --words 20000 70000 200000
    python -m benchmarks.big_graphs EXP OUT --arpa FILE --dictionary FILE --words 20000 --ngrams 400000 --order 2

EXP: a run whose phones are CMUdict's, or a part of them: what it lacks is said by the nearest that it has (NEAREST),
for these graphs measure speed, not error rates. Dictionary: CMUdict, with or without stress. English models and their
dictionary are, for example, in the package `pocketsphinx` (its binary trigram written as ARPA).

The vocabulary is that of the ARPA's words which the dictionary pronounces, the most probable first; where they are too
few, further words of the dictionary, and where these are too few, two of them joined, at the probability of the least.
All n-grams of these words are taken; with --ngrams, at most so many of each order above 1, those of the largest

    P(h w) * log( P(w | h) / (B(h) P(w | h without its first word)) ),

what leaving them out costs a word (Stolcke's pruning without the change of B); a trigram needs its first two words to
be chosen. Probabilities are then normalised again.

Written: OUT/lang, OUT/lm/G.fst and OUT/NAME.fst of each graph that the systems named are decoded with (EXP/graph has
their small ones); of several vocabularies each in OUT/WORDS. Printed, for each graph: CPU seconds and peak memory of
the process that makes it, with --recipe those of Kaldi's recipe too (hmm/graph.py, into OUT/recipe); states, arcs; and
the memory of a search: its tables, and the peak of a process that loads them.
"""

from __future__ import annotations

import argparse
import itertools
import math
import multiprocessing
import random
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Set, Tuple

import numpy as np

from hybrid.decode.decoder import Decoder
from hybrid.decode.trained import systems
from hybrid.errors import ConfigError
from hybrid.fst import from_arrays, to_arrays, write_fst
from hybrid.fst_file import read_arrays
from hybrid.hmm.decoding_graph import decoding_graph
from hybrid.hmm.graph import make_hclg, tids_to_pdfs
from hybrid.hmm.senones import Senones
from hybrid.io import read_json
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon, Pronunciation
from hybrid.lm import arpa
from hybrid.lm.grammar import arpa_to_fst
from hybrid.lm.model import LOG10_ZERO, Ngram, NgramModel
from hybrid.lm.text import END, START
from hybrid.measure import Meter

NEAREST = {"DH": "TH", "TH": "T", "NG": "N", "OY": "AO", "SH": "CH", "UH": "UW", "ZH": "JH", "JH": "CH", "CH": "T"}
JOINED = "_"  # between two words that are made one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--arpa", type=Path, required=True)
    parser.add_argument("--dictionary", type=Path, required=True)
    parser.add_argument("--words", type=int, nargs="+", default=[20000])
    parser.add_argument("--order", type=int, choices=[2, 3], default=3)
    parser.add_argument("--ngrams", type=int, default=0, help="of each order above 1; 0: all")
    parser.add_argument("--systems", nargs="+", default=["lfmmi", "tri1"])
    parser.add_argument("--recipe", action="store_true", help="Kaldi's recipe beside ours")
    options = parser.parse_args()
    known = systems(options.exp)
    unknown = [name for name in options.systems if name not in known]
    if unknown:
        raise ConfigError(f"no system {unknown[0]} in {options.exp}", remedy=f"use some of {', '.join(known)}")
    chosen = {known[name].graph.name: name for name in options.systems}
    print(f"{'words':>7} {'n-grams':>9} {'made':24} {'CPU s':>6} {'peak MB':>8} {'states':>9} {'arcs':>10} "
          f"{'MB/M arcs':>9} {'search MB':>9} {'peak':>6}")  # fmt: skip
    for number in options.words:
        out = options.out / str(number) if len(options.words) > 1 else options.out
        row = in_process(write_grammar, options.exp, out, options.arpa, options.dictionary, number, options.order,
                         options.ngrams)  # fmt: skip
        ngrams = row["ngrams"]
        print(line(number, ngrams, "lexicon and G", row), flush=True)
        for graph, name in chosen.items():
            for recipe in [False, True] if options.recipe else [False]:
                folder = out / "recipe" if recipe else out
                row = in_process(write_graph, options.exp, out, name, folder, recipe)
                row.update(in_process(search_memory, folder / graph))
                print(line(number, ngrams, f"{graph}{' by recipe' if recipe else ''}", row), flush=True)


def in_process(function: Callable[..., Dict[str, float]], *arguments: Any) -> Dict[str, float]:
    """Return what a function gives in a process of its own, whose peak memory is the function's."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


def line(words: int, ngrams: float, name: str, row: Mapping[str, float]) -> str:
    """Return a row of the table. Memory that is there before anything is made, some 250 MB, is in the peak, but not in
    MB a million arcs."""
    text = f"{words:7d} {int(ngrams):9d} {name:24} {row['cpu']:6.1f} {row['peak']:8.0f} {int(row['states']):9d} "
    text += f"{int(row['arcs']):10d}"
    if "tables" in row:
        text += f" {1e6 * (row['peak'] - row['before']) / row['arcs']:9.0f} {row['tables']:9.0f} {row['search']:6.0f}"
    return text


def write_grammar(
    exp: Path, out: Path, model: Path, dictionary: Path, number: int, order: int, most: int
) -> Dict[str, float]:
    """Write OUT/lang and OUT/lm/G.fst; return n-grams, states, arcs, CPU seconds and peak MB."""
    with Meter() as meter:
        base, pronunciations, ngrams = Lang.load(exp / "lang"), Lexicon.from_file(dictionary), arpa.read(model)
        vocabulary = choose_words(ngrams, pronunciations.words, number)
        if most:
            ngrams = restricted(ngrams, vocabulary, order, most)
        else:
            ngrams = NgramModel(ngrams.probs[:order], ngrams.backoffs[: order - 1])
            ngrams.probs[0].update({(word,): value for word, value in vocabulary.items()})
        lang = Lang.create(
            pronounced(pronunciations, vocabulary, base.nonsilence_base), silence=base.optional_silence,
            position_dependent=base.position_dependent, silence_prob=base.silence_prob,
        )  # fmt: skip
        grammar = arpa_to_fst(ngrams, lang.words)
        lang.save(out / "lang")
        write_fst(out / "lm" / "G.fst", grammar)
    arrays = to_arrays(grammar)
    backs_off = int((arrays.arcs["ilabel"] == lang.word_disambig).sum())
    sizes = {"ngrams": len(arrays.arcs) - backs_off, "states": arrays.num_states, "arcs": len(arrays.arcs)}
    return {**sizes, **cost(meter)}


def write_graph(exp: Path, out: Path, name: str, folder: Path, recipe: bool) -> Dict[str, float]:
    """Write the graph of a system into a folder; return states, arcs, CPU seconds and MB: the peak, and before anything
    was read."""
    system, settings = systems(exp)[name], read_json(exp / "config.json")
    scale = float(settings[f"graph.{'network_' if system.network else ''}self_loop_scale"])
    senones = Senones.load(system.model / "senones")
    with Meter() as before:
        pass
    with Meter() as meter:
        lang, grammar = Lang.load(out / "lang"), read_arrays(out / "lm" / "G.fst")
        if recipe:
            hclg = make_hclg(lang, from_arrays(grammar), senones, self_loop_scale=scale)
            graph = to_arrays(tids_to_pdfs(hclg, senones))
        else:
            graph = decoding_graph(lang, grammar, senones, self_loop_scale=scale)
        write_fst(folder / system.graph.name, graph)
    return {"states": graph.num_states, "arcs": len(graph.arcs), "before": cost(before)["peak"], **cost(meter)}


def search_memory(path: Path) -> Dict[str, float]:
    """Return the MB of a search's tables of a graph, and the peak MB of the process that loads them."""
    with Meter() as meter:
        graph = Decoder(path).graph
    tables = sum(array.nbytes for array in vars(graph).values() if isinstance(array, np.ndarray))
    return {"tables": tables / 1e6, "search": cost(meter)["peak"]}


def cost(meter: Meter) -> Dict[str, float]:
    return {"cpu": meter.cpu_seconds, "peak": meter.peak_bytes / 1e6}


def choose_words(model: NgramModel, pronounceable: Sequence[str], number: int) -> Dict[str, float]:
    """Return {word: log10 P} of the `number` most probable words of the model that can be pronounced, then of others
    that can and of pairs of such, at the least of these probabilities."""
    known = set(pronounceable) - {START, END}
    listed = sorted(((-value, word) for (word,), value in model.probs[0].items() if word in known))
    chosen = {word: -value for value, word in listed[:number]}
    least = min(chosen.values(), default=-7.0)
    rng = random.Random(0)
    pairs = (JOINED.join(rng.choices(pronounceable, k=2)) for _ in itertools.repeat(None))
    for word in itertools.chain((word for word in pronounceable if word in known), pairs):
        if len(chosen) >= number:
            break
        chosen.setdefault(word, least)
    return chosen


def restricted(model: NgramModel, vocabulary: Mapping[str, float], order: int, most: int) -> NgramModel:
    """Return the model of these words {word: log10 P}, with the `most` n-grams of each order above 1 that it would miss
    most; normalised."""
    ends = model.probs[0].get((END,), -2.0)
    probs: List[Dict[Ngram, float]] = [{(word,): value for word, value in vocabulary.items()}]
    probs[0][END,] = ends
    total = math.log10(sum(10.0**value for value in probs[0].values()))
    probs[0] = {ngram: value - total for ngram, value in probs[0].items()}
    usable = {*vocabulary, START, END}
    for size in range(2, min(order, model.order) + 1):
        histories = set(probs[-1]) | {(START,)} if size == 2 else set(probs[-1])
        worth = []
        for ngram, value in model.probs[size - 1].items():
            if ngram[:-1] not in histories or not usable.issuperset(ngram) or START in ngram[1:] or END in ngram[:-1]:
                continue
            gain = value - log10(model, ngram[-1], ngram[1:-1]) - model.backoffs[size - 2].get(ngram[:-1], 0.0)
            if gain > 0.0:
                joint = value + ends if ngram[0] == START else value + model.probs[0][ngram[:1]]
                for place in range(1, size - 1):
                    joint += log10(model, ngram[place], ngram[:place])
                worth.append((-gain * 10.0**joint, ngram))
        worth.sort()
        probs.append({ngram: model.probs[size - 1][ngram] for _, ngram in worth[:most]})
    probs[0][START,] = LOG10_ZERO
    return normalised(probs)


def log10(model: NgramModel, word: str, history: Ngram) -> float:
    """Return log10 P(word | history), of words that the model has."""
    total = 0.0
    while (*history, word) not in model.probs[len(history)]:
        total += model.backoffs[len(history) - 1].get(history, 0.0)
        history = history[1:]
    return total + model.probs[len(history)][(*history, word)]


def normalised(probs: List[Dict[Ngram, float]]) -> NgramModel:
    """Return the model with the back-offs that make its probabilities sum to 1 after every history:

    B(h) = (1 - sum of P(w | h)) / (1 - sum of P(w | h without its first word)), both over the w listed after h.
    """
    backoffs: List[Dict[Ngram, float]] = []
    for size in range(1, len(probs)):
        model = NgramModel(probs[:size], backoffs)
        listed: Dict[Ngram, List[float]] = defaultdict(lambda: [1.0, 1.0])
        for ngram, value in probs[size].items():
            left = listed[ngram[:-1]]
            left[0] -= 10.0**value
            left[1] -= 10.0 ** log10(model, ngram[-1], ngram[1:-1])
        backoffs.append({
            history: math.log10(max(upper, 1e-4) / max(lower, 1e-4)) for history, (upper, lower) in listed.items()
        })  # fmt: skip
    return NgramModel(probs, backoffs)


def pronounced(dictionary: Lexicon, words: Mapping[str, float], phones: Sequence[str]) -> Lexicon:
    """Return the pronunciations of the words in these phones: without stress, and the nearest where one is missing."""
    own: Set[str] = set(phones)
    entries: Dict[str, List[Tuple[str, ...]]] = {}
    for word in words:
        items = spelled(dictionary, word)
        entries[word] = list(dict.fromkeys(tuple(nearest(phone, own) for phone in item.phones) for item in items))
    return Lexicon.from_dict(entries)


def spelled(dictionary: Lexicon, word: str) -> List[Pronunciation]:
    """Return the pronunciations of a word, or of a pair the first ones one after the other."""
    if word in dictionary:
        return list(dictionary.pronunciations(word))
    parts = [dictionary.pronunciations(part)[0].phones for part in word.split(JOINED)]
    return [Pronunciation(tuple(phone for part in parts for phone in part), 1.0)]


def nearest(phone: str, phones: Set[str]) -> str:
    """Return the phone's name among these. Raises ConfigError for one that has none."""
    name = phone.upper().rstrip("012")
    while name not in phones:
        if name not in NEAREST:
            raise ConfigError(f"the phone {phone} is not in the run's lexicon", remedy="use a run of English speech")
        name = NEAREST[name]
    return name


if __name__ == "__main__":
    main()
