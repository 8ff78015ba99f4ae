"""How sure is it that a word of the transcript was said where the alignment puts it?

The word w of the frames s .. e-1 is compared with "anything", the phone loop of hybrid/align/loop.py. With b_k(t) the
log-likelihood of the loop's state k at frame t, kappa the acoustic scale, a_jk the transition probabilities,

    A_s(k)   = log a_0k + kappa b_k(s)                        a_0k: of beginning with state k
    A_t(k)   = kappa b_k(t) + log sum_j exp(A_t-1(j)) a_jk    s < t < e
    L        = log sum_k exp(A_e-1(k)) a_k,end                a_k,end: of leaving the last phone

gives L_loop over the loop's states, and L_word over the left-to-right states of the word's pronunciations (their
probabilities multiplied in), each a sum over all state sequences. The frames of one state are far from independent;
kappa (0.1, the usual scale of GMMs) stands for that. The score of the word and its confidence are

    r = L_word - L_loop,    confidence = 1 / (1 + exp(-(SLOPE r + OFFSET))),

with SLOPE 1 the posterior of the word against anything, the prior odds in exp(OFFSET). SLOPE and OFFSET are a logistic
regression on AN4 with words exchanged at random, at prior odds of 49 right words to a wrong one, so that about a share
p of the words with confidence p is right. (Scores are clipped at -15 for it: some right words, said unlike their
pronunciations, score as low as any wrong one, and would flatten the slope for all others. Of words with a confidence
near 0, more than that are right.) Scores divided by the word's phones or frames tell wrong words from right ones no
better (benchmarks/confidence.py measures them).

The naive form does word after word, state after state. Here all words of an utterance go through the frames together:
the loop's step is a matrix product of [words, K] with [K, K] after the largest A of each word is taken off (every state
of the loop is reached from every other, so what underflows could not win), and the step of the words' own chains is a
sum over the list of their arcs, in logs throughout (the last state of a chain may lie far behind the first and yet be
the only one that can end).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np

from hybrid.align.loop import MINUS_INFINITY, PhoneLoop

KAPPA = 0.1
SLOPE, OFFSET = 0.46, 5.0
WORST = -1000.0  # the score of a word that does not fit its frames


@dataclass(frozen=True)
class WordSpan:
    """A word at the frames start .. start + frames - 1: the loop's phones of each pronunciation, their log probs."""

    start: int
    frames: int
    pronunciations: Tuple[Tuple[int, ...], ...]
    log_probs: Tuple[float, ...]


def confidences(loop: PhoneLoop, loglikes: np.ndarray, words: Sequence[WordSpan], kappa: float = KAPPA) -> np.ndarray:
    """Return the confidence of each word [n], 0 to 1, from the log-likelihoods of pdfs `loglikes` [T, num_pdfs]."""
    return posterior(scores(loop, loglikes, words, kappa))


def posterior(score: np.ndarray) -> np.ndarray:
    """Return the confidences of scores: 0 to 1, rising."""
    return 1.0 / (1.0 + np.exp(-np.clip(SLOPE * np.asarray(score) + OFFSET, -500, 500)))


def scores(loop: PhoneLoop, loglikes: np.ndarray, words: Sequence[WordSpan], kappa: float = KAPPA) -> np.ndarray:
    """Return the score r of each word [n], at least WORST, from `loglikes` [T, num_pdfs]."""
    if not words:
        return np.zeros(0)
    x = kappa * loop.loglikes(loglikes)
    spans = [(word.start, word.frames) for word in words]
    return np.maximum(word_loglikes(loop, x, words) - loop_loglikes(loop, x, spans), WORST)


def loop_loglikes(loop: PhoneLoop, x: np.ndarray, spans: Sequence[Tuple[int, int]]) -> np.ndarray:
    """Return L_loop [n] of spans (start, frames); x [T, K] are scaled log-likelihoods."""
    start, frames = np.array(spans, dtype=np.int64).reshape(-1, 2).T
    order = np.argsort(-frames, kind="stable")  # longest first: those still running are the first rows
    start, frames = start[order], frames[order]
    alpha = np.full((len(order), loop.num_states), MINUS_INFINITY)
    alpha[:, loop.first[:-1]] = loop.start + x[start][:, loop.first[:-1]]
    for step in range(1, int(frames[0])):
        num_running = int(np.searchsorted(-frames, -step))
        rows = alpha[:num_running]
        best = rows.max(1, keepdims=True)
        with np.errstate(divide="ignore"):
            rows = np.log(np.exp(rows - best) @ loop.matrix) + best
        alpha[:num_running] = np.maximum(rows, MINUS_INFINITY) + x[start[:num_running] + step]
    totals = np.empty(len(order))
    totals[order] = _log_sum(alpha + loop.leave)
    return totals


