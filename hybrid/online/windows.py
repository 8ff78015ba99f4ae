"""Recordings of any length through a network that keeps no state (onnxruntime's): window by window, in flat memory.

A window is CHUNK network frames with CONTEXT more on either side, whose outputs are thrown away: a recording of up to
21 seconds is one window, and has the numbers of the whole; in a longer one a recurrent network begins anew 3 seconds
before the frames that count.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Protocol

import numpy as np

from hybrid.data.cmvn import CmvnStats
from hybrid.data.feature_config import FeatureConfig
from hybrid.data.features import FeatureExtractor
from hybrid.data.online_cmvn import OnlineCmvn, OnlineCmvnConfig
from hybrid.online.features import FrameStack, OnlineFeatures

CHUNK, CONTEXT = 600, 100  # network frames


class Outputs(Protocol):
    """A network with all that it reads (hybrid/decode/acoustics.py)."""

    features: FeatureConfig
    num_pdfs: int
    cmvn: str
    online_cmvn: OnlineCmvnConfig
    frame_subsampling_factor: int

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """Return the log-likelihoods [T, num_pdfs] of x [T, input_dim]."""
        ...


class WindowedStream:
    """accept(samples) and finish() return rows float32 [frames, num_pdfs], the same however the samples come.

    stats: of the recording or its speaker, where the network reads features without their mean.
    """

    def __init__(self, acoustics: Outputs, extractor: FeatureExtractor, stats: Optional[CmvnStats] = None) -> None:
        self._acoustics, self._stats = acoustics, stats
        self._features = OnlineFeatures(extractor)
        self._cmvn = OnlineCmvn(acoustics.online_cmvn)
        self._stack = FrameStack(acoustics.frame_subsampling_factor)
        self._frames = np.zeros((0, acoustics.features.dim * acoustics.frame_subsampling_factor), np.float32)
        self._begin = self._done = 0  # the first frame that is kept, and the first without a row
        self._skipped = 0  # frames of which no rows are needed

    def accept(self, samples: np.ndarray) -> np.ndarray:
        """Return the rows that samples [N], at the model's rate, complete."""
        return self._take(self._stack.accept(self._normalised(self._features.accept(samples))), last=False)

    def finish(self) -> np.ndarray:
        """Return the rows that are left."""
        frames = [
            self._stack.accept(self._normalised(self._features.finish())),
            self._stack.finish(self._acoustics.features.dim),
        ]
        return self._take(np.concatenate(frames), last=True)

    def record(self) -> None:
        """Do as AcousticStream: no state needs to be kept."""

    def checkpoint(self, row: int) -> Dict[str, np.ndarray]:
        """Return what `resume` needs for the rows from `row` on: "row", the first that it gives."""
        return {"row": np.array([row - row % CHUNK])}

    def resume(self, checkpoint: Mapping[str, np.ndarray]) -> None:
        """Leave out the rows before a checkpoint, of a stream that is new."""
        self._skipped = int(checkpoint["row"][0])

    def _normalised(self, frames: np.ndarray) -> np.ndarray:
        if self._acoustics.cmvn == "none" or not len(frames):
            return frames
        return self._cmvn.normalise(frames, self._stats)

    def _take(self, frames: np.ndarray, last: bool) -> np.ndarray:
        self._frames = np.concatenate([self._frames, frames.reshape(-1, self._frames.shape[1])])
        rows: List[np.ndarray] = [np.zeros((0, self._acoustics.num_pdfs), np.float32)]
        while True:
            end = self._begin + len(self._frames)
            whole = last and end <= self._done + CHUNK + CONTEXT
            if end <= self._done or (not whole and end < self._done + CHUNK + CONTEXT):
                return np.concatenate(rows)
            count = end - self._done if whole else CHUNK
            if self._done >= self._skipped:
                window = self._frames[: self._done + count + CONTEXT - self._begin]
                first = self._done - self._begin
                rows.append(self._acoustics.outputs(window)[first : first + count])
            self._done += count
            kept = max(self._done - CONTEXT, self._begin)
            self._frames, self._begin = self._frames[kept - self._begin :], kept
