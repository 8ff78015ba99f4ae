"""The rescorers that benchmarks.rescoring compares, each trained on the lists of a fold, and kept in a folder."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from hybrid.data.hypothesis_batches import HypothesisLists
from hybrid.data.tokens import Tokens
from hybrid.errors import ConfigError
from hybrid.lm.ngram import train_arrays
from hybrid.nnet.bert import BertLm
from hybrid.nnet.pretrained import pretrained_lm
from hybrid.nnet.transformer import SentenceScorer, TransformerLm
from hybrid.rescore.combine import columns, hypotheses_of, with_errors
from hybrid.rescore.linear import LinearRescorer, train_linear
from hybrid.rescore.nbest import NbestList
from hybrid.rescore.neural import NeuralScorer
from hybrid.rescore.scorers import NgramScorer, Scorer
from hybrid.rescore.training import TextTraining, prepared, train_lm, train_scorer
from hybrid.rescore.weights import Tuned, tune
from hybrid.train.rescoring import RescoringLoss
from hybrid.train.schedule import ScheduleConfig

L2 = (0.03, 0.1, 0.3, 1.0)
TRANSFORMER = {"dim": 128, "layers": 3, "heads": 4, "dropout": 0.1}
LSTM = {"hidden": 192, "layers": 1, "dropout": 0.4}
_COSINE = ScheduleConfig(kind="cosine", warmup=100)


class FoldModels:
    """The models of one fold: `train` teaches them, `dev` stops them and chooses their settings."""

    prefix = ""  # of the names of folders
    distilled, discriminated = (10, 5e-4), (6, 1e-4)  # epochs and learning rates of scorers

    def __init__(
        self, train: Sequence[NbestList], dev: Sequence[NbestList], folder: Path, seed: int, log: Callable[[str], None],
        outside: Optional[Scorer] = None,
    ) -> None:  # fmt: skip
        self.train, self.dev, self.folder, self.seed, self.log, self.of_outside = train, dev, folder, seed, log, outside

    def make(self, name: str) -> Scorer:
        self.log(f"{self.folder.name}: {name}")
        return MODELS[name](self)

    def tuned(self, scorer: Scorer) -> Tuned:
        return tune(with_errors(self.dev, columns(self.dev, [scorer])))

    # --- by counts

    def trigram(self) -> Scorer:
        return NgramScorer(train_arrays(self.references(self.train), 3, unknown="<unk>"))

    def outside(self) -> Scorer:
        if self.of_outside is None:
            raise ConfigError("no model for the row outside", remedy="give --outside FILE")
        return self.of_outside

    def linear(self) -> Scorer:
        def errors(model: LinearRescorer) -> float:
            return self.tuned(model).errors

        return min((train_linear(self.train, l2=l2) for l2 in L2), key=errors)

    # --- neural

    @staticmethod
    def references(lists: Sequence[NbestList]) -> List[Sequence[str]]:
        return [item.reference for item in lists if item.reference]

    @cached_property
    def tokens(self) -> Tokens:
        """Words of references and hypotheses that training has twice: errors, too, have names."""
        return Tokens.of_words([*self.references(self.train), *hypotheses_of(self.train)], least=2)

    def lstm(self) -> Scorer:
        training = TextTraining(seed=self.seed).changed(epochs=20, lr=2e-3, schedule=ScheduleConfig(warmup=50))
        return self._language_model("lstm", "lstm_lm", LSTM, training)

    @cached_property
    def minilm(self) -> MiniLmModels:
        return MiniLmModels(self.train, self.dev, self.folder, self.seed, self.log)

    @cached_property
    def masked(self) -> NeuralScorer:
        training = TextTraining(max_tokens=1500, masked=0.25, seed=self.seed)
        training = training.changed(epochs=40, lr=3e-3, schedule=_COSINE)
        return self._language_model("masked", "transformer_lm", TRANSFORMER, training)

    def _language_model(
        self, name: str, kind: str, settings: Dict[str, object], training: TextTraining
    ) -> NeuralScorer:
        return train_lm(
            kind, settings, self.tokens, self.references(self.train), self.references(self.dev), self.folder / name,
            training, log=self.log,
        )  # fmt: skip

    @cached_property
    def lists(self) -> List[HypothesisLists]:
        return [prepared(part, self.tokens, self.masked) for part in (self.train, self.dev)]

    @cached_property
    def md(self) -> NeuralScorer:
        targets = np.concatenate([self.lists[0].list(i).targets for i in range(len(self.lists[0]))])
        return self._scorer("md", RescoringLoss("", 1.0 / float(targets.var())), self.distilled)

    def discriminative(self, loss: str, distillation: float) -> Scorer:
        """Train on by errors what was distilled. Its scores count beside the first pass's as they were tuned to."""
        weights = self.tuned(self.md).weights
        first_weight = float(weights[0] / weights[2]) if weights[2] > 0 else 1.0
        name = loss + ("_md" if distillation else "")
        criterion = RescoringLoss(loss, distillation, first_weight)
        return self._scorer(name, criterion, self.discriminated, init=self.md)

    def _scorer(
        self, name: str, criterion: RescoringLoss, how: Tuple[int, float], init: object = None
    ) -> NeuralScorer:
        epochs, lr = how
        training = TextTraining(max_tokens=1500, seed=self.seed).changed(epochs=epochs, lr=lr, schedule=_COSINE)
        masked, begin = self.masked.model, init.model if isinstance(init, NeuralScorer) else None
        assert isinstance(masked, TransformerLm) and (begin is None or isinstance(begin, SentenceScorer))
        return train_scorer(
            masked, self.tokens, *self.lists, self.folder / f"{self.prefix}{name}", criterion, training, init=begin,
            log=self.log,
        )  # fmt: skip


class MiniLmModels(FoldModels):
    """Those that begin as MiniLM (hybrid/nnet/pretrained.py), adapted to the references."""

    prefix = "minilm_"
    distilled, discriminated = (4, 1e-4), (3, 2e-5)

    @cached_property
    def _start(self) -> Tuple[BertLm, Tokens]:
        text = [*self.references(self.train), *hypotheses_of(self.train)]
        return pretrained_lm("minilm", text, seed=self.seed)

    @property
    def tokens(self) -> Tokens:  # type: ignore[override]
        return self._start[1]

    @cached_property
    def masked(self) -> NeuralScorer:
        model, tokens = self._start
        training = TextTraining(max_tokens=500, masked=0.25, seed=self.seed)
        training = training.changed(epochs=10, lr=3e-4, schedule=_COSINE)
        return train_lm(
            model.kind, model.config.to_dict(), tokens, self.references(self.train), self.references(self.dev),
            self.folder / "minilm_masked", training, init=model, log=self.log,
        )  # fmt: skip


MODELS: Dict[str, Callable[[FoldModels], Scorer]] = {
    "trigram": FoldModels.trigram,
    "outside": FoldModels.outside,
    "linear": FoldModels.linear,
    "lstm": FoldModels.lstm,
    "pll": lambda models: models.masked,
    "md": lambda models: models.md,
    "mwer": lambda models: models.discriminative("mwer", 0.0),
    "mwed": lambda models: models.discriminative("mwed", 0.0),
    "md+mwer": lambda models: models.discriminative("mwer", 1e-4),
    "md+mwed": lambda models: models.discriminative("mwed", 1e-4),
    "minilm_pll": lambda models: models.minilm.masked,
    "minilm_md": lambda models: models.minilm.md,
    "minilm_mwer": lambda models: models.minilm.discriminative("mwer", 0.0),
    "minilm_md+mwer": lambda models: models.minilm.discriminative("mwer", 1e-4),
}
