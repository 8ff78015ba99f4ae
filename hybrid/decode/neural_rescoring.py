"""Lattices of words with a left-to-right neural language model in the place of the first pass's n-gram.

A path's neural cost is the sum over its words, and </s>, of -log p(w_i | <s> w_1 ... w_{i-1}). The model's state behind
a word depends on all words before it, so that exactly each node would be parted into as many states as there are word
sequences that lead to it: a tree. With histories of n words in all, those are one state whose last n - 1 words are the
same, as if the model were an n-gram (Liu et al. 2016, "Two efficient lattice rescoring methods using recurrent neural
network language models"). A state (node a, history h) keeps the model's state of the best path to it (Sundermeyer et
al. 2014, "Lattice decoding and rescoring with long-span neural network language models"):

    C(a, h) = min over arcs (a', h') -> (a, h) with word w of  C(a', h') + c(arc) + lm_scale d(a', h', w)
    m(a, h) = the model's state m(a', h') with w read, of the arc that has the minimum
    d(a', h', w) = -log p_neural(w | m(a', h')) + log p_first(w | h')        (without a first model: the first term)

So an arc's difference is exact on the best path to its source; on another path to it, which has the same last words, it
is that of w behind another beginning. A first model of order N is taken off exactly: h has N - 1 words at least.

As in ngram_rescoring.py a state goes no further that is, with the least cost ahead in the lattice as it was, more than
`beam` above the lowest of its frame (Xu et al. 2018, "A pruned RNNLM lattice-rescoring algorithm for automatic speech
recognition", prune by such a look-ahead too), and the beam is halved where more than `most` arcs would be followed.

Nodes are taken level by level, a node's level being the number of arcs of the longest way to it: all that leads to a
state is then known, and states of a level, of all lattices that are given together, are a batch. Compared are states
that are still to be taken, so that the lowest of them always goes on and some path reaches the end. The log-sum-exp
over all tokens, most of the work, is computed once a state. A word of several pieces takes a step a piece, and pieces
that words behind a state begin with alike are read once. A word that the model lacks costs its share of <unk>'s
probability (data/tokens.py).

Memory: the model's states are held only while states that begin with them are to be taken; of the others there are a
cost, a node and the arcs. Logits are made for a bounded number of rows at once.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from hybrid.data.tokens import END, START, Tokens
from hybrid.decode import paths
from hybrid.decode.neural_prefixes import Prefixes
from hybrid.decode.ngram_rescoring import BEAM, ModelTable, Rescored, check_first, ngram_cost, rescored
from hybrid.decode.word_lattice import WordLattice
from hybrid.errors import ConfigError, DataError
from hybrid.lm.arrays import NgramArrays
from hybrid.nnet.text import LstmLm, TextModel
from hybrid.nnet.transformer import TransformerLm

MOST = 100_000  # arcs of one lattice: a state costs a pass of the model, some tenths of a millisecond
HISTORY = 4

History = Tuple[int, ...]


class NeuralRescorer:
    """model: an LstmLm or a causal TransformerLm; tokens: its own; words: {word: its id in the lattices}; first: the
    n-gram model whose costs the lattices hold, None where it stays and the neural cost comes on top; history: the words
    of an n-gram that histories are told apart by, None or 0 for all words (exact)."""

    def __init__(
        self, model: TextModel, tokens: Tokens, words: Mapping[str, int], *, first: Optional[NgramArrays] = None,
        history: Optional[int] = HISTORY, device: str = "cpu",
    ) -> None:  # fmt: skip
        """Raises ConfigError for a model that does not predict from the left, tokens of another, and a history that is
        none."""
        if not isinstance(model, LstmLm) and not (isinstance(model, TransformerLm) and model.causal):
            remedy = "give an LSTM or a causal transformer: train-lm --kind lstm, --kind transformer"
            raise ConfigError(f"a {model.kind} that does not predict words from the left", remedy=remedy)
        if len(tokens) != model.config.num_tokens:
            what = f"{len(tokens)} tokens, the model has {model.config.num_tokens}"
            raise ConfigError(what, remedy="give the model its own tokens")
        if history is not None and history < 0:
            raise ConfigError(f"history is {history}", remedy="words of an n-gram, e.g. 4; 0 for all")
        self.model, self.tokens = model.to(torch.device(device)).eval(), tokens
        self.names = {number: word for word, number in words.items()}
        self.first = None if first is None else ModelTable.of(first, words)
        self.start = max(words.values(), default=0) + 1  # stands for <s> in a history, as in a ModelTable
        self.kept = max(history, first.order if first else 1) - 1 if history else None

    def __call__(
        self, lattice: WordLattice, *, acoustic_scale: float = 1.0, word_penalty: float = 0.0, lm_scale: float = 1.0,
        beam: float = BEAM, most: int = MOST,
    ) -> Rescored:  # fmt: skip
        """Return the lattice with the neural model's costs beside the first's.

        acoustic_scale, word_penalty, lm_scale: at which best paths are the best, and the beam holds. Raises DataError
        for a word of the lattice that is not in `words`, or that the first model lacks.
        """
        return self.rescore_all(
            [lattice], acoustic_scale=acoustic_scale, word_penalty=word_penalty, lm_scale=lm_scale, beam=beam, most=most
        )[0]

    def rescore_all(
        self, lattices: Sequence[WordLattice], *, acoustic_scale: float = 1.0, word_penalty: float = 0.0,
        lm_scale: float = 1.0, beam: float = BEAM, most: int = MOST,
    ) -> List[Rescored]:  # fmt: skip
        """Return what each lattice gives by itself, but for rounding; together they fill batches."""
        for lattice in lattices:
            self._check(lattice)
        results: List[Optional[Rescored]] = [None] * len(lattices)
        left = list(range(len(lattices)))
        while left:
            searches = {
                i: _Search(self, lattices[i], lattices[i].costs(acoustic_scale, word_penalty), lm_scale, beam, most)
                for i in left
            }
            with torch.no_grad():
                self._run(list(searches.values()))
            for i, search in searches.items():
                if search.fits:
                    results[i] = search.result()
            left = [i for i, search in searches.items() if not search.fits]
            beam /= 2.0
        return [result for result in results if result is not None]

    def _check(self, lattice: WordLattice) -> None:
        missing = [word for word in np.unique(lattice.word).tolist() if word and word not in self.names]
        if missing:
            raise DataError(
                f"the word {missing[0]} of the lattice is not in the table of words",
                remedy="give the words.txt of the graph that the lattice was made with",
            )
        if self.first is not None:
            check_first(self.first, lattice, self.names)

    def _run(self, searches: List[_Search]) -> None:
        prefixes = Prefixes(self.model)
        for level in range(max(len(search.nodes_at) for search in searches)):
            jobs = [(search, step) for search in searches for step in search.take(level)]
            if not jobs:
                continue
            strings = [self._string(search, step) for search, step in jobs]
            behind = np.array([step.behind for _, step in jobs], np.int64).reshape(-1, 2)
            costs = self._score(prefixes, behind, strings)
            for (search, step), cost, after in zip(jobs, costs.tolist(), behind.tolist(), strict=True):
                search.follow(step, cost, (after[0], after[1]))
            places: Dict[int, int] = {}  # of the rows that states to be taken begin with: all others are let go of
            for search in searches:
                search.behind = {
                    state: (places.setdefault(row, len(places)), token) for state, (row, token) in search.behind.items()
                }
            prefixes.keep(list(places))

    def _string(self, search: _Search, step: _Step) -> List[int]:
        """Return the tokens that an arc stands for."""
        word = int(search.lattice.word[step.arc])
        tokens = self.tokens.of_word(self.names[word]) if word else []
        return [*tokens, END] if search.ends(step.arc) else tokens

    def _score(self, prefixes: Prefixes, behind: np.ndarray, strings: Sequence[Sequence[int]]) -> np.ndarray:
        """Return -log p of each string of tokens, float64 [N]; behind [N, 2]: the row of `prefixes` and the token read
        after it that stand before the string, and then those that stand before what follows it."""
        costs = np.zeros(len(strings))
        lengths = np.array([len(string) for string in strings])
        for place in range(lengths.max(initial=0)):
            active = np.flatnonzero(lengths > place)
            wanted = np.array([strings[i][place] for i in active.tolist()], np.int64)
            pairs, which = np.unique(behind[active, 0] * len(self.tokens) + behind[active, 1], return_inverse=True)
            begin, logp = prefixes.extend(pairs // len(self.tokens), pairs % len(self.tokens), which, wanted)
            costs[active] += self.tokens.cost(wanted) - logp
            behind[active, 0], behind[active, 1] = begin + which, wanted
        return costs


class _Step(NamedTuple):
    """An arc to follow from a state: its number, the state's, its history, and what the model has read behind it: a row
    of Prefixes, and the token after it."""

    arc: int
    state: int
    history: History
    behind: Tuple[int, int]


class _Search:
    """The states and arcs of one lattice, as far as they are known; `fits` is False once there are too many arcs."""

    def __init__(
        self, rescorer: NeuralRescorer, lattice: WordLattice, costs: np.ndarray, lm_scale: float, beam: float, most: int
    ) -> None:
        self.rescorer, self.lattice, self.lm_scale, self.beam, self.most = rescorer, lattice, lm_scale, beam, most
        self.costs, self.fits = costs, True
        self.ahead = paths.costs_ahead(lattice.source, lattice.target, costs, lattice.final)
        self.begin = np.searchsorted(lattice.source, np.arange(len(lattice.frame) + 1))
        self.nodes_at = _levels(lattice)
        self.node, self.cost = array("i", [0]), array("d", [0.0])
        self.states: Dict[int, Dict[History, int]] = {0: {self._cut((rescorer.start,)): 0}}  # those to be taken
        self.behind: Dict[int, Tuple[int, int]] = {0: (0, START)}  # of each of them
        self.arcs, self.source, self.target = array("i"), array("i"), array("i")
        self.difference = array("d")

    def take(self, level: int) -> List[_Step]:
        """Return the arcs behind the states of a level that are within the beam."""
        steps: List[_Step] = []
        if not self.fits or level >= len(self.nodes_at) - 1:  # the last level is the end
            return steps
        lowest: Dict[int, float] = defaultdict(lambda: np.inf)
        for node, states in self.states.items():
            frame = int(self.lattice.frame[node])
            lowest[frame] = min(lowest[frame], min(map(self.cost.__getitem__, states.values())) + self.ahead[node])
        for node in self.nodes_at[level]:
            most = lowest[int(self.lattice.frame[node])] + self.beam - self.ahead[node]
            for history, state in self.states.pop(node, {}).items():
                behind = self.behind.pop(state)
                if self.cost[state] <= most:
                    steps += [
                        _Step(arc, state, history, behind) for arc in range(self.begin[node], self.begin[node + 1])
                    ]
        if len(self.arcs) + len(steps) > self.most:
            self.fits = False
            self.states.clear()
            self.behind.clear()
            return []
        return steps

    def ends(self, arc: int) -> bool:
        return int(self.lattice.target[arc]) == len(self.lattice.frame) - 1

    def follow(self, step: _Step, cost: float, behind: Tuple[int, int]) -> None:
        """Add an arc of a neural cost, and the state that it leads to."""
        word, reached = int(self.lattice.word[step.arc]), int(self.lattice.target[step.arc])
        history, ends = step.history, self.ends(step.arc)
        if word:
            cost = self._without_first(history, word, cost)
            history = self._cut((*history, word))
        if ends:
            cost = self._without_first(history, None, cost)
            history = ()
        total = self.cost[step.state] + self.costs[step.arc] + self.lm_scale * cost
        states = self.states.setdefault(reached, {})
        state = states.setdefault(history, len(self.node))
        if state == len(self.node):
            self.node.append(reached)
            self.cost.append(np.inf)
        if total < self.cost[state]:
            self.cost[state] = total
            if not ends:
                self.behind[state] = behind
        self.arcs.append(step.arc)
        self.source.append(step.state)
        self.target.append(state)
        self.difference.append(cost)

    def _cut(self, history: History) -> History:
        kept = self.rescorer.kept
        return history if kept is None else history[max(len(history) - kept, 0) :]

    def _without_first(self, history: History, word: Optional[int], cost: float) -> float:
        """Take off what the first model's cost of a word is, None for </s>; nothing where it has none."""
        first = self.rescorer.first
        if first is None:
            return cost
        *model, end = first.arrays
        row, work = np.array(history, np.int32), np.empty(len(history) + 1, np.int32)
        number = end if word is None else first.number[word]
        before = ngram_cost(row, len(row), first.number, *model, number, work)
        return cost - before if before < np.inf else cost

    def result(self) -> Rescored:
        arc, source, target, node = (np.array(x, np.int32) for x in (self.arcs, self.source, self.target, self.node))
        return rescored(self.lattice, arc, source, target, np.array(self.difference), node, self.beam)


def _levels(lattice: WordLattice) -> List[List[int]]:
    """Return the nodes of each level: of those to which the longest way has so many arcs."""
    level = [0] * len(lattice.frame)
    for source, target in zip(lattice.source.tolist(), lattice.target.tolist(), strict=True):
        level[target] = max(level[target], level[source] + 1)
    nodes: List[List[int]] = [[] for _ in range(max(level, default=0) + 1)]
    for node, number in enumerate(level):
        nodes[number].append(node)
    return nodes
