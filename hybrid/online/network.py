"""A network on streams: input frames as they come, log-likelihoods chunk by chunk.

The chunks of a stream lie on a grid: `chunk` frames each from its first frame on, the last one shorter, if need be
empty. So the outputs are the same bits however the frames come, and `chunked_loglikes`, which decodes whole utterances,
gives these bits too.

Streams in one batch: up to `slots` of them share a call. On the CPU a stream has the same bits in any company, alone
too: no sum depends on how many rows a product has (hybrid/nnet/row_product.py), and so none on who else is there or on
`slots`. On another device a call is filled up with zeros to `slots`, so that at least the sizes of its products are
always the same. `same_in_company` tries it out, for it may be otherwise with other libraries.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.nnet.base import AcousticModel
from hybrid.nnet.lstm import LstmModel
from hybrid.nnet.lstm_stream import LstmStream
from hybrid.nnet.model_io import build_model, put_state, state_arrays
from hybrid.nnet.priors import check_priors
from hybrid.nnet.streaming import Chunk, ModelStream, StreamState
from hybrid.nnet.tdnnf import TdnnfModel
from hybrid.nnet.tdnnf_stream import TdnnfStream

TRIED = 13  # streams that `same_in_company` computes at once: two whole tiles of a product and one row more
POINTS = 100  # network frames between the states that are kept of a stream, at least


@dataclass(frozen=True)
class ChunkConfig:
    """chunk: new frames that a network is computed on at a time; right_context: frames after these, of a bidirectional
    LSTM. Both in network frames of 30 ms."""

    chunk: int
    right_context: int = 0

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.right_context < 0:
            raise ConfigError(
                f"chunks of {self.chunk} frames, right context of {self.right_context}",
                remedy="a chunk of 1 or more, a right context of 0 or more",
            )


CHUNK, BLSTM_CHUNK = ChunkConfig(8), ChunkConfig(24, 24)


def chunk_config(model: AcousticModel, values: Optional[Mapping[str, int]] = None) -> ChunkConfig:
    """Return the chunks that a model is computed on: what its config.json or [model.online] says of them (`values`; a
    right context is of bidirectional LSTMs alone), else 240 ms, of a bidirectional LSTM 720 ms and as much right
    context."""
    bidirectional = isinstance(model, LstmModel) and model.config.bidirectional
    if values is None or not values["chunk"]:
        return BLSTM_CHUNK if bidirectional else CHUNK
    return ChunkConfig(int(values["chunk"]), int(values["right_context"]) if bidirectional else 0)


def offline_chunk_config(model: AcousticModel) -> Optional[ChunkConfig]:
    """Return the chunks of recordings that are there as a whole: of a bidirectional LSTM 18 s and 3 s of right context,
    so that what is shorter is computed as a whole; None: those of streams."""
    return ChunkConfig(600, 100) if isinstance(model, LstmModel) and model.config.bidirectional else None


def model_stream(model: AcousticModel, right_context: int = 0) -> ModelStream:
    """Return what computes a model chunk by chunk. Raises ConfigError for a right context that it has no use for, or
    another kind of model."""
    if isinstance(model, LstmModel):
        return LstmStream(model, right_context)
    if isinstance(model, TdnnfModel):
        return TdnnfStream(model, right_context)
    raise ConfigError(f"a model of the kind {model.kind!r} is not computed chunk by chunk", remedy="use another model")


@dataclass(frozen=True)
class _Point:
    """A place between two chunks: how many came before it, their outputs, and the state."""

    chunks: int
    row: int
    state: StreamState


@dataclass
class NetworkStream:
    """What a network knows of one stream; made by `OnlineNetwork.create`."""

    state: StreamState
    frames: np.ndarray
    device: torch.device = torch.device("cpu")
    begin: int = 0  # from which frame on they are still needed: neighbours, then new ones
    left: int = 0  # of these that are neighbours
    ended: bool = False
    done: bool = False
    rows: List[np.ndarray] = field(default_factory=list)
    chunks: int = 0  # that are done
    row: int = 0  # the outputs of these
    skipped: int = 0  # chunks that need not be computed: `resume`
    points: Optional[List[_Point]] = None  # where it can be resumed, from what may still be asked for on

    def push(self, frames: np.ndarray) -> None:
        """Take the next frames [n, D]. Raises ModelError after `end`."""
        if self.ended:
            raise ModelError("frames after the end of a stream", remedy="create another stream")
        if len(frames):
            self.frames = np.concatenate([self.frames[self.begin :], np.asarray(frames, np.float32)])
            self.begin = 0

    def end(self) -> None:
        """Say that no frame will come."""
        self.ended = True

    def pop(self) -> List[np.ndarray]:
        """Return the log-likelihoods that were computed since the last call."""
        rows, self.rows = self.rows, []
        return rows

    def record(self) -> None:
        """Keep states from now on, for `checkpoint`."""
        self.points = []

    def checkpoint(self, row: int) -> Dict[str, np.ndarray]:
        """Return what `resume` needs for the outputs from `row` on, and "row", the first that it gives; no earlier row
        will be asked for."""
        points = self.points or []
        before = [number for number, point in enumerate(points) if point.row <= row]
        if not before:
            raise ModelError(f"no state is kept of row {row}", remedy="record the stream from its beginning on")
        self.points = points[before[-1] :]
        point = self.points[0]
        numbers = {"row": point.row, "chunks": point.chunks, "skip": point.state.skip}
        return {
            **{name: np.array([number]) for name, number in numbers.items()},
            **{f"state.{name}": value.cpu().numpy() for name, value in point.state.tensors.items()},
        }

    def resume(self, checkpoint: Mapping[str, np.ndarray]) -> None:
        """Go on, of a stream that is new and is given the same frames, where another made a checkpoint."""
        self.skipped, self.row = int(checkpoint["chunks"][0]), int(checkpoint["row"][0])
        tensors = {
            name.partition(".")[2]: torch.from_numpy(value.copy()).to(self.device)
            for name, value in checkpoint.items() if name.startswith("state.")
        }  # fmt: skip
        self.state = StreamState(tensors, int(checkpoint["skip"][0]))


class OnlineNetwork:
    """Log-likelihoods of streams, float32 [frames, num_pdfs], as `compute_loglikes` makes them.

        stream = network.create()
        rows = network.accept(stream, frames); ...; rows = network.finish(stream)

    and of many streams at once: `push` frames to some, `compute` all, `pop` the rows of each.
    """

    def __init__(
        self, model: AcousticModel, config: ChunkConfig, priors: Optional[np.ndarray] = None, *, slots: int = 1
    ) -> None:
        if slots < 1:
            raise ConfigError(f"{slots} slots", remedy="1 or more")
        self.model, self.config, self.slots = model.eval(), config, slots
        self._stream = model_stream(model, config.right_context)
        self._log_priors: Optional[Tensor] = None
        if priors is not None:
            checked = check_priors(priors, model.config.num_pdfs)
            self._log_priors = torch.from_numpy(np.log(checked)).float().to(model.input_mean.device)

    @property
    def num_pdfs(self) -> int:
        return int(self.model.config.num_pdfs)

    @property
    def lookahead(self) -> float:
        """The network frames after a frame that its log-likelihoods depend on, at least."""
        return self._stream.lookahead

    def create(self) -> NetworkStream:
        """Return a stream without a frame."""
        frames = np.zeros((0, self.model.config.input_dim), np.float32)
        return NetworkStream(self._stream.start(), frames, self.model.input_mean.device)

    def accept(self, stream: NetworkStream, frames: np.ndarray) -> np.ndarray:
        """Return the log-likelihoods that frames [n, D] complete."""
        stream.push(self._checked(frames))
        self.compute([stream])
        return self._joined(stream)

    def finish(self, stream: NetworkStream) -> np.ndarray:
        """Return the log-likelihoods of the frames that are left."""
        stream.end()
        self.compute([stream])
        return self._joined(stream)

    def compute(self, streams: Sequence[NetworkStream]) -> None:
        """Compute what the streams' frames allow, those with chunks of the same shape together."""
        while True:
            groups: Dict[object, List[Tuple[NetworkStream, Chunk]]] = {}
            for stream in streams:
                chunk = self._next(stream)
                if chunk is not None:
                    key = (tuple(chunk.x.shape), chunk.left, chunk.keep, chunk.last, stream.state.shape)
                    groups.setdefault(key, []).append((stream, chunk))
            if not groups:
                return
            for members in groups.values():
                for begin in range(0, len(members), self.slots):
                    self._run(members[begin : begin + self.slots])

    def is_ready(self, stream: NetworkStream) -> bool:
        """Return whether there is something to compute: a whole chunk and what it looks ahead, or the end."""
        new = len(stream.frames) - stream.begin - stream.left
        return not stream.done and (stream.ended or new >= self.config.chunk + self._stream.right)

    def same_in_company(self) -> bool:
        """Return whether streams of random frames, two chunks and the end of a third, have the same bits each alone and
        all at once."""
        count = min(self.slots, TRIED)
        length = 2 * self.config.chunk + self._stream.right + 1
        random = np.random.default_rng(0)
        inputs = list(random.standard_normal((count, length, self.model.config.input_dim)).astype(np.float32))
        alone = [chunked_loglikes(self, frames) for frames in inputs]
        streams = [self.create() for _ in inputs]
        for stream, frames in zip(streams, inputs):
            stream.push(frames)
            stream.end()
        self.compute(streams)
        return all(np.array_equal(rows, self._joined(stream)) for rows, stream in zip(alone, streams))

    def _checked(self, frames: np.ndarray) -> np.ndarray:
        if frames.ndim != 2 or frames.shape[1] != self.model.config.input_dim:
            raise DataError(
                f"frames of the shape {list(frames.shape)}, the model reads {self.model.config.input_dim} features",
                remedy="compute the features with the model's own features.json",
            )
        return frames

    def _joined(self, stream: NetworkStream) -> np.ndarray:
        rows = stream.pop()
        return np.concatenate(rows) if rows else np.zeros((0, self.num_pdfs), np.float32)

    def _next(self, stream: NetworkStream) -> Optional[Chunk]:
        """The next chunk of a stream that is to be computed; None: it waits for more frames, or has ended."""
        chunk = self._taken(stream)
        while chunk is not None and stream.chunks < stream.skipped:
            stream.chunks += 1
            chunk = self._taken(stream)
        return chunk

    def _taken(self, stream: NetworkStream) -> Optional[Chunk]:
        """The next chunk, taken off the frames of a stream."""
        if not self.is_ready(stream):
            return None
        frames = stream.frames[stream.begin :]
        new, size, right = len(frames) - stream.left, self.config.chunk, self._stream.right
        keep = min(size, new)
        last = stream.ended and new < size  # a full chunk never is, for it may be computed before the end is known
        stop = stream.left + keep + (0 if last else min(right, new - keep))
        chunk = Chunk(torch.from_numpy(frames[:stop]).unsqueeze(0), stream.left, keep, last)
        left = min(self._stream.left, stream.left + keep)
        stream.begin += stream.left + keep - left
        stream.left, stream.done = left, last
        return chunk

    def _run(self, members: Sequence[Tuple[NetworkStream, Chunk]]) -> None:
        first, states = members[0][1], [stream.state for stream, _ in members]
        device = self.model.input_mean.device
        padding = 0 if device.type == "cpu" else self.slots - len(members)

        def batch(parts: List[Tensor]) -> Tensor:
            return torch.cat([*parts, *[torch.zeros_like(parts[0])] * padding])

        x = batch([chunk.x.to(device) for _, chunk in members])
        tensors = {name: batch([state.tensors[name] for state in states]) for name in states[0].tensors}
        with torch.no_grad():
            logits, after = self._stream.step(
                StreamState(tensors, states[0].skip), Chunk(x, first.left, first.keep, first.last)
            )
            if self._log_priors is not None:
                logits = torch.log_softmax(logits, dim=-1) - self._log_priors
        rows = logits.cpu().numpy()
        for number, (stream, _) in enumerate(members):
            mine = rows[number].copy()
            if not np.isfinite(mine).all():
                raise ModelError("the model's output is not finite", remedy="train it again")
            if stream.points is not None and (not stream.points or stream.row - stream.points[-1].row >= POINTS):
                stream.points.append(_Point(stream.chunks, stream.row, stream.state))
            if len(mine):
                stream.rows.append(mine)
            stream.chunks, stream.row = stream.chunks + 1, stream.row + len(mine)
            stream.state = StreamState(
                {name: value[number : number + 1].clone() for name, value in after.tensors.items()}, after.skip
            )


