"""Back-offs that make every distribution of a model sum to one, given what its n-grams have.

    p(w | h) = P(h w) for the words w in L(h), those listed after h,  and  B(h) p(w | h')  for all others

so that, where the shorter history h' is done already and sums to one,

    1 = sum_{w in L(h)} P(h w) + B(h) (1 - sum_{w in L(h)} p(w | h'))

    B(h) = left(h) / lower(h),    left(h) = 1 - sum_{w in L(h)} P(h w),    lower(h) = 1 - sum_{w in L(h)} p(w | h')

Orders are done from the shortest histories on. Where left or lower is nothing but rounding, there is no word to back
off to, or nothing for it: B(h) is 0 and the listed P are scaled to sum to one (SRILM does so, with the same least sum).
`<s>` is never predicted: whatever an n-gram that ends in it has counts as 0.
"""

from __future__ import annotations

from typing import Iterable, List, NamedTuple

import numpy as np

from hybrid.errors import DataError
from hybrid.lm.arrays import Columns, NgramArrays
from hybrid.lm.model import LOG10_ZERO
from hybrid.lm.text import END, START

LEAST = 3e-6  # of a sum of probabilities that is more than rounding


class Masses(NamedTuple):
    """Of the n-grams of an order: prob, lower: P(h w) and p(w | h'); history: the place of h among those one shorter.
    Of each history: left, lower_left as above, listed: the number of its words."""

    prob: np.ndarray
    lower: np.ndarray
    history: np.ndarray
    left: np.ndarray
    lower_left: np.ndarray
    listed: np.ndarray


def power(log10: np.ndarray) -> np.ndarray:
    """Return 10 to the power of float64 logarithms, 0 for -99 and less."""
    log10 = np.asarray(log10, np.float64)
    return np.where(log10 > LOG10_ZERO, 10.0 ** np.maximum(log10, LOG10_ZERO), 0.0)


def log10(prob: np.ndarray) -> np.ndarray:
    """Return the logarithms of probabilities, at least -99 and at most 0."""
    return np.log10(np.clip(prob, 10.0**LOG10_ZERO, 1.0))


def masses(model: NgramArrays, order: int) -> Masses:
    """Return the masses of the n-grams of an order, 2 or more; of the shorter ones the back-offs must be right."""
    begin, end = model.offsets[order - 1], model.offsets[order]
    history = model.parents(order) - model.offsets[order - 2]
    number = model.sizes[order - 2]
    prob = power(model.logprob[begin:end])
    lower = 10.0 ** model.scores(model.rows(order)[:, 1:])[0]
    start = model.number_of.get(START, -1)
    for values in (prob, lower):
        values[model.ids[begin:end] == start] = 0.0
    left, lower_left = (1.0 - np.bincount(history, weights=values, minlength=number) for values in (prob, lower))
    return Masses(prob, lower, history, left, lower_left, np.bincount(history, minlength=number))


def normalise(model: NgramArrays) -> NgramArrays:
    """Write into `model` the back-offs that follow from its probabilities, and return it; 1-grams are scaled to sum to
    one. A notice says how many histories had to be scaled.

    Raises DataError where no word has a probability."""
    size = model.sizes[0]
    prob = power(model.logprob[:size])
    if START in model:
        prob[model.number_of[START]] = 0.0
    if prob.sum() <= 0.0:
        raise DataError("no word of the n-gram model has a probability", remedy="train it again on some text")
    model.logprob[:size] = log10(prob / prob.sum())
    if START in model:
        model.logprob[model.number_of[START]] = LOG10_ZERO
    num_scaled = 0
    for order in range(2, model.order + 1):
        mass = masses(model, order)
        begin, end = model.offsets[order - 1], model.offsets[order]
        scaled = (mass.listed > 0) & ((mass.left < LEAST) | (mass.lower_left < LEAST))
        num_scaled += int((scaled & (np.abs(mass.left) > LEAST)).sum())
        sums = np.where(scaled & (mass.left < 1.0), 1.0 - mass.left, 1.0)
        model.logprob[begin:end] = log10(mass.prob / sums[mass.history])
        backoff = np.where(scaled, 0.0, mass.left) / np.where(scaled, 1.0, mass.lower_left)
        backoff[mass.listed == 0] = 1.0
        # not log10(): a back-off may be above 1
        model.backoff[model.offsets[order - 2] : begin] = np.log10(np.maximum(backoff, 10.0**LOG10_ZERO))
    if num_scaled:
        model.notices.append(f"the probabilities after {num_scaled} histories did not sum to one: scaled")
    return model


def restrict(model: NgramArrays, words: Iterable[str]) -> NgramArrays:
    """Return the model of these words alone, and of <s> and </s>: the probability of the others goes to the words that
    stay, as the model backs off to them. Words that the model lacks are passed over; nothing else is changed.

    Raises DataError where none is left."""
    allowed = {*words, START, END}
    kept = np.array([word in allowed for word in model.words])
    if not any(word in allowed and word not in (START, END) for word in model.words):
        raise DataError(
            "no word of the language model is in the vocabulary", remedy="check that both write their words alike"
        )
    columns: List[Columns] = []
    for order in range(1, model.order + 1):
        column = model.columns(order)
        columns.append(Columns(*(values[kept[column.rows].all(axis=1)] for values in column)))
    number = np.cumsum(kept, dtype=np.int32) - 1
    columns = [column._replace(rows=number[column.rows]) for column in columns]
    names = [word for word, keep in zip(model.words, kept.tolist()) if keep]
    return normalise(NgramArrays.from_columns(names, columns))
