"""How much better rescorers make n-best lists, over folds that share no speaker.

    python -m benchmarks.rescoring LISTS [LISTS ...] [--spelling atis] [--rows trigram linear lstm pll md md+mwer ...]
        [--outside en-us.lm.bin] [--folds 5] [--seed 0] [--folder DIR]

LISTS: n-best lists with references (hybrid/rescore/nbest.py). Of five folds, disjoint in speakers, three train the
models, one is the development set, on which weights and settings are chosen, and one is the test set, each in turn. A
row is one model, or several together (`trigram,lstm`), beside the first pass's score and the number of words, with
weights tuned on the development fold; `outside` is the n-gram model of a file. Errors of all test folds are pooled:
WER, its 95 % interval (speakers drawn), the differences to the trigram, the linear model and MD (MAPSSWE), and
milliseconds a hypothesis and a list for the scores of the test fold, on one core.

Scores stay in DIR/fold-N/NAME.safetensors: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np

from benchmarks.rescoring_models import FoldModels
from hybrid.io import load_tensors, save_tensors
from hybrid.parallel import set_threads
from hybrid.rescore.combine import hypotheses_of, joined, with_errors
from hybrid.rescore.nbest import NbestList, oracle, read_lists
from hybrid.rescore.normalise import atis_spelling
from hybrid.rescore.scorers import load_scorer
from hybrid.rescore.weights import best_of, tune
from hybrid.score.significance import bootstrap_interval, p_text, paired_test

AGAINST = ("trigram", "linear", "md")
Errors = Dict[str, Tuple[int, int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lists", type=Path, nargs="+")
    parser.add_argument("--spelling", choices=("atis", "none"), default="none")
    parser.add_argument("--rows", nargs="+", default=["trigram", "linear"])
    parser.add_argument("--outside", metavar="FILE", help="an n-gram model of other text")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="+", help="these folds alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("exp/rescoring"))
    options = parser.parse_args()
    set_threads(1)
    # 39 utterances of ATIS are in both of its files.
    lists = list({item.id: item for path in options.lists for item in read_lists(path)}.values())
    if options.spelling == "atis":
        lists = atis_spelling().of_lists(lists)
    folds = split(lists, options.folds)
    outside = load_scorer(f"ngram:{options.outside}") if options.outside else None
    rows = {row: row.split(",") for row in options.rows}
    counts: Dict[str, Errors] = {row: {} for row in ("first", *rows)}
    seconds: Dict[str, float] = dict.fromkeys(rows, 0.0)
    tests: List[NbestList] = []
    for number in options.only or range(options.folds):
        test, dev = folds[number], folds[(number + 1) % options.folds]
        held = {id(item) for item in [*test, *dev]}
        train = [item for item in lists if id(item) not in held]
        models = FoldModels(train, dev, options.folder / f"fold-{number}", options.seed, _log, outside)
        tests += test
        counts["first"].update(errors_of(test, [item.best for item in test]))
        parts = {"dev": dev, "test": test}
        columns = {name: columns_of(models, name, dev, test) for names in rows.values() for name in names}
        for row, names in rows.items():
            of_dev, of_test = (joined(held_out, [columns[n][part] for n in names]) for part, held_out in parts.items())
            weights = tune(with_errors(dev, of_dev), seed=options.seed).weights
            errors = errors_of(test, [best_of(scores, weights) for scores in of_test])
            counts[row].update(errors)
            seconds[row] += sum(float(columns[name]["seconds"][0]) for name in names)
            _log(f"fold {number}: {row}: {rate(errors):.2f} %, weights {np.round(weights, 3)}")
    _print(tests, counts, seconds)


def split(lists: Sequence[NbestList], count: int) -> List[List[NbestList]]:
    """Deal out speakers, those with most lists first, each to the fold that has fewest."""
    of_speaker: Dict[str, List[NbestList]] = {}
    for item in lists:
        of_speaker.setdefault(item.speaker, []).append(item)
    folds: List[List[NbestList]] = [[] for _ in range(count)]
    for speaker in sorted(of_speaker, key=lambda name: (-len(of_speaker[name]), name)):
        min(folds, key=len).extend(of_speaker[speaker])
    return folds


def columns_of(
    models: FoldModels, name: str, dev: Sequence[NbestList], test: Sequence[NbestList]
) -> Dict[str, np.ndarray]:
    """Return {"dev", "test": scores of all hypotheses, "seconds": that test took}, from the folder where they are."""
    path = models.folder / f"{name}.safetensors"
    if not path.exists():
        scorer = models.make(name)
        of_dev = scorer.score(hypotheses_of(dev))
        begin = time.process_time()
        of_test = scorer.score(hypotheses_of(test))
        taken = np.array([time.process_time() - begin])
        save_tensors(path, {"dev": of_dev, "test": of_test, "seconds": taken})
    return load_tensors(path)


def errors_of(lists: Sequence[NbestList], places: Sequence[int]) -> Errors:
    found = {}
    for item, place in zip(lists, places, strict=True):
        found[item.id] = (int(item.errors()[int(place)]), len(item.reference or ()))
    return found


def rate(errors: Mapping[str, Tuple[int, int]]) -> float:
    return 100.0 * sum(e for e, _ in errors.values()) / sum(words for _, words in errors.values())


def _print(tests: Sequence[NbestList], counts: Mapping[str, Errors], seconds: Mapping[str, float]) -> None:
    hypotheses = sum(len(item.hypotheses) for item in tests)
    best, words = oracle(tests)
    each = hypotheses / len(tests)
    print(f"{len(tests)} lists, {each:.2f} hypotheses each, {words} words, oracle {100 * best / words:.2f}")
    speakers = {item.id: item.speaker for item in tests}
    print(f"{'row':28} {'WER':>6} {'95 % interval':>16}  {'ms/hyp':>7} {'ms/list':>8}  p against " + ", ".join(AGAINST))
    for row, errors in counts.items():
        low, high = bootstrap_interval(errors, speakers=speakers)
        tests_of = [p_text(paired_test(errors, counts[other]).p) if other in counts else "-" for other in AGAINST]
        took = 1000 * seconds.get(row, 0.0)
        print(
            f"{row:28} {rate(errors):6.2f}   [{low:5.2f}, {high:5.2f}]  {took / hypotheses:7.2f} "
            f"{took / len(tests):8.2f}  {', '.join(tests_of)}"
        )


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
