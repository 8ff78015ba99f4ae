"""What is kept of a run that was killed: folders under the fingerprint of all that their content depends on."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Mapping, Sequence

from hybrid.align import aligner as engines
from hybrid.align.summary import Options
from hybrid.errors import DataError, ModelError
from hybrid.io import disk_errors, read_json, write_json
from hybrid.lexicon.lang import Lang


def key_of(
    options: Options, words: Mapping[str, Sequence[str]], content: str, lang: Lang, about: Mapping[str, Any]
) -> str:
    """Return a hash of what training and paths depend on: words, lexicon, features and speakers (`content`), model,
    beams, seed, and the format of both."""
    model = None
    if options.model is not None:
        folder = engines.find_model(options.model)[0]
        model = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    parts = [
        2, model, options.beam, options.retry_beam, options.seed, about, content,
        [[name, words[name]] for name in sorted(words)],
        [[word, *item] for word, item in lang.lexicon], lang.silence_phones, lang.oov, lang.position_dependent,
    ]
    return hashlib.sha256(json.dumps(parts, ensure_ascii=False).encode("utf-8")).hexdigest()


def fresh(folder: Path, key: str) -> None:
    """Keeps what a run of the same key has left in the folder; deletes what another has."""
    mark = folder / "key.json"
    if folder.exists():
        try:
            if read_json(mark) == key:
                return
        except DataError:
            if any(folder.iterdir()):
                raise ModelError(
                    "the folder is not one that hybrid align has made", file=folder, remedy="give another OUT"
                ) from None
        with disk_errors(folder):
            shutil.rmtree(folder)
    write_json(mark, key)
