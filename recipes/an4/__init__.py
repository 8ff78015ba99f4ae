"""AN4: the stages of `hybrid run an4 --data DIR`, DIR holding an4/, noise/ and rir/."""

from __future__ import annotations

from pathlib import Path
from typing import Iterable

from lhotse import CutSet

from hybrid.data.measured import MeasuredRooms
from hybrid.data.noise import NoiseLibrary
from hybrid.errors import DataError
from hybrid.lexicon.lexicon import Lexicon
from hybrid.lm import arpa
from hybrid.lm.model import NgramModel
from hybrid.pipeline.recipe import Recipe, standard_stages
from hybrid.pipeline.sets import write_cuts
from hybrid.recipes.an4.download import download_an4
from hybrid.recipes.an4.prepare import GET_IT, find_an4, prepare_an4
from hybrid.run import Run

__all__ = ["CONFIG", "GET_IT", "RECIPE", "STAGES"]

CONFIG = Path(__file__).with_name("an4.toml")


def _data(run: Run) -> Path:
    if run.data is None:
        raise DataError("AN4 needs its data folder", remedy=GET_IT)
    return run.data


def _etc(run: Run, name: str) -> Path:
    return find_an4(_data(run)) / "etc" / name


def prepare(run: Run) -> None:
    if run.config["prepare.download"]:
        download_an4(_data(run), log=run.log)
    lexicon(run)  # a broken file is said now, and not when the noisy copies have been made
    if run.config["lm.source"] == "corpus":
        grammar(run)
    problems = run.problems("prepare")
    with run.executor() as executor:
        sets = prepare_an4(
            _data(run),
            problems,
            num_dev_speakers=run.config["prepare.dev_speakers"],
            labelled=run.config["prepare.labelled"],
            executor=executor,
            progress=run.progress,
            log=run.log,
        )
    for name, cuts in sets.items():
        write_cuts(run.dir("prepare") / f"{name}.jsonl.gz", cuts)
        run.log(f"  {name}: {len(cuts)} utterances, {_speakers(cuts)} speakers")
    problems.close(sum(map(len, sets.values())) + len(problems.rows), run.config["limits.problems"])


def _speakers(cuts: CutSet) -> int:
    return len({cut.supervisions[0].speaker for cut in cuts})


def _sounds(run: Run, kind: str, split: str) -> Path:
    folder = _data(run) / kind / split
    if not folder.is_dir():
        raise DataError(
            f"no {'noises' if kind == 'noise' else 'impulse responses'} beside an4/",
            file=folder,
            remedy="put recordings into noise/{train,test}/{music,dialogue,babble,household} and measured responses "
            "into rir/{dev,test}; see the README of the recipe",
        )
    return folder


def noises(run: Run, split: str) -> NoiseLibrary:
    """The test set's noises are of no recording that training or development hears."""
    return NoiseLibrary.from_folder(_sounds(run, "noise", "test" if split == "test" else "train"))


def rooms(run: Run, split: str) -> MeasuredRooms:
    return MeasuredRooms(_sounds(run, "rir", split))


def lexicon(run: Run) -> Lexicon:
    return Lexicon.from_file(_etc(run, "an4.dic"))


def grammar(run: Run) -> NgramModel:
    return arpa.read(_etc(run, "an4.ug.lm"))


def _corpus_files(run: Run) -> Iterable[Path]:
    # A download is compared with the archive's known contents: there is nothing else to be seen as changed.
    return [] if run.config["prepare.download"] else [find_an4(_data(run))]


def _sound_files(run: Run) -> Iterable[Path]:
    return [_sounds(run, kind, split) for kind, split in
            (("noise", "train"), ("noise", "test"), ("rir", "dev"), ("rir", "test"))]


RECIPE = Recipe(
    name="an4",
    title="AN4: clean, noisy and measured rooms",
    prepare=prepare,
    lexicon=lexicon,
    grammar=grammar,
    noises=noises,
    rooms=rooms,
    rerecorded="measured rooms: talker and noises through impulse responses measured in rooms never seen in training "
    "(a stand-in, not a real re-recording)",
    notes="Kaldi's `egs/an4/s5` on the same 773 words, its scale chosen on the test set: monophones 10.61 published, "
    "12.03 rerun; triphones with deltas (tri1) 10.48 and 9.96; LDA+MLLT (tri2) 11.38 and 10.09; SAT (tri3) 5.95 and "
    "6.34, its first pass (tri3_si) 9.06 rerun, in noise and in rooms 66 and 68; its chain TDNN-F trained on clean and "
    "two noisy copies 8.8 / 26.1 / 25.1. Its GMMs see no speed-perturbed copies, these do. Its models train on all 948 "
    "utterances, these on 845: 103 are the development set. The language model is uniform over 106 words, so that a "
    "word penalty of -4.66 would take its cost off.",
    inputs={
        "prepare": _corpus_files,
        "augment": _sound_files,
        "lang": lambda run: [_etc(run, "an4.dic")],
        "lm": lambda run: [_etc(run, "an4.ug.lm")],
    },
)
STAGES = standard_stages(RECIPE)
