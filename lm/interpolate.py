"""Interpolating n-gram models into one: static linear interpolation (SRILM's -mix-lm), weights by EM.

The mixture of models p_1 .. p_m is p(w | h) = sum_i lambda_i p_i(w | h), each p_i with its own backing off. One
back-off model that comes near it has the n-grams of all of them, each with the mixture's probability,

    P(h w) = sum_i lambda_i p_i(w | h)        for every h w that some p_i lists

and the back-offs that make it sum to one (lm/backoffs.py). A word that is not listed after h by any model gets
B(h) p(w | h'), where the mixture would have sum_i lambda_i B_i(h) p_i(w | h'): that is all the difference, and none
where one history is known to one model alone. A word that p_i lacks has the probability 0 in it, and in a history cuts
off what stands before it; an unknown word <unk> is a word like others. So the mixture sums to one over all words.

Weights. The likelihood of a text, prod_t sum_i lambda_i p_i(w_t | h_t), is concave in lambda, and EM climbs to its
maximum: with the posterior that w_t came from model i,

    gamma_i(t) = lambda_i p_i(w_t | h_t) / sum_j lambda_j p_j(w_t | h_t)        lambda_i <- mean over t of gamma_i(t)

Words to which no model gives a probability are left out of the text.
"""

from __future__ import annotations

import math
from typing import Iterable, List, NamedTuple, Sequence, Tuple

import numpy as np

from hybrid.errors import ConfigError, DataError
from hybrid.lm.arrays import Columns, NgramArrays, sorting
from hybrid.lm.backoffs import log10, normalise, power
from hybrid.lm.perplexity import number_text, score
from hybrid.lm.text import START, Sentence

_STEPS, _LEAST_STEP = 10_000, 1e-7


class Weights(NamedTuple):
    """weights: of each model, they sum to one; perplexity: that of the mixture on the text; words: of the text that
    were counted, sentence ends among them; left_out: those to which no model gives a probability."""

    weights: Tuple[float, ...]
    perplexity: float
    words: int
    left_out: int


def tune_weights(models: Sequence[NgramArrays], sentences: Iterable[Sentence]) -> Weights:
    """Return the weights under which the mixture of the models gives the text the highest probability, by EM.

    Raises DataError for a text without a sentence, or of which no word has a probability in any model.
    """
    text = list(sentences)
    scores = [score(model, number_text(model, text, unknown=False))[0] for model in models]
    probs = np.stack([power(values) for values in scores], axis=1)
    known = probs.sum(axis=1) > 0.0
    left_out, probs = int((~known).sum()), probs[known]
    if not len(probs):
        raise DataError("no word of the text has a probability in any of the models", remedy="give another text")
    weights = np.full(len(models), 1.0 / len(models))
    for _ in range(_STEPS):
        joint = probs * weights
        updated = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
        step = float(np.abs(updated - weights).max())
        weights = updated
        if step < _LEAST_STEP:
            break
    logprob = float(np.log(probs @ weights).sum())
    return Weights(tuple(weights.tolist()), math.exp(-logprob / len(probs)), len(probs), left_out)


def check_weights(weights: Sequence[float], number: int) -> None:
    """Raise ConfigError where these are not `number` weights that sum to one."""
    if len(weights) != number:
        raise ConfigError(f"{len(weights)} weights for {number} models", remedy="give one for each model")
    if not all(0.0 <= weight <= 1.0 for weight in weights) or abs(sum(weights) - 1.0) > 1e-3:
        listed = ", ".join(f"{weight:g}" for weight in weights)
        raise ConfigError(
            f"the weights {listed} sum to {sum(weights):g}", remedy="give numbers of 0 to 1 that sum to 1"
        )


def interpolate(models: Sequence[NgramArrays], weights: Sequence[float]) -> NgramArrays:
    """Return the static interpolation of two or more models. Raises ConfigError for weights that do not sum to one."""
    check_weights(weights, len(models))
    shares = np.asarray(weights) / sum(weights)
    words = sorted({word for model in models for word in model.words})
    place = {word: number for number, word in enumerate(words)}
    into = [np.array([place[word] for word in model.words], np.int32) for model in models]
    columns: List[Columns] = []
    for order in range(1, max(model.order for model in models) + 1):
        # a model of weight 0 adds no n-grams: all the others' would be written down again
        rows = _union([
            numbers[model.rows(order)] for model, numbers, share in zip(models, into, shares)
            if order <= model.order and (share > 0.0 or order == 1)
        ])  # fmt: skip
        if order > 1 and START in place:
            rows = rows[rows[:, -1] != place[START]]
        prob = np.zeros(len(rows))
        for model, numbers, share in zip(models, into, shares):
            known = np.full(len(words), -1, np.int32)
            known[numbers] = np.arange(len(numbers), dtype=np.int32)
            prob += share * power(model.scores(known[rows])[0])
        columns.append(Columns(rows, log10(prob), np.zeros(len(rows))))
    return normalise(NgramArrays.from_columns(words, columns))


def _union(tables: Sequence[np.ndarray]) -> np.ndarray:
    """Return the rows of all tables, each once, sorted."""
    rows = np.concatenate(tables)
    order = sorting(rows)
    rows = rows if order is None else rows[order]
    first = np.concatenate([[True], (rows[1:] != rows[:-1]).any(axis=1)]) if len(rows) else np.zeros(0, bool)
    return rows[first]
