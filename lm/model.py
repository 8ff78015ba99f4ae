"""NgramModel: a back-off n-gram model in memory, whatever it was read from or trained on.

    p(w | h) = P(h w)                         if the n-gram h w is listed
             = B(h) p(w | h without its first word)   otherwise, B(h) = 1 where h is not listed

P and B are the two columns of an ARPA file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from hybrid.errors import DataError
from hybrid.lm.text import END, START, Sentence, sentence_words

UNKNOWN_NAMES = ("<unk>", "<UNK>")
LOG10_ZERO = -99.0  # how ARPA files write the logarithm of 0
LN10 = math.log(10.0)

Ngram = Tuple[str, ...]


@dataclass(frozen=True)
class Perplexity:
    """logprob: natural log of all words and sentence ends that have a probability; `words` counts without the
    sentence ends; `oovs` words are outside the vocabulary: counted as words and, where the model has an unknown
    word, with its probability, else left out of logprob (as SRILM's `ngram -ppl`); `zeros`: probability 0, left out;
    `hits`: how many words and sentence ends were found at each order, from 1-grams on; () where it was not counted.
    """

    logprob: float
    words: int
    sentences: int
    oovs: int
    zeros: int
    events: int
    hits: Tuple[int, ...] = ()

    @property
    def perplexity(self) -> float:
        """The perplexity exp(-logprob / events), events being the words and sentence ends that logprob holds."""
        return math.exp(-self.logprob / self.events) if self.events else math.inf


class NgramModel:
    """probs[k - 1]: {k-gram: log10 P}; backoffs[k - 1]: {k-gram: log10 B}, absent entries are 0.

    The highest order has no back-offs. Logarithms are base 10 as in the file; `logprob` gives natural ones.
    """

    def __init__(
        self,
        probs: Sequence[Dict[Ngram, float]],
        backoffs: Sequence[Dict[Ngram, float]],
        notices: Sequence[str] = (),
    ) -> None:
        if not probs or not probs[0]:
            raise DataError("an n-gram model without a word", remedy="train it on text, or give another file")
        self.probs = list(probs)
        self.backoffs = list(backoffs)
        self.order = len(self.probs)
        self.notices = list(notices)
        self.vocabulary: List[str] = [word for (word,) in self.probs[0] if word != START]
        self.unknown: Optional[str] = next((name for name in UNKNOWN_NAMES if (name,) in self.probs[0]), None)

    def __contains__(self, word: object) -> bool:
        return (word,) in self.probs[0]

    def _map(self, word: str) -> Optional[str]:
        return word if (word,) in self.probs[0] else self.unknown

    def logprob(self, word: str, history: Sequence[str] = ()) -> float:
        """Return the natural log of p(word | history); the history is cut to the last `order` - 1 words.

        `<s>` begins a sentence's history, `</s>` is the word that ends it. A word outside the vocabulary
        counts as the unknown word if the model has one, else its probability is 0 (-inf); in a history it
        then cuts off what stands before it.
        """
        mapped = self._map(word)
        if mapped is None or mapped == START:
            return -math.inf
        context: List[str] = []
        for history_word in list(history)[len(history) - min(len(history), self.order - 1) :]:
            context_word = self._map(history_word)
            context = [*context, context_word] if context_word is not None else []
        return LN10 * self._log10(mapped, tuple(context))

    def _log10(self, word: str, context: Ngram) -> float:
        total = 0.0
        while True:
            prob = self.probs[len(context)].get((*context, word))
            if prob is not None:
                value = total + prob
                return value if prob > LOG10_ZERO else -math.inf
            total += self.backoffs[len(context) - 1].get(context, 0.0)
            context = context[1:]

    def sentence_logprob(self, words: Sequence[str]) -> float:
        """Return the natural log of the probability of the whole sentence, its end included."""
        history = [START]
        total = 0.0
        for word in [*words, END]:
            total += self.logprob(word, history)
            history.append(word)
        return total

    def perplexity(self, sentences: Iterable[Sentence]) -> Perplexity:
        """Measure the perplexity of the model on sentences.

        Sentences are strings of words or sequences of them; `<s>` and `</s>` around them may be there or not, and
        count alike. Empty ones are skipped.

        Raises DataError where there is none, and for `<s>` or `</s>` within one.
        """
        logprob, words, count, oovs, zeros, events = 0.0, 0, 0, 0, 0, 0
        for number, sentence in enumerate(sentences, 1):
            tokens = sentence_words(sentence, f"sentence {number}")
            if not tokens:
                continue
            count += 1
            words += len(tokens)
            history = [START]
            for word in [*tokens, END]:
                oov = word not in self
                oovs += oov
                if not oov or self.unknown is not None:
                    value = self.logprob(word, history)
                    if value == -math.inf:
                        zeros += 1
                    else:
                        logprob += value
                        events += 1
                history.append(word)
        if not count:
            raise DataError("no sentence to measure", remedy="give a text with one sentence a line")
        return Perplexity(logprob, words, count, oovs, zeros, events)
