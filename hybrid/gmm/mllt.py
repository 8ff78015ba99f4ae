"""Maximum likelihood linear transform: the square matrix after which diagonal covariances lose least.

Derivation (Gales 1999, semi-tied covariances with one transform; Kaldi's gmm-acc-mllt and est-mllt). Replace features
x by A x and means mu by A mu, keep the variances v. The part of the EM auxiliary function that depends on A is, with
occupations gamma_tm and beta = sum gamma_tm,

    Q(A) = beta log |det A| - 1/2 sum_i a_i G_i a_i^T,
    G_i = sum_tm gamma_tm (x_t - mu_m)(x_t - mu_m)^T / v_mi,

a_i the rows of A. In row i, det A = a_i . c_i with its cofactors c_i; setting the derivative to zero,

    beta c_i / (a_i . c_i) = G_i a_i,     so     a_i = s G_i^{-1} c_i,     s = sqrt(beta / (c_i^T G_i^{-1} c_i)).

Each row given the others is thus at its best, Q never falls, and some sweeps over the rows reach its top. A scale of
c_i falls out of a_i, so a column of A^{-1} serves as well (rows.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

import numpy as np

from hybrid.gmm.diag import DiagGmms, with_squares
from hybrid.gmm.estimate import by_pdf
from hybrid.gmm.rows import replace_row


@dataclass
class MlltStats:
    """beta: frames; g [D, D, D] float64: G_i as above."""

    beta: float
    g: np.ndarray

    @classmethod
    def zeros(cls, dim: int) -> MlltStats:
        return cls(0.0, np.zeros((dim, dim, dim)))

    @classmethod
    def from_frames(cls, gmms: DiagGmms, features: np.ndarray, pdfs: np.ndarray) -> MlltStats:
        """Returns the statistics of features [T, D] aligned to pdfs [T]."""
        dim = gmms.dim
        stats = cls.zeros(dim)
        order, groups = by_pdf(gmms, pdfs)
        stacked = with_squares(features[order])
        for rows, frames in groups:
            x = stacked[frames, :dim]
            posteriors, _ = gmms.posteriors(stacked[frames], rows)
            scatters = np.empty((len(posteriors), dim * dim))
            for m, mean in enumerate(gmms.means[rows].astype(np.float32)):
                offset = x - mean
                scatters[m] = ((offset * posteriors[m][:, None]).T @ offset).reshape(-1)
            # every G_i weighs the same scatter of a Gaussian by its own 1 / v_mi
            stats.g += ((1.0 / gmms.variances[rows]).T @ scatters).reshape(dim, dim, dim)
        stats.beta = float(len(features))
        return stats

    def __add__(self, other: MlltStats) -> MlltStats:
        return MlltStats(self.beta + other.beta, self.g + other.g)


def objective(stats: MlltStats, matrix: np.ndarray) -> float:
    """Returns Q(A) as above."""
    quadratic = np.einsum("ij,ijk,ik->", matrix, stats.g, matrix)
    return stats.beta * float(np.linalg.slogdet(matrix)[1]) - 0.5 * float(quadratic)


def estimate_mllt(stats: MlltStats, sweeps: int = 200) -> Tuple[np.ndarray, float]:
    """Returns A [D, D] float64, and the gain of Q a frame over no transform.

    A is the identity where there is no data.
    """
    dim = len(stats.g)
    matrix, inverse = np.eye(dim), np.eye(dim)
    if stats.beta < 2 * dim:
        return matrix, 0.0
    solved = np.linalg.inv(stats.g)
    before = objective(stats, matrix)
    last = before
    for _ in range(sweeps):
        for i in range(dim):
            cofactors = inverse[:, i]
            row = solved[i] @ cofactors
            replace_row(matrix, inverse, i, row * np.sqrt(stats.beta / (cofactors @ row)))
        inverse[:] = np.linalg.inv(matrix)  # rounding must not add up over the sweeps
        value = objective(stats, matrix)
        if value - last < 1e-8 * stats.beta:
            break
        last = value
    return matrix, (objective(stats, matrix) - before) / stats.beta
