"""Estimation of Gaussian mixtures: statistics, maximum-likelihood update, and growing by splitting.

Derivation. With the frames t aligned to pdf j, the EM auxiliary function of its mixture is
sum_t sum_m gamma_tm log(w_m N(x_t; mu_m, v_m)), where gamma_tm = p(m | x_t) under the present parameters.
It depends on the data through three sums for each Gaussian,

    n_m = sum_t gamma_tm,    f_m = sum_t gamma_tm x_t,    s_m = sum_t gamma_tm x_t^2,

and is maximised by w_m = n_m / sum n, mu_m = f_m / n_m, v_m = s_m / n_m - mu_m^2. Little data make the last
one collapse: variances are floored and Gaussians with too few frames are removed (Kaldi's gmm-est,
MleDiagGmmUpdate).

A floor alone does not make a Gaussian of a phone that was heard once: one frame has no variance, and a few neighbouring
ones next to none. With the floor of 0.001 on cepstra of variance 1, another speaker's frame, 1 away in each of 39
dimensions, costs 39 / 0.002 = 19,500 nats; Kaldi's floor for new leaves, 0.01 (gmm-init-model), was made for cepstra
that are not normalised, and leaves 1,950. No beam forgives that: every long recording with the phone fails. So a pdf
with n frames, fewer than the N = 20 that a half of a split Gaussian must have, gets

    v = n / N (s / n - mu^2) + (1 - n / N) W,        W = sum_j sum_t (x_t - mu_j)^2 / sum_j n_j,

the variance within pdfs W (of all pdfs j, the one that LDA takes) counting for the frames that are missing. From N
frames on nothing changes.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import List, Optional, Tuple

import numpy as np

from hybrid.gmm.diag import DiagGmms, with_squares

ENOUGH = 20.0  # frames that tell variances: of each half of a Gaussian that is split, too (Kaldi's gmm-mixup)


@dataclass
class GmmStats:
    """counts [G], first [G, D], second [G, D] float64; loglike and frames of the data seen."""

    counts: np.ndarray
    first: np.ndarray
    second: np.ndarray
    loglike: float = 0.0
    frames: int = 0

    @classmethod
    def zeros(cls, gmms: DiagGmms) -> GmmStats:
        shape = gmms.means.shape
        return cls(np.zeros(shape[0]), np.zeros(shape), np.zeros(shape))

    def __add__(self, other: GmmStats) -> GmmStats:
        return GmmStats(
            self.counts + other.counts,
            self.first + other.first,
            self.second + other.second,
            self.loglike + other.loglike,
            self.frames + other.frames,
        )

    def occupancy(self, gmms: DiagGmms) -> np.ndarray:
        """Returns the frames of each pdf, [num_pdfs]."""
        return np.add.reduceat(self.counts, gmms.offsets[:-1])


def by_pdf(gmms: DiagGmms, pdfs: np.ndarray) -> Tuple[np.ndarray, List[Tuple[slice, slice]]]:
    """Sorts frames [T] by their pdf.

    Returns the order, and for every pdf among `pdfs` [T] (its Gaussians, its frames in that order).
    """
    narrow = np.asarray(pdfs).astype(np.uint16 if gmms.num_pdfs <= 1 << 16 else np.int64)  # 16 bits: a radix sort
    order = np.argsort(narrow, kind="stable")
    bounds = np.flatnonzero(np.diff(narrow[order])) + 1
    groups = []
    for begin, end in zip([0, *bounds.tolist()], [*bounds.tolist(), len(order)]):
        if end > begin:
            pdf = int(narrow[order[begin]])
            groups.append((slice(int(gmms.offsets[pdf]), int(gmms.offsets[pdf + 1])), slice(begin, end)))
    return order, groups


def accumulate(
    gmms: DiagGmms,
    features: np.ndarray,
    pdfs: np.ndarray,
    into: GmmStats,
    others: Optional[np.ndarray] = None,
) -> None:
    """Adds frames [T, D] aligned to pdfs [T] (Kaldi's gmm-acc-stats-ali). Frames of one pdf are one matrix product.

    others [T, D]: sums are taken over these, with the posteriors of `features` (Kaldi's gmm-acc-stats-twofeats).
    """
    dim = gmms.dim
    order, groups = by_pdf(gmms, pdfs)
    stacked = with_squares(features[order])
    summed = stacked if others is None else with_squares(others[order])
    for rows, frames in groups:
        posteriors, loglike = gmms.posteriors(stacked[frames], rows)
        sums = posteriors @ summed[frames]
        into.counts[rows] += posteriors.sum(1, dtype=np.float64)
        into.first[rows] += sums[:, :dim]
        into.second[rows] += sums[:, dim:]
        into.loglike += float(loglike.sum(dtype=np.float64))
    into.frames += len(pdfs)


def update(
    gmms: DiagGmms,
    stats: GmmStats,
    *,
    min_count: float = 10.0,
    min_weight: float = 1e-5,
    variance_floor: float = 1e-3,
    remove: bool = True,
) -> DiagGmms:
    """Returns the mixtures that maximise the likelihood of `stats`.

    A Gaussian with fewer than `min_count` frames or a weight under `min_weight` is removed, except the
    heaviest of its pdf, which stays as it is where it has no data. `remove` false: all stay, those with too little as
    they are (Kaldi's --remove-low-count-gaussians=false). Variances of pdfs with few frames lean on those of all.
    """
    frames = stats.occupancy(gmms)
    within = within_variance(frames, *(np.add.reduceat(x, gmms.offsets[:-1]) for x in (stats.first, stats.second)))
    weights: List[np.ndarray] = []
    means: List[np.ndarray] = []
    variances: List[np.ndarray] = []
    sizes = [0]
    for pdf, (begin, end) in enumerate(zip(gmms.offsets[:-1], gmms.offsets[1:])):
        count = stats.counts[begin:end]
        total = count.sum()
        prob = count / total if total > 0 else gmms.weights[begin:end]
        enough = (count > min_count) & (prob > min_weight)
        keep = enough.copy() if remove else np.ones_like(enough)
        if not keep.any():
            keep[np.argmax(prob)] = True
        rows = np.arange(begin, end)[keep]
        mean, variance = gmms.means[rows].copy(), gmms.variances[rows].copy()
        good = enough[keep]
        if good.any():
            n = stats.counts[rows[good], None]
            mean[good] = stats.first[rows[good]] / n
            estimate = lean(stats.second[rows[good]] / n - mean[good] ** 2, frames[pdf], within)
            variance[good] = np.maximum(estimate, variance_floor)
        probs = prob[keep] if remove else np.maximum(prob, min_weight)
        weights.append(probs / probs.sum())
        means.append(mean)
        variances.append(variance)
        sizes.append(len(rows))
    return DiagGmms(np.concatenate(weights), np.concatenate(means), np.concatenate(variances), np.cumsum(sizes))


def within_variance(counts: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns W [D] of pdfs with these counts [J] and sums [J, D] of frames and their squares."""
    means = first / np.maximum(counts, 1e-10)[:, None]
    return np.maximum((second - means * first).sum(0) / max(counts.sum(), 1e-10), 0.0)


def lean(variance: np.ndarray, frames: float, within: np.ndarray) -> np.ndarray:
    """Returns the variance [..., D] of a pdf with so many frames, which leans on W where they are too few."""
    share = frames / ENOUGH
    return variance if share >= 1 else share * variance + (1 - share) * within


def split_targets(
    occupancy: np.ndarray, target: int, *, power: float = 0.25, min_count: float = ENOUGH
) -> np.ndarray:
    """Returns how many Gaussians each pdf gets when all share `target` (Kaldi's GetSplitTargets).

    Starting from one each, the next Gaussian goes to the pdf with the largest occupancy^power per Gaussian:
    a power below one gives rare pdfs more than their share. A pdf stops at `min_count` frames a Gaussian.
    """
    components = np.ones(len(occupancy), dtype=np.int64)
    powered = np.asarray(occupancy, dtype=np.float64) ** power
    queue = [(-value, pdf) for pdf, value in enumerate(powered)]
    heapq.heapify(queue)
    total = len(occupancy)
    while total < target and queue:
        _, pdf = heapq.heappop(queue)
        if (components[pdf] + 1) * min_count >= occupancy[pdf]:
            continue
        components[pdf] += 1
        total += 1
        heapq.heappush(queue, (-powered[pdf] / components[pdf], pdf))
    return components


def mix_up(
    gmms: DiagGmms,
    occupancy: np.ndarray,
    target: int,
    *,
    rng: np.random.Generator,
    power: float = 0.25,
    min_count: float = ENOUGH,
    perturb: float = 0.01,
) -> DiagGmms:
    """Splits the heaviest Gaussian of a pdf, again and again, until it has its target (Kaldi's gmm-mixup).

    The halves keep the variance and move apart by `perturb` standard deviations times a normal draw.
    """
    targets = split_targets(occupancy, target, power=power, min_count=min_count)
    weights, means, variances, sizes = [], [], [], [0]
    for pdf, (begin, end) in enumerate(zip(gmms.offsets[:-1], gmms.offsets[1:])):
        weight, mean, variance = (list(a[begin:end]) for a in (gmms.weights, gmms.means, gmms.variances))
        while len(weight) < targets[pdf]:
            heaviest = int(np.argmax(weight))
            weight[heaviest] /= 2
            shift = perturb * np.sqrt(variance[heaviest]) * rng.standard_normal(gmms.dim)
            weight.append(weight[heaviest])
            mean.append(mean[heaviest] + shift)
            mean[heaviest] = mean[heaviest] - shift
            variance.append(variance[heaviest])
        weights += weight
        means += mean
        variances += variance
        sizes.append(len(weight))
    return DiagGmms(np.array(weights), np.array(means), np.array(variances), np.cumsum(sizes))
