"""Small n-gram models for tests, and their distributions by enumeration."""

from __future__ import annotations

import itertools
from typing import Dict, List, Sequence, Tuple

from hypothesis import strategies as st

from hybrid.lm import ngram
from hybrid.lm.arrays import NgramArrays
from hybrid.lm.model import NgramModel

ABC = "abcd"
WORDS = st.sampled_from(list(ABC))
TEXTS = st.lists(st.lists(WORDS, min_size=1, max_size=6), min_size=1, max_size=12)


def arrays(sentences: Sequence, order: int = 3, **more) -> NgramArrays:
    return ngram.train_arrays(sentences, order, **more)


def histories(model: NgramArrays, length: int) -> List[Tuple[str, ...]]:
    """All that can stand before a word, up to so many words, listed or not."""
    words = [word for word in model.words if word not in ("<s>", "</s>")]
    found: List[Tuple[str, ...]] = []
    for number in range(length + 1):
        found += itertools.product(words, repeat=number)
        found += [("<s>", *rest) for rest in itertools.product(words, repeat=number - 1)] if number else []
    return found


def distribution(model: NgramArrays, history: Sequence[str]) -> Dict[str, float]:
    """{word: p(word | history)} by the readable implementation, of all words but <s>."""
    slow = model.to_model()
    return slow_distribution(slow, history)


def slow_distribution(model: NgramModel, history: Sequence[str]) -> Dict[str, float]:
    import math

    return {word: math.exp(model.logprob(word, history)) for word in model.vocabulary}
