"""Beginnings of sentences that a left-to-right neural language model has read, and what it says may follow each."""

from __future__ import annotations

from typing import Any, List, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from hybrid.data.text_batches import padded
from hybrid.nnet.text import LstmLm, TextModel

_LOGITS, _ROWS = 4_000_000, 512  # at once: 16 MB of logits


class Prefixes:
    """Rows of tokens that have been read, each as the model's state behind them; row 0 is empty.

    Of an LSTM that is h and c of its layers. A transformer has none: its rows are read again as a whole, a batch at a
    time, which is exact, and costs a factor of the length of a sentence.
    """

    def __init__(self, model: TextModel) -> None:
        self._model = model
        self.state: Union[Tensor, List[np.ndarray]] = [np.zeros(0, np.int64)]
        if isinstance(model, LstmLm):
            self.state = model.initial_state(1)

    def __len__(self) -> int:
        return len(self.state)

    def extend(
        self, parents: np.ndarray, tokens: np.ndarray, which: np.ndarray, wanted: np.ndarray
    ) -> Tuple[int, np.ndarray]:
        """Add rows: those of `parents` with `tokens` behind, [R] both. Return the place of the first, and float64 [N]
        log p(wanted[k] | new row which[k])."""
        begin, logp = len(self), np.zeros(len(wanted))
        order = np.argsort(which, kind="stable")
        size = min(max(1, _LOGITS // self._model.config.num_tokens), _ROWS)
        parts: List[Any] = [self.state]
        for low in range(0, len(parents), size):
            logits, state = self._read(parents[low : low + size], tokens[low : low + size])
            parts.append(state)
            first, last = np.searchsorted(which[order], [low, low + size])
            here = order[first:last]
            rows, columns = (torch.from_numpy(x).to(logits.device) for x in (which[here] - low, wanted[here]))
            logp[here] = (logits[rows, columns] - logits.logsumexp(1)[rows]).cpu().double().numpy()
        self.state = torch.cat(parts) if isinstance(self.state, Tensor) else [row for part in parts for row in part]
        return begin, logp

    def _read(self, parents: np.ndarray, tokens: np.ndarray) -> Tuple[Tensor, Union[Tensor, List[np.ndarray]]]:
        if isinstance(self.state, Tensor):
            device = self.state.device
            before = self.state[torch.from_numpy(parents).to(device)]
            return self._model.step(torch.from_numpy(tokens).to(device), before)  # type: ignore[operator, no-any-return]
        rows = [np.append(self.state[parent], token) for parent, token in zip(parents, tokens, strict=True)]
        read, lengths = padded(rows)
        device = next(self._model.parameters()).device
        return self._model(read.to(device), lengths, lengths - 1)["logits"], rows

    def keep(self, rows: Sequence[int]) -> None:
        """Let go of all rows but these, which become rows 0, 1, ..."""
        if isinstance(self.state, Tensor):
            self.state = self.state[torch.tensor(rows, dtype=torch.int64, device=self.state.device)]
        else:
            self.state = [self.state[row] for row in rows]
