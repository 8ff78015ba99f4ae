"""Scores of sentences by neural models: of a left-to-right language model, of a masked one, of a sentence scorer.

    left to right    log p(t_1 ... t_n </s>) = sum_i log p(t_i | <s> t_1 ... t_{i-1})
    masked           PLL = sum_i log p(t_i | the sentence with t_i masked)      (Salazar et al. 2020; n forward passes)
    scorer           what it was trained to give: one forward pass

An unknown word is scored as <unk>, with its share of that probability (data/tokens.py). Rows are padded into batches of
at most `max_tokens`; a score does not depend on what else is in a batch but by rounding. Memory is that of a batch:
log-probabilities of its tokens, batch by batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Sequence, Tuple

import numpy as np
import torch

from hybrid.data.text_batches import padded
from hybrid.data.tokens import MASK, Tokens
from hybrid.errors import ConfigError, DataError
from hybrid.io import PathLike
from hybrid.nnet.text import TOO_LONG, TextModel, too_long
from hybrid.nnet.text_io import load_text_model
from hybrid.nnet.transformer import SentenceScorer

MAX_TOKENS = 4000


class NeuralScorer:
    """score(sentences) -> natural-log scores, float64 [n], higher is better. What kind follows from the model.

    progress: what the batches of a masked model, a forward pass for each token, are gone through with.
    """

    def __init__(self, model: TextModel, tokens: Tokens, *, max_tokens: int = MAX_TOKENS, device: str = "cpu") -> None:
        """Raises ConfigError for max_tokens below 1."""
        if max_tokens < 1:
            raise ConfigError(f"max_tokens is {max_tokens}", remedy="tokens of a batch, e.g. 4000")
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.tokens = tokens
        self.max_tokens = max_tokens
        self.progress: Callable[[Sequence[List[int]]], Iterable[List[int]]] = iter

    @classmethod
    def load(cls, folder: PathLike, *, device: str = "cpu") -> NeuralScorer:
        """Read the folder of a model (save_text_model), or of the training that made it. Raises ModelError."""
        model, tokens, _ = load_text_model(model_folder(folder))
        return cls(model, tokens, device=device)

    def score(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        """Return a score for each sentence (its words)."""
        return self.score_tokens([self.tokens.encode(words) for words in sentences])

    def score_tokens(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """Return a score for each row of tokens, <s> and </s> around them. Raises DataError for one that is too long
        for the model, before any is scored."""
        if not rows:
            return np.zeros(0)
        for row in rows:
            if self.model.longest is not None and len(row) > self.model.longest:
                begin = " ".join(self.tokens.names[token] for token in row[1:9])
                raise DataError(f"{too_long(len(row), self.model.longest)}: {begin} ...", remedy=TOO_LONG)
        # A list's hypotheses have much in common, and so have lists: the same row is scored once.
        unique: Dict[bytes, int] = {}
        places = [unique.setdefault(row.tobytes(), len(unique)) for row in rows]
        first = {place: row for place, row in zip(places, rows, strict=True)}
        work = [first[number] for number in range(len(unique))]
        with torch.no_grad():
            if isinstance(self.model, SentenceScorer):
                scores = self._whole(work)
            elif self.model.causal:
                scores = self._left_to_right(work)
            else:
                scores = self._masked(work)
        return scores[places]

    def _whole(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        scores = np.zeros(len(rows))
        for places in self._batches([len(row) for row in rows]):
            tokens, lengths = padded([rows[i] for i in places])
            scores[places] = self.model(tokens.to(self.device), lengths)["score"].cpu().double().numpy()
        return scores

    def _left_to_right(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        scores = np.zeros(len(rows))
        for places in self._batches([len(row) - 1 for row in rows]):
            tokens, lengths = padded([rows[i] for i in places])
            logits = self.model(tokens[:, :-1].to(self.device), lengths - 1)["logits"]
            wanted = tokens[:, 1:].to(self.device)
            logp = -torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
            counts = torch.arange(wanted.shape[1]) < (lengths - 1).unsqueeze(1)
            shares = torch.from_numpy(self.tokens.cost(tokens[:, 1:]))
            scores[places] = ((logp.view(wanted.shape).cpu().double() - shares) * counts).sum(1).numpy()
        return scores

    def _masked(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        scores = np.zeros(len(rows))
        jobs = [(number, place) for number, row in enumerate(rows) for place in range(1, len(row) - 1)]
        for places in self.progress(list(self._batches([len(rows[number]) for number, _ in jobs]))):
            part = [jobs[i] for i in places]
            tokens, lengths = padded([rows[number] for number, _ in part])
            at = torch.tensor([place for _, place in part])
            every = torch.arange(len(part))
            wanted = tokens[every, at]
            tokens[every, at] = MASK
            logits = self.model(tokens.to(self.device), lengths, at)["logits"].cpu().double()
            logp = logits.log_softmax(1)[every, wanted].numpy() - self.tokens.cost(wanted)
            np.add.at(scores, [number for number, _ in part], logp)
        return scores

    def _batches(self, lengths: Sequence[int]) -> Iterator[List[int]]:
        """Yield places of rows of similar length, shortest first, of max_tokens padded tokens at most, or one row."""
        order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
        batch: List[int] = []
        for i in order:
            if batch and lengths[i] * (len(batch) + 1) > self.max_tokens:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch


def model_folder(folder: PathLike) -> Path:
    """Return the folder of the model that a training has made in `folder`; `folder` where that is the model's."""
    return Path(folder) / "model" if (Path(folder) / "model").is_dir() else Path(folder)


def perplexity(scorer: NeuralScorer, sentences: Sequence[Sequence[str]]) -> Tuple[float, int]:
    """Return the perplexity a token, ends of sentences counted (of a masked model: its pseudo-perplexity, without
    them), and the tokens. Models are comparable where their tokens are the same."""
    rows = [scorer.tokens.encode(words) for words in sentences]
    ends = 1 if getattr(scorer.model, "causal", False) else 2
    tokens = sum(len(row) - ends for row in rows)
    return float(np.exp(-scorer.score_tokens(rows).sum() / max(tokens, 1))), tokens
