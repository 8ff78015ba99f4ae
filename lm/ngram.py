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
import math
from collections import Counter
from typing import Counter as CounterType
from typing import Dict, Iterable, List, Optional, Sequence, Set, Tuple

from hybrid.errors import ConfigError, DataError
from hybrid.lm.model import END, LOG10_ZERO, START, Ngram, NgramModel, Perplexity
from hybrid.lm.text import Sentence, sentence_words

__all__ = ["FALLBACK", "NgramModel", "Perplexity", "discounts", "train"]

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
    if order < 1:
        raise ConfigError(f"an n-gram model of order {order}", remedy="give an order of 1 or more; usual: 3")
    known_words: Optional[Set[str]] = None if vocabulary is None else {*vocabulary} - {START, END}
    if known_words is not None and unknown is not None:
        known_words.add(unknown)
    counts, words = _count(sentences, order, known_words, unknown)
    if known_words is not None:
        words = known_words
    elif unknown is not None:
        words.add(unknown)
    adjusted = _adjust(counts)
    notices: List[str] = []
    order_discounts: List[Tuple[float, float, float]] = []
    for number, table in enumerate(adjusted, 1):
        discount = discounts(table.values())
        if discount is None:
            notices.append(
                f"{number}-grams: too few counts to estimate discounts from; {FALLBACK[0]}, {FALLBACK[1]} and "
                f"{FALLBACK[2]} are taken"
            )
            log.warning("%s", notices[-1])
        order_discounts.append(discount or FALLBACK)
    return _interpolate(adjusted, order_discounts, sorted(words), notices)


def _count(
    sentences: Iterable[Sentence], order: int, known_words: Optional[Set[str]], unknown: Optional[str]
) -> Tuple[List[CounterType[Ngram]], Set[str]]:
    """Counts of each order, and the words met."""
    counts: List[CounterType[Ngram]] = [Counter() for _ in range(order)]
    words: Set[str] = set()
    has_sentence = False
    for number, sentence in enumerate(sentences, 1):
        tokens = sentence_words(sentence, f"sentence {number}")
        if not tokens:
            continue
        has_sentence = True
        for index, word in enumerate(tokens):
            if known_words is not None and word not in known_words:
                if unknown is None:
                    raise DataError(
                        f"sentence {number}: the word {word} is not in the vocabulary",
                        remedy="add it to the vocabulary, or name a word for unknown ones",
                    )
                tokens[index] = unknown
        words.update(tokens)
        padded = (START, *tokens, END)
        for length in range(1, order + 1):
            counts[length - 1].update(padded[i : i + length] for i in range(len(padded) - length + 1))
    if not has_sentence:
        raise DataError("no sentence to train a language model on", remedy="give a text with one sentence a line")
    del counts[0][(START,)]  # never predicted
    return counts, words


def _adjust(counts: List[CounterType[Ngram]]) -> List[Dict[Ngram, int]]:
    """a(g) of every order, as above."""
    adjusted: List[Dict[Ngram, int]] = []
    for index, table in enumerate(counts):
        if index + 1 == len(counts):
            adjusted.append(dict(table))
            break
        continuation: CounterType[Ngram] = Counter(ngram[1:] for ngram in counts[index + 1])
        adjusted.append({ngram: count if ngram[0] == START else continuation[ngram] for ngram, count in table.items()})
    return adjusted


def _interpolate(
    adjusted: List[Dict[Ngram, int]],
    order_discounts: Sequence[Tuple[float, float, float]],
    words: List[str],
    notices: List[str],
) -> NgramModel:
    events = [*words, END]
    lower_probs: Dict[Ngram, float] = {}
    probs: List[Dict[Ngram, float]] = []
    backoffs: List[Dict[Ngram, float]] = [{} for _ in adjusted[:-1]]
    for index, (table, discount) in enumerate(zip(adjusted, order_discounts, strict=True)):
        total: Dict[Ngram, float] = {}
        discounted: Dict[Ngram, float] = {}
        for ngram, count in table.items():
            history = ngram[:-1]
            total[history] = total.get(history, 0.0) + count
            discounted[history] = discounted.get(history, 0.0) + discount[min(count, 3) - 1]
        current_probs: Dict[Ngram, float] = {}
        if index == 0:
            base = discounted[()] / total[()] / len(events)
            current_probs = {(word,): base for word in events}
        for ngram, count in table.items():
            history = ngram[:-1]
            value = (count - discount[min(count, 3) - 1]) / total[history]
            value += base if index == 0 else discounted[history] / total[history] * lower_probs[ngram[1:]]
            current_probs[ngram] = value
        if index > 0:
            backoffs[index - 1] = {
                history: math.log10(amount / total[history]) for history, amount in discounted.items()
            }
        # Rounding must not lift a certain word above probability 1.
        probs.append({ngram: min(math.log10(value), 0.0) for ngram, value in current_probs.items()})
        lower_probs = current_probs
    probs[0][(START,)] = LOG10_ZERO
    return NgramModel(probs, backoffs, notices)
