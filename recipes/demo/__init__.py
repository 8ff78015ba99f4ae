"""The embedded default, `make demo`: commands to a voice assistant, spoken by synthetic voices.

Everything is made on the spot: no download and no data. The speech is synthetic (eSpeak NG), which the tables
say too: its error rates show that the chain works, not how good it is on people.
"""

from __future__ import annotations

from pathlib import Path

from hybrid.data.noise import NoiseLibrary
from hybrid.data.rooms import Rooms
from hybrid.lexicon.lexicon import Lexicon
from hybrid.lm import arpa
from hybrid.lm.model import NgramModel
from hybrid.pipeline.recipe import Recipe, standard_stages
from hybrid.pipeline.sets import write_cuts
from hybrid.run import Run

CONFIG = Path(__file__).with_name("demo.toml")
# The corpus and its noises are the same for every seed of the training, so that seeds compare.
_CORPUS_SEED = 1


def prepare(run: Run) -> None:
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
        write_cuts(folder / f"{name}.jsonl.gz", cuts)
        speakers = len({cut.supervisions[0].speaker for cut in cuts})
        run.log(f"  {name}: {len(cuts)} utterances, {sum(c.duration for c in cuts) / 60:.1f} min, {speakers} voices")
    build_lexicon(folder / "lexicon.txt", vocabulary(), sets["train"])
    run.problems("prepare").close(sum(map(len, sets.values())), run.config["limits.problems"])


def noises(run: Run, split: str) -> NoiseLibrary:
    return NoiseLibrary.from_folder(run.dir("prepare") / "noise" / ("test" if split == "test" else "train"))


def rooms(run: Run, split: str) -> Rooms:
    from hybrid.recipes.demo.media import other_rooms

    return other_rooms(_CORPUS_SEED + {"train": 10, "dev": 20, "test": 30}[split], 40)


def lexicon(run: Run) -> Lexicon:
    return Lexicon.from_file(run.dir("prepare") / "lexicon.txt")


def grammar(run: Run) -> NgramModel:
    return arpa.read(run.dir("lm") / "train.arpa")


RECIPE = Recipe(
    name="demo",
    title="Demo: synthetic voices saying commands (not real speech)",
    prepare=prepare,
    lexicon=lexicon,
    grammar=grammar,
    noises=noises,
    rooms=rooms,
    rerecorded="simulated re-recording (other rooms: uneven walls, a small loudspeaker), never seen in training",
    notes="All speech and all noises of this recipe are synthetic. Its numbers show that the chain works; they say "
    "nothing about recognition of people.",
)
STAGES = standard_stages(RECIPE)


