"""Whether rescored lattices have the words of a search in the second model's own graph (benchmarks.ngram_rescoring
--equality).

The whole model of a run, pruned to more n-grams than the graph has, is put into the lattices of its first pass, and
made into a graph of its own, as the stage graph does it; the same log-likelihoods are searched in that, at the same
scale, penalty and beams. Printed for each search (beam, active states, lattice beam): utterances with the same words,
in percent; of the others, how many have the lower cost in the lattice (the search in the graph has lost that path) and
how many in the graph (the lattice has lost it); the largest difference of costs where the words are the same; and the
errors of the first pass, of its rescored lattices, and of the search in the graph.

Costs are compared as the models have them. A word may be more probable by backing off than as it is listed, and a path
through a graph may back off everywhere, so that it can cost less than the model says; of the first model's graph that
is in the lattice's path, of the second's in the other. With C(w) the model's cost of a sentence and S(w) that of the
best way through its G,

    lattice:  cost + C1(w) - S1(w),        graph:  cost + C2(w) - S2(w).

The column "by graphs" counts the others whose cost is lower in the graph before that is made up for.
"""

from __future__ import annotations

import math
from typing import Callable, Dict, NamedTuple, Sequence, Tuple

from benchmarks.ngram_lattices import FIRST, Place, Speech, read_speech, whole
from hybrid.decode.decoder import Decoder
from hybrid.decode.ngram_rescoring import NgramRescorer
from hybrid.decode.paths import Hypothesis
from hybrid.decode.run import word_names
from hybrid.errors import ConfigError
from hybrid.fst import write_fst
from hybrid.hmm.decoding_graph import decoding_graph
from hybrid.hmm.senones import Senones
from hybrid.io import read_json
from hybrid.lexicon.lang import Lang
from hybrid.lm.arrays import NgramArrays
from hybrid.lm.grammar import arpa_to_fst
from hybrid.lm.model import LN10, NgramModel
from hybrid.lm.prune import prune
from hybrid.lm.text import END, START
from hybrid.score.wer import Counts, align, count

HEADER = (
    f"{'beam':>5} {'active':>6} {'lattice':>7} {'same %':>7} {'differ':>6} {'lattice lower':>13} {'graph lower':>11} "
    f"{'by graphs':>9} {'largest':>8} {'WER: first':>10} {'lattice':>8} {'graph':>6}"
)


class Beams(NamedTuple):
    beam: float
    max_active: int
    lattice_beam: float

    @classmethod
    def parse(cls, text: str) -> Beams:
        """Raises ConfigError for what is not BEAM:ACTIVE:LATTICE."""
        try:
            beam, active, lattice = text.split(":")
            return cls(float(beam), int(active), float(lattice))
        except ValueError:
            raise ConfigError(f"the search {text!r}", remedy="give BEAM:ACTIVE:LATTICE, as 15:7000:8") from None


Answers = Dict[str, Hypothesis]


def compare(place: Place, most: int, utterances: int, searches: Sequence[str]) -> None:
    """Print a line for each search."""
    own = place.search()
    beams = [Beams.parse(text) for text in searches]
    beams = beams or [Beams(own.beam, own.max_active, place.lattice_beam())]
    graph, second = make_graph(place, most)
    speech = read_speech(place, utterances)
    print(HEADER, flush=True)
    lang = Lang.load(place.exp / "lang")
    first = NgramArrays.load(place.folder / FIRST)
    rescorer = NgramRescorer(first, second, lang.words)
    shortcuts = Shortcuts(first.to_model(), lang), Shortcuts(second.to_model(), lang)
    for each in beams:
        before, lattice = by_lattice(place, speech, rescorer, each)
        full = by_graph(place, graph, speech, each)
        print(line(each, speech, lang, before, lattice, full, shortcuts), flush=True)


class Shortcuts:
    """What a model's cost of a sentence is above that of the best way through its G, where a word may back off though
    it is listed; 0 or more."""

    def __init__(self, model: NgramModel, lang: Lang) -> None:
        self.model, self.names = model, word_names(lang.words)

    def __call__(self, ids: Sequence[int]) -> float:
        words = [self.names[number] for number in ids]
        ways = {self.history((START,)): 0.0}  # {history: log10 of the best way there}
        for word in [*words, END]:
            reached: Dict[Tuple[str, ...], float] = {}
            for history, value in ways.items():
                for length in range(len(history), -1, -1):
                    context = history[len(history) - length :]
                    prob = self.model.probs[length].get((*context, word))
                    if prob is not None:
                        after = self.history((*context, word))
                        reached[after] = max(reached.get(after, -math.inf), value + prob)
                    if length:
                        value += self.model.backoffs[length - 1].get(context, 0.0)
            ways = reached
        return LN10 * max(ways.values()) - self.model.sentence_logprob(words)

    def history(self, words: Tuple[str, ...]) -> Tuple[str, ...]:
        """Return the longest end of some words that is listed and shorter than the order."""
        words = words[max(0, len(words) - self.model.order + 1) :]
        while words and words not in self.model.probs[len(words) - 1]:
            words = words[1:]
        return words


