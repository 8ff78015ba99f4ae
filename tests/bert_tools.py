"""A BERT with random weights, as a folder that `transformers` would write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hybrid.data.wordpiece import INSIDE
from hybrid.io import save_tensors, write_json

WORDS = ["the", "fare", "fair", "to", "boston", "den", "##ver", "a"]
LETTERS = [*"abcdefghijklmnopqrstuvwxyz'", *(INSIDE + letter for letter in "abcdefghijklmnopqrstuvwxyz")]
VOCABULARY = list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "unused", *WORDS, *LETTERS]))
SETTINGS = {
    "model_type": "bert", "hidden_act": "gelu", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 24, "max_position_embeddings": 20, "layer_norm_eps": 1e-12, "vocab_size": len(VOCABULARY),
}  # fmt: skip
Arrays = dict[str, np.ndarray]


def weights(config: dict[str, Any], prefix: str = "") -> Arrays:
    """Random weights with the names of transformers' BertModel; all norms and biases other than at a beginning."""
    random = np.random.default_rng(1)
    dim, wide = config["hidden_size"], config["intermediate_size"]
    shapes = {"pooler.dense.weight": (dim, dim), "pooler.dense.bias": (dim,)}
    tables = {"word": config["vocab_size"], "position": config["max_position_embeddings"], "token_type": 2}
    for name, rows in tables.items():
        shapes[f"embeddings.{name}_embeddings.weight"] = (rows, dim)
    norms = ["embeddings.LayerNorm"]
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes[f"{layer}.{part}.weight"], shapes[f"{layer}.{part}.bias"] = (dim, dim), (dim,)
        shapes[f"{layer}.intermediate.dense.weight"] = (wide, dim)
        shapes[f"{layer}.intermediate.dense.bias"] = (wide,)
        shapes[f"{layer}.output.dense.weight"], shapes[f"{layer}.output.dense.bias"] = (dim, wide), (dim,)
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for norm in norms:
        shapes[f"{norm}.weight"] = shapes[f"{norm}.bias"] = (dim,)
    around = {f"{norm}.weight": 1.0 for norm in norms}
    return {
        prefix + name: random.normal(around.get(name, 0.0), 0.3, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def small_bert(path: Path, **changes: Any) -> Path:
    """Write the folder; changes: of its settings."""
    settings = {**SETTINGS, **changes}
    path.mkdir()
    write_json(path / "config.json", settings)
    (path / "vocab.txt").write_text("".join(f"{name}\n" for name in VOCABULARY), "utf-8")
    save_tensors(path / "model.safetensors", weights(settings))
    return path
