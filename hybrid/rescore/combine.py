"""Several scores of n-best lists put together: tuned on some lists, applied to others, in memory that does not grow.

The file of weights is JSON:

    {"format": 1, "scorers": ["ngram:lm.arpa", ...], "first": 1.0, "words": 0.3, "weights": [0.12, ...]}
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import Dict, Iterable, Iterator, List, Sequence, Tuple

import numpy as np

from hybrid.errors import ConfigError, DataError
from hybrid.io import PathLike, read_json, write_json
from hybrid.rescore.line_search import total_scores
from hybrid.rescore.nbest import NbestList
from hybrid.rescore.scorers import Scorer
from hybrid.rescore.weights import ScoredList, tune

FORMAT = 1
_CHUNK = 200  # lists that are scored together


@dataclass(frozen=True)
class Combination:
    """total = first * (first pass) + words * (number of words) + sum_k weights[k] * (scorers[k]); the highest wins."""

    scorers: Tuple[str, ...]
    first: float
    words: float
    weights: Tuple[float, ...]

    def __post_init__(self) -> None:
        """Raises ConfigError for weights that are no finite numbers, or of another number than the scorers."""
        values = (self.first, self.words, *self.weights)
        good = all(isinstance(v, (int, float)) and not isinstance(v, bool) and np.isfinite(v) for v in values)
        if not good or len(self.weights) != len(self.scorers):
            raise ConfigError(
                f"weights {list(values)} for {len(self.scorers)} scorers", remedy="make them with hybrid rescore tune"
            )

    @property
    def row(self) -> np.ndarray:
        """The weights of the columns of `columns`, float64 [2 + K]."""
        return np.array([self.first, self.words, *self.weights], dtype=np.float64)

    def save(self, path: PathLike) -> None:
        about = {"format": FORMAT, "scorers": list(self.scorers), "first": self.first, "words": self.words}
        write_json(path, {**about, "weights": list(self.weights)})

    @classmethod
    def load(cls, path: PathLike) -> Combination:
        """Read what `save` wrote. Raises DataError for something else."""
        about = read_json(path)
        try:
            if about["format"] != FORMAT or not all(isinstance(spec, str) for spec in about["scorers"]):
                raise TypeError("another format")
            return cls(tuple(about["scorers"]), about["first"], about["words"], tuple(about["weights"]))
        except (KeyError, TypeError, ConfigError) as error:
            remedy = "make it with hybrid rescore tune"
            raise DataError(f"not the weights of a second pass: {error}", file=path, remedy=remedy) from None


def columns(lists: Sequence[NbestList], scorers: Sequence[Scorer]) -> List[np.ndarray]:
    """Return for each list float64 [n, 2 + K]: the first pass's score, the number of words, the scorers' scores."""
    hypotheses = [words for item in lists for words in item.hypotheses]
    scores = [scorer.score(hypotheses) for scorer in scorers]
    lengths = np.array([len(words) for words in hypotheses], dtype=np.float64)
    whole = np.stack([np.concatenate([item.scores for item in lists]), lengths, *scores], axis=1)
    return np.split(whole, np.cumsum([len(item.hypotheses) for item in lists])[:-1])


def scored(lists: Iterable[NbestList], scorers: Sequence[Scorer]) -> Iterator[Tuple[NbestList, np.ndarray]]:
    """Yield each list with its columns; some hundred lists are held at a time."""
    rest = iter(lists)
    while chunk := list(islice(rest, _CHUNK)):
        yield from zip(chunk, columns(chunk, scorers), strict=True)


def tune_on(lists: Iterable[NbestList], scorers: Dict[str, Scorer], seed: int = 0) -> Combination:
    """Return the weights of the fewest errors on lists with references. Raises DataError as NbestList.errors."""
    found = [
        ScoredList(scores, item.errors())
        for item, scores in scored(lists, list(scorers.values()))
    ]
    first, words, *weights = tune(found, seed=seed).weights.tolist()
    return Combination(tuple(scorers), first, words, tuple(weights))


def apply(
    lists: Iterable[NbestList], scorers: Sequence[Scorer], combination: Combination
) -> Iterator[Tuple[NbestList, NbestList]]:
    """Yield each list as it was, and in the order of its totals, which are its scores then."""
    for item, scores in scored(lists, scorers):
        totals = total_scores(scores, combination.row)
        order = np.argsort(-totals, kind="stable")
        hypotheses = tuple(item.hypotheses[place] for place in order)
        yield item, replace(item, hypotheses=hypotheses, scores=totals[order], ranked=False)