def make_graph(place: Place, most: int) -> Tuple[str, NgramArrays]:
    """Return the graph of the pruned model, made where it is not there, and the model."""
    stem = place.folder / f"{place.system}-{most}"
    model_path, path = stem.with_suffix(".safetensors"), stem.with_suffix(".fst")
    if not model_path.exists():
        prune(whole(place.exp), most=most).save(model_path)
    model = NgramArrays.load(model_path)
    if not path.exists():
        system = place.found()
        name = f"graph.{'network_' if system.network else ''}self_loop_scale"
        lang = Lang.load(place.exp / "lang")
        graph = decoding_graph(
            lang, arpa_to_fst(model, lang.words), Senones.load(system.model / "senones"),
            self_loop_scale=float(read_json(place.exp / "config.json")[name]),
        )  # fmt: skip
        write_fst(path, graph)
        print(f"{len(model):,} n-grams: {graph.num_states:,} states, {len(graph.arcs):,} arcs", flush=True)
    return str(path), model


def by_lattice(place: Place, speech: Speech, rescorer: NgramRescorer, beams: Beams) -> Tuple[Answers, Answers]:
    """Return the answers of the first pass, and of the second model in its lattices."""
    search = place.search()
    decoder = Decoder(
        place.found().graph, beam=beams.beam, max_active=beams.max_active, word_penalty=search.word_penalty
    )
    first: Answers = {}
    second: Answers = {}
    for name, loglikes in speech.loglikes.items():
        raw = decoder.lattice(loglikes, search.acoustic_scale, name, lattice_beam=beams.lattice_beam)
        if raw is None:
            raise ConfigError(f"no path through {name}", remedy="leave its set out of --sets, or widen the beam")
        lattice = raw.determinised(search.acoustic_scale, lattice_beam=beams.lattice_beam, pdfs=False)
        rescored = rescorer(lattice, acoustic_scale=search.acoustic_scale, beam=beams.lattice_beam)
        first[name] = rescored.scaled(0.0).best_path(search.acoustic_scale)
        second[name] = rescored.scaled(1.0).best_path(search.acoustic_scale)
    return first, second


def by_graph(place: Place, graph: str, speech: Speech, beams: Beams) -> Answers:
    """Return the answers of a search in the second model's graph."""
    search = place.search()
    decoder = Decoder(graph, beam=beams.beam, max_active=beams.max_active, word_penalty=search.word_penalty)
    return {name: decoder.decode(loglikes, search.acoustic_scale, name) for name, loglikes in speech.loglikes.items()}


def line(
    beams: Beams, speech: Speech, lang: Lang, first: Answers, lattice: Answers, graph: Answers,
    shortcuts: Sequence[Callable[[Sequence[int]], float]],
) -> str:  # fmt: skip
    """Return a row of the table. shortcuts: of the first model and of the second, by word ids. Utterances in which a
    search reached no end are compared like others."""
    above = {name: lattice[name].cost - graph[name].cost for name in graph}
    by_model = {
        name: above[name] + shortcuts[0](lattice[name].words) - shortcuts[1](graph[name].words) for name in graph
    }
    same = [name for name in graph if lattice[name].words == graph[name].words]
    others = [name for name in graph if name not in {*same}]
    higher, by_graphs = (sum(values[name] > 0.0 for name in others) for values in (by_model, above))
    largest = max((abs(by_model[name]) for name in same), default=0.0)
    columns = ((first, 10), (lattice, 8), (graph, 6))
    errors = " ".join(f"{errors_of(answers, speech, lang):{width}.2f}" for answers, width in columns)
    return (
        f"{beams.beam:5g} {beams.max_active:6d} {beams.lattice_beam:7g} {100 * len(same) / len(graph):7.1f} "
        f"{len(others):6d} {len(others) - higher:13d} {higher:11d} {by_graphs:9d} {largest:8.3f} {errors}"
    )


def errors_of(answers: Answers, speech: Speech, lang: Lang) -> float:
    """Return the word error rate in percent."""
    names = word_names(lang.words)
    total = Counts()
    for name, text in speech.texts.items():
        total += count(align(text, [names[word] for word in answers[name].words]))
    return total.wer
