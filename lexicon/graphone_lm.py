"""An n-gram model over graphones as a trie in arrays, made for one question: how do the graphones that spell
these letters go on from this state?

lm/ngram.py trains the model; its dictionaries of tuples would be slow to search and large on disk. Here each n-gram
is a node, numbered order by order (0 is the empty one), and within an order sorted as numbers are: what continues a
node, its children, is then a range of nodes. Tokens are the graphones in sorted order, then </s> and <s>, so that the
graphones that spell some letters are a range of tokens, and those of them that continue a node a range of its children.

    p(e | h) = P(h e) if the node h e is there, else B(h) p(e | h without its first graphone)

A state is a node with children. Where an n-gram has none, its longest suffix that has some predicts the same, and
takes its place: paths that differ in what no longer matters meet in one state.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np

from hybrid.errors import ModelError
from hybrid.lexicon.graphones import Graphone
from hybrid.lm.model import END, LN10, LOG10_ZERO, START, NgramModel

Arrays = Dict[str, np.ndarray]
# (natural log p, graphone or None for the end, state after it), the most probable first.
Steps = List[Tuple[float, int, int]]

_CACHE = 1 << 18  # steps and rows kept; what is kept changes the speed alone


def token_name(graphone: Graphone) -> str:
    """Return the graphone as a word of lm.ngram: letters, a blank, its phones. Letters and phones hold no blanks."""
    return " ".join((graphone.letters, *graphone.phones)) if graphone.phones else graphone.letters + " "


class GraphoneLm:
    """`graphones` sorted; `arrays`, one row a node: `token` int32 (its last), `logprob` float32 (natural), `suffix`
    int32 (the node without its first token); and for nodes below the highest order `backoff` float32 (natural) and
    `children` int32, one longer than that: children of node k are children[k] to children[k + 1] - 1.

    Raises ModelError where the arrays do not belong together.
    """

    def __init__(self, graphones: Sequence[Graphone], arrays: Mapping[str, np.ndarray]) -> None:
        self.graphones = list(graphones)
        self.arrays = dict(arrays)
        self.end, self.start = len(self.graphones), len(self.graphones) + 1
        _check(self.arrays, self.graphones)
        self._token, self._suffix = self.arrays["token"], self.arrays["suffix"]
        self._logprob = self.arrays["logprob"].astype(np.float64)
        self._backoff = self.arrays["backoff"].astype(np.float64)
        self._children = self.arrays["children"]
        self._state = self._states()
        self.first_state = int(self._state[1 + self.start])
        # letters -> the range of the tokens that spell them; "" is the end
        self._ranges: Dict[str, Tuple[int, int]] = {"": (self.end, self.end + 1)}
        for number, graphone in enumerate(self.graphones):
            begin, _ = self._ranges.get(graphone.letters, (number, number))
            self._ranges[graphone.letters] = (begin, number + 1)
        self._steps: Dict[Tuple[int, str, float], Steps] = {}
        self._rows: Dict[Tuple[int, str], Tuple[np.ndarray, np.ndarray]] = {}

    @classmethod
    def from_ngram(cls, model: NgramModel, graphones: Sequence[Graphone]) -> GraphoneLm:
        """Make the trie of an n-gram model, all of whose words `graphones` are, by `token_name`."""
        graphones = sorted(graphones)
        ids = {token_name(graphone): number for number, graphone in enumerate(graphones)}
        ids |= {END: len(ids), START: len(ids) + 1}
        levels = _Levels(len(ids))
        columns: Dict[str, List[np.ndarray]] = {
            "token": [np.zeros(1)], "logprob": [np.zeros(1)], "suffix": [np.zeros(1)], "backoff": [np.zeros(1)]
        }
        for order, table in enumerate(model.probs, 1):
            ngrams = np.array([[ids[word] for word in ngram] for ngram in table], np.int64).reshape(len(table), order)
            values = np.array([*table.values()])
            values[values <= LOG10_ZERO] = -np.inf
            rank = levels.add(ngrams)
            columns["token"].append(ngrams[rank, -1])
            columns["logprob"].append(LN10 * values[rank])
            columns["suffix"].append(levels.nodes(ngrams[rank, 1:]))
            if order < model.order:
                names = list(table)
                backoffs = model.backoffs[order - 1]
                columns["backoff"].append(LN10 * np.array([backoffs.get(names[index], 0.0) for index in rank]))
        arrays = {
            "token": np.concatenate(columns["token"]).astype(np.int32),
            "logprob": np.concatenate(columns["logprob"]).astype(np.float32),
            "suffix": np.concatenate(columns["suffix"]).astype(np.int32),
            "backoff": np.concatenate(columns["backoff"]).astype(np.float32),
            "children": levels.children().astype(np.int32),
        }
        return cls(graphones, arrays)

    def spells(self, letters: str) -> bool:
        """Return whether some graphone has these letters."""
        return letters in self._ranges

    def steps(self, state: int, letters: str, beam: float) -> Steps:
        """Return how the graphones that spell `letters` ("": the end) follow `state`, without those whose log p is more
        than `beam` below the best."""
        key = (state, letters, beam)
        steps = self._steps.get(key)
        if steps is None:
            if len(self._steps) >= _CACHE:
                self._steps.clear()
            logs, states = self._row(state, letters)
            order = np.argsort(-logs, kind="stable")
            order = order[logs[order] >= logs[order[0]] - beam]
            begin, _ = self._ranges[letters]
            steps = list(zip(logs[order].tolist(), (begin + order).tolist(), states[order].tolist()))
            self._steps[key] = steps
        return steps

    def _row(self, node: int, letters: str) -> Tuple[np.ndarray, np.ndarray]:
        """log p and next state of each graphone that spells `letters`."""
        key = (node, letters)
        row = self._rows.get(key)
        if row is None:
            low, high = self._ranges[letters]
            if node == 0:
                row = self._logprob[1 + low : 1 + high], self._state[1 + low : 1 + high]
            else:
                logs, states = self._row(int(self._suffix[node]), letters)
                logs = logs + self._backoff[node]
                begin, end = self._children[node], self._children[node + 1]
                first, last = begin + np.searchsorted(self._token[begin:end], (low, high))
                if first < last:
                    places = self._token[first:last] - low
                    states = states.copy()
                    logs[places], states[places] = self._logprob[first:last], self._state[first:last]
                row = logs, states
            if len(self._rows) >= _CACHE:
                self._rows.clear()
            self._rows[key] = row
        return row

    def _states(self) -> np.ndarray:
        """Of each node: itself where it has children, else the longest suffix that has."""
        states = np.arange(len(self._token))
        while True:
            inside = np.minimum(states, len(self._children) - 2)
            leaf = (states > inside) | (self._children[inside + 1] == self._children[inside])
            leaf &= states > 0
            if not leaf.any():
                return states
            states[leaf] = self._suffix[states[leaf]]


class _Levels:
    """Numbers n-grams of tokens below `size`, order by order, each order sorted."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._keys: List[np.ndarray] = []  # of each order: (place of the n-gram less its last token) * size + token
        self._offsets = [0, 1]  # the node of each order's first n-gram

    def _places(self, ngrams: np.ndarray) -> np.ndarray:
        place = np.zeros(len(ngrams), np.int64)
        for column, keys in zip(ngrams.T, self._keys):
            place = np.searchsorted(keys, place * self._size + column)
        return place

    def nodes(self, ngrams: np.ndarray) -> np.ndarray:
        """Return the node numbers [n] of the n-grams, all of one order and added before."""
        return self._offsets[ngrams.shape[1]] + self._places(ngrams)

    def add(self, ngrams: np.ndarray) -> np.ndarray:
        """Add the next order's n-grams, in any order; returns the indices that sort them."""
        keys = self._places(ngrams[:, :-1]) * self._size + ngrams[:, -1]
        rank = np.argsort(keys)
        self._keys.append(keys[rank])
        self._offsets.append(self._offsets[-1] + len(keys))
        return rank

    def children(self) -> np.ndarray:
        """Return where the children of each node below the highest order begin, and where the last one's end."""
        begins = []
        for order, keys in enumerate(self._keys):
            parents = self._offsets[order + 1] - self._offsets[order]
            begins.append(self._offsets[order + 1] + np.searchsorted(keys, np.arange(parents) * self._size))
        return np.concatenate([*begins, [self._offsets[-1]]])


