"""Feature-space MLLR: one affine transform for each speaker (constrained MLLR).

Derivation (Gales 1998; Povey and Saon 2006; Kaldi's gmm-est-fmllr, --fmllr-update-type=full). Features y become
W xi = A y + b, xi = [y; 1], W = [A b]; with the Jacobian log |det A| a frame, the auxiliary function is, up to a
constant,

    Q(W) = beta log |det A| + sum_i w_i . k_i - 1/2 sum_i w_i G_i w_i^T,
    beta = sum gamma_tm,    k_i = sum gamma_tm mu_mi / v_mi xi_t,    G_i = sum gamma_tm / v_mi xi_t xi_t^T.

Row i enters the determinant linearly, det A = w_i . p_i with p_i = [cofactors of row i, 0]. Setting the derivative to
zero, w_i = (alpha p_i + k_i) G_i^{-1} where alpha = beta / (w_i . p_i); put in, that is the quadratic

    alpha^2 (p_i G_i^{-1} p_i) + alpha (p_i G_i^{-1} k_i) - beta = 0,

of whose two roots the one with the larger beta log |alpha p G^{-1} p + p G^{-1} k| - 1/2 alpha^2 p G^{-1} p is taken.
If p is replaced by p / f, alpha f takes the place of alpha and the same w_i comes out: a column of A^{-1} serves.

The sums over the Gaussians of a frame's pdf do not depend on the speaker: with a_t = sum_m gamma_tm mu_m / v_m and
b_t = sum_m gamma_tm / v_m, K = sum_t a_t xi_t^T and G_i = sum_t b_ti xi_t xi_t^T are products of matrices.
All speakers of a chunk are solved together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Tuple

import numpy as np

from hybrid.gmm.diag import DiagGmms, with_squares
from hybrid.gmm.estimate import by_pdf
from hybrid.gmm.rows import replace_row

MIN_COUNT = 500.0  # frames, Kaldi's --fmllr-min-count: less than five seconds of speech give no transform
_BLOCK = 4096  # frames whose products xi xi^T are in memory at once


@dataclass
class FmllrStats:
    """beta: frames (weighted); k [D, D + 1], g [D, D + 1, D + 1] float64."""

    beta: float
    k: np.ndarray
    g: np.ndarray

    @classmethod
    def zeros(cls, dim: int) -> FmllrStats:
        return cls(0.0, np.zeros((dim, dim + 1)), np.zeros((dim, dim + 1, dim + 1)))

    def __add__(self, other: FmllrStats) -> FmllrStats:
        return FmllrStats(self.beta + other.beta, self.k + other.k, self.g + other.g)


def frame_terms(
    gmms: DiagGmms,
    features: np.ndarray,
    pdfs: np.ndarray,
    posteriors_from: Optional[Tuple[DiagGmms, np.ndarray]] = None,
) -> Tuple[np.ndarray, np.ndarray]:
    """Returns a [T, D] and b [T, D], float32, of frames aligned to pdfs.

    Posteriors of the Gaussians are those of `features` under `gmms`; or of other features under another model with as
    many Gaussians in each pdf (Kaldi's gmm-post-to-gpost, for a model that was trained on adapted features).
    """
    model, x = posteriors_from or (gmms, features)
    order, groups = by_pdf(model, pdfs)
    stacked = with_squares(x[order])
    a = np.empty((len(pdfs), gmms.dim), np.float32)
    b = np.empty_like(a)
    inverse = (1.0 / gmms.variances).astype(np.float32)
    scaled = (gmms.means / gmms.variances).astype(np.float32)
    for rows, frames in groups:
        posteriors, _ = model.posteriors(stacked[frames], rows)
        a[order[frames]] = posteriors.T @ scaled[rows]
        b[order[frames]] = posteriors.T @ inverse[rows]
    return a, b


def speaker_stats(features: np.ndarray, a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> FmllrStats:
    """Returns the statistics of one speaker.

    features [T, D] with their `frame_terms`, weights [T] (0 leaves a frame out).
    """
    dim = features.shape[1]
    used = weights > 0
    stats = FmllrStats.zeros(dim)
    upper = np.triu_indices(dim + 1)
    packed = np.zeros((dim, len(upper[0])))
    x, a, b, weights = features[used], a[used], b[used], weights[used].astype(np.float32)
    for begin in range(0, len(x), _BLOCK):
        block = slice(begin, begin + _BLOCK)
        xi = np.concatenate([x[block], np.ones((len(x[block]), 1), np.float32)], axis=1)
        w = weights[block, None]
        stats.k += (a[block] * w).T @ xi
        packed += (b[block] * w).T @ (xi[:, upper[0]] * xi[:, upper[1]])
    stats.g[:, upper[0], upper[1]] = packed
    stats.g[:, upper[1], upper[0]] = packed
    stats.beta = float(weights.sum(dtype=np.float64))
    return stats


def objective(stats: FmllrStats, transform: np.ndarray) -> float:
    """Returns Q(W) as above, transform [D, D + 1]."""
    linear = float((transform * stats.k).sum())
    quadratic = float(np.einsum("ij,ijk,ik->", transform, stats.g, transform))
    return stats.beta * float(np.linalg.slogdet(transform[:, :-1])[1]) + linear - 0.5 * quadratic


def identity(dim: int) -> np.ndarray:
    return np.eye(dim, dim + 1)


def estimate_fmllr(
    stats: Iterable[FmllrStats], *, min_count: float = MIN_COUNT, sweeps: int = 40
) -> List[Tuple[np.ndarray, float]]:
    """Returns for each speaker (transform [D, D + 1] float64, gain of Q over the identity).

    The identity and 0 for one with fewer than `min_count` frames.
    """
    speakers = list(stats)
    if not speakers:
        return []
    dim = len(speakers[0].k)
    result = [(identity(dim), 0.0) for _ in speakers]
    enough = [i for i, speaker in enumerate(speakers) if speaker.beta >= max(min_count, 1e-3)]
    if not enough:
        return result
    beta = np.array([speakers[i].beta for i in enough])
    k = np.stack([speakers[i].k for i in enough])
    solved = np.linalg.inv(_conditioned(np.stack([speakers[i].g for i in enough])))
    w = np.tile(identity(dim), (len(enough), 1, 1))
    converged = np.zeros(len(enough), bool)  # these stay as they are: who else is solved for must not matter
    for _ in range(sweeps):
        before = w.copy()
        square, inverse = w[:, :, :dim].copy(), np.linalg.inv(w[:, :, :dim])
        for i in range(dim):
            p = np.concatenate([inverse[:, :, i], np.zeros((len(enough), 1))], axis=1)
            pg = np.einsum("sj,sjk->sk", p, solved[:, i])
            pp, pk = np.einsum("sj,sj->s", pg, p), np.einsum("sj,sj->s", pg, k[:, i])
            root = np.sqrt(pk**2 + 4 * pp * beta)
            alphas = np.stack([(-pk + root) / (2 * pp), (-pk - root) / (2 * pp)])
            values = beta * np.log(np.abs(alphas * pp + pk) + 1e-300) - 0.5 * alphas**2 * pp
            alpha = np.take_along_axis(alphas, np.argmax(values, axis=0)[None], axis=0)[0]
            row = alpha[:, None] * pg + np.einsum("sj,sjk->sk", k[:, i], solved[:, i])
            w[:, i] = row
            replace_row(square, inverse, i, row[:, :dim])
        w[converged] = before[converged]
        converged |= np.abs(w - before).max(axis=(1, 2)) < 1e-5
        if converged.all():
            break
    for number, i in enumerate(enough):
        gain = objective(speakers[i], w[number]) - objective(speakers[i], identity(dim))
        if np.isfinite(w[number]).all() and gain > 0:
            result[i] = (w[number], gain)
    return result


def _conditioned(g: np.ndarray) -> np.ndarray:
    """G with a little on its diagonal: a dimension that never varies within a speaker must not stop the others."""
    size = g.shape[-1]
    mean = np.einsum("...ii->...", g)[..., None] / size
    out = g.copy()
    out[..., np.arange(size), np.arange(size)] += 1e-9 * mean + 1e-10
    return out


def compose(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Returns the transform that is `first`, then `second`.

    Both are affine [D, D + 1] (Kaldi's compose-transforms --b-is-affine).
    """
    matrix = second[:, :-1] @ first
    matrix[:, -1] += second[:, -1]
    return matrix


Transforms = Dict[str, np.ndarray]  # speaker -> [D, D + 1]
