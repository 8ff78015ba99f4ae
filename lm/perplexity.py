"""The perplexity of compact models on texts of any length, block by block; the numbers are NgramModel.perplexity's."""

from __future__ import annotations

from typing import Iterable, Iterator, List, NamedTuple, Tuple

import numpy as np

from hybrid.errors import DataError
from hybrid.lm.arrays import NgramArrays
from hybrid.lm.model import LN10, Perplexity
from hybrid.lm.text import END, START, Sentence, sentence_words
from hybrid.lm.trie import score_text

_BLOCK = 1 << 20  # words


class NumberedText(NamedTuple):
    """numbers: of <s>, the words and </s> of each sentence, int32, -1 for those that the model lacks; begins: True at
    each <s>; oovs: words outside the vocabulary, whatever number they have; sentences: their number."""

    numbers: np.ndarray
    begins: np.ndarray
    oovs: int
    sentences: int


def number_text(model: NgramArrays, sentences: Iterable[Sentence], *, unknown: bool = True) -> NumberedText:
    """Return a text in the model's numbers; empty sentences are left out. unknown: words that the model lacks are its
    unknown word, where it has one.

    Raises DataError where there is no sentence, and for <s> or </s> within one."""
    blocks = list(_numbered(model, sentences, unknown, 0))
    if not blocks:
        raise DataError("no sentence to measure", remedy="give a text with one sentence a line")
    return blocks[0]


def _numbered(model: NgramArrays, sentences: Iterable[Sentence], unknown: bool, most: int) -> Iterator[NumberedText]:
    """Yield the sentences in blocks of `most` words, all at once where that is 0."""
    tokens: List[str] = []
    begins: List[int] = []
    for number, sentence in enumerate(sentences, 1):
        words = sentence_words(sentence, f"sentence {number}")
        if not words:
            continue
        begins.append(len(tokens))
        tokens += [START, *words, END]
        if most and len(tokens) >= most:
            yield _block(model, tokens, begins, unknown)
            tokens, begins = [], []
    if tokens:
        yield _block(model, tokens, begins, unknown)


def _block(model: NgramArrays, tokens: List[str], begins: List[int], unknown: bool) -> NumberedText:
    missing = np.array([token not in model for token in tokens])
    numbers = model.numbers(tokens)
    if not unknown:
        numbers[missing] = -1
    first = np.zeros(len(tokens), bool)
    first[begins] = True
    return NumberedText(numbers, first, int((missing & ~first).sum()), len(begins))


def score(model: NgramArrays, text: NumberedText) -> Tuple[np.ndarray, np.ndarray]:
    """Return log10 p of each word and sentence end given what stands before it (-inf for 0, and for words without a
    number), and the length of the n-gram that it was found at, 0 for words without a number."""
    scores, orders = np.empty(len(text.numbers)), np.empty(len(text.numbers), np.int32)
    score_text(
        model.ids, model.children, model.logprob, model.backoff, model.order, text.numbers, text.begins, scores, orders
    )
    return scores[~text.begins], orders[~text.begins]


def perplexity(model: NgramArrays, sentences: Iterable[Sentence]) -> Perplexity:
    """Measure the perplexity of the model on sentences, as NgramModel.perplexity does, and count at which order their
    words were found. Raises DataError as that."""
    logprob, words, count, oovs, zeros, events = 0.0, 0, 0, 0, 0, 0
    hits = np.zeros(model.order + 1, np.int64)
    for block in _numbered(model, sentences, True, _BLOCK):
        scores, orders = score(model, block)
        possible = np.isfinite(scores)
        hits += np.bincount(orders, minlength=len(hits))
        logprob += float(scores[possible].sum()) * LN10
        events += int(possible.sum())
        zeros += int((orders > 0).sum() - possible.sum())
        oovs += block.oovs
        count += block.sentences
        words += len(scores) - block.sentences
    if not count:
        raise DataError("no sentence to measure", remedy="give a text with one sentence a line")
    return Perplexity(logprob, words, count, oovs, zeros, events, tuple(hits[1:].tolist()))
