"""A neural language model or sentence scorer on disk: model.safetensors, config.json and its tokens."""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional, Tuple, Union

import torch

from hybrid.data.tokens import Tokens
from hybrid.errors import ConfigError, ModelError
from hybrid.io import atomic_folder, save_tensors, write_json
from hybrid.nnet.bert import BertConfig, BertLm, BertScorer
from hybrid.nnet.model_io import FORMAT, PathLike, load_folder, state_arrays
from hybrid.nnet.text import LstmLm, LstmLmConfig, TextModel
from hybrid.nnet.transformer import SentenceScorer, TransformerConfig, TransformerLm

BUILDERS: Dict[str, Callable[[Mapping[str, Any], Optional[int]], TextModel]] = {
    LstmLm.kind: lambda values, seed: LstmLm(LstmLmConfig.from_dict(values), seed),
    TransformerLm.kind: lambda values, seed: TransformerLm(TransformerConfig.from_dict(values), seed),
    SentenceScorer.kind: lambda values, seed: SentenceScorer(TransformerConfig.from_dict(values), seed),
    BertLm.kind: lambda values, seed: BertLm(BertConfig.from_dict(values), seed),
    BertScorer.kind: lambda values, seed: BertScorer(BertConfig.from_dict(values), seed),
}


def build_text_model(kind: str, values: Mapping[str, Any], seed: Optional[int] = None) -> TextModel:
    """Make a new model from its settings. Raises ConfigError for an unknown kind, and as the settings do."""
    if kind not in BUILDERS:
        raise ConfigError(f"unknown kind of model {kind!r}", remedy=f"known: {', '.join(sorted(BUILDERS))}")
    return BUILDERS[kind](values, seed)


def save_text_model(
    folder: PathLike, model: TextModel, tokens: Tokens, about: Optional[Mapping[str, Any]] = None
) -> None:
    """Writes the folder beside its place and renames it. about: further keys of config.json."""
    with atomic_folder(folder) as temporary:
        tokens.save(temporary)
        save_tensors(temporary / "model.safetensors", state_arrays(model))
        config = {"format": FORMAT, "kind": model.kind, "model": model.config.to_dict()}
        write_json(temporary / "config.json", {**dict(about or {}), **config})


def load_text_model(
    folder: PathLike, device: Union[str, torch.device] = "cpu"
) -> Tuple[TextModel, Tokens, Dict[str, Any]]:
    """Returns the model, in evaluation mode, its tokens and config.json.

    Raises ModelError where the folder is not a language model.
    """
    model, config = load_folder(folder, build_text_model)
    tokens = Tokens.load(folder)
    if len(tokens) != model.config.num_tokens:
        raise ModelError(
            f"{len(tokens)} tokens, the model has {model.config.num_tokens}", file=folder, remedy="train it again"
        )
    return model.to(device).eval(), tokens, config
