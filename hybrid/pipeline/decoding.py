"""Stages graph and decode."""

from __future__ import annotations

import time
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from hybrid.data.arrays import read_cuts
from hybrid.decode.run import decode_set, words_of_set
from hybrid.decode.tuning import tune
from hybrid.fst import write_fst
from hybrid.fst_file import read_arrays
from hybrid.hmm.decoding_graph import decoding_graph
from hybrid.io import read_json, write_json
from hybrid.lexicon.lang import Lang
from hybrid.measure import commit
from hybrid.nnet.priors import outputs_of
from hybrid.pipeline import gmm as gmm_stage
from hybrid.pipeline.confidences import Confidences
from hybrid.pipeline.loglikes import Loglikes, set_loglikes
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.senones import network_senones
from hybrid.pipeline.sets import DecodeSet, feature_folder, set_list, speakers_of, texts_of
from hybrid.pipeline.systems import System
from hybrid.score.results import ORDER, write_decode


def graph(run: RecipeRun, systems: Sequence[System]) -> None:
    """Write EXP/graph/{mono,tri1,tri2,tri3,network}.fst over pdf + 1, of the systems that are decoded; a graph that a
    killed run of the stage left is kept."""
    grammar = read_arrays(run.dir("lm") / "G.fst")
    settings = run.settings.graph
    run.log(f"  for {', '.join(run.settings.decode.systems) or 'all systems'}")
    names = dict.fromkeys(system.graph for system in systems)
    for name in run.progress(names, total=len(names), desc="HCLG"):
        path = run.dir("graph") / f"{name}.fst"
        if path.exists():
            continue
        of_network = any(system.network for system in systems if system.graph == name)
        senones = network_senones(run) if of_network else gmm_stage.load(run, name).senones
        graph = decoding_graph(
            gmm_stage.lang_of(run, name), grammar, senones, bar=run.bar(name),
            self_loop_scale=settings.network_self_loop_scale if of_network else settings.self_loop_scale,
        )  # fmt: skip
        write_fst(path, graph)
        run.log(f"  {name}: {graph.num_states} states, {len(graph.arcs)} arcs")


def decode(run: RecipeRun, systems: Sequence[System]) -> None:
    """Write EXP/decode/SYSTEM/CONDITION/SET: hyp.txt, wer.json; a decode that is there already is kept.

    The acoustic scale and the word insertion penalty are chosen on the development set of the same condition, or the
    nearest that there is; the rows "tuned on test" use a test set's own best, as Kaldi's published numbers do, for that
    comparison alone.
    """
    lang = Lang.load(run.dir("lang"))
    sets = set_list(run)
    write_json(run.dir("decode") / ORDER, [system.name for system in systems])
    jobs = [(system, *group) for system in systems for group in groups(sets.decode, sets.dev_for)]
    problems = run.problems("decode")
    total = 0
    with run.executor() as executor:
        for system, dev, tests in run.progress(jobs, desc="decode"):
            total += _Decode(run, lang, system, dev, executor, problems).run_all(tests)
    problems.close(max(total, 1), run.settings.limits.problems)


def groups(sets: List[DecodeSet], dev_for: Any) -> Iterator[Tuple[DecodeSet, List[DecodeSet]]]:
    """Yield each development set with the test sets whose scales it chooses."""
    for dev in sets:
        if dev.role == "dev":
            yield dev, [test for test in sets if test.role == "test" and dev_for(test.condition) == dev]


def seed_of(run: RecipeRun, system: System) -> int:
    """Return the seed of a system: of the run, and of a network its own."""
    if not system.network:
        return run.seed
    return int(read_json(run.dir(system.trained_as) / "model" / "config.json")["seed"])


def grid_of(run: RecipeRun, system: System) -> Tuple[List[float], List[float]]:
    """Return the scales and penalties to try. Posteriors divided by priors want smaller scales than the outputs of a
    network trained per sequence."""
    settings = run.settings.decode
    if not system.network:
        grid = settings.gmm
    else:
        outputs = outputs_of(run.dir(system.trained_as) / "model")
        grid = settings.ce if outputs == "posteriors" else settings.lfmmi
    return grid.scales, grid.penalties


