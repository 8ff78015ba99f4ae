"""From samples that arrive in pieces of any size to log-likelihoods.

    online = OnlineAcoustics(acoustics)              # what `load_acoustics` returned
    stream = online.create()
    rows = stream.accept(samples)                    # float32 [frames, num_pdfs], as many as are complete
    rows = stream.finish()                           # the rest
    stream.reset(keep_mean=True)                     # another utterance of the same speaker

The rows of all calls together are the same bits however the samples are cut.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Protocol, Sequence, Union

import numpy as np

from hybrid.data.cmvn import CmvnStats
from hybrid.data.features import FeatureExtractor
from hybrid.data.online_cmvn import OnlineCmvn, OnlineCmvnConfig
from hybrid.errors import ConfigError, ModelError
from hybrid.gmm.model import GmmModel
from hybrid.nnet.base import AcousticModel
from hybrid.online.features import FrameStack, OnlineFeatures
from hybrid.online.gaussians import GmmStream
from hybrid.online.network import ChunkConfig, NetworkStream, OnlineNetwork, chunk_config

GMM_CHUNK = 10  # frames of 10 ms


class _Scores(Protocol):
    """What follows the features: normalised frames -> rows."""

    def push(self, frames: np.ndarray) -> None: ...

    def end(self) -> None: ...

    def pop(self) -> np.ndarray: ...

    def is_ready(self) -> bool: ...

    def reset(self) -> None: ...

    def record(self) -> None: ...

    def checkpoint(self, row: int) -> Dict[str, np.ndarray]: ...

    def resume(self, checkpoint: Mapping[str, np.ndarray]) -> None: ...


class OnlineAcoustics:
    """What streams of one acoustic model share.

    acoustics: what hybrid/decode/acoustics.py loads, a network run by torch or Gaussians.
    chunk: what a network is computed on at a time; None: as it was trained to be decoded (`chunk_config`). mean: the
    mean that is taken off all frames, where it is known beforehand, float [D], or with the deviation
    as CmvnStats: the numbers of a model normalised per utterance or speaker then are those of offline decoding.
    Without, the running mean (online_cmvn.py) as `cmvn` says, for a model that was not trained with it an
    approximation.
    slots: streams that share a call of the network, at most (network.py).

    exact: offline decoding computes the same bits (of a model with cmvn "online"; with another it has the mean of the
    future). latency: the seconds from the begin of a frame to its row, at most, computing aside; lookahead: the same of
    a chunk's last frame, from its end.
    Raises ConfigError for a chunk that the model has no use for.
    """

    def __init__(
        self, acoustics: Any, *, chunk: Optional[ChunkConfig] = None, mean: Union[np.ndarray, CmvnStats, None] = None,
        cmvn: Optional[OnlineCmvnConfig] = None, backend: str = "auto", slots: int = 1,
    ) -> None:  # fmt: skip
        self.num_pdfs, self.frame_shift = int(acoustics.num_pdfs), float(acoustics.frame_shift)
        self.extractor = FeatureExtractor(acoustics.features, backend)
        self.mean, self.cmvn = mean, cmvn or acoustics.online_cmvn
        self.network: Optional[OnlineNetwork] = None
        self.gaussians: Optional[GmmModel] = None
        model = getattr(acoustics, "model", None)
        if isinstance(model, GmmModel):
            self.gaussians, self.chunk = model, chunk or ChunkConfig(GMM_CHUNK)
            if self.chunk.right_context:
                raise ConfigError("a right context for Gaussians", remedy="leave it out")
            self.norm_means, self.exact = True, False
            lookahead: float = model.feature_transform.right
        elif isinstance(model, AcousticModel):
            self.chunk = chunk or chunk_config(model, acoustics.chunk)
            self.network = OnlineNetwork(model, self.chunk, acoustics.priors, slots=slots)
            self.stack = int(acoustics.frame_subsampling_factor)
            self.norm_means, self.exact = acoustics.cmvn != "none", acoustics.cmvn == "online"
            lookahead = self.network.lookahead
        else:
            raise ModelError(
                f"no streaming of {type(acoustics).__name__}", remedy="use a network run by torch, or Gaussians"
            )
        self.lookahead = lookahead * self.frame_shift + OnlineFeatures(self.extractor).latency
        self.latency = self.lookahead + self.chunk.chunk * self.frame_shift

    def create(self, rate: Optional[int] = None) -> AcousticStream:
        """Return a new stream of samples at `rate`, in Hz; None: at that of the model's features."""
        return AcousticStream(self, rate)

    @property
    def slots(self) -> int:
        """Streams that share a call of the network, at most."""
        return 1 if self.network is None else self.network.slots

    def same_in_company(self) -> bool:
        """Return whether a stream has the same bits whoever shares its calls, tried out as the network's says."""
        return self.network is None or self.network.same_in_company()

    def compute(self, streams: Sequence[AcousticStream]) -> None:
        """Compute what was pushed to these streams, in as few calls of the network as there are slots for."""
        if self.network is not None:
            self.network.compute([s.scores.stream for s in streams if isinstance(s.scores, NetworkScores)])


