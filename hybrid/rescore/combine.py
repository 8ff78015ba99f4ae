"""Several scores of n-best lists put together: tuned on some lists, applied to others, in memory that does not grow.

The file of weights is JSON:

    {"format": 1, "scorers": ["ngram:lm.arpa", ...], "first": 1.0, "words": 0.3, "weights": [0.12, ...],
     "spelling": ""}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Iterator, List, Sequence, Tuple

import numpy as np

from hybrid.errors import ConfigError, DataError
from hybrid.io import PathLike, read_json, write_json
from hybrid.rescore.line_search import total_scores
from hybrid.rescore.nbest import NbestList
from hybrid.rescore.scorers import AnyScorer, Part
from hybrid.rescore.weights import ScoredList, tune

FORMAT = 1
_HELD = 4096  # hypotheses that are scored together


@dataclass(frozen=True)
class Combination:
    """total = first * (first pass) + words * (number of words) + sum_k weights[k] * (scorers[k]); the highest wins.

    spelling: of the lists that it was tuned on, as the command line took it.
    """

    scorers: Tuple[str, ...]
    first: float
    words: float
    weights: Tuple[float, ...]
    spelling: str = ""

    def __post_init__(self) -> None:
        """Raises ConfigError for weights that are no finite numbers, or of another number than the scorers."""
        values = (self.first, self.words, *self.weights)
        good = all(isinstance(v, (int, float)) and not isinstance(v, bool) and np.isfinite(v) for v in values)
        if not good or len(self.weights) != len(self.scorers):
            raise ConfigError(
                f"weights {list(values)} for {len(self.scorers)} scorers", remedy="make them with hybrid rescore tune"
            )

    def totals(self, scores: np.ndarray) -> np.ndarray:
        """Return the total of each hypothesis, float64 [n], of its columns [n, 2 + K]."""
        return total_scores(scores, np.array([self.first, self.words, *self.weights], dtype=np.float64))

    def save(self, path: PathLike) -> None:
        about = {"format": FORMAT, "scorers": list(self.scorers), "first": self.first, "words": self.words}
        write_json(path, {**about, "weights": list(self.weights), "spelling": self.spelling})

    @classmethod
    def load(cls, path: PathLike) -> Combination:
        """Read what `save` wrote. Raises DataError for something else."""
        about = read_json(path)
        try:
            spelling = about.get("spelling", "")
            texts = [*about["scorers"], spelling]
            if about["format"] != FORMAT or not all(isinstance(text, str) for text in texts):
                raise TypeError("another format")
            return cls(tuple(about["scorers"]), about["first"], about["words"], tuple(about["weights"]), spelling)
        except (AttributeError, KeyError, TypeError, ConfigError) as error:
            remedy = "make it with hybrid rescore tune"
            raise DataError(f"not the weights of a second pass: {error}", file=path, remedy=remedy) from None


def columns(lists: Sequence[NbestList], scorers: Sequence[AnyScorer]) -> List[np.ndarray]:
    """Return for each list float64 [n, 2 + K]: the first pass's score, the number of words, the scorers' scores.

    Raises DataError for a list without a part of scores that is asked for.
    """
    hypotheses = hypotheses_of(lists)
    return joined(lists, [s.of_lists(lists) if isinstance(s, Part) else s.score(hypotheses) for s in scorers])


def hypotheses_of(lists: Iterable[NbestList]) -> List[Sequence[str]]:
    return [words for item in lists for words in item.hypotheses]


def joined(lists: Sequence[NbestList], scores: Sequence[np.ndarray]) -> List[np.ndarray]:
    """Return what `columns` does, of scores of all lists' hypotheses in their order, float64 [N] of each scorer."""
    lengths = np.array([len(words) for words in hypotheses_of(lists)], dtype=np.float64)
    whole = np.stack([np.concatenate([item.scores for item in lists]), lengths, *scores], axis=1)
    return np.split(whole, np.cumsum([len(item.hypotheses) for item in lists])[:-1])


def scored(lists: Iterable[NbestList], scorers: Sequence[AnyScorer]) -> Iterator[Tuple[NbestList, np.ndarray]]:
    """Yield each list with its columns; lists of some thousand hypotheses are held at a time."""
    held: List[NbestList] = []
    count = 0
    for item in lists:
        held.append(item)
        count += len(item.hypotheses)
        if count >= _HELD:
            yield from zip(held, columns(held, scorers), strict=True)
            held, count = [], 0
    if held:
        yield from zip(held, columns(held, scorers), strict=True)


def with_errors(lists: Sequence[NbestList], scores: Sequence[np.ndarray]) -> List[ScoredList]:
    """Return what weights are tuned on, of lists with references and their columns."""
    return [ScoredList(of_item, item.errors()) for item, of_item in zip(lists, scores, strict=True)]


def tune_on(
    lists: Sequence[NbestList], scores: Sequence[np.ndarray], names: Tuple[str, ...], spelling: str = "", seed: int = 0
) -> Combination:
    """Return the weights of the fewest errors on lists with references, of which `columns` gave the scores.

    Raises DataError as NbestList.errors.
    """
    first, words, *weights = tune(with_errors(lists, scores), seed=seed).weights.tolist()
    return Combination(names, first, words, tuple(weights), spelling)
