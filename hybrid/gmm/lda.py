"""Linear discriminant analysis: the projection that tells the pdfs apart best (Kaldi's acc-lda and est-lda).

Derivation. Frames x in R^n carry classes c (the pdfs of an alignment) with counts n_c and means m_c; N = sum n_c, m is
the mean of all. Their covariance falls into two parts,

    S = (1/N) sum_t x_t x_t^T - m m^T = W + B,      B = (1/N) sum_c n_c (m_c - m)(m_c - m)^T.

Wanted are d directions A with A W A^T = I in which A B A^T is largest (its trace, and its determinant likewise). With
W = L L^T, A = U^T L^{-1} has the first property for every orthonormal U, and A B A^T = U^T (L^{-1} B L^{-T}) U is
largest where U holds the d leading eigenvectors. After it the classes are on average round with variance one, which
suits diagonal Gaussians (Haeb-Umbach and Ney 1992; Duda and Hart).

The offset is kept: means take care of it, and the next transforms need not know of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import numpy as np

from hybrid.errors import DataError


@dataclass
class LdaStats:
    """counts [C], sums [C, n], second [n, n] (of all frames), float64."""

    counts: np.ndarray
    sums: np.ndarray
    second: np.ndarray

    @classmethod
    def zeros(cls, classes: int, dim: int) -> LdaStats:
        return cls(np.zeros(classes), np.zeros((classes, dim)), np.zeros((dim, dim)))

    @classmethod
    def from_frames(cls, features: np.ndarray, classes: np.ndarray, number: int) -> LdaStats:
        """Returns the statistics of features [T, n] of classes [T] from 0 to `number` - 1."""
        x = np.asarray(features, np.float64)
        sums = np.zeros((number, x.shape[1]))
        order = np.argsort(classes, kind="stable")
        values = classes[order]
        heads = np.flatnonzero(np.r_[True, np.diff(values) > 0]) if len(values) else np.zeros(0, np.int64)
        if len(heads):
            sums[values[heads]] = np.add.reduceat(x[order], heads, axis=0)
        return cls(np.bincount(classes, minlength=number).astype(np.float64), sums, x.T @ x)

    def __add__(self, other: LdaStats) -> LdaStats:
        return LdaStats(self.counts + other.counts, self.sums + other.sums, self.second + other.second)


def estimate_lda(stats: LdaStats, dim: int) -> Tuple[np.ndarray, np.ndarray]:
    """Returns the projection [dim, n], float64, and the eigenvalues of all n directions, largest first.

    An eigenvalue is the ratio of between-class to within-class variance in its direction. Raises DataError where there
    are fewer directions than asked for, or too few frames to tell.
    """
    total = stats.counts.sum()
    size = len(stats.second)
    if dim > size:
        raise DataError(f"LDA to {dim} dimensions from {size}", remedy="splice more frames or ask for fewer dimensions")
    if total < 2 * size:
        raise DataError(f"LDA of {size} dimensions on {total:.0f} frames", remedy="train on more speech")
    observed = stats.counts > 0
    mean = stats.sums.sum(0) / total
    offsets = stats.sums[observed] / stats.counts[observed, None] - mean
    between = (offsets * stats.counts[observed, None]).T @ offsets / total
    within = stats.second / total - np.outer(mean, mean) - between
    try:
        lower = np.linalg.cholesky((within + within.T) / 2)
        # The share of a dimension's variance that those before it do not explain; rounding may leave a copy some 1e-15.
        if np.min(np.diagonal(lower) ** 2 / np.diagonal(within)) < 1e-10:
            raise np.linalg.LinAlgError("singular")
    except np.linalg.LinAlgError as error:
        raise DataError(
            "features that are constant, or copies of each other: their covariance cannot be inverted",
            remedy="look at the features of a few utterances",
        ) from error
    half = np.linalg.solve(lower, between)  # L^{-1} B
    values, vectors = np.linalg.eigh(np.linalg.solve(lower, half.T))  # L^{-1} B L^{-T}
    order = np.argsort(-values)
    # The sign of an eigenvector is the library's whim: fixed, so that two machines give one transform.
    projection = np.linalg.solve(lower.T, vectors[:, order]).T
    signs = np.sign(projection[np.arange(size), np.argmax(np.abs(projection), axis=1)])
    return (projection * signs[:, None])[:dim], values[order]
