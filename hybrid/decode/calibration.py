"""From scores of recognised words to probabilities that they are right, learnt on the development set.

A word's posterior in the lattice is too sure of itself: the lattice knows no words but those of the graph, and frames
are taken for independent. What it is worth is learnt: with features f of a word (`FEATURES`),

    conf = 1 / (1 + exp(-(b + w . f)))

is the logistic regression that maximises the log probability of what was right and wrong on the development set, less
PRIOR / 2 |w - w0|^2: where there are few words or hardly an error, the weights stay where they usually are, w0, and the
bias still follows the share of errors. It is found by Newton's method (the second derivative is never positive, so
there is one maximum). A feature whose weight would have the other sign is left out: a word that the lattice is surer
of may not be the less probable. How well conf tells probabilities is shown by the calibration error (Naeini et al.,
AAAI 2015),

    ECE = sum over bins of (words in it / all words) |share right - mean conf|.

It cannot be 0: were confidences true probabilities, the share of right words of a bin of n words and mean confidence c
would still stray from c, normally with the variance c (1 - c) / n about; the mean of what it strays by is sqrt(2 / pi)
of its deviation, and so by chance

    ECE ~ sqrt(2 / pi) / (all words) * sum over bins of sqrt(n c (1 - c)),

some 4 % of 600 words half of which are wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np
from numpy.typing import ArrayLike

from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import PathLike, read_json, write_json

CALIBRATION = "calibration.json"  # in EXP/decode/SYSTEM/CONDITION
FEATURES = ("posterior", "deficit", "frames")
USUAL = np.array([0.5, -0.5, 0.3])
PRIOR = 2.0  # as much as so many words that the features say nothing of
BINS = 10


@dataclass(frozen=True)
class Calibration:
    """bias, weights [3]: of the logistic regression; words, wrong: that it was learnt from; reject: utterances of which
    a word is less sure are rejected (`threshold_at`)."""

    bias: float
    weights: Tuple[float, ...]
    words: int = 0
    wrong: int = 0
    reject: float = 0.0

    def conf(self, features: ArrayLike) -> np.ndarray:
        """Return the probability that each word is right, [n], of features [n, 3]."""
        return _logistic(self.bias + np.asarray(features, np.float64).reshape(-1, len(FEATURES)) @ self.weights)

    @staticmethod
    def fit(features: np.ndarray, right: np.ndarray) -> Calibration:
        """Learn from features [n, 3] of words, of which `right` [n] says which are right."""
        x = np.column_stack([np.ones(len(right)), np.asarray(features, np.float64).reshape(-1, len(FEATURES))])
        y = np.asarray(right, np.float64)
        used = np.ones(x.shape[1], bool)
        while True:
            weights = np.zeros(x.shape[1])
            weights[used] = _maximum(x[:, used], y, np.concatenate([[0.0], USUAL])[used])
            turned = np.concatenate([[False], weights[1:] * USUAL < 0])
            if not turned.any():
                break
            used &= ~turned
        return Calibration(float(weights[0]), tuple(weights[1:].tolist()), len(y), int(len(y) - y.sum()))

    def save(self, path: PathLike) -> None:
        write_json(path, {
            "bias": self.bias, "weights": dict(zip(FEATURES, self.weights, strict=True)), "words": self.words,
            "wrong": self.wrong, "reject": self.reject,
        })  # fmt: skip

    @staticmethod
    def load(path: PathLike) -> Calibration:
        """Read what `save` wrote. Raises ModelError."""
        row: Mapping[str, Any] = read_json(path)
        try:
            weights = tuple(float(row["weights"][name]) for name in FEATURES)
            one = Calibration(
                float(row["bias"]), weights, int(row["words"]), int(row["wrong"]), float(row.get("reject", 0.0))
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"no calibration: {error!r}", file=path, remedy="run the decode stage again") from None
        if not np.isfinite([one.bias, *one.weights, one.reject]).all():
            raise ModelError("a calibration that is not finite", file=path, remedy="run the decode stage again")
        return one


def threshold_at(conf: np.ndarray, right: np.ndarray, false_accepts: float) -> float:
    """Return the least confidence to ask for so that at most this share of what is wrong is accepted; 0 where even all
    of it may be.

    conf, right [n]: of utterances. Raises ConfigError for a share that is none, DataError where too few are wrong to
    tell it.
    """
    if not 0.0 <= false_accepts <= 1.0:
        raise ConfigError(f"a share of {false_accepts} false accepts", remedy="give one between 0 and 1, such as 0.05")
    wrong = np.sort(np.asarray(conf, np.float64)[~np.asarray(right, bool)])[::-1]
    allowed = int(np.floor(false_accepts * len(wrong)))
    if allowed >= len(wrong) > 0:
        return 0.0
    if len(wrong) < 10:
        raise DataError(
            f"{len(wrong)} utterances that should be rejected: no rate of false accepts can be told from them",
            remedy="give speech with more of what is not in the grammar",
        )
    return float(np.nextafter(wrong[allowed], 2.0))


class Bin(NamedTuple):
    """Words whose confidence lies between two bounds. conf, right: the mean, and the share that was right."""

    low: float
    high: float
    words: int
    conf: float
    right: float


def reliability(conf: np.ndarray, right: np.ndarray, bins: int = BINS) -> List[Bin]:
    """Return how right the words of each range of confidences are; ranges without a word are left out."""
    conf, right = np.asarray(conf, np.float64), np.asarray(right, np.float64)
    place = np.minimum((conf * bins).astype(int), bins - 1)
    return [
        Bin(k / bins, (k + 1) / bins, int(inside.sum()), float(conf[inside].mean()), float(right[inside].mean()))
        for k in range(bins)
        if (inside := place == k).any()
    ]


def calibration_error(conf: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Return the expected calibration error, 0 to 1; 0 of no word."""
    return error_of(reliability(conf, right, bins))


