"""Text to train on: sentences as tokens, and batches of them that follow from (seed, epoch) as those of speech do.

A token takes four bytes, a sentence sixteen more. Batches have token numbers where those of speech have features, and
what is to be predicted where those of speech have pdfs, so that the trainer and its cross-entropy serve both.
"""

from __future__ import annotations

from array import array
from typing import Any, Iterable, Sequence, Tuple

import numpy as np
import torch

from hybrid.data.batches import Batch, Batches
from hybrid.data.tokens import END, MASK, SPECIALS, Tokens
from hybrid.data.utterances import IGNORE, Utterance
from hybrid.errors import ConfigError, DataError

LONGEST = 4000  # tokens of a sentence, unless a model reads fewer


class Sentences:
    """An UtteranceSource of sentences: their tokens in one row, with <s> and </s>. A sentence's "features" are its
    tokens, int32 [n + 2, 1]. Empty ones are left out.

    Raises DataError where none is left, and for a sentence above `longest` tokens.
    """

    dim = 1

    def __init__(self, sentences: Iterable[Sequence[str]], tokens: Tokens, *, longest: int = LONGEST) -> None:
        row_of_all, lengths = array("i"), array("i")
        for number, words in enumerate(sentences, 1):
            if not words:
                continue
            row = tokens.encode(words)
            if len(row) > longest:
                raise DataError(
                    f"sentence {number} has {len(row)} tokens, above {longest}: {' '.join(words[:5])} ...",
                    remedy="give one sentence a line, and leave longer ones out",
                )
            row_of_all.frombytes(row.tobytes())
            lengths.append(len(row))
        if not lengths:
            raise DataError("no sentence to train on", remedy="give a text with one sentence a line")
        self.lengths = np.array(lengths, dtype=np.int64)
        self._ends = np.cumsum(self.lengths)
        self._tokens = np.array(row_of_all, dtype=np.int32)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> Utterance:
        index = range(len(self))[index]
        return Utterance(self.id(index), self.features(index))

    def id(self, index: int) -> str:
        return f"sentence-{index + 1}"

    def features(self, index: int) -> np.ndarray:
        return self._tokens[self._ends[index] - self.lengths[index] : self._ends[index], None]

    def row(self, index: int) -> np.ndarray:
        """Return the tokens of a sentence, int32 [n + 2]."""
        return self.features(index)[:, 0]


class _TextBatches(Batches):
    """Batches of Sentences; `examples` says what is read and what is to be predicted."""

    utterances: Sentences  # type: ignore[assignment]

    def __init__(self, sentences: Sentences, max_tokens: int, seed: int = 0, *, shuffle: bool = True) -> None:
        super().__init__(sentences, max_tokens, seed, shuffle=shuffle)

    def collate(self, epoch: int, indices: Sequence[int]) -> Batch:
        return collate_tokens([self.example(epoch, i) for i in indices], [self.utterances.id(i) for i in indices])

    def example(self, epoch: int, index: int) -> Any:
        raise NotImplementedError


class NextTokens(_TextBatches):
    """For a model that predicts from the left: reads <s> t_1 ... t_n, is to predict t_1 ... t_n </s>."""

    def example(self, epoch: int, index: int) -> Any:
        row = self.utterances.row(index)
        return row[:-1], row[1:]


class MaskedTokens(_TextBatches):
    """For a masked language model (Devlin et al. 2019, section 3.1): of the tokens between <s> and </s> a share
    `masked`, one at least, is to be predicted; of these 80 % are read as <mask>, 10 % as a token drawn from all, 10 %
    as they are.

    What is masked follows from (seed, epoch, sentence); a development set's masks are the same in each epoch.
    """

    def __init__(
        self, sentences: Sentences, max_tokens: int, seed: int = 0, *, num_tokens: int, masked: float = 0.15,
        shuffle: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(sentences, max_tokens, seed, shuffle=shuffle)
        if not 0 < masked < 1:
            raise ConfigError(f"masked is {masked!r}", remedy="the share of tokens to predict, e.g. 0.15")
        self.num_tokens, self.masked = num_tokens, masked

    def example(self, epoch: int, index: int) -> Any:
        row = self.utterances.row(index)
        random = np.random.default_rng([self.seed, 1, epoch, index])
        places = 1 + random.permutation(len(row) - 2)[: max(1, round(self.masked * (len(row) - 2)))]
        read, wanted = row.copy(), np.full(len(row), IGNORE, np.int64)
        wanted[places] = row[places]
        draw = random.random(len(places))
        read[places[draw < 0.8]] = MASK
        others = places[draw >= 0.9]
        read[others] = random.integers(len(SPECIALS), self.num_tokens, len(others))
        return read, wanted


def collate_tokens(examples: Sequence[Any], ids: Sequence[str]) -> Batch:
    """Make a batch of pairs (read, to be predicted), longest first; features int64 [B, T], padded with </s>."""
    order = sorted(range(len(examples)), key=lambda i: (-len(examples[i][0]), i))
    tokens, lengths = padded([examples[i][0] for i in order])
    wanted, _ = padded([examples[i][1] for i in order], IGNORE)
    return Batch(ids=[ids[i] for i in order], features=tokens, lengths=lengths, pdfs=wanted, utterances=[])


def padded(rows: Sequence[np.ndarray], filler: int = END) -> Tuple[torch.Tensor, torch.Tensor]:
    """Return tokens int64 [R, T], padded with `filler`, and lengths int64 [R], in the order given."""
    tokens = np.full((len(rows), max(map(len, rows))), filler, np.int64)
    for number, row in enumerate(rows):
        tokens[number, : len(row)] = row
    return torch.from_numpy(tokens), torch.tensor([len(row) for row in rows], dtype=torch.int64)
