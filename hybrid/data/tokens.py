"""What neural language models read: words of a closed list, or pieces of words (sentencepiece, BERT's), as numbers.

    0 <s>   1 </s>   2 <unk>   3 <mask>   4 ... the words or pieces

A sentence of n tokens is [<s>, t_1, ..., t_n, </s>]: a model that predicts from the left reads all but the last and
predicts all but the first; a BERT-like one reads all of it, <s> being its [CLS].

<unk> stands for many words, and the probability that a model gives it is that of all of them: of each it is the share
1 / unseen, `unseen` being how many they are. Without that a sentence is the better the more unknown words it has.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Union

import numpy as np

from hybrid.data.wordpiece import WordPieces
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import PathLike, read_json, write_json
from hybrid.lexicon.subword import Pieces

START, END, UNKNOWN, MASK = range(4)
SPECIALS = ("<s>", "</s>", "<unk>", "<mask>")
_NAMES, _PIECES = "tokens.json", "pieces.model"
_WORDPIECE = "wordpiece"


class Tokens:
    """names: of all tokens, the specials first; pieces: the model that splits words, None where words are tokens;
    unseen: the words that <unk> stands for."""

    def __init__(
        self, names: Sequence[str], pieces: Optional[Union[Pieces, WordPieces]] = None, unseen: int = 1
    ) -> None:
        """Raises ModelError unless the specials come first, every name stands once and unseen is 1 or more."""
        if isinstance(unseen, bool) or not isinstance(unseen, int) or unseen < 1:
            raise ModelError(f"<unk> for {unseen!r} words", remedy="train the model again")
        self.unseen = unseen
        self.names = list(names)
        self.pieces = pieces
        if tuple(self.names[: len(SPECIALS)]) != SPECIALS or not all(isinstance(name, str) for name in self.names):
            raise ModelError(f"tokens that do not begin with {' '.join(SPECIALS)}", remedy="train the model again")
        self.ids: Dict[str, int] = {name: number for number, name in enumerate(self.names)}
        if len(self.ids) != len(self.names):
            twice = next(name for name, count in Counter(self.names).items() if count > 1)
            raise ModelError(f"the token {twice} stands twice", remedy="train the model again")
        self._words: Dict[str, List[int]] = {}

    @classmethod
    def of_words(
        cls, sentences: Iterable[Sequence[str]], least: int = 1, most: int = 0, vocabulary: Iterable[str] = ()
    ) -> Tokens:
        """Take the words that occur at least `least` times, the most frequent first, at most `most` of them (0: all).
        <unk> stands for those left out, and for the words of `vocabulary`, of all that may be said.

        Raises ConfigError for a number out of range, DataError where no word is left.
        """
        if least < 1 or most < 0:
            raise ConfigError(f"words from {least} times on, at most {most}", remedy="1 or more, and 0 or more")
        counts = Counter(word for sentence in sentences for word in sentence)
        words = [word for word, count in counts.items() if count >= least and word not in SPECIALS]
        words.sort(key=lambda word: (-counts[word], word))
        if not words:
            raise DataError(f"no word occurs {least} times", remedy="give more text, or lower the least count")
        words = words[: most or None]
        return cls([*SPECIALS, *words], unseen=max(1, len({*counts, *vocabulary}.difference(words, SPECIALS))))

    @classmethod
    def of_pieces(cls, sentences: Iterable[Sequence[str]], size: int) -> Tokens:
        """Train a sentencepiece model of about `size` pieces. Raises as `Pieces.train`."""
        pieces = Pieces.train((" ".join(sentence) for sentence in sentences), size)
        return cls([*SPECIALS, *pieces.names], pieces)

    @classmethod
    def of_wordpieces(cls, pieces: WordPieces) -> Tokens:
        return cls([*SPECIALS, *pieces.names], pieces)

    def __len__(self) -> int:
        return len(self.names)

    def cost(self, tokens: Any) -> np.ndarray:
        """Return for each token what its cost -log p is more than the model's: log(unseen) of <unk>, else 0."""
        return np.where(np.asarray(tokens) == UNKNOWN, math.log(self.unseen), 0.0)

    def of_word(self, word: str) -> List[int]:
        """Return the tokens of a word; <unk> where it has none."""
        tokens = self._words.get(word)
        if tokens is None:
            if self.pieces is None:
                tokens = [self.ids.get(word, UNKNOWN)]
            else:
                pieces = self.pieces.encode(word) if self._covers(word) else [None]
                tokens = [UNKNOWN if piece is None else self.ids[piece] for piece in pieces]
            if len(self._words) < 1_000_000:  # what is read may have any number of words
                self._words[word] = tokens
        return tokens

    def _covers(self, word: str) -> bool:
        return self.pieces is not None and bool(word) and self.pieces.covers(word)

    def encode(self, words: Sequence[str]) -> np.ndarray:
        """Return the tokens of a sentence with <s> and </s> around them, int32 [n + 2]."""
        tokens = [START]
        for word in words:
            tokens += self.of_word(word)
        return np.array([*tokens, END], dtype=np.int32)

    def save(self, folder: PathLike) -> None:
        folder = Path(folder)
        if isinstance(self.pieces, Pieces):
            self.pieces.save(folder / _PIECES)
        kind = _WORDPIECE if isinstance(self.pieces, WordPieces) else self.pieces is not None
        about: Dict[str, Any] = {"names": self.names, "pieces": kind, "unseen": self.unseen}
        write_json(folder / _NAMES, about)

    @classmethod
    def load(cls, folder: PathLike) -> Tokens:
        """Read what `save` wrote. Raises DataError for a missing file, ModelError for one that is something else."""
        folder = Path(folder)
        about = read_json(folder / _NAMES)
        remedy = "train the model again"
        if not isinstance(about, dict) or not isinstance(about.get("names"), list):
            raise ModelError("not the tokens of a language model", file=folder / _NAMES, remedy=remedy)
        pieces: Optional[Union[Pieces, WordPieces]] = None
        try:
            if about.get("pieces") == _WORDPIECE:
                pieces = WordPieces(list(map(str, about["names"][len(SPECIALS) :])))
            elif about.get("pieces"):
                pieces = Pieces.load(folder / _PIECES)
            tokens = cls(about["names"], pieces, about.get("unseen", 1))
        except ModelError as error:
            raise ModelError(error.what, file=folder / _NAMES, remedy=error.remedy) from error
        if pieces is not None and tokens.names[len(SPECIALS) :] != pieces.names:
            raise ModelError("the tokens are not the pieces beside them", file=folder / _NAMES, remedy=remedy)
        return tokens