def error_of(rows: Sequence[Bin]) -> float:
    """Return the expected calibration error of words in bins."""
    return sum(row.words * abs(row.right - row.conf) for row in rows) / max(sum(row.words for row in rows), 1)


def by_chance(rows: Sequence[Bin]) -> float:
    """Return what the expected calibration error of as many words would be if their confidences were probabilities."""
    spread = sum(math.sqrt(row.words * row.conf * (1 - row.conf)) for row in rows)
    return math.sqrt(2 / math.pi) * spread / max(sum(row.words for row in rows), 1)


def normalised_cross_entropy(conf: np.ndarray, right: np.ndarray) -> float:
    """Return NIST's normalised cross-entropy: 1 of a confidence that knows, 0 of one that says the share of right words
    of every word, below 0 of one that misleads; NaN where all words are right or all wrong."""
    conf, right = np.clip(np.asarray(conf, np.float64), 1e-7, 1 - 1e-7), np.asarray(right, bool)
    share = right.mean() if len(right) else 0.0
    if not 0.0 < share < 1.0:
        return float("nan")
    prior = -(right * np.log2(share) + ~right * np.log2(1 - share)).sum()
    said = -(np.log2(conf[right]).sum() + np.log2(1 - conf[~right]).sum())
    return float((prior - said) / prior)


def summary(conf: np.ndarray, right: np.ndarray) -> Dict[str, Any]:
    """Return the figures of a set of words, for results: {"words", "wrong", "ece", "nce", "bins"}."""
    nce = normalised_cross_entropy(conf, right)
    return {
        "words": len(conf), "wrong": int(len(conf) - np.asarray(right, bool).sum()),
        "ece": round(calibration_error(conf, right), 4), "nce": None if np.isnan(nce) else round(nce, 4),
        "bins": [row._asdict() for row in reliability(conf, right)],
    }  # fmt: skip


def _maximum(x: np.ndarray, y: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The weights of the best regression of y on x, whose first column is the bias, which nothing pulls."""
    pull = np.full(len(start), PRIOR)
    pull[0] = 1e-3
    weights = start.copy()

    def loss(values: np.ndarray) -> float:
        return float(np.logaddexp(0.0, (1 - 2 * y) * (x @ values)).sum() + 0.5 * (pull * (values - start) ** 2).sum())

    for _ in range(100):
        p = _logistic(x @ weights)
        gradient = x.T @ (p - y) + pull * (weights - start)
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + np.diag(pull), gradient)
        size = 1.0
        while loss(weights - size * step) > loss(weights) and size > 1e-6:
            size /= 2
        weights = weights - size * step
        if np.abs(size * step).max() < 1e-9:
            break
    return weights


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -700, 700)))