class AcousticStream:
    """One stream; `accept` and `finish` return rows float32 [frames, num_pdfs].

    Of many streams at once: `push` and `end` instead, then OnlineAcoustics.compute of all, then `pop` of each.
    """

    def __init__(self, online: OnlineAcoustics, rate: Optional[int] = None) -> None:
        self._online = online
        self._features = OnlineFeatures(online.extractor, rate=rate)
        self._cmvn = OnlineCmvn(online.cmvn)
        self.scores: _Scores
        if online.network is not None:
            self.scores = NetworkScores(online.network, online.stack, online.extractor.dim)
        elif online.gaussians is not None:
            self.scores = GmmScores(GmmStream(online.gaussians, online.chunk.chunk))
        self._ended = False

    def accept(self, samples: np.ndarray) -> np.ndarray:
        """Take samples [N] at the stream's rate, floats in [-1, 1], and return the rows that they complete.

        Raises DataError for samples that are no such, ModelError after `finish` without `reset`.
        """
        self.push(samples)
        self._online.compute([self])
        return self.pop()

    def finish(self) -> np.ndarray:
        """Return the rows of what is left."""
        self.end()
        self._online.compute([self])
        return self.pop()

    def push(self, samples: np.ndarray) -> None:
        """Take samples as `accept` does."""
        if self._ended:
            raise ModelError("samples after the end of a stream", remedy="reset it, or create another one")
        self._normalise(self._features.accept(samples))

    def end(self) -> None:
        """Say that no sample will come."""
        if not self._ended:
            self._normalise(self._features.finish())
            self.scores.end()
            self._ended = True

    def is_ready(self) -> bool:
        """Return whether OnlineAcoustics.compute has something to do for what was pushed."""
        return self.scores.is_ready()

    def pop(self) -> np.ndarray:
        """Return the rows computed since the last call."""
        return self.scores.pop()

    def reset(self, keep_mean: bool = True) -> None:
        """Begin another utterance, whose mean begins with what is known of this stream's (keep_mean)."""
        self._features.reset()
        self.scores.reset()
        self._cmvn.next_utterance(keep_mean)
        self._ended = False

    def record(self) -> None:
        """Keep, from the beginning of a stream on, what `checkpoint` needs."""
        self.scores.record()

    def checkpoint(self, row: int) -> Dict[str, np.ndarray]:
        """Return what another stream of the same samples needs for the rows from `row` on, the same bits, without
        computing those before; no earlier row may be asked for later. "row" [1]: the first row that it gives, `row` or
        some before it. The features of all samples are computed again: they cost little."""
        return self.scores.checkpoint(row)

    def resume(self, checkpoint: Mapping[str, np.ndarray]) -> None:
        """Leave out, of a new stream, the rows before a checkpoint."""
        self.scores.resume(checkpoint)

    @property
    def stats(self) -> Optional[CmvnStats]:
        """What is known of the stream's mean."""
        return self._cmvn.stats

    def _normalise(self, frames: np.ndarray) -> None:
        if not len(frames):
            return
        if self._online.norm_means:
            frames = self._cmvn.normalise(frames, self._online.mean)
        self.scores.push(frames)


class NetworkScores:
    """Stacked frames through a network."""

    def __init__(self, network: OnlineNetwork, factor: int, dim: int) -> None:
        self._network, self._stack, self._dim = network, FrameStack(factor), dim
        self.stream: NetworkStream = network.create()

    def push(self, frames: np.ndarray) -> None:
        self.stream.push(self._stack.accept(frames))

    def end(self) -> None:
        self.stream.push(self._stack.finish(self._dim))
        self.stream.end()

    def pop(self) -> np.ndarray:
        rows = self.stream.pop()
        return np.concatenate(rows) if rows else np.zeros((0, self._network.num_pdfs), np.float32)

    def is_ready(self) -> bool:
        return self._network.is_ready(self.stream)

    def reset(self) -> None:
        self._stack.reset()
        self.stream = self._network.create()

    def record(self) -> None:
        self.stream.record()

    def checkpoint(self, row: int) -> Dict[str, np.ndarray]:
        return self.stream.checkpoint(row)

    def resume(self, checkpoint: Mapping[str, np.ndarray]) -> None:
        self.stream.resume(checkpoint)


class GmmScores:
    """Frames through the mixtures, as they are pushed."""

    def __init__(self, stream: GmmStream) -> None:
        self._stream = stream
        self._rows: List[np.ndarray] = [stream.finish()]

    def push(self, frames: np.ndarray) -> None:
        self._rows.append(self._stream.accept(frames))

    def end(self) -> None:
        self._rows.append(self._stream.finish())

    def pop(self) -> np.ndarray:
        rows = np.concatenate(self._rows)
        self._rows = [rows[:0]]
        return rows

    def is_ready(self) -> bool:
        return False  # what is pushed is computed

    def reset(self) -> None:
        self._stream.reset()
        self._rows = self._rows[:1]

    def record(self) -> None:
        """Keep nothing: Gaussians have no state."""

    def checkpoint(self, row: int) -> Dict[str, np.ndarray]:
        return self._stream.checkpoint(row)

    def resume(self, checkpoint: Mapping[str, np.ndarray]) -> None:
        self._stream.resume(checkpoint)
