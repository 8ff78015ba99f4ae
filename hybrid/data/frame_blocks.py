"""Frames of a signal that arrives piece by piece, the same numbers however it is cut.

A library computes many frames in one call, and the last bits of a frame depend on how many: matrix products, Fourier
transforms and logarithms are laid out by the size of a batch. So all frames are computed in blocks of BLOCK, frame t
in row t mod BLOCK of block t div BLOCK, here and for whole signals (FeatureExtractor.compute): a block that is not yet
full is computed with zeros in the place of what is to come. With N samples, windows of L every S samples,

    frame t reads samples t S - l .. t S - l + L - 1,   l = (L - S) div 2,   t = 0 .. round(N / S) - 1

where the signal is mirrored at both of its ends (Kaldi's snip-edges=false): frame t is complete once its last sample
has come, and those that reach beyond the end come with it. Memory: one block.
"""

from __future__ import annotations

from typing import Callable, Iterable, List, Tuple

import numpy as np

BLOCK = 64  # measured: whole signals take no longer than in one call, a frame alone a third of a millisecond


Compute = Callable[[List[np.ndarray]], Iterable[np.ndarray]]


class FrameBlocks:
    """accept(samples) -> the frames that they complete, finish() -> the rest; both float32 [frames, dim].

    compute: segments of (BLOCK - 1) * shift + length samples -> of each [BLOCK, dim]; on the CPU with the same bits
    whichever others are with it. A signal shorter than one window has no frame.
    """

    def __init__(self, compute: Compute, dim: int, length: int, shift: int) -> None:
        self._compute, self._dim = compute, dim
        self._length, self._shift = length, shift
        self._left = (length - shift) // 2
        self.reset()

    def reset(self) -> None:
        """Begin another signal."""
        self._new: List[np.ndarray] = []  # samples that no frame has looked at
        self._samples = np.zeros(0, np.float32)  # the mirrored signal from sample `_start` on
        self._start = 0
        self._received = 0
        self._done = 0  # frames

    @property
    def lookahead(self) -> int:
        """The samples that a frame waits for beyond its own shift."""
        return self._length - self._left - self._shift

    def accept(self, samples: np.ndarray) -> np.ndarray:
        """Take samples [N], any number of them."""
        if len(samples):
            self._new.append(samples)
            self._received += len(samples)
        ready = (self._received + self._left - self._length) // self._shift + 1
        if self._received < self._length or ready <= self._done:
            return np.zeros((0, self._dim), np.float32)
        self._gather()
        return self._frames(ready)

    def finish(self) -> np.ndarray:
        """Return the frames that reach beyond the end; the next sample begins another signal."""
        if self._received < self._length:
            self.reset()
            return np.zeros((0, self._dim), np.float32)
        self._gather()
        frames = (self._received + self._shift // 2) // self._shift
        missing = (frames - 1) * self._shift + self._length - self._left - self._received
        if missing > 0:
            self._samples = np.concatenate([self._samples, self._samples[: -missing - 1 : -1]])
        result = self._frames(frames)
        self.reset()
        return result

    def _gather(self) -> None:
        """Append what has come to the signal, the first time with its mirror image before it."""
        if self._start == 0 and not len(self._samples):
            whole = np.concatenate(self._new)
            self._new = [whole[: self._left][::-1], whole]
        self._samples = np.concatenate([self._samples, *self._new])
        self._new = []

    def _frames(self, end: int) -> np.ndarray:
        """Frames `_done` .. end."""
        size = (BLOCK - 1) * self._shift + self._length
        segments: List[np.ndarray] = []
        spans: List[Tuple[int, int]] = []  # of a block's rows
        while self._done < end:
            first = self._done - self._done % BLOCK
            last = min(end, first + BLOCK)
            begin = first * self._shift - self._start
            segment = self._samples[begin : begin + (last - 1 - first) * self._shift + self._length]
            if len(segment) < size:
                segment = np.concatenate([segment, np.zeros(size - len(segment), np.float32)])
            segments.append(segment)
            spans.append((self._done - first, last - first))
            self._done = last
        rows = [block[begin:end] for block, (begin, end) in zip(self._compute(segments), spans)]
        # One window before the block stays, for the mirror image at the end.
        keep = max(0, (self._done - self._done % BLOCK) * self._shift - self._length - self._start)
        self._samples, self._start = self._samples[keep:].copy(), self._start + keep
        return np.concatenate(rows) if rows else np.zeros((0, self._dim), np.float32)
