"""LSTMs chunk by chunk.

A unidirectional one carries the state of each layer; its outputs come `delay` frames late. What it gives is what it
gives on the whole utterance, but for rounding. A stream has the same bits in any company (row_lstm.py).

A bidirectional one carries the state of the forward direction. The backward direction runs over the chunk and some
frames after it, its right context, from zeros: the latency-controlled BLSTM of Zhang et al. 2016, "Highway long
short-term memory RNNs for distant speech recognition", section 3. It is an approximation of the whole utterance's, the
better the larger chunk and right context are.
"""

from __future__ import annotations

from typing import Dict, Optional, Tuple

import torch
from torch import Tensor

from hybrid.errors import ConfigError
from hybrid.nnet.lstm import LstmModel, splice_frames
from hybrid.nnet.row_lstm import RowLstm
from hybrid.nnet.row_product import RowProduct
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
        self._input: Optional[RowProduct] = None if model.input_layer is None else RowProduct.of(model.input_layer)
        self._forward = [RowLstm(layer) for layer in model.forward_layers]  # type: ignore[arg-type]
        self._backward = [RowLstm(layer) for layer in model.backward_layers]  # type: ignore[arg-type]
        self._output = RowProduct.of(model.output)

    def start(self) -> StreamState:
        return StreamState(skip=self.config.delay)

    def step(self, state: StreamState, chunk: Chunk) -> Tuple[Tensor, StreamState]:
        model, config = self.model, self.config
        x = (chunk.x.transpose(0, 1) - model.input_mean) * model.input_scale  # [T, B, D]
        frames = chunk.keep + min(self._right_context, x.shape[0] - chunk.left - chunk.keep)
        if self._input is not None and x.shape[0]:
            lengths = torch.full((x.shape[1],), x.shape[0], dtype=torch.long, device=x.device)
            x = torch.relu(self._input(splice_frames(x, lengths, self._context)))
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
        for number, layer in enumerate(self._forward):
            names = f"h{number}", f"c{number}"
            before = (state.tensors[names[0]], state.tensors[names[1]]) if names[0] in state.tensors else None
            y, (tensors[names[0]], tensors[names[1]]) = layer(x, before, keep)
            if config.bidirectional:
                back, _ = self._backward[number](x.flip(0), None, 0)
                y = torch.cat((y, back.flip(0)), dim=-1)
            x = model.norms[number](y) if config.layer_norm else y
        skip = min(state.skip, keep)
        return self._output(x[skip:keep]).transpose(0, 1), StreamState(tensors, state.skip - skip)
