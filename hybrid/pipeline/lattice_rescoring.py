"""Second passes over lattices, a part of stage rescore: another model in the place of the graph's n-gram.

    EXP/rescore/SYSTEM+NAME/CONDITION/SET/   hyp.txt, wer.json, aligned.txt

Of each condition the development set is searched once where the first pass's scale and penalty are, and the second
model put into its lattices; the model's share, and the scale and penalty at or beside the first's, are those of the
fewest errors. Test sets are decoded there.
"""

from __future__ import annotations

import time
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from hybrid.data.arrays import read_cuts
from hybrid.decode.run import Loglikes, spell, word_names
from hybrid.decode.second_pass import Models, Point, second_pass_words
from hybrid.decode.tuning import errors_at_points, middle_of_best
from hybrid.io import read_json, write_json
from hybrid.lexicon.lang import Lang
from hybrid.measure import commit
from hybrid.pipeline.decoding import grid_of, seed_of
from hybrid.pipeline.loglikes import set_loglikes
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.sets import DecodeSet, feature_folder, speakers_of, texts_of
from hybrid.pipeline.systems import System
from hybrid.score.results import SECOND, decode_folder, write_decode
from hybrid.score.wer import Counts


class _Choice(NamedTuple):
    """point: of the fewest errors on dev; counts: these; grid: all, as rows; words: of dev at the point."""

    point: Point
    counts: Counts
    grid: List[Dict[str, Any]]
    words: Mapping[str, Tuple[int, ...]]


class LatticePass:
    """One system's second pass of one name, condition by condition."""

    def __init__(
        self, run: RecipeRun, lang: Lang, system: System, name: str, models: Models, executor: Any, problems: Any
    ) -> None:
        self.run, self.lang, self.system, self.models = run, lang, system, models
        self.executor, self.problems = executor, problems
        self.name = f"{system.name}{SECOND}{name}"
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
        settings = self.run.settings.rescore
        shares = sorted(settings.neural_scales if self.models.neural else settings.lm_scales, reverse=True)
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
            "lm_scale": choice.point.lm_scale, "lattice_beam": settings.lattice_beam,
            **({"history": settings.history} if self.models.neural else {"ngram": settings.ngram}),
            "edge": False, "edges": [], "grid": choice.grid,
        }  # fmt: skip


def _beside(values: Sequence[float], value: float) -> List[float]:
    """Return the value of a grid, and its neighbours."""
    place = sorted(values).index(value)
    return sorted(values)[max(place - 1, 0) : place + 2]
