"""N-best lists to train a rescorer on: a list is an utterance, a batch is made of whole lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import numpy as np

from hybrid.data.batches import Batch, Batches
from hybrid.data.text_batches import padded
from hybrid.data.utterances import Utterance
from hybrid.errors import DataError


@dataclass(frozen=True)
class Hypotheses:
    """One list of n hypotheses. tokens: of each, int32 [t + 2]; first: log scores of the first pass, float64 [n];
    errors: edit distances to the reference, float64 [n]; targets: log scores to learn, float64 [n], NaN: none."""

    id: str
    tokens: Sequence[np.ndarray]
    first: np.ndarray
    errors: np.ndarray
    targets: np.ndarray

    @property
    def num_tokens(self) -> int:
        """The tokens of the list's rows, padded."""
        return len(self.tokens) * max(map(len, self.tokens))


class HypothesisLists:
    """An UtteranceSource of lists; the length of one is its padded tokens. Raises DataError that names a bad list."""

    dim = 1

    def __init__(self, lists: Sequence[Hypotheses]) -> None:
        if not lists:
            raise DataError("no lists to train on", remedy="give n-best lists with references")
        for item in lists:
            sizes = {len(item.tokens), len(item.first), len(item.errors), len(item.targets)}
            if sizes == {0} or len(sizes) > 1:
                raise DataError("hypotheses, scores and errors of different numbers, or none", utterance=item.id)
            if not (np.isfinite(item.first).all() and np.isfinite(item.errors).all()):
                raise DataError("scores or errors that are not finite", utterance=item.id)
        self._lists = list(lists)
        self.lengths = np.array([item.num_tokens for item in lists], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._lists)

    def __getitem__(self, index: int) -> Utterance:
        item = self._lists[index]
        return Utterance(item.id, self.features(index), extra={"hypotheses": item})

    def id(self, index: int) -> str:
        return self._lists[index].id

    def features(self, index: int) -> np.ndarray:
        return np.concatenate(list(self._lists[index].tokens))[:, None]

    def list(self, index: int) -> Hypotheses:
        return self._lists[index]


class ListBatches(Batches):
    """Batches of HypothesisLists: features int64 [R, T], a row a hypothesis, those of a list one below the other;
    utterances: one a list, each with extra["hypotheses"]."""

    utterances: HypothesisLists  # type: ignore[assignment]

    def __init__(self, lists: HypothesisLists, max_tokens: int, seed: int = 0, *, shuffle: bool = True) -> None:
        super().__init__(lists, max_tokens, seed, shuffle=shuffle)

    def collate(self, epoch: int, indices: Sequence[int]) -> Batch:
        utterances = [self.utterances[i] for i in indices]
        rows = [row for i in indices for row in self.utterances.list(i).tokens]
        tokens, lengths = padded(rows)
        return Batch([u.id for u in utterances], tokens, lengths, None, utterances)
