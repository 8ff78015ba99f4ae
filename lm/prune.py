"""Entropy pruning: n-grams without which a model is nearly the same are taken out.

A. Stolcke, "Entropy-based pruning of backoff language models", DARPA Broadcast News Workshop, 1998.

Take the n-gram h w out, and let the history's back-off B(h) become B'(h), so that p'(. | h) sums to one. All that
stands listed after h keeps its probability, w gets B'(h) p(w | h'), and what was not listed B'(h) p(v | h') in the
place of B(h) p(v | h'). The relative entropy, in which a history has the weight of its own p(h), has two terms,

    D(p || p') = sum_v p(h, v) [ln p(v | h) - ln p'(v | h)]
               = -p(h) { P(h w) [ln p(w | h') + ln B'(h) - ln P(h w)]  +  left(h) [ln B'(h) - ln B(h)] }

for the words that are not listed have the mass left(h) = 1 - sum_{v in L(h)} P(h v) together, and the ratio of their
probabilities is B'(h) / B(h) for each. With lower(h) = 1 - sum_{v in L(h)} p(v | h') (lm/backoffs.py),

    B(h) = left(h) / lower(h)        B'(h) = (left(h) + P(h w)) / (lower(h) + p(w | h'))

so that D costs the same few operations for each n-gram. p(h) is the product of the probabilities along h; <s>, which is
never predicted, has that of </s>. The perplexity grows by the factor e^D (section 3, equation 5). Every D is that of
taking out one n-gram alone, as in the paper and in SRILM's -prune; an n-gram that is the history of one that stays,
stays. Then the back-offs are made anew.

Which n-grams stay at a threshold t: those with e^D - 1 >= t, and their histories. Let E(g) be the largest D among g and
all n-grams that begin with g: then g stays where e^E(g) - 1 >= t. A number of n-grams is reached so by one sort of E.
"""

from __future__ import annotations

from typing import List

import numpy as np

from hybrid.errors import ConfigError
from hybrid.lm.arrays import Columns, NgramArrays
from hybrid.lm.backoffs import LEAST, masses, normalise
from hybrid.lm.text import END, START


def relative_entropies(model: NgramArrays) -> np.ndarray:
    """Return D of each n-gram, float64, nats; inf for 1-grams, and where without the n-gram its word would have no
    probability. The model's back-offs must be those of lm/backoffs.py."""
    entropies = np.full(len(model), np.inf)
    marginals = model.logprob[: model.sizes[0]].astype(np.float64)  # log10 p(h), of the n-grams of one order
    if START in model and END in model:
        marginals[model.number_of[START]] = marginals[model.number_of[END]]
    for order in range(2, model.order + 1):
        mass = masses(model, order)
        begin, end = model.offsets[order - 1], model.offsets[order]
        left, lower_left = np.maximum(mass.left, 0.0), np.maximum(mass.lower_left, 0.0)
        backs_off = ((left > LEAST) & (lower_left > LEAST))[mass.history]
        with np.errstate(divide="ignore", invalid="ignore"):
            changed = np.log((left[mass.history] + mass.prob) / (lower_left[mass.history] + mass.lower))
            own = mass.prob * (np.log(mass.lower) + changed - np.log(mass.prob))
            others = left[mass.history] * (changed - np.log(left / lower_left)[mass.history])
        own[mass.prob == 0.0] = 0.0
        others[~backs_off] = 0.0
        # log10 p(h) may be -99 below what a float holds as a power; then D is 0
        divergence = np.maximum(-(10.0 ** marginals[mass.history]) * (own + others), 0.0)  # below 0: rounding
        divergence[(mass.prob > 0.0) & (mass.lower == 0.0)] = np.inf
        entropies[begin:end] = divergence
        marginals = marginals[mass.history] + model.logprob[begin:end]
    return entropies


def prune(model: NgramArrays, *, threshold: float = 0.0, most: int = 0) -> NgramArrays:
    """Return the model without the n-grams that change the perplexity by less than `threshold` (relative, as 1e-8), and
    then without those that change it least, until at most `most` n-grams are left; 0: no such limit.

    1-grams always stay, so that `most` cannot be below their number. Raises ConfigError for numbers that are none.
    """
    if not 0.0 <= threshold < np.inf:
        raise ConfigError(f"pruning with the threshold {threshold:g}", remedy="give one of 0 or more; usual: 1e-8")
    if most and most < model.sizes[0]:
        raise ConfigError(
            f"pruning to {most} n-grams, and the model has {model.sizes[0]} words",
            remedy="give a larger number, or a smaller vocabulary",
        )
    largest = relative_entropies(model)
    for order in range(model.order, 2, -1):
        begin, end = model.offsets[order - 1], model.offsets[order]
        np.maximum.at(largest, model.parents(order), largest[begin:end])
    kept = np.expm1(np.minimum(largest, 700.0)) >= threshold
    kept[: model.sizes[0]] = True
    if most and int(kept.sum()) > most:
        order_of_loss = np.sort(largest[model.sizes[0] :])[::-1]
        # more than this one has: n-grams of one D go together, so that no history goes before its n-grams
        kept[model.sizes[0] :] &= largest[model.sizes[0] :] > order_of_loss[most - model.sizes[0]]
    columns: List[Columns] = []
    for number in range(1, model.order + 1):
        part = kept[model.offsets[number - 1] : model.offsets[number]]
        columns.append(Columns(*(values[part] for values in model.columns(number))))
    while len(columns) > 1 and not len(columns[-1].rows):
        columns.pop()
    return normalise(NgramArrays.from_columns(model.words, columns))
