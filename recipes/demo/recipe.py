"""The embedded default, `make demo`: commands to a voice assistant, spoken by synthetic voices.

Everything is made on the spot: no download and no data. The speech is synthetic (eSpeak NG), which the tables
say too: its error rates show that the chain works, not how good it is on people.
"""

from __future__ import annotations

from hybrid.corpus import Corpus, Reading
from hybrid.data.noise import NoiseLibrary
from hybrid.data.rooms import Rooms
from hybrid.lexicon.lexicon import Lexicon
from hybrid.pipeline.sets import read_cuts, write_cuts
from hybrid.run import Run

# The corpus and its noises are the same for every seed of the training, so that seeds compare.
_CORPUS_SEED = 1


def prepare(run: Run) -> None:
    """Write EXP/prepare/speech, noise, lexicon.txt, and a manifest a set in EXP/prepare/spoken."""
    from hybrid.recipes.demo.corpus import build_corpus
    from hybrid.recipes.demo.grammar import vocabulary
    from hybrid.recipes.demo.media import build_noises
    from hybrid.recipes.demo.pronounce import build_lexicon

    folder = run.dir("prepare")
    minutes = {split: run.config[f"prepare.{split}_minutes"] for split in ("train", "dev", "test")}
    if run.config["prepare.unlabelled_minutes"]:
        minutes["unlabelled"] = run.config["prepare.unlabelled_minutes"]
    with run.executor() as executor:
        run.log("  synthetic speech: eSpeak NG's voices say commands of a grammar")
        sets = build_corpus(folder / "speech", _CORPUS_SEED, minutes, executor)
        build_noises(folder / "noise", _CORPUS_SEED, executor)
    for name, cuts in sets.items():
        write_cuts(folder / "spoken" / f"{name}.jsonl.gz", cuts, root=run.exp)
    build_lexicon(folder / "lexicon.txt", vocabulary(), sets["train"])


def read(run: Run, name: str, reading: Reading) -> Corpus:
    path = run.dir("prepare") / "spoken" / f"{name}.jsonl.gz"
    return Corpus("synthetic voices", list(read_cuts(path)) if path.exists() else [])


def noises(run: Run, split: str) -> NoiseLibrary:
    return NoiseLibrary.from_folder(run.dir("prepare") / "noise" / ("test" if split == "test" else "train"))


def rooms(run: Run, split: str) -> Rooms:
    from hybrid.recipes.demo.media import other_rooms

    return other_rooms(_CORPUS_SEED + {"train": 10, "dev": 20, "test": 30}[split], 40)


def lexicon(run: Run) -> Lexicon:
    return Lexicon.from_file(run.dir("prepare") / "lexicon.txt")


