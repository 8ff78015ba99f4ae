"""LSTMs chunk by chunk.

A unidirectional one carries the state of each layer; its outputs come `delay` frames late. What it gives is what it
gives on the whole utterance, but for rounding.

A bidirectional one carries the state of the forward direction. The backward direction runs over the chunk and some
frames after it, its right context, from zeros: the latency-controlled BLSTM of Zhang et al. 2016, "Highway long
short-term memory RNNs for distant speech recognition", section 3. It is an approximation of the whole utterance's, the
better the larger chunk and right context are.
"""

from __future__ import annotations

from typing import Dict, Tuple

import torch
from torch import Tensor

from hybrid.errors import ConfigError
from hybrid.nnet.lstm import LstmModel, splice_frames
from hybrid.nnet.recurrence import lstm_carried
from hybrid.nnet.streaming import Chunk, StreamState


class LstmStream:
    """As ModelStream says; right_context: of a bidirectional model, in network frames."""

    def __init__(self, model: LstmModel, right_context: int = 0) -> None:
        self.model, self.config = model, model.config
        if right_context and not self.config.bidirectional:
            raise ConfigError(
                f"a right context of {right_context} frames for a unidirectional LSTM",
                remedy="it looks ahead by its own delay: leave the right context out",
            )
        self._context = self.config.input_layer_context if self.config.input_layer_dim else 0
        self._right_context = right_context
        self.left, self.right = self._context, self._context + right_context
        self.lookahead: float = self.right + self.config.delay

    def start(self) -> StreamState:
        return StreamState(skip=self.config.delay)

    def step(self, state: StreamState, chunk: Chunk) -> Tuple[Tensor, StreamState]:
        model, config = self.model, self.config
        x = (chunk.x.transpose(0, 1) - model.input_mean) * model.input_scale  # [T, B, D]
        frames = chunk.keep + min(self._right_context, x.shape[0] - chunk.left - chunk.keep)
        if model.input_layer is not None and x.shape[0]:
            lengths = torch.full((x.shape[1],), x.shape[0], dtype=torch.long, device=x.device)
            x = torch.relu(model.input_layer(splice_frames(x, lengths, self._context)))
        x = x[chunk.left : chunk.left + frames]
        tensors: Dict[str, Tensor] = {}
        keep = chunk.keep
        if config.delay:
            # The last frame is repeated `delay` times, as the model does.
            if frames:
                tensors["last"] = x[-1]
            if chunk.last:
                last = tensors.get("last", state.tensors.get("last"))
                if last is not None:
                    x = torch.cat((x, last.unsqueeze(0).expand(config.delay, -1, -1)))
                    keep += config.delay
        if not x.shape[0]:
            return x.new_zeros(x.shape[1], 0, config.num_pdfs), state
        for number, layer in enumerate(model.forward_layers):
            names = f"h{number}", f"c{number}"
            before = (state.tensors[names[0]], state.tensors[names[1]]) if names[0] in state.tensors else None
            y, (tensors[names[0]], tensors[names[1]]) = lstm_carried(layer, x, before, keep)
            if config.bidirectional:
                back, _ = lstm_carried(model.backward_layers[number], x.flip(0), None, 0)
                y = torch.cat((y, back.flip(0)), dim=-1)
            x = model.norms[number](y) if config.layer_norm else y
        skip = min(state.skip, keep)
        return model.output(x[skip:keep]).transpose(0, 1), StreamState(tensors, state.skip - skip)
