"""Stage rescore: second passes over the lattices of what has been decoded, as systems SYSTEM+NAME."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from hybrid.data.arrays import read_cuts
from hybrid.decode.run import Loglikes, spell, word_names
from hybrid.decode.second_pass import Models, Point, second_pass_words
from hybrid.decode.tuning import errors_at_points, middle_of_best
from hybrid.errors import DataError
from hybrid.io import read_json, write_json
from hybrid.lexicon.lang import Lang
from hybrid.lm.load import read_any
from hybrid.measure import commit
from hybrid.pipeline.decoding import grid_of, groups, seed_of
from hybrid.pipeline.language_model import FULL, respelled
from hybrid.pipeline.list_rescoring import ListPasses
from hybrid.pipeline.loglikes import set_loglikes
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.second_pass_settings import NGRAM
from hybrid.pipeline.sets import DecodeSet, feature_folder, set_list, speakers_of, texts_of
from hybrid.pipeline.systems import System
from hybrid.score.results import SECOND, decode_folder, write_decode
from hybrid.score.wer import Counts

FIRST = "graph.safetensors"


def rescore(run: RecipeRun, systems: Sequence[System]) -> None:
    """Write EXP/rescore/SYSTEM+NAME/CONDITION/SET: hyp.txt, wer.json; what is there already is kept.

    NAME ngram is a larger n-gram model in lattices, here; others are over n-best lists (list_rescoring.py). Of each
    condition the development set is searched once where the first pass's scale and penalty are, and the second
    model put into its lattices; the model's share, and the scale and penalty at or beside the first's, are those of the
    fewest errors. Test sets are decoded there.
    """
    lang = Lang.load(run.dir("lang"))
    sets = set_list(run)
    settings = run.settings.rescore
    models = run.dir("rescore") / "models"
    if NGRAM in settings.passes or NGRAM in settings.components:
        ngrams = _models(run, lang, models)
    else:
        ngrams = Models(models, models, models)  # which nothing reads
    jobs = [(system, *group) for system in systems for group in groups(sets.decode, sets.dev_for)]
    problems = run.problems("rescore")
    total = 0
    with run.executor() as executor:
        for system, dev, tests in run.progress(jobs, desc="rescore"):
            if NGRAM in settings.passes:
                total += _SecondPass(run, lang, system, ngrams, executor, problems).run_all(dev, tests)
            if settings.of_lists:
                total += ListPasses(run, lang, system, Path(ngrams.second), executor, problems).run_all(dev, tests)
    problems.close(max(total, 1), run.settings.limits.problems)
    shutil.rmtree(run.dir("rescore") / ".lists", ignore_errors=True)
    (models / FIRST).unlink(missing_ok=True)


def _models(run: RecipeRun, lang: Lang, folder: Any) -> Models:
    """Make the files that workers read: the model of the graph as arrays, and a model from elsewhere likewise."""
    name = run.settings.rescore.ngram
    first, second = folder / FIRST, run.dir("lm") / FULL
    read_any(run.dir("lm") / "lm.arpa").save(first)
    if name != "full":
        second = folder / "ngram.safetensors"
        respelled(run, lang, name, read_any(run.find(name))).save(second)
    elif not second.is_file():
        raise DataError(
            "rescore.ngram is 'full', and the graph's model is not pruned: there is no larger one", file=second,
            remedy="give rescore.ngram the path of another, or prune the graph's with lm.max_ngrams or lm.prune",
        )  # fmt: skip
    return Models(first, second, run.dir("lang") / "words.txt")


class _Choice(NamedTuple):
    """point: of the fewest errors on dev; counts: these; grid: all, as rows; words: of dev at the point."""

    point: Point
    counts: Counts
    grid: List[Dict[str, Any]]
    words: Mapping[str, Tuple[int, ...]]


class _SecondPass:
    """One system's second pass, condition by condition."""

    def __init__(
        self, run: RecipeRun, lang: Lang, system: System, models: Models, executor: Any, problems: Any
    ) -> None:
        self.run, self.lang, self.system, self.models = run, lang, system, models
        self.executor, self.problems = executor, problems
        self.name = f"{system.name}{SECOND}{NGRAM}"
        self.names = word_names(lang.words)
        self.graph = run.dir("graph") / f"{system.graph}.fst"
        settings = run.settings.decode
        self.search: Dict[str, Any] = {"beam": settings.beam, "max_active": settings.max_active}

    def run_all(self, dev: DecodeSet, tests: Sequence[DecodeSet]) -> int:
        """Search and score the development set and `tests`; return the number of utterances."""
        path = self.run.dir("rescore") / self.name / dev.condition / "problems.json"
        sets = [dev, *tests]
        cuts = {eval_set: read_cuts(feature_folder(self.run, eval_set.name, "mfcc")) for eval_set in sets}
        if path.exists():
            self.problems.rows += read_json(path)
            return sum(map(len, cuts.values()))
        num_before = len(self.problems.rows)
        first = read_json(decode_folder(self.run.exp, self.system.name, dev.condition, dev.set) / "wer.json")
        origin = (first["settings"]["acoustic_scale"], first["settings"]["word_penalty"])
        choice = None
        for eval_set, loglikes, seconds in set_loglikes(
            self.run, self.system, sets, self.executor, self.search, "rescore"
        ):
            started = time.perf_counter()
            references = {identifier: text.split() for identifier, text in texts_of(cuts[eval_set]).items()}
            if choice is None:  # the development set comes first
                choice = self.chosen(loglikes, references, origin)
                words = choice.words
            else:
                found = self.words(loglikes, origin, [choice.point])
                words = {name: ids for name, (ids,) in found.items()}
            row = write_decode(
                self.run.exp, references, {name: self.spelt(ids) for name, ids in words.items()}, system=self.name,
                condition=eval_set.condition, name=eval_set.set, tuned_on="dev", seed=seed_of(self.run, self.system),
                speakers=speakers_of(cuts[eval_set]), settings=self.told(choice), commit=commit(),
                seconds=seconds + time.perf_counter() - started, problems=self.problems,
            )  # fmt: skip
            if eval_set.role == "test":
                self.run.log(
                    f"  {self.name} {eval_set.condition}: {row['wer']:.2f} % on {eval_set.set}, "
                    f"{choice.counts.wer:.2f} % on {dev.set} ({first['wer']:.2f} before), share "
                    f"{choice.point.lm_scale:g}, scale {choice.point.scale:.3g}, penalty {choice.point.penalty:g}"
                )
        write_json(path, self.problems.rows[num_before:])
        return sum(map(len, cuts.values()))

    def words(
        self, loglikes: Loglikes, origin: Tuple[float, float], points: Sequence[Point]
    ) -> Dict[str, List[Tuple[int, ...]]]:
        return second_pass_words(
            loglikes, self.graph, self.models, origin=origin, points=points, executor=self.executor,
            lattice_beam=self.run.settings.rescore.lattice_beam, problems=self.problems, **self.search,
        )  # fmt: skip

    def spelt(self, ids: Sequence[int]) -> List[str]:
        return spell(ids, self.names, self.graph)

    def chosen(
        self, loglikes: Loglikes, references: Mapping[str, Sequence[str]], origin: Tuple[float, float]
    ) -> _Choice:
        """Choose the point on the development set: of each share the middle of its best scales and penalties, of the
        shares the one of the fewest errors there, the largest of several."""
        grid = grid_of(self.run, self.system)
        scales, penalties = (_beside(values, value) for values, value in zip(grid, origin, strict=True))
        shares = sorted(self.run.settings.rescore.lm_scales, reverse=True)
        points = [Point(scale, penalty, share) for share in shares for penalty in penalties for scale in scales]
        found = self.words(loglikes, origin, points)
        totals = errors_at_points(references, found, len(points), self.spelt)
        errors = np.array([counts.errors for counts in totals]).reshape(len(shares), len(penalties), len(scales))
        middles = [middle_of_best(of_share) for of_share in errors]
        share = min(range(len(shares)), key=lambda number: errors[number][middles[number]])
        best = int(np.ravel_multi_index((share, *middles[share]), errors.shape))
        rows = [
            {"acoustic_scale": point.scale, "word_penalty": point.penalty, "lm_scale": point.lm_scale,
             "wer": round(counts.wer, 4), **counts.as_dict()}
            for point, counts in zip(points, totals, strict=True)
        ]  # fmt: skip
        return _Choice(points[best], totals[best], rows, {name: words[best] for name, words in found.items()})

    def told(self, choice: _Choice) -> Dict[str, Any]:
        """Return what wer.json keeps as the settings of the pass."""
        settings = self.run.settings.rescore
        return {
            **self.search, "acoustic_scale": choice.point.scale, "word_penalty": choice.point.penalty,
            "lm_scale": choice.point.lm_scale, "ngram": settings.ngram, "lattice_beam": settings.lattice_beam,
            "edge": False, "edges": [], "grid": choice.grid,
        }  # fmt: skip


def _beside(values: Sequence[float], value: float) -> List[float]:
    """Return the value of a grid, and its neighbours."""
    place = sorted(values).index(value)
    return sorted(values)[max(place - 1, 0) : place + 2]