class _Decode:
    """One system on a development set and the test sets whose scales that chooses."""

    def __init__(
        self, run: RecipeRun, lang: Lang, system: System, dev: DecodeSet, executor: Any, problems: Any
    ) -> None:
        self.run, self.lang, self.system, self.dev = run, lang, system, dev
        self.executor, self.problems = executor, problems
        settings = run.settings.decode
        self.search: Dict[str, Any] = {"beam": settings.beam, "max_active": settings.max_active}
        self.graph = run.dir("graph") / f"{system.graph}.fst"
        self.seed = seed_of(run, system)

    def run_all(self, tests: List[DecodeSet]) -> int:
        """Decode and score the development set and `tests`; return the number of utterances."""
        folder = self.run.dir("decode") / self.system.name / self.dev.condition
        path = folder / "problems.json"
        sets = [self.dev, *tests]
        cuts = {eval_set: read_cuts(feature_folder(self.run, eval_set.name, "mfcc")) for eval_set in sets}
        total = sum(map(len, cuts.values()))
        if path.exists():
            self.problems.rows += read_json(path)
            return total
        num_before = len(self.problems.rows)
        tuning = None
        confidences = Confidences(
            self.run, self.system, self.dev.condition, self.graph, self.executor, self.search
        )
        for eval_set, loglikes, seconds in set_loglikes(self.run, self.system, sets, self.executor, self.search):
            references = {identifier: text.split() for identifier, text in texts_of(cuts[eval_set]).items()}
            decode_args = (eval_set, loglikes, references, speakers_of(cuts[eval_set]), seconds)
            if tuning is None:  # the development set comes first
                tuning = self.tuned(eval_set, loglikes, references, "dev")
            row = self.write(tuning, "dev", *decode_args, chosen_here=eval_set == self.dev)
            confidences.add(eval_set, tuning, loglikes, references)
            if eval_set.role == "test":
                self.run.log(
                    f"  {self.system.name} {eval_set.condition}: {row['wer']:.2f} % on {eval_set.set}, "
                    f"{tuning.counts.wer:.2f} % on {self.dev.set}, scale {tuning.scale:.3g}, penalty {tuning.penalty:g}"
                )
                if "test" in self.run.settings.decode.tune_on:
                    best = self.tuned(eval_set, loglikes, references, "test")
                    self.write(best, "test", *decode_args, chosen_here=True)
        write_json(path, self.problems.rows[num_before:])
        return total

    def tuned(self, eval_set: DecodeSet, loglikes: Loglikes, references: Mapping[str, List[str]], on: str) -> Any:
        """Return the scale and penalty of the fewest errors on a set."""
        scales, penalties = grid_of(self.run, self.system)
        tuning = tune(
            loglikes, references, self.graph, self.lang.words,
            scales=scales, penalties=penalties, executor=self.executor,
            slack=0.5 if on == "dev" else 0.0,  # on test as Kaldi's best_wer.sh: the fewest, by chance or not
            join=self.lang.words_of,
            **self.search,
        )  # fmt: skip
        for edge in tuning.edges:
            self.run.log(
                f"  {self.system.name} {eval_set.condition}: the best {edge} on {eval_set.set} is at the end of the "
                "values tried"
            )
        return tuning

    def write(
        self, tuning: Any, tuned_on: str, eval_set: DecodeSet, loglikes: Loglikes, references: Mapping[str, List[str]],
        speakers: Mapping[str, str], seconds: float, *, chosen_here: bool,
    ) -> Dict[str, Any]:  # fmt: skip
        """Decode with the scale and penalty of `tuning`, and write EXP/decode/SYSTEM/CONDITION/SET. chosen_here: on
        this set, by a search at the point, whose words they are."""
        started = time.perf_counter()
        if chosen_here and tuning.best.keys() == loglikes.keys():
            hypotheses = words_of_set(tuning.best, self.graph, self.lang.words, self.problems, self.lang.words_of)
        else:
            hypotheses = decode_set(
                loglikes, self.graph, self.lang.words, acoustic_scale=tuning.scale, word_penalty=tuning.penalty,
                executor=self.executor, problems=self.problems, join=self.lang.words_of, **self.search,
            )  # fmt: skip
        return write_decode(
            self.run.exp, references, hypotheses, system=self.system.name, condition=eval_set.condition,
            name=eval_set.set, tuned_on=tuned_on, seed=self.seed, speakers=speakers,
            settings={**self.search, **tuning.as_dict()},
            seconds=seconds + time.perf_counter() - started, commit=commit(), problems=self.problems,
        )  # fmt: skip
