"""Mixtures of diagonal Gaussians for all pdfs at once, in flat arrays.

The Gaussians of pdf j are the rows offsets[j] .. offsets[j + 1] of `means` and `variances`. With a Gaussian
m of weight w, mean mu and variance v (vectors over D dimensions),

    log w + log N(x; mu, v) = c_m + sum_d x_d (mu_d / v_d) + sum_d x_d^2 (-1 / (2 v_d)),
    c_m = log w - (D log 2 pi + sum_d log v_d + sum_d mu_d^2 / v_d) / 2,

so that all Gaussians on all frames are one matrix product of [G, 2D] with the stacked [x; x^2] of [2D, T]
(Kaldi's DiagGmm keeps the same three terms: gconsts, means_invvars, inv_vars).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Tuple

import numpy as np

from hybrid.errors import ModelError
from hybrid.gmm.log_sums import log_sums


def with_squares(features: np.ndarray) -> np.ndarray:
    """Returns x and x^2 side by side, float32 [T, 2 D], of features [T, D]."""
    x = np.asarray(features, np.float32)
    return np.concatenate([x, x * x], axis=1)


@dataclass
class DiagGmms:
    """weights [G] (sum to one in each pdf), means [G, D], variances [G, D] float64, offsets [num_pdfs + 1] int64."""

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray
    offsets: np.ndarray

    def __post_init__(self) -> None:
        remedy = "run the stage that trains it again"
        if not len(self.weights) or self.offsets[-1] != len(self.weights) or np.any(np.diff(self.offsets) < 1):
            raise ModelError("a mixture without a Gaussian", remedy=remedy)
        if self.means.ndim != 2 or not len(self.weights) == len(self.means) or self.means.shape != self.variances.shape:
            shapes = [list(a.shape) for a in (self.weights, self.means, self.variances)]
            raise ModelError(f"weights, means and variances of the shapes {shapes}", remedy=remedy)
        if not (self.weights.min() > 0 and self.variances.min() > 0 and np.isfinite(self.means).all()):
            raise ModelError("weights or variances that are not above 0, or means that are not finite", remedy=remedy)
        dim = self.means.shape[1]
        inverse = 1.0 / self.variances
        self._const = (
            np.log(self.weights)
            - 0.5 * (dim * np.log(2 * np.pi) + np.log(self.variances).sum(1) + (self.means**2 * inverse).sum(1))
        ).astype(np.float32)
        self._linear = np.concatenate([self.means * inverse, -0.5 * inverse], axis=1).astype(np.float32)

    @property
    def num_pdfs(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_gaussians(self) -> int:
        return len(self.weights)

    @property
    def dim(self) -> int:
        return self.means.shape[1]

    @property
    def terms(self) -> Tuple[np.ndarray, np.ndarray]:
        """The matrix that multiplies [x; x^2], float32 [G, 2 D], and c_m [G]."""
        return self._linear, self._const

    def rows(self, pdfs: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """Returns the Gaussians of some pdfs, and where each pdf's begin in that list ([n] and [n + 1])."""
        sizes = self.offsets[pdfs + 1] - self.offsets[pdfs]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        rows = np.arange(starts[-1]) - np.repeat(starts[:-1] - self.offsets[pdfs], sizes)
        return rows, starts

    def gaussian_loglikes(self, features: np.ndarray, rows: Optional[np.ndarray] = None) -> np.ndarray:
        """Returns the log-likelihoods [G, T] float32 of features [T, D], the weight of each Gaussian included."""
        linear, const = (self._linear, self._const) if rows is None else (self._linear[rows], self._const[rows])
        scores = linear @ with_squares(features).T
        scores += const[:, None]
        return scores

    def posteriors(self, both: np.ndarray, rows: slice) -> Tuple[np.ndarray, np.ndarray]:
        """Returns (posteriors [M, T], log-likelihoods [T]) of the Gaussians of one pdf.

        both: [T, 2 D], as of `with_squares`.
        """
        scores = self._linear[rows] @ both.T
        scores += self._const[rows, None]
        best = scores.max(0)
        scores -= best
        np.exp(scores, out=scores)
        total = scores.sum(0)
        scores /= total
        return scores, best + np.log(total)

    def loglikes(self, features: np.ndarray, pdfs: Optional[np.ndarray] = None) -> np.ndarray:
        """Returns the log-likelihoods of features [T, D]: [num_pdfs, T] float32, natural log.

        pdfs: the rows of these only.
        """
        rows, starts = (None, self.offsets) if pdfs is None else self.rows(pdfs)
        return log_sums(self.gaussian_loglikes(features, rows), np.asarray(starts, np.int64))

    def tensors(self) -> Dict[str, np.ndarray]:
        return {
            "gmm.weights": self.weights,
            "gmm.means": self.means,
            "gmm.variances": self.variances,
            "gmm.offsets": self.offsets,
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> DiagGmms:
        """Makes the mixtures of arrays as `tensors` names them. Raises ModelError where an array is missing."""
        try:
            return cls(*(tensors[f"gmm.{name}"] for name in ("weights", "means", "variances", "offsets")))
        except KeyError as error:
            raise ModelError(f"no {error} among the tensors", remedy="run the stage that writes them again") from error

    @classmethod
    def single(cls, means: np.ndarray, variances: np.ndarray) -> DiagGmms:
        """Makes mixtures of one Gaussian a pdf: means and variances [num_pdfs, D]."""
        count = len(means)
        return cls(
            np.ones(count), means.astype(np.float64), variances.astype(np.float64), np.arange(count + 1, dtype=np.int64)
        )
