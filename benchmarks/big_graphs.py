"""Decoding graphs of a large vocabulary over a run's own senones, to time searches with (benchmarks.search, recognise).

    python -m benchmarks.big_graphs EXP OUT --arpa FILE --dictionary FILE --words 20000 --order 2
    python -m benchmarks.big_graphs EXP OUT --arpa FILE --dictionary FILE --words 100000 --order 3 --ngrams 300000

EXP: a run whose phones are CMUdict's, or a part of them: what it lacks is said by the nearest that it has (NEAREST),
for these graphs measure speed, not error rates. Dictionary: CMUdict, with or without stress. English models and their
dictionary are, for example, in the package `pocketsphinx` (its binary trigram written as ARPA).

The vocabulary is that of the ARPA's words which the dictionary pronounces, the most probable first; where they are too
few, further words of the dictionary at the probability of the least. N-grams of these words, at most --ngrams of each
order above 1, are those of the largest

    P(h w) * log( P(w | h) / (B(h) P(w | h without its first word)) ),

what leaving them out costs a word (Stolcke's pruning without the change of B); a trigram needs its first two words to
be chosen. Probabilities are then normalised again.

Written: OUT/lang and OUT/NAME.fst of each graph that the systems named are decoded with (EXP/graph has their small
ones). Printed: words, n-grams, states, arcs, CPU seconds and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Set, Tuple

from hybrid.decode.trained import systems
from hybrid.errors import ConfigError
from hybrid.fst import to_arrays, write_fst
from hybrid.hmm.graph import make_hclg, tids_to_pdfs
from hybrid.hmm.senones import Senones
from hybrid.io import read_json
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon
from hybrid.lm import arpa
from hybrid.lm.grammar import arpa_to_fst
from hybrid.lm.model import LOG10_ZERO, Ngram, NgramModel
from hybrid.lm.text import END, START
from hybrid.measure import Meter

NEAREST = {"DH": "TH", "TH": "T", "NG": "N", "OY": "AO", "SH": "CH", "UH": "UW", "ZH": "JH", "JH": "CH", "CH": "T"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--arpa", type=Path, required=True)
    parser.add_argument("--dictionary", type=Path, required=True)
    parser.add_argument("--words", type=int, default=20000)
    parser.add_argument("--order", type=int, choices=[2, 3], default=2)
    parser.add_argument("--ngrams", type=int, default=10**9, help="of each order above 1")
    parser.add_argument("--systems", nargs="+", default=["lfmmi", "tri1"])
    options = parser.parse_args()
    known = systems(options.exp)
    unknown = [name for name in options.systems if name not in known]
    if unknown:
        raise ConfigError(f"no system {unknown[0]} in {options.exp}", remedy=f"use some of {', '.join(known)}")
    with Meter() as meter:
        base = Lang.load(options.exp / "lang")
        dictionary = Lexicon.from_file(options.dictionary)
        model = arpa.read(options.arpa)
        vocabulary = choose_words(model, dictionary.words, options.words)
        model = restricted(model, vocabulary, options.order, options.ngrams)
        lang = Lang.create(
            pronounced(dictionary, vocabulary, base.nonsilence_base), silence=base.optional_silence,
            position_dependent=base.position_dependent, silence_prob=base.silence_prob,
        )  # fmt: skip
        grammar = arpa_to_fst(model, lang.words)
        lang.save(options.out / "lang")
    counts = ", ".join(f"{len(prob)} {order}-grams" for order, prob in enumerate(model.probs, 1))
    print(f"{len(vocabulary)} words, {counts}, G: {grammar.num_states} states; {cost(meter)}", flush=True)
    settings = read_json(options.exp / "config.json")
    for name, system in {known[name].graph.name: known[name] for name in options.systems}.items():
        with Meter() as meter:
            senones = Senones.load(system.model / "senones")
            scale = settings[f"graph.{'network_' if system.network else ''}self_loop_scale"]
            graph = tids_to_pdfs(make_hclg(lang, grammar, senones, self_loop_scale=float(scale)), senones)
            write_fst(options.out / name, graph)
        arrays = to_arrays(graph)
        print(f"{name}: {arrays.num_states} states, {len(arrays.arcs)} arcs; {cost(meter)}", flush=True)


def cost(meter: Meter) -> str:
    return f"{meter.cpu_seconds:.0f} CPU seconds, {meter.peak_bytes / 1e9:.2f} GB"


def choose_words(model: NgramModel, pronounceable: Sequence[str], number: int) -> Dict[str, float]:
    """Return {word: log10 P} of the `number` most probable words of the model that can be pronounced, then of others
    that can, at the least of these probabilities."""
    known = set(pronounceable) - {START, END}
    listed = sorted(((-value, word) for (word,), value in model.probs[0].items() if word in known))
    chosen = {word: -value for value, word in listed[:number]}
    least = min(chosen.values(), default=-7.0)
    for word in pronounceable:
        if len(chosen) >= number:
            break
        if word in known:
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
        items = dictionary.pronunciations(word)
        entries[word] = list(dict.fromkeys(tuple(nearest(phone, own) for phone in item.phones) for item in items))
    return Lexicon.from_dict(entries)


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
