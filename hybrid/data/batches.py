"""Batches of utterances that follow from (seed, epoch) alone, whether these lie in memory or are read when asked for.

Batches hold utterances of similar length (batch_plan.py), drawn from all there are: the order takes no more than their
lengths, and an utterance is read where its batch is made. Memory is then that of a batch, and the numbers are those of
a list in memory. What is too large for random access, as millions of hours on slow disks, is streamed (stream.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from hybrid.data.batch_plan import BatchPlan
from hybrid.data.utterances import IGNORE, Utterance, UtteranceSource, check_utterance, source_of
from hybrid.errors import ConfigError

__all__ = ["IGNORE", "Batch", "Batches", "Chain", "Epoch", "Utterance", "check_seed", "check_utterance", "collate"]

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]
Choice = Callable[[int], Union[np.ndarray, Sequence[int]]]


@dataclass(frozen=True)
class Chain:
    """Transforms one after the other, with one generator."""

    transforms: Tuple[Transform, ...]

    def __call__(self, features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for transform in self.transforms:
            features = transform(features, rng)
        return features


@dataclass
class Batch:
    """features [B, T, D] float32, zero-padded (of text: tokens, int64 [B, T]); lengths [B] int64, longest first; pdfs
    [B, T] int64, padded with -100, or None where not every utterance has some."""

    ids: List[str]
    features: Tensor
    lengths: Tensor
    pdfs: Optional[Tensor]
    utterances: List[Utterance]

    def to(self, device: torch.device) -> Batch:
        """Return the batch with features and pdfs on `device`; lengths stay on the CPU: loops and packing read them."""
        if self.features.device == device:
            return self
        pdfs = None if self.pdfs is None else self.pdfs.to(device)
        return Batch(self.ids, self.features.to(device), self.lengths, pdfs, self.utterances)

    @property
    def num_frames(self) -> int:
        return int(self.lengths.sum())


def collate(utterances: Sequence[Utterance], features: Optional[Sequence[np.ndarray]] = None) -> Batch:
    """Make one batch, longest first (ties in the order given).

    `features` replaces the utterances' own, where changed.
    """
    arrays = [utterance.features for utterance in utterances] if features is None else list(features)
    order = sorted(range(len(arrays)), key=lambda i: (-arrays[i].shape[0], i))
    frames, dim = arrays[order[0]].shape
    x = np.zeros((len(arrays), frames, dim), dtype=np.float32)
    # Targets are there for all or for none: a mixed batch would train on half of what it was given.
    targets = None
    if all(utterance.pdfs is not None for utterance in utterances):
        targets = np.full((len(arrays), frames), IGNORE, dtype=np.int64)
    for row, i in enumerate(order):
        length = arrays[i].shape[0]
        x[row, :length] = arrays[i]
        if targets is not None:
            targets[row, :length] = utterances[i].pdfs  # type: ignore[assignment]
    sorted_utterances = [utterances[i] for i in order]
    return Batch(
        ids=[utterance.id for utterance in sorted_utterances],
        features=torch.from_numpy(x),
        lengths=torch.tensor([arrays[i].shape[0] for i in order], dtype=torch.int64),
        pdfs=None if targets is None else torch.from_numpy(targets),
        utterances=sorted_utterances,
    )


class Epoch(Sequence[Batch]):
    """The batches of one epoch: `.indices` lists the utterances of each; a batch is built when it is asked for."""

    def __init__(self, batches: Batches, number: int, indices: List[List[int]]) -> None:
        self.batches = batches
        self.number = number
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index):  # type: ignore[override]
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.batches.collate(self.number, self.indices[index])

    def __iter__(self) -> Iterator[Batch]:
        return (self[i] for i in range(len(self)))

    def ids(self, index: int) -> List[str]:
        return [self.batches.utterances.id(i) for i in self.indices[index]]


class Batches:
    """Batches of at most `max_frames` padded frames; a longer utterance is a batch of its own.

    shuffle: off for development sets (longest first, the same every epoch). max_utterances: 0 for no limit.
    transform: e.g. SpecAugment, called with features [T, D] and a generator that follows from (seed, epoch,
    utterance); it returns new features of the same shape.
    choose: which utterances (their places) an epoch has, e.g. CopySampler; None: all. utterances: a list, or a source
    (utterances.py), whose checks were made when it was opened.
    Raises DataError that names the utterance: empty, not float [T, D], not finite, pdfs of another length or
    negative, an id twice, widths that differ.
    """

    def __init__(
        self,
        utterances: Union[Sequence[Utterance], UtteranceSource],
        max_frames: int,
        seed: int = 0,
        *,
        shuffle: bool = True,
        jitter: float = 0.15,
        max_utterances: int = 0,
        transform: Optional[Transform] = None,
        choose: Optional[Choice] = None,
    ) -> None:
        self.plan = BatchPlan(max_frames, jitter, max_utterances)
        self.utterances = source_of(utterances)
        self.max_frames = max_frames
        self.seed = check_seed(seed)
        self.shuffle = shuffle
        self.jitter = jitter
        self.max_utterances = max_utterances
        self.transform = transform
        self.choose = choose
        self.lengths = self.utterances.lengths

    @property
    def num_frames(self) -> int:
        return int(self.lengths.sum())

    @property
    def dim(self) -> int:
        return self.utterances.dim

    def epoch(self, number: int) -> Epoch:
        """Return the batches of epoch `number` (from 0): the same for the same seed, whatever was asked for before."""
        rng = np.random.default_rng([self.seed, int(number)])
        candidates = np.arange(len(self.utterances)) if self.choose is None else np.asarray(self.choose(int(number)))
        batches = self.plan.batches(self.lengths[candidates], rng if self.shuffle else None)
        indices = [candidates[places].tolist() for places in batches]
        return Epoch(self, int(number), indices)

    def collate(self, epoch: int, indices: Sequence[int]) -> Batch:
        utterances = [self.utterances[i] for i in indices]
        if self.transform is None:
            return collate(utterances)
        features = []
        for i, utterance in zip(indices, utterances):
            rng = np.random.default_rng([self.seed, 1, int(epoch), int(i)])
            features.append(self.transform(utterance.features, rng))
        return collate(utterances, features)


def check_seed(seed: int) -> int:
    """Return the seed. Raises ConfigError unless it is a whole number, 0 or more."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ConfigError(f"the seed is {seed!r}", remedy="a whole number, 0 or more")
    return int(seed)

