"""Networks computed chunk by chunk: what a network carries from one chunk of frames to the next.

    LSTM      the state of each layer (lstm_stream.py)
    TDNN-F    the last frames that each layer has read (tdnnf_stream.py)

A stream's chunks lie on a grid from its first frame on, so that its outputs are the same bits however its frames come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Hashable, Protocol, Tuple

from torch import Tensor


@dataclass
class StreamState:
    """tensors: by name, the streams of a batch along the first axis. skip: outputs that belong to no frame."""

    tensors: Dict[str, Tensor] = field(default_factory=dict)
    skip: int = 0

    @property
    def shape(self) -> Hashable:
        """What two streams must have in common to be computed in one batch."""
        return self.skip, tuple((name, tuple(value.shape[1:])) for name, value in self.tensors.items())


@dataclass(frozen=True)
class Chunk:
    """Frames x [B, left + keep + right, D] of which `keep` are new; the others were new, or will be, in other chunks.
    last: the stream ends with them, and `right` is 0; else `right` is below that of ModelStream only where the stream
    ends with these frames."""

    x: Tensor
    left: int
    keep: int
    last: bool


class ModelStream(Protocol):
    """left, right: frames beside a chunk's own that it is computed with, where the stream has them; lookahead: frames
    after a frame without which it has no output."""

    left: int
    right: int
    lookahead: float

    def start(self) -> StreamState:
        """Return the state before the first frame of a stream."""
        ...

    def step(self, state: StreamState, chunk: Chunk) -> Tuple[Tensor, StreamState]:
        """Return what comes out of a chunk, the logits [B, frames, num_pdfs], and the state after it."""
        ...
