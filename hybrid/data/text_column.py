"""Strings by the hundred thousand: ids, transcripts."""

from __future__ import annotations

from array import array
from typing import Callable, Iterable, Optional, Sequence

import numpy as np


class TextColumn(Sequence[str]):
    """Strings in one buffer of UTF-8, as they were appended: eight bytes each beside their own.

    A list of str takes some sixty. What is appended stays; it is picklable.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes = bytearray()
        self._ends = array("q")
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        # A lone surrogate is no UTF-8, and yet a file's name may have one.
        self._bytes += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, place):  # type: ignore[no-untyped-def, override]
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        begin = self._ends[place - 1] if place else 0
        return self._bytes[begin : self._ends[place]].decode("utf-8", "surrogatepass")


def repeated(count: int, text_of: Callable[[int], str]) -> Optional[str]:
    """Return a string that stands twice among text_of(0) ... text_of(count - 1), the first by its second place; None
    where all differ.

    Hashes are compared, eight bytes each, and only where two are equal the strings: a set of all would be far larger.
    """
    hashes = np.fromiter((hash(text_of(place)) for place in range(count)), np.int64, count)
    order = np.argsort(hashes, kind="stable")
    same = hashes[order[1:]] == hashes[order[:-1]]
    seen = set()
    for place in np.unique(np.r_[order[1:][same], order[:-1][same]]).tolist():
        text = text_of(place)
        if text in seen:
            return text
        seen.add(text)
    return None
