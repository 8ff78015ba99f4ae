"""What lies in the folder of a corpus: its parts, its lexicon, and what its training speech holds."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, Optional

from hybrid.corpus import Reading, read_corpus
from hybrid.data.sources import LHOTSE
from hybrid.errors import ConfigError, DataError
from hybrid.lexicon.lexicon import Lexicon
from hybrid.lexicon.transcript import Normaliser

_PARTS = {"train": r"tr(ain)?([-_.].*|\d*)$", "dev": r"(dev|val(id)?)([a-z]*)([-_.].*|\d*)$",
          "test": r"(test|eval)([-_.].*|\d*)$"}  # fmt: skip
_LEXICONS = ("lexiconp.txt", "lexicon.txt", "*.dict", "*.dic", "dict/lexicon.txt", "local/dict/lexicon.txt")


@dataclass
class Parts:
    """Sources of a corpus by role."""

    train: List[str] = field(default_factory=list)
    dev: List[str] = field(default_factory=list)
    test: Dict[str, str] = field(default_factory=dict)


def find_parts(corpus: str) -> Parts:
    """Return the folders below `corpus` that are named as training, development and test sets, or it itself as
    training set. Raises DataError where there is no such folder or file."""
    if corpus.startswith(LHOTSE):
        return Parts([corpus])
    root = Path(corpus)
    if not root.exists():
        raise DataError("no such corpus", file=root, remedy="give a folder, a Kaldi data folder or a Lhotse manifest")
    folders: Dict[str, List[str]] = {"train": [], "dev": [], "test": []}
    if root.is_dir() and not (root / "wav.scp").is_file():
        for folder in sorted(root.iterdir()):
            for role, pattern in _PARTS.items():
                if folder.is_dir() and re.match(pattern, folder.name.lower()):
                    folders[role].append(_shown(folder))
    if not folders["train"]:
        return Parts([_shown(root)])
    return Parts(folders["train"], folders["dev"], {_name(path): path for path in folders["test"]})


def _shown(path: Path) -> str:
    return path.as_posix()


def _name(path: str) -> str:
    """Of a test set, as its folder is called: letters, digits, - and . alone."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(path).name).strip("-.")
    return name or "test"


def find_lexicon(corpus: str) -> str:
    """Return the pronunciations in the folder of a corpus; "" where there are none.

    Raises ConfigError where there are several, and nobody can say which."""
    root = Path(corpus)
    if corpus.startswith(LHOTSE) or not root.is_dir():
        return ""
    for pattern in _LEXICONS:
        files = sorted(file for file in root.glob(pattern) if file.is_file())
        if len(files) > 1:
            raise ConfigError(
                f"several lexicons: {', '.join(file.name for file in files)}", file=root,
                remedy="say which one: --lexicon FILE",
            )  # fmt: skip
        if files:
            return _shown(files[0])
    return ""


@dataclass
class CorpusSummary:
    """What a set of sources holds. missing: words that the lexicon lacks, and how often they are met."""

    form: str = ""
    utterances: int = 0
    skipped: int = 0
    hours: float = 0.0
    speakers: int = 0
    rates: Counter = field(default_factory=Counter)
    words: int = 0
    missing: Counter = field(default_factory=Counter)
    notes: List[str] = field(default_factory=list)


def look(sources: List[str], reading: Reading, lexicon: Optional[Lexicon]) -> CorpusSummary:
    """Read the headers of all audio and all transcripts. Raises DataError as read_corpus."""
    summary = CorpusSummary()
    normalise = Normaliser(lexicon)
    names = set()
    for source in sources:
        corpus = read_corpus(source, reading)
        summary.form = corpus.form
        summary.skipped += corpus.total - len(corpus.cuts)
        summary.notes += corpus.notes
        for cut in corpus.cuts:
            summary.utterances += 1
            summary.hours += cut.duration / 3600
            summary.rates[cut.sampling_rate] += 1
            names.add(cut.supervisions[0].speaker)
            words = normalise(cut.supervisions[0].text or "")
            summary.words += len(words)
            if lexicon is not None:
                summary.missing.update(word for word in words if word not in lexicon)
    summary.speakers = len(names)
    return summary
