"""New words in a decoding graph that is there already, without L, G and their composition.

    words begin    at states U where the language model has backed off to the unigram
    words end      at the states U after their last phone, or after a pause

U is found in the graph itself. G's unigram state alone has no back-off arc (lm/grammar.py), and a sentence can end
there: so U are the final states of HCLG without an epsilon arc that says no word. Where a word begins, the tree asks
for the phone before: the one whose pdfs are on the arcs that enter the state, over epsilons. And as determinization
leaves in a state what its parts still cost, the final cost of a state of U less the least of all is what a word that
begins there has still to pay (and one that ends there has not: the pause that may follow). Between them stands a tree
of the new words' phones, each an HMM with the pdfs of its context, costs as in hmm/graph.py:

    U(b) -> HMM of p1 after b -> HMM of p2 after p1 -> ... -> eps: word -> U(pn)
                                                                        -> HMM of the pause after pn -> U(pause)

A path that goes through costs what it would if the word had stood in G's unigram state and in L, and the graph had been
made again, with these exceptions:

  * trees that ask for the phone after (triphones of Gaussian systems): the graph has no places between words of which
    one side is open. New words then begin at its start and wherever a sentence may end (for the cost of the end, where
    the graph has that on its arcs), in the context of a pause at both sides, and after them the graph begins again.
  * trees that ask for more than one phone before: the one before a word's first phone is known, earlier ones are none.
  * a last phone with which no other word ends: what follows is said as at the beginning of an utterance.
  * where pdfs do not tell phones apart, every phone that may have been before is allowed.
  * silence probabilities that depend on the word before and after: new words have the overall one.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Dict, FrozenSet, List, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np

from hybrid.decode.hmm_arcs import NO_PHONE, Exit, HmmArcs
from hybrid.decode.search_graph import COST, ILABEL, NEXT, OLABEL, SearchGraph
from hybrid.errors import GraphError
from hybrid.fst import ARC, FstArrays
from hybrid.hmm.senones import Senones
from hybrid.lexicon.lang import Lang

_NEAR = 1e-3  # costs that are alike


class Spoken(NamedTuple):
    """A pronunciation to add: word id, phone ids with position marks, cost."""

    word: int
    phones: Tuple[int, ...]
    cost: float


class Junction(NamedTuple):
    """A state between words: the phones that may have been before; what its words have still to pay, and of that for
    leaving the state's self-loop; whether a pause may still follow."""

    state: int
    phones: FrozenSet[int]
    owed: float
    leaving: float
    pause: bool


