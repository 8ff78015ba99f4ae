"""Stage rescore: second passes over what has been decoded, as systems SYSTEM+NAME."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import List, Sequence, Tuple

from hybrid.decode.second_pass import Models
from hybrid.errors import DataError
from hybrid.lexicon.lang import Lang
from hybrid.lm.load import read_any
from hybrid.pipeline.decoding import groups
from hybrid.pipeline.language_model import FULL, respelled
from hybrid.pipeline.lattice_rescoring import LatticePass
from hybrid.pipeline.list_rescoring import ListPasses
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.sets import set_list
from hybrid.pipeline.systems import System

FIRST = "graph.safetensors"


def rescore(run: RecipeRun, systems: Sequence[System]) -> None:
    """Write EXP/rescore/SYSTEM+NAME/CONDITION/SET: hyp.txt, wer.json; what is there already is kept.

    NAMEs over lattices are in lattice_rescoring.py, those over n-best lists in list_rescoring.py.
    """
    lang = Lang.load(run.dir("lang"))
    sets = set_list(run)
    settings = run.settings.rescore
    folder = run.dir("rescore") / "models"
    of_lattices, ngram = _models(run, lang, folder)
    jobs = [(system, *group) for system in systems for group in groups(sets.decode, sets.dev_for)]
    problems = run.problems("rescore")
    total = 0
    with run.executor() as executor:
        for system, dev, tests in run.progress(jobs, desc="rescore"):
            for name, models in of_lattices:
                total += LatticePass(run, lang, system, name, models, executor, problems).run_all(dev, tests)
            if settings.of_lists:
                total += ListPasses(run, lang, system, ngram, executor, problems).run_all(dev, tests)
    problems.close(max(total, 1), run.settings.limits.problems)
    shutil.rmtree(run.dir("rescore") / ".lists", ignore_errors=True)
    (folder / FIRST).unlink(missing_ok=True)


def _models(run: RecipeRun, lang: Lang, folder: Path) -> Tuple[List[Tuple[str, Models]], Path]:
    """Make the files that workers read, that of the graph's model first; return those of each pass over lattices, and
    the larger n-gram model's."""
    settings = run.settings.rescore
    first, words = folder / FIRST, run.dir("lang") / "words.txt"
    if settings.of_lattices:
        read_any(run.dir("lm") / "lm.arpa").save(first)
    ngram = _ngram(run, lang, folder) if settings.takes_ngram else folder / "none"
    found = []
    for name, network in settings.of_lattices.items():
        second = run.dir("text_models") / network / "model" if network else ngram
        found.append((name, Models(first, second, words, settings.history if network else None)))
    return found, ngram


def _ngram(run: RecipeRun, lang: Lang, folder: Path) -> Path:
    """Return the file of the larger n-gram model; one from elsewhere is made arrays of the lexicon's words."""
    name = run.settings.rescore.ngram
    if name != "full":
        made = folder / "ngram.safetensors"
        respelled(run, lang, name, read_any(run.find(name))).save(made)
        return made
    full = run.dir("lm") / FULL
    if not full.is_file():
        raise DataError(
            "rescore.ngram is 'full', and the graph's model is not pruned: there is no larger one", file=full,
            remedy="give rescore.ngram the path of another, or prune the graph's with lm.max_ngrams or lm.prune",
        )  # fmt: skip
    return full