def chunked_loglikes(network: OnlineNetwork, features: np.ndarray) -> np.ndarray:
    """Return the log-likelihoods of a whole utterance's input [T, D], the bits that its stream has."""
    stream = network.create()
    return np.concatenate([network.accept(stream, features), network.finish(stream)])


def chunked_set_loglikes(
    model: AcousticModel, config: ChunkConfig, priors: Optional[np.ndarray], inputs: Mapping[str, np.ndarray], *,
    executor: Optional[Executor] = None, jobs: int = 1,
) -> Dict[str, np.ndarray]:  # fmt: skip
    """Return `chunked_loglikes` of many utterances, id -> input [T, D]. executor: takes the work, in `jobs` parts, each
    on the device that the model lies on.

    Raises ModelError where the output is not finite, naming the utterance, and as `OnlineNetwork` does.
    """
    if executor is None:
        return _part(OnlineNetwork(model, config, priors), inputs)
    about = (str(model.kind), model.config.to_dict(), state_arrays(model))
    order = sorted(inputs, key=lambda name: (-len(inputs[name]), name))  # dealt out: every part costs about the same
    parts = [{name: inputs[name] for name in order[part::jobs]} for part in range(max(1, jobs))]
    device = str(model.input_mean.device)
    futures = [executor.submit(_sent_part, about, config, priors, part, device) for part in parts if part]
    loglikes: Dict[str, np.ndarray] = {}
    for future in futures:
        loglikes.update(future.result())
    return {name: loglikes[name] for name in inputs}


def _sent_part(
    about: Tuple[str, Mapping[str, Any], Mapping[str, np.ndarray]], config: ChunkConfig, priors: Optional[np.ndarray],
    inputs: Mapping[str, np.ndarray], device: str,
) -> Dict[str, np.ndarray]:  # fmt: skip
    model = build_model(about[0], about[1])
    put_state(model, about[2], "the model sent to a worker")
    return _part(OnlineNetwork(model.to(device), config, priors), inputs)


def _part(network: OnlineNetwork, inputs: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    loglikes = {}
    for name, features in inputs.items():
        try:
            loglikes[name] = chunked_loglikes(network, features)
        except ModelError as error:
            raise ModelError(error.what, utterance=name, remedy=error.remedy) from error
    return loglikes