def _check(arrays: Mapping[str, np.ndarray], graphones: Sequence[Graphone]) -> None:
    """Raises ModelError: a damaged model must not become a search that reads past its arrays or never ends."""
    remedy = "train it again"
    kinds = {"token": "i", "logprob": "f", "suffix": "i", "backoff": "f", "children": "i"}
    if set(arrays) != set(kinds) or any(arrays[name].dtype.kind != kind for name, kind in kinds.items()):
        raise ModelError(f"not a graphone model: it holds {sorted(arrays)}", remedy=remedy)
    token, suffix, children = arrays["token"], arrays["suffix"], arrays["children"]
    nodes, inner = len(token), len(children) - 1
    size = len(graphones) + 2
    fits = (
        graphones == sorted(set(graphones))
        and 1 <= inner <= nodes
        and {len(arrays["logprob"]), len(suffix)} == {nodes}
        and len(arrays["backoff"]) == inner
        and nodes > size
        and np.array_equal(token[1 : size + 1], np.arange(size))
        and bool(((token >= 0) & (token < size)).all())
        and bool((suffix[1:] < np.arange(1, nodes)).all() and (suffix >= 0).all())
        and (children[0], children[-1]) == (1, nodes)
        and bool((np.diff(children) >= 0).all())
        and not np.isnan(arrays["logprob"]).any()
        and not np.isnan(arrays["backoff"]).any()
    )
    if not fits:
        raise ModelError("the arrays of the graphone model do not belong together", remedy=remedy)
