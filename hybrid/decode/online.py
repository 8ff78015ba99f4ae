"""From samples that arrive in pieces of any size to log-likelihoods.

    online = OnlineAcoustics(acoustics)              # what `load_acoustics` returned
    stream = online.create()
    rows = stream.accept(samples)                    # float32 [frames, num_pdfs], as many as are complete
    rows = stream.finish()                           # the rest
    stream.reset(keep_mean=True)                     # another utterance of the same speaker

The rows of all calls together are the same bits however the samples are cut.
"""

from __future__ import annotations

from typing import List, Optional, Protocol, Sequence, Union

import numpy as np

from hybrid.data.features import FeatureExtractor
from hybrid.data.online_cmvn import OnlineCmvn, OnlineCmvnConfig
from hybrid.data.transforms import CmvnStats, apply_cmvn
from hybrid.decode.acoustics import Acoustics, GmmAcoustics, NetworkAcoustics
from hybrid.errors import ConfigError, ModelError
from hybrid.nnet.lstm import LstmModel
from hybrid.online.features import FrameStack, OnlineFeatures
from hybrid.online.gaussians import GmmStream
from hybrid.online.network import ChunkConfig, NetworkStream, OnlineNetwork

GMM_CHUNK = 10  # frames of 10 ms
CHUNK = ChunkConfig(8)
BLSTM_CHUNK = ChunkConfig(24, 24)
OFFLINE_BLSTM_CHUNK = ChunkConfig(600, 100)  # 18 s and 3 s: what is shorter is computed as a whole


class _Scores(Protocol):
    """What follows the features: normalised frames -> rows."""

    def push(self, frames: np.ndarray) -> None: ...

    def end(self) -> None: ...

    def pop(self) -> np.ndarray: ...

    def reset(self) -> None: ...


class OnlineAcoustics:
    """What streams of one acoustic model share.

    chunk: what a network is computed on at a time; None: 240 ms, of a bidirectional one 720 ms and as much right
    context. mean: the mean that is taken off all frames, where it is known beforehand, float [D], or with the deviation
    as CmvnStats: the numbers of a model normalised per utterance or speaker then are those of offline decoding.
    Without, the running mean (online_cmvn.py) as `cmvn` says, for a model that was not trained with it an
    approximation.
    slots: streams that share a call of the network (network.py).
    Raises ConfigError for a chunk that the model has no use for.
    """

    def __init__(
        self, acoustics: Acoustics, *, chunk: Optional[ChunkConfig] = None,
        mean: Union[np.ndarray, CmvnStats, None] = None, cmvn: Optional[OnlineCmvnConfig] = None, backend: str = "auto",
        slots: int = 1,
    ) -> None:  # fmt: skip
        self.acoustics, self.num_pdfs, self.frame_shift = acoustics, acoustics.num_pdfs, acoustics.frame_shift
        self.extractor = FeatureExtractor(acoustics.features, backend)
        self.network: Optional[OnlineNetwork] = None
        if isinstance(acoustics, NetworkAcoustics):
            self.chunk = chunk or default_chunk(acoustics)
            self.network = OnlineNetwork(acoustics.model, self.chunk, acoustics.priors, slots=slots)
            self.norm_means, self.norm_vars = acoustics.cmvn != "none", acoustics.cmvn.endswith("+variance")
            lookahead = self.network.lookahead
        elif isinstance(acoustics, GmmAcoustics):
            self.chunk = chunk or ChunkConfig(GMM_CHUNK)
            if self.chunk.right_context:
                raise ConfigError("a right context for Gaussians", remedy="leave it out")
            self.norm_means, self.norm_vars = True, acoustics.norm_vars
            lookahead = acoustics.model.feature_transform.right
        else:
            raise ModelError(f"no streaming of {type(acoustics).__name__}", remedy="use a network or Gaussians")
        self.mean = mean
        self.cmvn = cmvn or OnlineCmvnConfig(norm_vars=self.norm_vars)
        window = OnlineFeatures(self.extractor).latency
        self.lookahead = lookahead * self.frame_shift + window  # seconds, of a chunk's last frame
        self.latency = self.lookahead + self.chunk.chunk * self.frame_shift  # from the begin of a chunk's first frame

    def create(self) -> AcousticStream:
        """Return a new stream."""
        return AcousticStream(self)

    def compute(self, streams: Sequence[AcousticStream]) -> None:
        """Compute what was pushed to these streams, in as few calls of the network as there are slots for."""
        if self.network is not None:
            self.network.compute([s.scores.stream for s in streams if isinstance(s.scores, NetworkScores)])


class AcousticStream:
    """One stream; `accept` and `finish` return rows float32 [frames, num_pdfs].

    Of many streams at once: `push` and `end` instead, then OnlineAcoustics.compute of all, then `pop` of each.
    """

    def __init__(self, online: OnlineAcoustics) -> None:
        self._online = online
        self._features = OnlineFeatures(online.extractor)
        self._cmvn = OnlineCmvn(online.cmvn)
        acoustics = online.acoustics
        self.scores: _Scores
        if online.network is not None and isinstance(acoustics, NetworkAcoustics):
            self.scores = NetworkScores(online.network, acoustics.frame_subsampling_factor, acoustics.features.dim)
        elif isinstance(acoustics, GmmAcoustics):
            self.scores = GmmScores(GmmStream(acoustics.model, online.chunk.chunk))
        self._ended = False

    def accept(self, samples: np.ndarray) -> np.ndarray:
        """Take samples [N] at the model's rate, floats in [-1, 1], N from 0 on, and return the rows that they complete.

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

    def pop(self) -> np.ndarray:
        """Return the rows computed since the last call."""
        return self.scores.pop()

    def reset(self, keep_mean: bool = True) -> None:
        """Begin another utterance, whose mean begins with what is known of this stream's (keep_mean)."""
        self._features.reset()
        self.scores.reset()
        self._cmvn.next_utterance(keep_mean)
        self._ended = False

    @property
    def stats(self) -> Optional[CmvnStats]:
        """What is known of the stream's mean."""
        return self._cmvn.stats

    def _normalise(self, frames: np.ndarray) -> None:
        if not len(frames):
            return
        mean = self._online.mean
        if not self._online.norm_means:
            self.scores.push(frames)
        elif mean is None:
            self.scores.push(self._cmvn.apply(frames))
        elif isinstance(mean, CmvnStats):
            self.scores.push(apply_cmvn({"": frames}, stats={"": mean}, variance=self._online.norm_vars)[""])
        else:
            self.scores.push(frames - np.asarray(mean, np.float32))


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

    def reset(self) -> None:
        self._stack.reset()
        self.stream = self._network.create()


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

    def reset(self) -> None:
        self._stream.reset()
        self._rows = self._rows[:1]


def default_chunk(acoustics: NetworkAcoustics) -> ChunkConfig:
    """Return the chunks of a network where none are asked for."""
    model = acoustics.model
    return BLSTM_CHUNK if isinstance(model, LstmModel) and model.config.bidirectional else CHUNK


def offline_chunk(acoustics: Acoustics) -> Optional[ChunkConfig]:
    """Return the chunks of recordings that are there as a whole: large where a network looks ahead, else as streams."""
    bidirectional = isinstance(acoustics, NetworkAcoustics) and default_chunk(acoustics) == BLSTM_CHUNK
    return OFFLINE_BLSTM_CHUNK if bidirectional else None
