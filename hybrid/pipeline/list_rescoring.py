"""Second passes over n-best lists, a part of stage rescore: n-gram, neural and linear scores beside the first pass's.

    EXP/rescore/SYSTEM+NAME/CONDITION/SET/       hyp.txt, wer.json, aligned.txt
    EXP/rescore/SYSTEM+NAME/CONDITION/weights.json   for hybrid rescore apply
    EXP/rescore/models/SYSTEM/{bert,linear}      what has learnt from lists of training speech

A set's lists are written to a file and read from there again, list by list; of all lists only the scores are held, some
numbers a hypothesis.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from hybrid.data.arrays import read_cuts
from hybrid.decode.run import Loglikes, spell, word_names
from hybrid.decode.second_pass import nbest_lists
from hybrid.io import read_json, write_json
from hybrid.lexicon.lang import Lang
from hybrid.measure import commit
from hybrid.pipeline.decoding import seed_of
from hybrid.pipeline.loglikes import set_loglikes
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.second_pass_settings import NGRAM, TOGETHER, TRAINED_ON_TEXT
from hybrid.pipeline.sets import CLEAN, DecodeSet, TrainingSet, feature_folder, set_list, speakers_of, texts_of
from hybrid.pipeline.systems import System
from hybrid.pipeline.text_models import text_training
from hybrid.rescore.bert import BertTraining, train_bert
from hybrid.rescore.combine import Combination, columns, scored, with_errors
from hybrid.rescore.linear import train_linear
from hybrid.rescore.nbest import NbestList, of_entries, read_lists, write_lists
from hybrid.rescore.neural import NeuralScorer
from hybrid.rescore.scorers import AnyScorer, load_scorer
from hybrid.rescore.weights import ScoredList, tune
from hybrid.score.results import SECOND, decode_folder, write_decode

GRAPH = "part:graph"
_L2 = (0.1, 0.3, 1.0, 3.0)  # of the linear model, chosen on dev


class ListPasses:
    """The second passes over the n-best lists of one system; sets are searched condition by condition."""

    def __init__(self, run: RecipeRun, lang: Lang, system: System, ngram: Path, executor: Any, problems: Any) -> None:
        """ngram: the file of the model of the component of this name."""
        self.run, self.system, self.executor, self.problems = run, system, executor, problems
        self.settings = run.settings.rescore
        self.names = word_names(lang.words)
        self.graph = run.dir("graph") / f"{system.graph}.fst"
        self.models = run.dir("rescore") / "models" / system.name
        self.ngram = ngram
        decode = run.settings.decode
        self.search: Dict[str, Any] = {"beam": decode.beam, "max_active": decode.max_active}
        self._scorers: Dict[str, AnyScorer] = {}

    def run_all(self, dev: DecodeSet, tests: Sequence[DecodeSet]) -> int:
        """Search and score the development set and `tests`; return the number of utterances."""
        path = self.models / f"{dev.condition}.problems.json"
        sets = [dev, *tests]
        cuts = {eval_set: read_cuts(feature_folder(self.run, eval_set.name, "mfcc")) for eval_set in sets}
        total = sum(map(len, cuts.values()))
        if path.exists():
            self.problems.rows += read_json(path)
            return total
        num_before = len(self.problems.rows)
        scorers = self.scorers()
        origin = self.origin(dev)
        chosen: Dict[str, Combination] = {}
        scratch = self.run.dir("rescore") / ".lists"
        for eval_set, loglikes, seconds in set_loglikes(
            self.run, self.system, sets, self.executor, self.search, "rescore"
        ):
            started = time.perf_counter()
            speakers = speakers_of(cuts[eval_set])
            references = {identifier: text.split() for identifier, text in texts_of(cuts[eval_set]).items()}
            lists = scratch / f"{eval_set.name}.jsonl.gz"
            write_lists(lists, self.lists(loglikes, origin, references, speakers, self.settings.nbest))
            rows, oracle = _scored(lists, list(scorers.values()))
            seconds += time.perf_counter() - started
            for name in self.settings.of_lists:
                started = time.perf_counter()
                kept = [0, 1, *(2 + place for place, component in enumerate(scorers) if component in _parts(name))]
                if eval_set == dev:
                    chosen[name] = self.tuned(name, dev, [ScoredList(row.scores[:, kept], row.errors) for row in rows])
                words = {
                    item.id: item.hypotheses[int(np.argmax(chosen[name].totals(row.scores[:, kept])))]
                    for item, row in zip(read_lists(lists), rows, strict=True)
                }
                self.write(name, eval_set, dev, references, words, speakers, chosen[name], oracle,
                           seconds + time.perf_counter() - started)  # fmt: skip
            lists.unlink()
        write_json(path, self.problems.rows[num_before:])
        return total

    def write(
        self, name: str, eval_set: DecodeSet, dev: DecodeSet, references: Mapping[str, Sequence[str]],
        words: Mapping[str, Sequence[str]], speakers: Mapping[str, str], weights: Combination, oracle: int,
        seconds: float,
    ) -> None:  # fmt: skip
        num_words = max(sum(map(len, references.values())), 1)
        settings = {
            **self.search, "lattice_beam": self.settings.lattice_beam, "nbest": self.settings.nbest,
            "oracle_errors": oracle, "edge": False, "edges": [], "first": weights.first, "words": weights.words,
            "weights": dict(zip(weights.scorers, weights.weights)),
        }  # fmt: skip
        row = write_decode(
            self.run.exp, references, words, system=f"{self.system.name}{SECOND}{name}", condition=eval_set.condition,
            name=eval_set.set, tuned_on="dev", seed=seed_of(self.run, self.system), speakers=speakers,
            settings=settings, commit=commit(), seconds=seconds, problems=self.problems,
        )  # fmt: skip
        if eval_set.role == "test":
            folder = decode_folder(self.run.exp, self.system.name, eval_set.condition, eval_set.set)
            before = read_json(folder / "wer.json")
            self.run.log(
                f"  {row['system']} {eval_set.condition}: {row['wer']:.2f} % on {eval_set.set} ({before['wer']:.2f} "
                f"before, {100 * oracle / num_words:.2f} at best in the lists)"
            )

    def origin(self, dev: DecodeSet) -> Tuple[float, float]:
        """Return the scale and penalty that the first pass has from a development set."""
        first = read_json(decode_folder(self.run.exp, self.system.name, dev.condition, dev.set) / "wer.json")
        return first["settings"]["acoustic_scale"], first["settings"]["word_penalty"]

    def lists(
        self, loglikes: Loglikes, origin: Tuple[float, float], references: Mapping[str, Sequence[str]],
        speakers: Mapping[str, str], number: int, ids: Optional[Sequence[str]] = None,
    ) -> Iterator[NbestList]:  # fmt: skip
        """Yield the list of each utterance, or of those of `ids`, as its search ends."""
        found = nbest_lists(
            loglikes, self.graph, origin=origin, number=number, ids=ids, lattice_beam=self.settings.lattice_beam,
            executor=self.executor, problems=self.problems, **self.search,
        )  # fmt: skip
        for name, entries in found:
            words = [spell(entry.words, self.names, self.graph) for entry in entries]
            yield of_entries(name, entries, words, origin[0], references[name], speakers[name])

    def tuned(self, name: str, dev: DecodeSet, rows: Sequence[ScoredList]) -> Combination:
        """Choose the weights of a pass on the development set, and write them."""
        first, words, *weights = tune(rows, seed=self.run.seed).weights.tolist()
        specs = [GRAPH, *(self.spec(part) for part in self.settings.components if part in _parts(name))]
        combination = Combination(tuple(specs), first, words, tuple(weights))
        folder = self.run.dir("rescore") / f"{self.system.name}{SECOND}{name}" / dev.condition
        combination.save(folder / "weights.json")
        return combination

    # --- models

    def spec(self, component: str) -> str:
        """Return what hybrid rescore calls a component."""
        if component == NGRAM:
            return f"ngram:{self.ngram}"
        if component in ("bert", "linear"):
            return f"{'neural' if component == 'bert' else component}:{self.models / component}"
        return f"neural:{self.run.dir('text_models') / TRAINED_ON_TEXT[component]}"

    def scorers(self) -> Dict[str, AnyScorer]:
        """Return all scorers by component, the graph's part of the first score first; train what is not yet."""
        if not self._scorers:
            self._learn()
            self._scorers[GRAPH] = load_scorer(GRAPH)
            for component in self.settings.components:
                self._scorers[component] = load_scorer(self.spec(component))
        return self._scorers

    def _learn(self) -> None:
        """Train what learns from lists: on training speech, with the lists of dev of the same condition beside it."""
        wanted = {
            name: self.models / name / ("model" if name == "bert" else "config.json")
            for name in ("linear", "bert") if name in self.settings.components
        }  # fmt: skip
        missing = [name for name, path in wanted.items() if not path.exists()]
        if not missing:
            return
        train, dev = self._training_lists()
        self.run.log(f"  {self.system.name}: {len(train)} lists of training speech, {len(dev)} of dev")
        if "linear" in missing:
            models = [train_linear(train, l2=l2) for l2 in _L2]
            errors = [tune(with_errors(dev, columns(dev, [model]))).errors for model in models]
            models[int(np.argmin(errors))].save(self.models / "linear")
        if "bert" in missing:
            settings = self.run.settings.text_models.bert
            distil = text_training(self.run, epochs=settings.distil_epochs, lr=settings.lr)
            by_errors = text_training(self.run, epochs=settings.epochs, lr=settings.lr / 5) if settings.epochs else None
            masked = NeuralScorer.load(self.run.dir("text_models") / "masked")
            masked.progress = lambda batches: self.run.progress(batches, total=len(batches), desc="what bert learns")
            training = BertTraining(distil, by_errors, distillation=settings.distillation)
            train_bert(masked, train, dev, self.models / "bert", training, self.run.log)

    def _training_lists(self) -> List[List[NbestList]]:
        """Return the lists of training speech, and of the development set of its condition, from files where a killed
        run has left them."""
        sets = set_list(self.run)
        noisy = [name for name in sets.noisy if name.split("_noisy")[0] == sets.clean[0]]
        network = self.system.network
        train = TrainingSet((noisy[0] if noisy and network else sets.clean[0]), "train", "noisy" if noisy else CLEAN)
        dev = sets.dev_for("noisy" if noisy and network else CLEAN)
        kind = "logmel" if network else "mfcc"
        origin = self.origin(dev)
        found: List[List[NbestList]] = []
        missing = [part for part in (train, dev) if not (self.models / f"{part.name}.jsonl.gz").exists()]
        for part, loglikes, _ in set_loglikes(self.run, self.system, missing, self.executor, self.search, "rescore"):
            cuts = read_cuts(feature_folder(self.run, part.name, kind))
            references = {name: text.split() for name, text in texts_of(cuts).items()}
            ids = sorted(loglikes)
            if part == train and len(ids) > self.settings.train_lists:
                drawn = np.random.default_rng(self.run.seed).permutation(len(ids))[: self.settings.train_lists]
                ids = [ids[place] for place in drawn]
            lists = self.lists(loglikes, origin, references, speakers_of(cuts), self.settings.train_nbest, ids)
            write_lists(self.models / f"{part.name}.jsonl.gz", lists)
        for part in (train, dev):
            found.append(list(read_lists(self.models / f"{part.name}.jsonl.gz")))
        return found


def _parts(name: str) -> List[str]:
    """Return the columns of scores that a pass takes."""
    return [GRAPH, *name.split(TOGETHER)]


def _scored(path: Path, scorers: Sequence[AnyScorer]) -> Tuple[List[ScoredList], int]:
    """Return the scores and errors of each list of a file, and the errors of the best choices that there are."""
    rows = [ScoredList(scores, item.errors()) for item, scores in scored(read_lists(path), scorers)]
    return rows, int(sum(row.errors.min() for row in rows))