def to_fst(graph: SearchGraph) -> FstArrays:
    """Return the graph's arcs as an automaton."""
    arcs = np.empty(len(graph.arcs) // 4, ARC)
    for column, name in ((ILABEL, "ilabel"), (OLABEL, "olabel"), (NEXT, "nextstate")):
        arcs[name] = graph.arcs[column::4]
    arcs["weight"] = graph.costs[COST::4]
    return FstArrays(graph.start, graph.final.copy(), graph.first.astype(np.int64), arcs)


def splice(
    graph: SearchGraph, lang: Lang, senones: Senones, words: Sequence[Spoken], *, self_loop_scale: float,
    transition_scale: float = 1.0,
) -> FstArrays:  # fmt: skip
    """Return a graph over pdf + 1 with more words; states and arcs that were there stay. The graph's labels and the
    words' are those of `lang`. Raises GraphError where no word can begin: the graph is of a grammar and has no back-off
    arcs."""
    window = senones.ctx_dep
    splicer = _Splicer(graph, lang, senones, self_loop_scale, transition_scale)
    if window.central_position == window.context_width - 1:
        splicer.between(words)
    else:
        splicer.around(words)
    return splicer.result()


def self_loop_scale_of(graph: SearchGraph, senones: Senones) -> float:
    """Return the scale of self-loops that the graph was made with: their costs over -log P(loop).

    Several transition ids may have the pdf of a loop, each with a probability of its own: of all quotients the one that
    most loops allow. 1 where the graph has no loop.
    """
    arcs = graph.arcs.reshape(-1, 4)
    sources = np.repeat(np.arange(graph.num_states), np.diff(graph.first).astype(np.int64))
    chosen = (arcs[:, NEXT] == sources) & (arcs[:, ILABEL] > 0) & (arcs[:, OLABEL] == 0)
    loops = np.unique(np.stack([arcs[chosen, ILABEL] - 1.0, graph.costs.reshape(-1, 4)[chosen, COST]], 1), axis=0)
    tids = np.flatnonzero(senones.is_self_loop & (senones.log_probs < -1e-6))
    tid_loops = np.unique(np.stack([senones.tid2pdf[tids], -senones.log_probs[tids]], 1), axis=0)
    votes: Counter = Counter()
    for pdf, cost in loops.tolist():
        scales = cost / tid_loops[tid_loops[:, 0] == pdf, 1]
        votes.update({float(f"{scale:.4g}") for scale in scales.tolist()})
    return max(votes, key=lambda scale: (votes[scale], scale)) if votes else 1.0


class _Splicer(HmmArcs):
    def __init__(self, graph: SearchGraph, lang: Lang, senones: Senones, loop_scale: float, scale: float) -> None:
        super().__init__(graph.num_states, senones, loop_scale, scale)
        self.graph, self.lang = graph, lang
        self.finals: Dict[int, float] = {}
        self.ends: Dict[Tuple, int] = {}
        self.pause = lang.phones[lang.optional_silence]
        overall = lang.silence_prob if lang.silence_probs is None else lang.silence_probs.overall
        self.pause_cost = -math.log(overall) if lang.silence_prob > 0 else math.inf
        self.go_on_cost = -math.log1p(-overall) if lang.silence_prob > 0 else 0.0

    # ------------------------------------------------------------ where words begin and end

    def phones_before(self, state: int) -> FrozenSet[int]:
        """The phones that may have been said before a state: of the pdfs that enter it, over epsilons."""
        graph, found, waiting = self.graph, {state}, [state]
        pdfs: Set[int] = set()
        begins = False
        while waiting:
            current = waiting.pop()
            begins |= current == graph.start
            for number in range(int(graph.enter[current]), int(graph.enter[current + 1])):
                label = int(graph.arcs[4 * int(graph.entering[number]) + ILABEL])
                source = int(graph.sources[number])
                if label:
                    pdfs.add(label - 1)
                elif source not in found:
                    found.add(source)
                    waiting.append(source)
        senones = self.senones
        phones = {int(phone) for phone in senones.tid2phone[1:][np.isin(senones.tid2pdf[1:], list(pdfs))]}
        phones &= set(self.lang.phone_ids)
        if self.lang.position_dependent:  # a word has ended with it
            names = senones.phone_names
            ends = {p for p in phones if names[p] in self.lang.silence_phones or names[p].endswith(("_E", "_S"))}
            phones = ends or phones
        return frozenset(phones | {NO_PHONE} if begins else phones)

    def junctions(self) -> List[Junction]:
        graph = self.graph
        arcs = graph.arcs.reshape(-1, 4)
        sources = np.repeat(np.arange(graph.num_states), np.diff(graph.first).astype(np.int64))
        backs_off = np.zeros(graph.num_states, bool)
        backs_off[sources[(arcs[:, ILABEL] == 0) & (arcs[:, OLABEL] == 0)]] = True
        states = np.flatnonzero(np.isfinite(graph.final) & ~backs_off)
        senones = self.senones
        pdfs = senones.tid2pdf[1:][senones.tid2phone[1:] == self.pause]
        found = []
        for state in states.tolist():
            low, high = int(graph.epsilons[state]), int(graph.first[state + 1])
            labels, loops = arcs[low:high, ILABEL].astype(np.int64), arcs[low:high, NEXT] == state
            looping = graph.costs[4 * low + COST : 4 * high : 4][loops] / self.loop_scale
            leaving = -self.loop_scale * math.log(max(-math.expm1(-float(looping[0])), 1e-10)) if len(looping) else 0.0
            pauses = np.isin(labels[~loops] - 1, pdfs)
            if pauses.all():  # no word begins here: it is the end of all
                continue
            owed = float(graph.final[state])
            found.append(Junction(state, self.phones_before(state), owed, leaving, bool(pauses.any())))
        if not found:
            raise GraphError(
                "the graph has no state of unigrams where a new word could begin",
                remedy="add words to a graph of an n-gram with </s>, or give them in the grammar",
            )
        least = min(row.owed - row.leaving for row in found)  # the end of a sentence itself
        found = [row._replace(owed=row.owed - least) for row in found]
        return found + [self.left(row) for row in found if row.leaving and not any(
            other.phones == row.phones and other.pause == row.pause and not other.leaving for other in found)]

    def left(self, junction: Junction) -> Junction:
        """A junction after a self-loop: new words end there, whose last frames are not those of the loop."""
        graph, old = self.graph, junction.state
        state = self.state()
        for arc in range(int(graph.first[old]), int(graph.first[old + 1])):
            label, word, _, target = graph.arcs[4 * arc : 4 * arc + 4].tolist()
            if target != old:
                self.arcs.append((state, label, word, float(graph.costs[4 * arc + COST]) - junction.leaving, target))
        self.finals[state] = float(graph.final[old]) - junction.leaving
        return Junction(state, junction.phones, junction.owed - junction.leaving, 0.0, junction.pause)

    # ------------------------------------------------------------ the tree of words

    def between(self, words: Sequence[Spoken]) -> None:
        """Where the tree asks for phones before alone: words begin and end where those of the graph do."""
        junctions = self.junctions()
        firsts: Dict[int, List[Spoken]] = defaultdict(list)
        for spoken in words:
            firsts[spoken.phones[0]].append(spoken)
        for first, group in sorted(firsts.items()):
            ahead = min(spoken.cost for spoken in group)
            exits: Dict[Exit, None] = {}
            for junction in junctions:
                windows = {tuple(self.window([before], first)) for before in sorted(junction.phones)}
                variants = {id(self.hmm(("first",), window)): window for window in sorted(windows)}
                for window in variants.values():
                    row = self.enter([Exit(junction.state, junction.owed + ahead)], ("first",), window)
                    exits.update(dict.fromkeys(row))
            self.tree(list(exits), group, ahead, junctions)

    def tree(
        self, origins: List[Exit], group: Sequence[Spoken], ahead: float, junctions: Optional[List[Junction]],
        before: Sequence[int] = (), after: Sequence[int] = (),
    ) -> None:  # fmt: skip
        """The rest of words that begin with one phone, which has been said."""
        known: Dict[Tuple[int, ...], List[Exit]] = {}
        for spoken in group:
            exits = origins
            for place in range(1, len(spoken.phones)):
                said = (*before, *spoken.phones[: place])
                following = (*spoken.phones[place + 1 :], *after)[: self.width - self.central - 1]
                key = (*spoken.phones[: place + 1], -1, *following)  # what a tree does not ask for is shared
                if key not in known:
                    known[key] = self.enter(exits, key, self.window(said, spoken.phones[place], following))
                exits = known[key]
            end = self.end((*before, *spoken.phones), junctions)
            for leaving in exits:
                self.arcs.append((leaving.state, 0, spoken.word, leaving.cost + spoken.cost - ahead, end))

    def end(self, phones: Tuple[int, ...], junctions: Optional[List[Junction]]) -> int:
        """The state after a word: from there to what may follow."""
        key = ("end", *phones[-max(self.width - 1, 1) :])
        if key in self.ends:
            return self.ends[key]
        end = self.ends[key] = self.state()
        pause = self.window(phones, self.pause)
        if junctions is None:
            self.arcs.append((end, 0, 0, self.go_on_cost, self.graph.start))
            self.finals[end] = float(self.graph.final[np.isfinite(self.graph.final)].min()) + self.go_on_cost
            if math.isfinite(self.pause_cost):
                for leaving in self.enter([Exit(end, self.pause_cost)], key, pause):
                    self.arcs.append((leaving.state, 0, 0, leaving.cost, self.graph.start))
                    self.finals[leaving.state] = self.finals[end] - self.go_on_cost + leaving.cost
            return end
        paused = self.go_to(junctions, phones[-1], end, self.go_on_cost)
        if math.isfinite(self.pause_cost) and not paused:
            for leaving in self.enter([Exit(end, self.pause_cost)], key, pause):
                self.go_to(junctions, self.pause, leaving.state, leaving.cost)
        return end

    def go_to(self, junctions: Sequence[Junction], phone: int, state: int, cost: float) -> bool:
        """Lead to the junctions after a phone; return whether a pause may follow there."""
        after = [row for row in junctions if not row.leaving]
        there = [row for row in after if phone in row.phones and row.owed <= self.go_on_cost + _NEAR]
        if not there:
            there = [row for row in after if NO_PHONE in row.phones] or after
        least = min(row.owed for row in there)
        chosen = [row for row in there if row.owed <= least + _NEAR]
        for row in chosen:
            self.arcs.append((state, 0, 0, cost - row.owed, row.state))
        return any(row.pause for row in chosen)

    def around(self, words: Sequence[Spoken]) -> None:
        """Where the tree asks for phones after: words stand between pauses, at the start and wherever a sentence may
        end."""
        entry = self.state()
        ahead = min(spoken.cost for spoken in words)
        for state in {self.graph.start, *np.flatnonzero(np.isfinite(self.graph.final)).tolist()}:
            self.arcs.append((state, 0, 0, ahead, entry))
        firsts: Dict[Tuple[int, ...], List[Spoken]] = defaultdict(list)
        after = (self.pause,)
        for spoken in words:
            following = (*spoken.phones[1:], *after)[: self.width - self.central - 1]
            firsts[(spoken.phones[0], *following)].append(spoken)
        for key, group in sorted(firsts.items()):
            window = self.window([self.pause], key[0], key[1:])
            exits = self.enter([Exit(entry, 0.0)], ("first", *key), window)
            self.tree(exits, group, ahead, None, [self.pause], after)

    def result(self) -> FstArrays:
        base = to_fst(self.graph)
        new = np.array([row[1:] for row in self.arcs], ARC)
        sources = np.concatenate([base.sources, np.array([row[0] for row in self.arcs], np.int32)])
        order = np.argsort(sources, kind="stable")
        final = np.full(self.states, np.inf, np.float32)
        final[: len(base.final)] = base.final
        for state, cost in self.finals.items():
            final[state] = cost
        offsets = np.zeros(self.states + 1, np.int64)
        np.cumsum(np.bincount(sources, minlength=self.states), out=offsets[1:])
        return FstArrays(base.start, final, offsets, np.concatenate([base.arcs, new])[order])

