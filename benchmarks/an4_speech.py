"""AN4's 948 training utterances as cepstra, and its lexicon: what the benchmarks of Gaussian training read."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Callable, Dict, Iterator, List

from hybrid.data.arrays import iterate_arrays
from hybrid.data.features import FeatureExtractor, Mfcc, extract
from hybrid.gmm.store import Store, StoredUtterance
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.lexicon import Lexicon
from hybrid.parallel import WorkerPool
from hybrid.recipes.an4.prepare import find_an4, prepare_an4

FRAME_SHIFT = 0.01


@lru_cache
def lang(data: Path) -> Lang:
    return Lang.create(Lexicon.from_file(find_an4(data) / "etc" / "an4.dic"), position_dependent=True)


def features(data: Path, folder: Path) -> Path:
    """Computes the cepstra of all training utterances once; the folder of the set."""
    out = folder / "mfcc"
    if not (out / "complete.json").exists():
        with WorkerPool(0) as executor:
            sets = prepare_an4(data, num_dev_speakers=1, executor=executor)
            extract([*sets["train"], *sets["dev"]], FeatureExtractor(Mfcc()), out, executor=executor)
    return out


def items(mfcc: Path, keep: Callable[[str], bool] = lambda speaker: True, copies: int = 1) -> Iterator[StoredUtterance]:
    """Utterances of the speakers that `keep` takes; `copies` of each under other names, speakers too."""
    for copy in range(copies):
        for cut, arrays in iterate_arrays(mfcc, "mfcc"):
            one = cut.supervisions[0]
            if keep(one.speaker):
                mark = f"-{copy}" if copies > 1 else ""
                yield StoredUtterance(cut.id + mark, one.speaker + mark, one.text, arrays["mfcc"])


def store(mfcc: Path, folder: Path, keep: Callable[[str], bool] = lambda speaker: True, copies: int = 1) -> Store:
    return Store.create(folder, lambda: items(mfcc, keep, copies), variance=True)


def speakers(mfcc: Path) -> List[str]:
    found: Dict[str, None] = {}
    for item in items(mfcc):
        found[item.speaker] = None
    return sorted(found)
