"""Does the objective on the development set say what the word error rate will be? Epoch by epoch of one training.

    python -m benchmarks.objective_wer EXP [--system lfmmi] [--plot FILE.png]

EXP is a run of a recipe to its stage decode, its trainings with keep_every=1. The network of every epoch decodes the
development sets, each with the acoustic scale and word penalty that were chosen on it for the finished network. Beside
the errors stands the loss on the development sets of that epoch (log.jsonl); at the end the rank correlation of the two
(Spearman).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.runs import open_run
from hybrid.cpu import prefer_fast_kernels
from hybrid.data.arrays import read_cuts
from hybrid.data.batches import Utterance
from hybrid.data.network_features import open_network_features
from hybrid.decode.run import decode_set
from hybrid.errors import DataError
from hybrid.io import read_json, read_jsonl
from hybrid.lexicon.lang import Lang
from hybrid.nnet.infer import compute_loglikes
from hybrid.nnet.model_io import load_model, load_state
from hybrid.nnet.priors import priors_of_model
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.sets import feature_folder, set_list, texts_of
from hybrid.score.results import decode_folder
from hybrid.score.wer import align, count
from hybrid.train.trainer import epoch_file

SEARCH = ("acoustic_scale", "word_penalty", "beam", "max_active")
Line = Tuple[int, float, float, List[float]]  # epoch, loss, objective, WER of each condition


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exp", type=Path)
    parser.add_argument("--system", default="lfmmi", choices=("ce", "lfmmi"))
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args(arguments)
    prefer_fast_kernels()
    torch.set_num_threads(1)
    run = open_run(options.exp)
    lines = follow(run, options.system)
    losses, errors = [line[1] for line in lines], [float(np.mean(line[3])) for line in lines]
    print(f"rank correlation of loss and word error rate: {spearmanr(losses, errors)[0]:.2f} over {len(lines)} epochs")
    if options.plot is not None:
        conditions = [one.condition for one in set_list(run).dev]
        plot(lines, options.system, conditions, options.plot)
    return 0


def follow(run: RecipeRun, system: str) -> List[Line]:
    """One line an epoch, printed as it is known. Raises DataError where the networks of the epochs were not kept."""
    folder = run.dir(system)
    rows = {row["epoch"]: row for row in read_jsonl(folder / "log.jsonl") if row["split"] == "dev"}
    kept = [epoch for epoch in sorted(rows) if epoch_file(folder, epoch).exists()]
    if len(kept) < 3:
        raise DataError(
            "the networks of the epochs were not kept",
            file=folder,
            remedy=f"run the stage again with {system}.trainer.keep_every=1",
        )
    model, _ = load_model(folder / "model")
    priors = priors_of_model(folder / "model")
    lang = Lang.load(run.dir("lang"))
    about = read_json(folder / "model" / "features.json")
    sets: Dict[str, Tuple[List[Utterance], Dict[str, List[str]], Dict[str, Any]]] = {}
    for dev in set_list(run).dev:
        name, condition = dev.name, dev.condition
        features = open_network_features(feature_folder(run, name, "logmel"), about)
        data = [Utterance(i, x) for i, x in features.items()]
        texts = {i: text.split() for i, text in texts_of(read_cuts(feature_folder(run, name, "mfcc"))).items()}
        chosen = read_json(decode_folder(run.exp, system, condition, "dev") / "wer.json")["settings"]
        sets[condition] = data, texts, {name: chosen[name] for name in SEARCH}
    print(f"{'epoch':>5}{'loss':>9}{'objective':>11}" + "".join(f"{condition:>12}" for condition in sets))
    lines: List[Line] = []
    with run.executor() as executor:
        for epoch in kept:
            load_state(model, epoch_file(folder, epoch))
            wer = []
            for data, texts, chosen in sets.values():
                loglikes = compute_loglikes(model, data, priors)
                found = decode_set(
                    loglikes, run.dir("graph") / "network.fst", lang.words, executor=executor, join=lang.words_of,
                    **chosen,
                )  # fmt: skip
                wer.append(100.0 * _errors(texts, found))
            row = rows[epoch]
            objective = row.get("objective", float("nan"))
            lines.append((epoch, row["loss"], objective, wer))
            rates = "".join(f"{rate:12.2f}" for rate in wer)
            print(f"{epoch + 1:5}{row['loss']:9.4f}{objective:11.4f}{rates}", flush=True)
    return lines


def _errors(texts: Dict[str, List[str]], found: Dict[str, List[str]]) -> float:
    counts = [count(align(texts[i], found.get(i, []))) for i in texts]
    return sum(c.errors for c in counts) / sum(map(len, texts.values()))


def plot(lines: List[Line], system: str, conditions: Sequence[str], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    epochs = [line[0] + 1 for line in lines]
    left.plot(epochs, [line[1] for line in lines], "o-", color="black")
    left.set(xlabel="epoch", ylabel=f"loss of {system} on dev")
    for place, condition in enumerate(conditions):
        right.plot([line[1] for line in lines], [line[3][place] for line in lines], "o-", label=condition)
    right.set(xlabel=f"loss of {system} on dev", ylabel="word error rate on dev, %", yscale="log")
    rates = [rate for line in lines for rate in line[3]]
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100) if min(rates) / 2 < tick < max(rates) * 2]
    right.set_yticks([], minor=True)
    right.set_yticks(ticks, [str(tick) for tick in ticks])
    right.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    raise SystemExit(main())
