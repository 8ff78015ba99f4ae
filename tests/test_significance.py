"""Bootstrap intervals and paired tests: known cases, a second implementation, coverage by simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from hybrid.errors import ConfigError, DataError
from hybrid.score.significance import (
    bootstrap_interval,
    matched_pairs,
    paired_test,
    relative_change,
    wilson_interval,
)


def _counts(pairs):
    return {f"u{k:03d}": (int(errors), int(words)) for k, (errors, words) in enumerate(pairs)}


def test_bootstrap_equals_a_plain_loop():
    generator = np.random.default_rng(3)
    pairs = [(generator.integers(0, 4), generator.integers(1, 9)) for _ in range(40)]
    low, high = bootstrap_interval(_counts(pairs), resamples=4000, seed=1)
    table = np.array(pairs)
    rates = []
    for _ in range(4000):
        drawn = table[np.random.default_rng(len(rates) + 10_000).integers(0, 40, 40)]
        rates.append(100 * drawn[:, 0].sum() / drawn[:, 1].sum())
    # the quantiles of two Monte Carlo runs: their standard error is about 0.04 of the spread of the rates
    tolerance = 0.25 * np.std(rates)
    assert low == pytest.approx(np.quantile(rates, 0.025), abs=tolerance)
    assert high == pytest.approx(np.quantile(rates, 0.975), abs=tolerance)


def test_bootstrap_of_proportions_is_the_binomial_interval():
    """Utterances of one word each: the bootstrap draws Binomial(n, p) / n."""
    low, high = bootstrap_interval(_counts([(1, 1)] * 60 + [(0, 1)] * 340), seed=0)
    half = 1.96 * 100 * math.sqrt(0.15 * 0.85 / 400)
    assert low == pytest.approx(15 - half, abs=0.4)
    assert high == pytest.approx(15 + half, abs=0.4)


def test_coverage_by_simulation():
    """Of 200 sets drawn with a true rate of 10 %, some 95 % of the intervals hold it (binomial 3 sigma: 90 to 99)."""
    generator = np.random.default_rng(0)
    words = generator.integers(3, 12, (200, 150))
    errors = generator.binomial(words, 0.1)
    held = 0
    for row in range(200):
        pairs = zip(errors[row], words[row], strict=True)
        low, high = bootstrap_interval(_counts(pairs), resamples=400, seed=row)
        held += low <= 10 <= high
    assert 0.90 <= held / 200 <= 0.99


def test_speaker_blocks_widen_the_interval_where_speakers_differ():
    counts = _counts([(0, 10)] * 50 + [(5, 10)] * 50)
    speakers = {name: ("good" if k < 50 else "bad") + str(k % 4) for k, name in enumerate(counts)}
    narrow = bootstrap_interval(counts, seed=0)
    wide = bootstrap_interval(counts, speakers=speakers, seed=0)
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])


def test_same_seed_same_numbers_whatever_the_order():
    counts = _counts([(k % 3, 5 + k % 4) for k in range(30)])
    turned = dict(reversed(counts.items()))
    assert bootstrap_interval(counts, seed=7) == bootstrap_interval(turned, seed=7)
    assert bootstrap_interval(counts, seed=7) != bootstrap_interval(counts, seed=8)


def test_edges_of_the_interval():
    assert bootstrap_interval(_counts([(0, 5)] * 20)) == (0.0, 0.0)
    assert bootstrap_interval(_counts([(1, 5)])) == (0.0, math.inf)
    assert all(map(math.isnan, bootstrap_interval(_counts([(2, 0), (0, 0)]))))
    # draws without any word of reference are left out, not counted as zero
    low, high = bootstrap_interval(_counts([(1, 1), (0, 0)]), resamples=500)
    assert (low, high) == (100.0, 100.0)


def test_matched_pairs_by_hand():
    # mean 0.5, s^2 = 5/3, W = 0.5 / sqrt(5/3 / 4) = 0.774597, two-sided p = 0.438578
    assert matched_pairs(np.array([2.0, 0.0, 1.0, -1.0])) == pytest.approx(0.438578, abs=1e-6)
    assert matched_pairs(np.zeros(5)) == 1.0
    assert matched_pairs(np.ones(5)) == 0.0
    assert math.isnan(matched_pairs(np.ones(1)))


def test_matched_pairs_rejects_as_often_as_it_says():
    """Two systems of one error rate: p < 0.05 in some 5 % of 1000 sets (3 sigma: 3 to 7 %)."""
    generator = np.random.default_rng(1)
    errors = generator.binomial(8, 0.15, (2, 1000, 120))
    rejected = np.mean([matched_pairs((a - b).astype(float)) < 0.05 for a, b in zip(*errors, strict=True)])
    assert 0.03 <= rejected <= 0.07


def test_paired_is_symmetric():
    generator = np.random.default_rng(5)
    words = generator.integers(2, 10, 80)
    a = _counts(zip(generator.binomial(words, 0.2), words, strict=True))
    b = _counts(zip(generator.binomial(words, 0.1), words, strict=True))
    there, back = paired_test(a, b, seed=2), paired_test(b, a, seed=2)
    assert there.difference == pytest.approx(-back.difference)
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.improvement == pytest.approx(1 - back.improvement)
    assert there.p == pytest.approx(back.p)
    assert there.difference < 0 < there.improvement - 0.9
    assert there.p < 0.05


def test_pairing_sees_what_two_intervals_hide():
    """One error fewer in each tenth utterance, in a set whose utterances differ greatly."""
    a = _counts([(k % 8, 10) for k in range(200)])
    b = {name: (errors - (errors > 0 and int(name[1:]) % 10 == 1), words) for name, (errors, words) in a.items()}
    low, high = bootstrap_interval(a)
    result = paired_test(a, b)
    assert low < bootstrap_interval(b)[1]
    assert result.p < 1e-3 and result.high < 0


def test_the_interval_of_a_relative_change_equals_a_plain_loop_over_the_same_draws():
    generator = np.random.default_rng(11)
    words = generator.integers(2, 9, 30)
    a, b = (generator.binomial(words, rate) for rate in (0.3, 0.2))
    change, low, high = relative_change(
        _counts(zip(a, words, strict=True)), _counts(zip(b, words, strict=True)), resamples=500, seed=4
    )
    drawn = []
    for row in np.random.default_rng(4).integers(0, 30, (500, 30)):
        before = after = 0
        for utterance in row:
            before += int(a[utterance])
            after += int(b[utterance])
        drawn.append(100 * (after / before - 1))
    drawn.sort()
    assert change == pytest.approx(100 * (b.sum() - a.sum()) / a.sum())
    assert (low, high) == pytest.approx((drawn[12], drawn[487]))  # the 13th and the 488th of 500
    assert low < change < high


def test_the_interval_of_a_relative_change_is_that_of_all_draws_there_are():
    """5 utterances have 5^5 = 3125 draws, all of one probability: the quantiles of the resampled ones are theirs."""
    a, b = [3, 0, 1, 2, 0], [1, 1, 0, 4, 0]
    ratios = []
    for draw in itertools.product(range(5), repeat=5):
        before, after = (sum(its[i] for i in draw) for its in (a, b))
        if before or after:
            ratios.append(100 * (after / before - 1) if before else math.inf)
    ratios.sort()
    _, low, high = relative_change(
        _counts((e, 5) for e in a), _counts((e, 5) for e in b), level=0.8, resamples=200_000
    )
    for value, share in ((low, 0.1), (high, 0.9)):
        # a share of the draws that is wrong by 0.005 is 7 standard errors of 200,000
        near = ratios[int((share - 0.005) * len(ratios)) : int((share + 0.005) * len(ratios)) + 1]
        assert near[0] - 1e-9 <= value <= near[-1] + 1e-9


def test_edges_of_a_relative_change():
    four = [(1, 5)] * 4
    assert relative_change(_counts(four), _counts(four)) == (0.0, 0.0, 0.0)
    assert relative_change(_counts([(2, 5)] * 4), _counts(four)) == (-50.0, -50.0, -50.0)
    assert relative_change(_counts([(2, 5)]), _counts([(1, 5)])) == (-50.0, -100.0, math.inf)
    assert all(map(math.isnan, relative_change(_counts([(0, 5)] * 4), _counts(four))))
    # a third of the draws has no error of the reference: the upper limit is infinite, the change is not
    change, low, high = relative_change(_counts([(1, 5), (0, 5), (0, 5)]), _counts([(1, 5), (1, 5), (0, 5)]))
    assert (change, low, high) == (100.0, 0.0, math.inf)


def test_a_system_against_itself():
    a = _counts([(1, 4), (0, 3), (2, 5)])
    result = paired_test(a, a)
    assert (result.difference, result.improvement, result.p) == (0.0, 0.5, 1.0)


@pytest.mark.parametrize(
    "call, error, says",
    [
        (lambda: bootstrap_interval({}), DataError, "no utterance"),
        (lambda: bootstrap_interval({"u": (0, 1)}, speakers={}), DataError, "utterance: u"),
        (lambda: bootstrap_interval({"u": (0, 1)}, level=95), ConfigError, "level 95"),
        (lambda: bootstrap_interval({"u": (0, 1)}, resamples=0), ConfigError, "0 resamples"),
        (lambda: paired_test({"u": (0, 1)}, {"v": (0, 1)}), DataError, "different sets"),
        (lambda: paired_test({"u": (0, 1)}, {"u": (0, 2)}), DataError, "reference words differ"),
        (lambda: relative_change({"u": (0, 1)}, {"v": (0, 1)}), DataError, "different sets"),
        (lambda: relative_change({"u": (0, 1)}, {"u": (0, 1)}, level=95), ConfigError, "level 95"),
    ],
)
def test_bad_input(call, error, says):
    with pytest.raises(error, match=says):
        call()


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("trials", [1, 2, 10, 1234])
def test_wilson_equals_scipys(trials, level):
    for successes in {0, 1, trials // 3, trials - 1, trials}:
        found = wilson_interval(successes, trials, level)
        expected = binomtest(successes, trials).proportion_ci(level, method="wilson")
        assert found == pytest.approx((expected.low, expected.high), abs=1e-9)
        assert 0 <= found[0] <= successes / trials <= found[1] <= 1


def test_wilson_of_nothing_knows_nothing():
    assert wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ConfigError, match="confidence level"):
        wilson_interval(1, 2, 1.0)
