"""Is a difference in word error rate more than chance? Intervals by bootstrap, and two paired tests.

Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004.
Gillick and Cox, "Some statistical issues in the comparison of speech recognition algorithms", ICASSP 1989 (MAPSSWE).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from hybrid.errors import ConfigError, DataError

ErrorsWords = Tuple[int, int]

RESAMPLES = 10_000
_BLOCK = 2**22  # draws held at once: 32 MB


def bootstrap_interval(
    counts: Mapping[str, ErrorsWords],
    *,
    speakers: Optional[Mapping[str, str]] = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Tuple[float, float]:
    """Returns (low, high) of the WER in percent. counts: utterance -> (errors, words of reference).

    Draws as many utterances as there are, with replacement, `resamples` times; each draw has the rate sum of errors /
    sum of words; the interval lies between the quantiles (1 - level) / 2 and (1 + level) / 2 (Bisani and Ney). With
    `speakers` (utterance -> speaker) whole speakers are drawn: utterances of one speaker are not independent, and the
    interval is then honest about new speakers, and wider; with a dozen speakers or fewer it is itself rough. One unit
    alone says nothing of chance: the interval is then 0 to inf. (nan, nan) where the reference has no word.
    """
    _check(level, resamples)
    units = _units(counts, speakers)
    if units[:, 1].sum() == 0:
        return float("nan"), float("nan")
    if len(units) < 2:
        return 0.0, float("inf")
    rates = []
    for draw in _draws(len(units), resamples, seed):
        sums = draw @ units
        with np.errstate(divide="ignore", invalid="ignore"):
            rates.append(np.where(sums[:, 1] > 0, 100.0 * sums[:, 0] / sums[:, 1], np.nan))
    low, high = np.nanquantile(np.concatenate(rates), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Paired:
    """Two systems on one set. difference: WER of b minus WER of a, percent points; low, high: its 95 % interval.

    improvement: bootstrap probability that b has fewer errors than a (a tie counts half). p: two-sided p-value of the
    matched-pair sentence-segment test; nan where it does not apply (fewer than two utterances).
    """

    difference: float
    low: float
    high: float
    improvement: float
    p: float


def paired_test(
    a: Mapping[str, ErrorsWords],
    b: Mapping[str, ErrorsWords],
    *,
    speakers: Optional[Mapping[str, str]] = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """Compares two systems on the same utterances; both are drawn together, so that hard utterances cancel.

    MAPSSWE with an utterance (or a speaker's utterances) as segment: z_i = errors of a - errors of b in segment i,
    mu and s^2 their mean and variance over n segments (n - 1), W = mu / (s / sqrt(n)) taken as standard normal, p = 2
    P(Z >= |W|). Segments between errors, as in NIST's sc_stats, would be smaller and more; errors do not cross an
    utterance in either case. No difference anywhere gives p = 1. The normal law wants some 50 segments or more.

    Raises DataError where the utterances or their reference words differ.
    """
    _check(level, resamples)
    _check_pair(a, b)
    first, second = _units(a, speakers), _units(b, speakers)
    words = first[:, 1]
    if words.sum() == 0:
        nan = float("nan")
        return Paired(nan, nan, nan, 0.5, nan)
    gain = first[:, 0] - second[:, 0]
    difference = -100.0 * float(gain.sum() / words.sum())
    units = np.stack([gain, words], axis=1)
    gains, rates = [], []
    for draw in _draws(len(units), resamples, seed):
        sums = draw @ units
        gains.append(sums[:, 0])
        with np.errstate(divide="ignore", invalid="ignore"):
            rates.append(np.where(sums[:, 1] > 0, -100.0 * sums[:, 0] / sums[:, 1], np.nan))
    resampled = np.concatenate(gains)
    improvement = float((resampled > 0).mean() + 0.5 * (resampled == 0).mean())
    if len(units) < 2:
        return Paired(difference, -math.inf, math.inf, improvement, float("nan"))
    low, high = np.nanquantile(np.concatenate(rates), [(1 - level) / 2, (1 + level) / 2])
    return Paired(difference, float(low), float(high), improvement, matched_pairs(gain))


def relative_change(
    a: Mapping[str, ErrorsWords],
    b: Mapping[str, ErrorsWords],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Tuple[float, float, float]:
    """Returns (change, low, high): by how many percent b has more errors than a (negative: fewer), and its interval.

    With e_a[i], e_b[i] the errors in utterance i, the change is r = 100 (sum_i e_b[i] / sum_i e_a[i] - 1); words
    cancel, because both are of the same utterances. A draw takes utterances with replacement, utterance i n[i] times,
    the same for both systems: r* = 100 (sum_i n[i] e_b[i] / sum_i n[i] e_a[i] - 1), and the interval lies between the
    quantiles (1 - level) / 2 and (1 + level) / 2 of r*. Drawing both together keeps what is hard for both from
    widening it; and quantiles of the ratio itself, rather than of the difference over a fixed sum e_a, let the
    uncertainty of the reference count too. The ratio is skewed where errors are few, which quantiles follow and a
    normal law would not.

    A draw without an error of a is infinite if b has one, and says nothing if b has none. Quantiles are values that
    were drawn, never between two (one of which may be infinite). (nan, nan, nan) where a has no error at all; one
    utterance alone says nothing of chance: -100 to inf. Raises DataError as `paired_test`.
    """
    _check(level, resamples)
    _check_pair(a, b)
    errors = np.stack([_units(a, None)[:, 0], _units(b, None)[:, 0]], axis=1)
    before, after = errors.sum(axis=0)
    if before == 0:
        return float("nan"), float("nan"), float("nan")
    change = 100.0 * float(after / before - 1.0)
    if len(errors) < 2:
        return change, -100.0, math.inf
    ratios = []
    for draw in _draws(len(errors), resamples, seed):
        sums = draw @ errors
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios.append(100.0 * (sums[:, 1] / sums[:, 0] - 1.0))
    resampled = np.concatenate(ratios)
    resampled = resampled[~np.isnan(resampled)]
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return change, float(low), float(high)


def p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def matched_pairs(gain: np.ndarray) -> float:
    """Returns the two-sided p-value of MAPSSWE; gain: [segments] errors of one system less those of the other."""
    n = len(gain)
    if n < 2:
        return float("nan")
    mean, spread = float(np.mean(gain)), float(np.std(gain, ddof=1))
    if mean == 0:
        return 1.0
    if spread == 0:
        return 0.0
    return math.erfc(abs(mean) / (spread / math.sqrt(n)) / math.sqrt(2))


def wilson_interval(successes: int, trials: int, level: float = 0.95) -> Tuple[float, float]:
    """Returns (low, high) of a share of independent trials, between 0 and 1; (0, 1) of no trial.

    With z the normal quantile of the level and p = successes / n, the shares q at which p is z standard deviations
    away, |p - q| = z sqrt(q (1 - q) / n), are

        (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n):

    unlike p +- z sqrt(p (1 - p) / n) never empty, nor beyond 0 and 1 (Wilson, "Probable inference, the law of
    succession, and statistical inference", JASA 1927). Raises ConfigError for a level that is none.
    """
    _check(level)
    if trials < 1:
        return 0.0, 1.0
    share, square = successes / trials, NormalDist().inv_cdf((1 + level) / 2) ** 2 / trials
    middle = share + square / 2
    half = math.sqrt(square * share * (1 - share) + square**2 / 4)
    return max((middle - half) / (1 + square), 0.0), min((middle + half) / (1 + square), 1.0)


def _units(counts: Mapping[str, ErrorsWords], speakers: Optional[Mapping[str, str]]) -> np.ndarray:
    """float64 [units, 2], errors and words; sorted by id, so that order of a mapping does not matter."""
    if not counts:
        raise DataError("no utterance to compare", remedy="give the counts of a scored set")
    if speakers is None:
        return np.array([counts[name] for name in sorted(counts)], np.float64)
    blocks: Dict[str, List[ErrorsWords]] = {}
    for name in sorted(counts):
        if name not in speakers:
            raise DataError("no speaker", utterance=name, remedy="give every utterance a speaker, or none")
        blocks.setdefault(speakers[name], []).append(counts[name])
    sums: Sequence[np.ndarray] = [np.sum(blocks[speaker], axis=0) for speaker in sorted(blocks)]
    return np.array(sums, np.float64)


def _draws(units: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each unit is drawn: float64 [part of resamples, units], rows summing to `units`."""
    generator = np.random.default_rng(seed)
    part = max(1, _BLOCK // units)
    for first in range(0, resamples, part):
        rows = min(part, resamples - first)
        indices = generator.integers(0, units, (rows, units)) + np.arange(rows)[:, None] * units
        yield np.bincount(indices.ravel(), minlength=rows * units).reshape(rows, units).astype(np.float64)


def _check_pair(a: Mapping[str, ErrorsWords], b: Mapping[str, ErrorsWords]) -> None:
    if set(a) != set(b):
        name = sorted(set(a) ^ set(b))[0]
        raise DataError("two systems of different sets", utterance=name, remedy="compare decodes of the same set")
    for name in a:
        if a[name][1] != b[name][1]:
            raise DataError("reference words differ", utterance=name, remedy="score both on the same transcripts")


def _check(level: float, resamples: int = RESAMPLES) -> None:
    if not 0 < level < 1:
        raise ConfigError(f"confidence level {level}", remedy="give a share between 0 and 1, usually 0.95")
    if resamples < 1:
        raise ConfigError(f"{resamples} resamples", remedy="give 1000 or more")
