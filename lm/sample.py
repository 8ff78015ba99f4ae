"""Sentences drawn from a back-off n-gram model.

After a history h a word is drawn from the n-grams listed under h, or the draw goes to the shorter history h' and is
repeated there until it gives a word that is not listed under h: of these, model.py has p(w | h) = B(h) p(w | h'). So
with m(h) the sum of p(w | h) over all words, and L(h) and L'(h) the sums of p(w | h) and of p(w | h') over those listed
under h, a listed one is drawn with probability

    L(h) / m(h),       m(h) = L(h) + B(h) (m(h') - L'(h)).

m is one in a model that was trained well, and not in all that are in use (CMU's of AN4 has p(</s> | <s>) = 1 beside a
back-off). No step looks at the whole vocabulary, except that of the shortest history. Unknown words are never drawn.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Dict, Iterator, List, Tuple

import numpy as np

from hybrid.errors import DataError
from hybrid.lm.model import END, LOG10_ZERO, START, Ngram, NgramModel

MOST_WORDS = 500  # of a sentence: a model that hardly ever ends one would go on


class Sampler:
    """Draws from `model` with `rng`. Raises DataError for a model that gives no word any probability."""

    def __init__(self, model: NgramModel, rng: np.random.Generator) -> None:
        self.model, self.rng = model, rng
        followers: Dict[Ngram, List[Tuple[str, float]]] = defaultdict(list)
        for probs in model.probs:
            for ngram, prob in probs.items():
                if ngram[-1] not in (START, model.unknown):
                    followers[ngram[:-1]].append((ngram[-1], 10.0**prob if prob > LOG10_ZERO else 0.0))
        if not any(prob for word, prob in followers[()] if word != END):
            raise DataError("no word of the n-gram model has a probability", remedy="train it again on some text")
        # history -> its words, the sums of their probabilities up to each, and m
        self._followers: Dict[Ngram, Tuple[List[str], np.ndarray, float]] = {}
        for history in sorted(followers, key=len):
            words = [word for word, _ in followers[history]]
            sums = np.cumsum([prob for _, prob in followers[history]])
            self._followers[history] = (words, sums, float(sums[-1]) + self._unlisted_mass(history, words))

    def _unlisted_mass(self, history: Ngram, followers: List[str]) -> float:
        """The probability of the words not listed under `history`."""
        if not history:
            return 0.0
        suffix = history[1:]
        backoff = 10.0 ** self.model.backoffs[len(history) - 1].get(history, 0.0)
        remainder = self._mass(suffix) - sum(math.exp(self.model.logprob(word, suffix)) for word in followers)
        return backoff * max(0.0, remainder)

    def _mass(self, history: Ngram) -> float:
        """m(history); of one under which nothing is listed that of its suffix times the back-off."""
        if history in self._followers:
            return self._followers[history][2]
        return 10.0 ** self.model.backoffs[len(history) - 1].get(history, 0.0) * self._mass(history[1:])

    def word(self, history: Ngram) -> str:
        """Draw the next word, END for none, after a history of at most order - 1 words, which may begin with START."""
        while history not in self._followers:
            history = history[1:]
        words, sums, mass = self._followers[history]
        place = int(np.searchsorted(sums, self.rng.random() * mass, side="right"))
        if place < len(words):
            return words[place]
        listed = self.model.probs[len(history)]
        for _ in range(10_000):
            word = self.word(history[1:])
            if (*history, word) not in listed:
                return word
        return words[-1]  # what is left to the shorter history is rounding

    def sentence(self) -> List[str]:
        """Draw a sentence, without START and END; it may be empty."""
        num_context = self.model.order - 1
        history: List[str] = [START]
        while len(history) <= MOST_WORDS:
            word = self.word(tuple(history[max(0, len(history) - num_context) :]))
            if word == END:
                break
            history.append(word)
        return history[1:]

    def text(self, words: int) -> Iterator[List[str]]:
        """Yield sentences, empty ones left out, until there are at least so many words. Raises DataError for a model
        that has none but empty sentences."""
        num_drawn, num_empty = 0, 0
        while num_drawn < words:
            sentence = self.sentence()
            num_drawn += len(sentence)
            num_empty = 0 if sentence else num_empty + 1
            if num_empty > 10_000:
                raise DataError("the n-gram model hardly has other than empty sentences", remedy="train it on text")
            if sentence:
                yield sentence
