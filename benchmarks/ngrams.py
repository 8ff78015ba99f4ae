"""Time and memory of language models at size: reading, writing, measuring, mixing and pruning one.

    python -m benchmarks.ngrams MODEL TRAIN DEV [--most 500000] [--copies 100]

MODEL: millions of n-grams (ARPA, or the en-us.lm.bin of the wheel pocketsphinx); TRAIN, DEV: a sentence a line, in its
spelling. An n-gram of TRAIN is mixed with MODEL, the mixture pruned. --copies: TRAIN is counted so often over, once as
it is and once with its words renamed in each copy. Every line is a process of its own; memory is its peak, of which
imports alone take what the line `nothing` says.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

from hybrid.lm import arpa, ngram
from hybrid.lm.arrays import NgramArrays
from hybrid.lm.interpolate import interpolate, tune_weights
from hybrid.lm.load import read_any
from hybrid.lm.perplexity import perplexity
from hybrid.lm.prune import prune
from hybrid.lm.text import read_sentences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--most", type=int, default=500_000)
    parser.add_argument("--copies", type=int, default=100)
    options = parser.parse_args()
    print(f"{'':44} {'wall s':>7} {'CPU s':>7} {'MB':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for name, function in STEPS.items():
            context = multiprocessing.get_context("spawn")
            with context.Pool(1) as pool:
                pool.apply(_warm)
                wall, cpu, memory, said = pool.apply(_measured, (function, options, Path(folder)))
            print(f"{name:44} {wall:7.1f} {cpu:7.1f} {memory:6.0f}  {said}", flush=True)


def _warm() -> None:
    """Load what is compiled, once on a machine."""
    model = ngram.train_arrays(["a b", "a"], 2)
    perplexity(model, ["a"])
    with tempfile.TemporaryDirectory() as folder:
        arpa.write(Path(folder) / "lm", model)
        arpa.read_arrays(Path(folder) / "lm")


def _measured(function: Callable[[Any, Path], str], options: Any, folder: Path) -> tuple:
    start, spent = time.perf_counter(), time.process_time()
    said = function(options, folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return time.perf_counter() - start, time.process_time() - spent, peak, said


def _sizes(model: NgramArrays) -> str:
    return " + ".join(f"{size:,}" for size in model.sizes)


def nothing(options: Any, folder: Path) -> str:
    return ""


def read(options: Any, folder: Path) -> str:
    model = read_any(options.model)
    model.save(folder / "model.safetensors")
    return _sizes(model)


def write(options: Any, folder: Path) -> str:
    arpa.write(folder / "model.arpa", NgramArrays.load(folder / "model.safetensors"))
    return f"{(folder / 'model.arpa').stat().st_size / 1e6:.0f} MB"


def read_arpa(options: Any, folder: Path) -> str:
    return _sizes(arpa.read_arrays(folder / "model.arpa"))


def read_dictionaries(options: Any, folder: Path) -> str:
    return f"{sum(len(prob) for prob in arpa.read(folder / 'model.arpa').probs):,} n-grams"


def load(options: Any, folder: Path) -> str:
    return _sizes(NgramArrays.load(folder / "model.safetensors"))


def measure(options: Any, folder: Path) -> str:
    model = NgramArrays.load(folder / "model.safetensors")
    sentences = list(read_sentences(options.dev)) * options.copies
    start = time.perf_counter()
    result = perplexity(model, sentences)
    rate = result.events / (time.perf_counter() - start)
    return f"perplexity {result.perplexity:.1f}, {result.oovs // options.copies} unknown, {rate / 1e3:,.0f} k words/s"


def mix(options: Any, folder: Path) -> str:
    models = [ngram.train_arrays(read_sentences(options.train), 3), NgramArrays.load(folder / "model.safetensors")]
    dev = list(read_sentences(options.dev))
    tuned = tune_weights(models, dev)
    mixed = interpolate(models, tuned.weights)
    mixed.save(folder / "mixed.safetensors")
    return f"{_sizes(mixed)}, perplexity {perplexity(mixed, dev).perplexity:.1f}"


def pruned(options: Any, folder: Path) -> str:
    small = prune(NgramArrays.load(folder / "mixed.safetensors"), most=options.most)
    return f"{_sizes(small)}, perplexity {perplexity(small, read_sentences(options.dev)).perplexity:.1f}"


def _copies(options: Any, renamed: bool) -> Iterator[List[str]]:
    for copy in range(options.copies):
        for sentence in read_sentences(options.train):
            yield [f"{word}{copy}" for word in sentence] if renamed else sentence


def count_again(options: Any, folder: Path) -> str:
    return _sizes(ngram.train_arrays(_copies(options, False), 3))


def count_renamed(options: Any, folder: Path) -> str:
    return _sizes(ngram.train_arrays(_copies(options, True), 3))


STEPS: Dict[str, Callable[[Any, Path], str]] = {
    "nothing": nothing,
    "reading the model": read,
    "writing it as ARPA": write,
    "reading ARPA as arrays": read_arpa,
    "reading ARPA as dictionaries": read_dictionaries,
    "loading arrays": load,
    "perplexity of dev": measure,
    "train's trigram, weights, mixture": mix,
    "pruning the mixture": pruned,
    "trigram of train's copies": count_again,
    "trigram of train's copies, words renamed": count_renamed,
}


if __name__ == "__main__":
    main()
