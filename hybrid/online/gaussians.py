"""A Gaussian system on streams: normalised MFCC to the log-likelihoods of a first pass, chunk by chunk."""

from __future__ import annotations

from typing import Dict, List, Mapping

import numpy as np

from hybrid.gmm.model import GmmModel


class GmmStream:
    """accept(frames [n, D]) -> float32 [frames, num_pdfs], finish() -> the rest.

    The feature transform sees neighbours on either side, those beyond the ends as it does offline. Frames are taken in
    chunks on a grid, so that the scores are the same bits however they come.
    """

    def __init__(self, model: GmmModel, chunk: int) -> None:
        self._model, self._chunk = model, chunk
        self._left, self._right = model.feature_transform.left, model.feature_transform.right
        self.reset()

    def reset(self) -> None:
        """Begin another stream."""
        self._frames = np.zeros((0, self._model.feature_transform.base_dim), np.float32)
        self._before = 0  # of the frames that are neighbours
        self._skipped = 0  # frames of which no rows are needed

    def checkpoint(self, row: int) -> Dict[str, np.ndarray]:
        """Return what `resume` needs for the rows from `row` on: "row", the first that it gives."""
        return {"row": np.array([row - row % self._chunk])}

    def resume(self, checkpoint: Mapping[str, np.ndarray]) -> None:
        """Leave out the rows before a checkpoint, of a stream that is new."""
        self._skipped = int(checkpoint["row"][0])

    def accept(self, frames: np.ndarray) -> np.ndarray:
        """Take frames and return the rows of all full chunks."""
        self._frames = np.concatenate([self._frames, frames])
        return self._rows(self._chunk + self._right)

    def finish(self) -> np.ndarray:
        """Return the rows of the frames that are left, and begin again."""
        rows = self._rows(1)
        self.reset()
        return rows

    def _rows(self, least: int) -> np.ndarray:
        rows: List[np.ndarray] = []
        begin, transform = 0, self._model.feature_transform
        while len(self._frames) - begin - self._before >= least:
            keep = min(self._chunk, len(self._frames) - begin - self._before)
            if self._skipped:
                self._skipped -= keep
            else:
                part = self._frames[begin : begin + self._before + keep + self._right]
                x = transform.apply(part, [len(part)])[self._before : self._before + keep]
                rows.append(self._model.loglikes(x, adapted=False))
            before = min(self._left, self._before + keep)
            begin, self._before = begin + self._before + keep - before, before
        self._frames = self._frames[begin:].copy()
        return np.concatenate(rows) if rows else np.zeros((0, self._model.gmms.num_pdfs), np.float32)
