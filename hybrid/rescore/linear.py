"""A linear rescorer over words and pairs of neighbouring words, trained to make few word errors.

    s(h) = first(h) w_0 + theta . f(h)       f: how often each word and each bigram, <s> and </s> included, is in h

    loss = sum over lists of  sum_i P_i (e_i - mean e)   +  (l2 / 2) |theta|^2,     P = softmax(s)

The first term is the expected number of errors above the list's mean (MWER, as of RescoreBERT), and

    d loss / d s_j = P_j (e_j - sum_i P_i e_i)

which the features hand on to theta and w_0. L-BFGS over all lists at once; the loss is not convex, and it begins at
theta = 0 with the first pass alone. A discriminative n-gram model in the sense of Roark et al. (2007), by another loss.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Sequence, Tuple

import numpy as np
import scipy.optimize
import scipy.sparse

from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import PathLike, atomic_folder, load_tensors, read_json, save_tensors, write_json
from hybrid.lm.text import END, START
from hybrid.rescore.nbest import NbestList

_KIND = "linear rescorer"


def features_of(words: Sequence[str]) -> Iterator[str]:
    """Yield the names of a sentence's features: its words, and its bigrams as `a b`."""
    yield from words
    row = [START, *words, END]
    for before, after in zip(row, row[1:]):
        yield f"{before} {after}"


class LinearRescorer:
    """theta: float64 [F] of the features of `names`; first_weight: w_0 above. score(sentences) gives theta . f."""

    def __init__(self, names: Sequence[str], theta: np.ndarray, first_weight: float) -> None:
        self.theta = theta
        self.first_weight = first_weight
        self.places: Dict[str, int] = {name: place for place, name in enumerate(names)}

    def score(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        """Return theta . f of each sentence, float64 [n]."""
        return np.array([self._score(words) for words in sentences])

    def _score(self, words: Sequence[str]) -> float:
        places = (self.places.get(name) for name in features_of(words))
        return float(sum(self.theta[place] for place in places if place is not None))

    def save(self, folder: PathLike) -> None:
        """Write the folder beside its place and rename it."""
        with atomic_folder(folder) as temporary:
            save_tensors(temporary / "theta.safetensors", {"theta": self.theta})
            about = {"kind": _KIND, "first_weight": self.first_weight, "features": list(self.places)}
            write_json(temporary / "config.json", about)

    @classmethod
    def load(cls, folder: PathLike) -> LinearRescorer:
        """Read what `save` wrote. Raises DataError for a missing file, ModelError for one that is something else."""
        folder = Path(folder)
        about = read_json(folder / "config.json")
        theta = load_tensors(folder / "theta.safetensors").get("theta")
        names = about.get("features") if isinstance(about, dict) and about.get("kind") == _KIND else None
        fits = isinstance(names, list) and theta is not None and theta.shape == (len(names),)
        if not fits or not np.isfinite(theta).all() or not isinstance(about.get("first_weight"), (int, float)):  # type: ignore[arg-type]
            raise ModelError("not a linear rescorer", file=folder, remedy="train it again")
        return cls(names, theta.astype(np.float64), float(about["first_weight"]))  # type: ignore[union-attr,arg-type]


def train_linear(
    lists: Iterable[NbestList], *, l2: float = 0.1, least: int = 2, most_steps: int = 200
) -> LinearRescorer:
    """Train on lists with references; features that stand in fewer than `least` lists are left out.

    What all hypotheses of a list have in common says nothing, and counts nowhere. Raises DataError where no list has
    two hypotheses or one has no reference, ConfigError for settings out of range.
    """
    if not (l2 >= 0 and least >= 1 and most_steps >= 1):
        raise ConfigError(f"l2 {l2}, least {least}, {most_steps} steps", remedy="0 or more, and 1 or more")
    objective = _Objective([item for item in lists if len(item.hypotheses) > 1], l2, least)
    begin = np.zeros(1 + len(objective.names))
    begin[0] = 1.0
    found = scipy.optimize.minimize(objective, begin, jac=True, method="L-BFGS-B", options={"maxiter": most_steps})
    return LinearRescorer(objective.names, found.x[1:], float(found.x[0]))


class _Objective:
    """(w_0, theta) float64 [1 + F] -> (loss, its gradient)."""

    def __init__(self, lists: Sequence[NbestList], l2: float, least: int) -> None:
        if not lists:
            raise DataError("no list has two hypotheses: nothing to learn", remedy="give lists of several hypotheses")
        counts = [[Counter(features_of(words)) for words in item.hypotheses] for item in lists]
        occurs = Counter(name for of_list in counts for name in _differing(of_list))
        self.names = sorted(name for name, count in occurs.items() if count >= least)
        places = {name: place for place, name in enumerate(self.names)}
        entries: List[Tuple[int, int, int]] = []
        row = 0
        for of_list in counts:
            for of_hypothesis in of_list:
                entries += [(row, places[name], n) for name, n in of_hypothesis.items() if name in places]
                row += 1
        rows, columns, values = np.array(entries).reshape(-1, 3).T
        self.features = scipy.sparse.csr_matrix((values.astype(float), (rows, columns)), (row, len(self.names)))
        self.first = np.concatenate([item.scores for item in lists])
        sizes = [len(item.hypotheses) for item in lists]
        self.starts = np.cumsum([0, *sizes[:-1]])
        self.owner = np.repeat(np.arange(len(lists)), sizes)
        errors = np.concatenate([item.errors() for item in lists]).astype(float)
        self.errors = errors - (np.add.reduceat(errors, self.starts) / sizes)[self.owner]
        self.l2 = l2

    def __call__(self, parameters: np.ndarray) -> Tuple[float, np.ndarray]:
        theta = parameters[1:]
        scores = parameters[0] * self.first + self.features @ theta
        scores = scores - np.maximum.reduceat(scores, self.starts)[self.owner]
        weights = np.exp(scores)
        weights /= np.add.reduceat(weights, self.starts)[self.owner]
        expected = np.add.reduceat(weights * self.errors, self.starts)
        slope = weights * (self.errors - expected[self.owner])
        gradient = np.concatenate([[slope @ self.first], self.features.T @ slope + self.l2 * theta])
        return float(expected.sum() + 0.5 * self.l2 * theta @ theta), gradient


def _differing(of_list: Sequence[Counter]) -> List[str]:
    """Return the features that not all hypotheses of a list have equally often."""
    names = {name for of_hypothesis in of_list for name in of_hypothesis}
    return [name for name in names if len({of_hypothesis[name] for of_hypothesis in of_list}) > 1]
