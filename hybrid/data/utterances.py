"""Utterances to train on, and where they come from: a list in memory, or whatever gives one when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Protocol, Sequence, Tuple, Union, overload

import numpy as np

from hybrid.data.text_column import repeated
from hybrid.errors import DataError

IGNORE = -100  # the pdf of a frame that has none: padding, or a frame without alignment


@dataclass
class Utterance:
    """features: float32 [T, D]; pdfs: int [T] (0-based, -100: not to be trained on) or None; extra: passed through."""

    id: str
    features: np.ndarray
    pdfs: Optional[np.ndarray] = None
    extra: Dict[str, Any] = field(default_factory=dict)

    @property
    def num_frames(self) -> int:
        return int(self.features.shape[0])


class UtteranceSource(Protocol):
    """What batches are made of: utterance i of len(source) is source[i], the same however often it is asked for.

    lengths: int64 [N], frames; dim: features a frame. One that reads from disk holds little more than numbers, is
    picklable, and has looked at all of its utterances when it was opened.
    """

    @property
    def lengths(self) -> np.ndarray: ...

    @property
    def dim(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Utterance: ...

    def id(self, index: int) -> str: ...

    def features(self, index: int) -> np.ndarray:
        """Return the features of source[index] alone."""


class HeldUtterances(Sequence[Utterance]):
    """A source of utterances that lie in memory. Raises DataError as `check_utterances`."""

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        self._utterances = list(utterances)
        check_utterances(self._utterances)
        self.lengths = np.array([utterance.num_frames for utterance in self._utterances], dtype=np.int64)
        self.dim = int(self._utterances[0].features.shape[1])

    def id(self, index: int) -> str:
        return self._utterances[index].id

    def __len__(self) -> int:
        return len(self._utterances)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> List[Utterance]: ...
    def __getitem__(self, index: Union[int, slice]) -> Union[Utterance, List[Utterance]]:
        return self._utterances[index]

    def features(self, index: int) -> np.ndarray:
        return self._utterances[index].features


class JoinedUtterances:
    """Several sources as one, one after the other. Raises DataError for an id that two have, and for other features."""

    def __init__(self, sources: Sequence[UtteranceSource]) -> None:
        self.sources = [source for source in sources if len(source)]
        if not self.sources:
            raise DataError("no utterances to make batches of", remedy="look at problems.jsonl of the stages before")
        self.lengths = np.concatenate([source.lengths for source in self.sources])
        self._ends = np.cumsum([len(source) for source in self.sources])
        self.dim = self.sources[0].dim
        for source in self.sources[1:]:
            if source.dim != self.dim:
                problem = f"{source.dim} features a frame where the others have {self.dim}"
                raise DataError(problem, utterance=source.id(0))
        check_ids(len(self), self.id)

    def id(self, index: int) -> str:
        source, place = self._place(index)
        return source.id(place)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Utterance:
        source, place = self._place(index)
        return source[place]

    def features(self, index: int) -> np.ndarray:
        source, place = self._place(index)
        return source.features(place)

    def _place(self, index: int) -> Tuple[UtteranceSource, int]:
        index = range(len(self))[index]
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.sources[number], index - (int(self._ends[number - 1]) if number else 0)


def source_of(utterances: Union[Sequence[Utterance], UtteranceSource]) -> UtteranceSource:
    """Return a source as it is, a list as one. Raises DataError as `check_utterances`."""
    if hasattr(utterances, "lengths"):
        if not len(utterances):
            check_utterances([])
        return utterances  # type: ignore[return-value]
    return HeldUtterances(utterances)  # type: ignore[arg-type]


def check_utterances(utterances: Sequence[Utterance]) -> None:
    if not utterances:
        raise DataError("no utterances to make batches of", remedy="look at problems.jsonl of the stages before")
    check_ids(len(utterances), lambda place: utterances[place].id)
    dim = None
    for utterance in utterances:
        check_utterance(utterance, dim)
        dim = utterance.features.shape[1]


def check_ids(count: int, id_of: Callable[[int], str]) -> None:
    """Raise DataError where two of so many utterances have one id."""
    identifier = repeated(count, id_of)
    if identifier is not None:
        raise DataError("the id stands twice", utterance=identifier, remedy="ids must be unique")


def check_utterance(utterance: Utterance, dim: Optional[int] = None) -> None:
    """Raise DataError unless a training can use the utterance; dim: of the others' features."""
    x = utterance.features
    if not isinstance(x, np.ndarray) or x.ndim != 2 or x.dtype.kind != "f":
        raise DataError("features are not a float matrix [frames, dimension]", utterance=utterance.id)
    if x.shape[0] == 0:
        raise DataError("no frames", utterance=utterance.id, remedy="leave it out: it is too short")
    if dim is not None and x.shape[1] != dim:
        raise DataError(f"{x.shape[1]} features a frame where the others have {dim}", utterance=utterance.id)
    if not np.isfinite(x).all():
        raise DataError("features are not finite", utterance=utterance.id, remedy="look at its audio")
    if utterance.pdfs is not None:
        pdfs = np.asarray(utterance.pdfs)
        if pdfs.shape != (x.shape[0],) or pdfs.dtype.kind not in "iu":
            raise DataError(
                f"pdfs of the shape {list(pdfs.shape)} ({pdfs.dtype}) for {x.shape[0]} frames",
                utterance=utterance.id,
                remedy="alignments and features must have the same cuts and frame shift: run both stages again",
            )
        if pdfs.size and bool(((pdfs < 0) & (pdfs != IGNORE)).any()):
            raise DataError("a negative pdf", utterance=utterance.id, remedy="pdf ids start at 0; -100 is no pdf")
