"""What stands between the cepstra on disk and a mixture: neighbouring frames, one matrix, a transform per speaker.

    y_t = A [x_{t-L}; ...; x_{t+R}],        z_t = W_s [y_t; 1]

Every system is this with its own A: deltas are a matrix over nine neighbours, LDA and MLLT one over seven, and fMLLR
adds W_s (fmllr.py). So a system's features are made from the same stored cepstra as they are read, and a new transform
costs no pass over the disk (Kaldi's pipes of add-deltas | splice-feats | transform-feats).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Mapping, Sequence, Union

import numpy as np

from hybrid.data.transforms import deltas as delta_features
from hybrid.errors import ModelError


@dataclass(frozen=True)
class FeatureTransform:
    """left, right: neighbours; matrix [D, (left + 1 + right) * B] float32."""

    left: int
    right: int
    matrix: np.ndarray

    @property
    def dim(self) -> int:
        return len(self.matrix)

    @property
    def base_dim(self) -> int:
        return self.matrix.shape[1] // (self.left + 1 + self.right)

    @classmethod
    def deltas(cls, base_dim: int, order: int = 2, window: int = 2) -> FeatureTransform:
        """Makes Kaldi's add-deltas: the taps are read off the filters' response to an impulse in each dimension."""
        reach = order * window
        impulse = np.zeros((4 * reach + 1, 1), np.float32)
        impulse[2 * reach] = 1.0
        response = delta_features(impulse, order, window)  # [t, k]: what a one at 2 * reach gives at t, order k
        taps = response[reach : 3 * reach + 1][::-1]  # [offset, k], offsets -reach .. reach
        matrix = np.zeros((order + 1, base_dim, 2 * reach + 1, base_dim), np.float32)
        for dim in range(base_dim):
            matrix[:, dim, :, dim] = taps.T
        return cls(reach, reach, matrix.reshape((order + 1) * base_dim, -1))

    @classmethod
    def splice(cls, base_dim: int, left: int, right: int) -> FeatureTransform:
        """Makes the transform that puts neighbours side by side (Kaldi's splice-feats)."""
        return cls(left, right, np.eye((left + 1 + right) * base_dim, dtype=np.float32))

    def then(self, matrix: np.ndarray) -> FeatureTransform:
        """Returns the transform whose output is `matrix` [D', D] times this one's (Kaldi's compose-transforms)."""
        product = np.asarray(matrix, np.float64) @ self.matrix
        return FeatureTransform(self.left, self.right, product.astype(np.float32))

    def spliced(self, base: np.ndarray, lengths: Union[Sequence[int], np.ndarray]) -> np.ndarray:
        """Returns frames with their neighbours, [N, (left + 1 + right) B].

        base [N, B]: the frames of utterances of these lengths one after the other.

        Beyond its ends an utterance goes on with its first and its last frame.
        """
        if self.matrix.shape[1] != (self.left + 1 + self.right) * base.shape[1]:
            raise ModelError(
                f"features of {base.shape[1]} dimensions where the model's feature transform takes {self.base_dim}",
                remedy="compute the features that the model's features.json names",
            )
        # With its ends repeated in place, a frame's neighbourhood is one run of numbers: one gather takes it.
        sizes = np.asarray(lengths, dtype=np.int64)
        reach = self.left + self.right
        ends = np.cumsum(sizes)
        index = np.arange(len(base) + reach * len(sizes))
        number = np.repeat(np.arange(len(sizes)), sizes + reach)
        padded = base[np.clip(index - reach * number - self.left, (ends - sizes)[number], ends[number] - 1)]
        starts = np.arange(len(base)) + reach * np.repeat(np.arange(len(sizes)), sizes)
        width = base.shape[1]
        runs = np.lib.stride_tricks.as_strided(
            padded,
            (len(padded) - reach, (reach + 1) * width),
            (width * padded.itemsize, padded.itemsize),
            writeable=False,
        )
        return runs[starts]

    def apply(self, base: np.ndarray, lengths: Union[Sequence[int], np.ndarray]) -> np.ndarray:
        """Returns the features [N, D] float32 of base [N, B]: as `spliced`, times the matrix."""
        return self.spliced(np.asarray(base, np.float32), lengths) @ self.matrix.T

    def tensors(self) -> Dict[str, np.ndarray]:
        return {"front.matrix": self.matrix, "front.splice": np.array([self.left, self.right])}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> FeatureTransform:
        """Makes the transform of arrays as `tensors` names them. Raises ModelError where an array is missing."""
        try:
            left, right = (int(n) for n in tensors["front.splice"])
            return cls(left, right, np.asarray(tensors["front.matrix"], np.float32))
        except (KeyError, ValueError) as error:
            raise ModelError(f"no {error} among the tensors", remedy="run the stage that writes them again") from error


def adapt(features: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Returns A y + b, float32.

    features [T, D], transform [D, D + 1] (Kaldi's transform-feats with an affine matrix).
    """
    transform = np.asarray(transform, np.float32)
    return features @ transform[:, :-1].T + transform[:, -1]
