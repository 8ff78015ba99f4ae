"""Whether rescored lattices have the words of a search in the second model's own graph (benchmarks.ngram_rescoring
--equality).

The whole model of a run, pruned to more n-grams than the graph has, is put into the lattices of its first pass, and
made into a graph of its own, as the stage graph does it; the same log-likelihoods are searched in that, at the same
scale, penalty and beams. Printed for each search (beam, active states, lattice beam): utterances with the same words,
in percent; of the others, how many have the lower cost in the lattice (the search in the graph has lost that path) and
how many in the graph (the lattice has not got it); the largest difference of costs where the words are the same; and
the errors of the first pass, of its rescored lattices, and of the search in the graph.

Costs can differ by more than rounding where a word is more probable by backing off than as it is listed: in a graph the
better way counts, and in a model the one that is listed.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Sequence, Tuple

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
from hybrid.lm.prune import prune
from hybrid.score.wer import Counts, align, count

NEAR = 0.01  # costs that are alike
HEADER = (
    f"{'beam':>5} {'active':>6} {'lattice':>7} {'same %':>7} {'differ':>6} {'lattice lower':>13} {'graph lower':>11} "
    f"{'alike':>6} {'largest':>8} {'WER: first':>10} {'lattice':>8} {'graph':>6}"
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
    print(HEADER)
    lang = Lang.load(place.exp / "lang")
    rescorer = NgramRescorer(NgramArrays.load(place.folder / FIRST), second, lang.words)
    for each in beams:
        before, lattice = by_lattice(place, speech, rescorer, each)
        full = by_graph(place, graph, speech, each)
        print(line(each, speech, lang, before, lattice, full), flush=True)


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


def line(beams: Beams, speech: Speech, lang: Lang, first: Answers, lattice: Answers, graph: Answers) -> str:
    """Return a row of the table. Utterances in which a search reached no end are compared like others."""
    above = {name: lattice[name].cost - graph[name].cost for name in graph}
    same = [name for name in graph if lattice[name].words == graph[name].words]
    others = [above[name] for name in graph if name not in {*same}]
    lower, higher = sum(value < -NEAR for value in others), sum(value > NEAR for value in others)
    largest = max((abs(above[name]) for name in same), default=0.0)
    columns = ((first, 10), (lattice, 8), (graph, 6))
    errors = " ".join(f"{errors_of(answers, speech, lang):{width}.2f}" for answers, width in columns)
    return (
        f"{beams.beam:5g} {beams.max_active:6d} {beams.lattice_beam:7g} {100 * len(same) / len(graph):7.1f} "
        f"{len(others):6d} {lower:13d} {higher:11d} {len(others) - lower - higher:6d} {largest:8.3f} {errors}"
    )


def errors_of(answers: Answers, speech: Speech, lang: Lang) -> float:
    """Return the word error rate in percent."""
    names = word_names(lang.words)
    total = Counts()
    for name, text in speech.texts.items():
        total += count(align(text, [names[word] for word in answers[name].words]))
    return total.wer
