"""Training n-gram models: interpolated modified Kneser-Ney.

S. F. Chen and J. Goodman, "An empirical study of smoothing techniques for language modeling", Harvard TR-10-98, 1998.

    c(g)     how often the n-gram g occurs in the sentences, each between one <s> and one </s>
    a(g)     the adjusted count: c(g) for n-grams of the highest order and those that begin with <s>, else the
             number of different words seen before g (the continuation count)
    D_k      the discount of a count k = 1, 2, 3 or more, of each order, from n_k = |{g : a(g) = k}| (equation 26):
                 Y = n1 / (n1 + 2 n2)     D1 = 1 - 2 Y n2/n1     D2 = 2 - 3 Y n3/n2     D3 = 3 - 4 Y n4/n3

    p(w | h) = (a(h w) - D_a(h w)) / A(h)  +  gamma(h) p(w | h')        A(h) = sum over w of a(h w)
    gamma(h) = (D1 N1(h) + D2 N2(h) + D3 N3(h)) / A(h)                  N_k(h) words have a(h w) = k (3: or more)

h' is h without its first word; below the unigrams stands the uniform distribution over the vocabulary and </s>, so
that a word of the vocabulary that never occurs in the text still has a probability. The sums of what is taken away
and what is given are equal, so that p sums to 1 for each h. In the ARPA file P(h w) is the interpolated p, and
B(h) is gamma(h): both readings are one model.

Why n-grams at the sentence start keep their counts: nothing stands before <s>, so the number of different words
before them would be 0 (SRILM and KenLM do likewise).
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Iterable, List, Optional, Sequence, Set, Tuple

import numpy as np

from hybrid.errors import ConfigError
from hybrid.lm.arrays import Columns, NgramArrays
from hybrid.lm.counts import Table, count
from hybrid.lm.model import END, LOG10_ZERO, START, NgramModel, Perplexity
from hybrid.lm.text import Sentence

__all__ = ["FALLBACK", "NgramModel", "Perplexity", "discounts", "train", "train_arrays"]

log = logging.getLogger(__name__)

# Where the counts of counts are too sparse to estimate from (KenLM's --discount_fallback has the same).
FALLBACK = (0.5, 1.0, 1.5)


def discounts(counts: Iterable[int]) -> Optional[Tuple[float, float, float]]:
    """Estimate D1, D2, D3+ by equation 26 from the adjusted counts of one order; None where they cannot be estimated:
    no n-gram has the count 1, 2, 3 or 4 (without a 4, D3 would be 3 and leave nothing of a count of 3), or a
    discount would not lie between 0 and k."""
    number = Counter(counts)
    if not all(number[k] for k in (1, 2, 3, 4)):
        return None
    y = number[1] / (number[1] + 2 * number[2])
    steps = tuple(k - (k + 1) * y * number[k + 1] / number[k] for k in (1, 2, 3))
    if not all(0.0 < value < k for k, value in enumerate(steps, 1)):
        return None
    return steps[0], steps[1], steps[2]


def train(
    sentences: Iterable[Sentence],
    order: int,
    *,
    vocabulary: Optional[Iterable[str]] = None,
    unknown: Optional[str] = None,
) -> NgramModel:
    """Train an interpolated modified Kneser-Ney model of that order.

    `sentences` are strings of words or sequences of them, with or without <s> and </s>; empty ones are skipped.
    `vocabulary` (default: the words of the sentences) is closed: another word in a sentence is replaced by
    `unknown` where that is given, else raises DataError. `unknown` is part of the vocabulary.
    The model's `notices` name the orders whose discounts are FALLBACK for want of counts.
    Raises DataError where there is no sentence, ConfigError for an order below 1.
    """
    return _train(sentences, order, vocabulary, unknown).to_model()


def train_arrays(
    sentences: Iterable[Sentence],
    order: int,
    *,
    vocabulary: Optional[Iterable[str]] = None,
    unknown: Optional[str] = None,
) -> NgramArrays:
    """Train the same model as `train`, as compact arrays: for texts of any length. Raises what that raises."""
    model = _train(sentences, order, vocabulary, unknown)
    model.logprob, model.backoff = model.logprob.astype(np.float32), model.backoff.astype(np.float32)
    return model


def _train(
    sentences: Iterable[Sentence], order: int, vocabulary: Optional[Iterable[str]], unknown: Optional[str]
) -> NgramArrays:
    """The model with its numbers in float64."""
    if order < 1:
        raise ConfigError(f"an n-gram model of order {order}", remedy="give an order of 1 or more; usual: 3")
    known_words: Optional[Set[str]] = None if vocabulary is None else {*vocabulary} - {START, END}
    if known_words is not None and unknown is not None:
        known_words.add(unknown)
    counts = count(sentences, order, known_words, unknown)
    more = known_words or set() if unknown is None else {*(known_words or ()), unknown}
    words = [*counts.words, *sorted(more - {*counts.words})]
    adjusted = counts.adjusted()
    notices: List[str] = []
    order_discounts: List[Tuple[float, float, float]] = []
    for number, table in enumerate(adjusted, 1):
        discount = discounts(table.counts.tolist())
        if discount is None:
            notices.append(
                f"{number}-grams: too few counts to estimate discounts from; {FALLBACK[0]}, {FALLBACK[1]} and "
                f"{FALLBACK[2]} are taken"
            )
            log.warning("%s", notices[-1])
        order_discounts.append(discount or FALLBACK)
    model = _interpolate(adjusted, order_discounts, words)
    model.notices = notices
    return model


def _interpolate(
    adjusted: Sequence[Table], order_discounts: Sequence[Tuple[float, float, float]], words: List[str]
) -> NgramArrays:
    """words: all that have a 1-gram, by their numbers in the tables."""
    every = np.arange(len(words), dtype=np.int32)[:, None]
    every_count = np.zeros(len(words), np.int64)
    every_count[adjusted[0].rows[:, 0]] = adjusted[0].counts
    tables = [Table(every, every_count), *adjusted[1:]]
    # a(g) takes the place of log P until P is known
    columns = [Columns(table.rows, table.counts, np.zeros(len(table.rows))) for table in tables]
    model = NgramArrays.from_columns(words, columns, np.float64)
    prob = np.zeros(len(model))
    start = model.number_of[START]
    for index, discount in enumerate(order_discounts):
        begin, end = model.offsets[index], model.offsets[index + 1]
        counts = model.logprob[begin:end]
        taken = np.array([0.0, *discount])[np.minimum(counts, 3).astype(np.int64)]
        if index == 0:
            gamma = taken.sum() / counts.sum()
            prob[:end] = (counts - taken) / counts.sum() + gamma / (len(words) - 1)
            continue
        history = model.parents(index + 1)
        total = np.bincount(history, weights=counts, minlength=begin)
        given = np.bincount(history, weights=taken, minlength=begin)
        lower = prob[model.find(model.rows(index + 1)[:, 1:])]
        prob[begin:end] = (counts - taken) / total[history] + given[history] / total[history] * lower
        followed = np.flatnonzero(total)
        model.backoff[followed] = np.log10(given[followed] / total[followed])
    # Rounding must not lift a certain word above probability 1.
    prob[start] = 1.0
    model.logprob[:] = np.minimum(np.log10(prob), 0.0)
    model.logprob[start] = LOG10_ZERO
    return model