def word_loglikes(loop: PhoneLoop, x: np.ndarray, words: Sequence[WordSpan]) -> np.ndarray:
    """Return L_word [n], MINUS_INFINITY or below where the word does not fit its frames.

    x [T, K] are scaled log-likelihoods.

    All pronunciations of all words are one list of chains: `state` is the loop's state of each, arcs (source, target,
    weight) are sorted by their targets, of which each has one at least (a loop, or the way in from the state before).
    """
    state, source, target, weight, owner, begins = _chains(loop, words)
    order = np.argsort(target, kind="stable")
    source, target, weight = source[order], target[order], weight[order]
    targets, offsets = np.unique(target, return_index=True)
    place = np.repeat(np.arange(len(targets)), np.diff(np.r_[offsets, len(target)]))
    start = np.array([word.start for word in words])[owner]
    frames = np.array([word.frames for word in words])[owner]
    alpha = np.full(len(state), MINUS_INFINITY)
    alpha[begins] = x[start[begins], state[begins]]
    result = alpha.copy()
    for step in range(1, int(frames.max())):
        values = alpha[source] + weight
        best = np.maximum.reduceat(values, offsets)
        alpha = np.full(len(state), MINUS_INFINITY)
        alpha[targets] = best + np.log(np.add.reduceat(np.exp(values - best[place]), offsets))
        alpha += x[np.minimum(start + step, len(x) - 1), state]
        result = np.where(step < frames, alpha, result)
    return _ends(loop, words, state, owner, begins, result)


def _chains(loop: PhoneLoop, words: Sequence[WordSpan]) -> Tuple[np.ndarray, ...]:
    """state, source, target, weight, owner (the word of each state), begins (the first state of each chain)."""
    state: List[np.ndarray] = []
    source: List[np.ndarray] = []
    target: List[np.ndarray] = []
    weight: List[np.ndarray] = []
    owner: List[int] = []
    begins: List[int] = []
    size = 0
    for number, word in enumerate(words):
        for phones in word.pronunciations:
            begins.append(size)
            previous_states = np.zeros(0, dtype=np.int64)  # the states of the phone before
            for phone in phones:
                states = np.arange(loop.first[phone], loop.first[phone + 1])
                block = loop.inside[states[0] : states[-1] + 1, states[0] : states[-1] + 1]
                rows, columns = np.nonzero(block > MINUS_INFINITY)
                leaving = loop.leave[state[-1]] if len(previous_states) else np.zeros(0)
                exits = previous_states[leaving > MINUS_INFINITY]
                source += [size + rows, exits]
                target += [size + columns, np.full(len(exits), size)]
                weight += [block[rows, columns], leaving[leaving > MINUS_INFINITY]]
                previous_states = np.arange(size, size + len(states))
                state.append(states)
                size += len(states)
                owner += [number] * len(states)
    parts = (np.concatenate(part) for part in (state, source, target, weight))
    return (*parts, np.array(owner), np.array(begins))


def _ends(
    loop: PhoneLoop, words: Sequence[WordSpan], state: np.ndarray, owner: np.ndarray, begins: np.ndarray,
    alpha: np.ndarray,
) -> np.ndarray:
    """Sums over the last phone's states of each chain, then over the pronunciations of each word."""
    ends = np.r_[begins[1:], len(state)]
    word_scores = np.full(len(words), MINUS_INFINITY)
    chain = 0
    for number, word in enumerate(words):
        values = []
        for phones, log_prob in zip(word.pronunciations, word.log_probs, strict=True):
            last = int(loop.first[phones[-1] + 1] - loop.first[phones[-1]])
            rows = slice(ends[chain] - last, ends[chain])
            values.append(log_prob + _log_sum((alpha[rows] + loop.leave[state[rows]])[None])[0])
            chain += 1
        word_scores[number] = _log_sum(np.array(values)[None])[0]
    return word_scores


def _log_sum(values: np.ndarray) -> np.ndarray:
    """Log of the sum of exponentials over the last axis."""
    best = values.max(-1, keepdims=True)
    return (best + np.log(np.exp(values - best).sum(-1, keepdims=True)))[..., 0]
