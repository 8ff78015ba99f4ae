"""A recipe whose error rates are known beforehand, to be put beside the real ones (the fixture of test_sweep.py).

Ten utterances of ten words in each condition. Of the system ce, the first model.k + seed utterances have one wrong word
in clean and two in noisy; of lfmmi one utterance fewer is wrong; mono's six wrong ones depend on nothing. A line a
stage that has run goes into the file that TOY_CALLS names.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from hybrid.errors import DataError
from hybrid.io import read_json, write_json, write_text
from hybrid.marks import Stage
from hybrid.pipeline.recipe import REGISTERED, Recipe

TOML = """
[data]
n = 10
[model]
seed = 0
k = 4
sleep = 0.0
fail = false
[net]
[decode]
systems = ["mono", "ce", "lfmmi"]
"""


def _called(run, name):
    with open(os.environ["TOY_CALLS"], "a") as stream:
        stream.write(f"{run.exp.parent.name}/{run.exp.name} {name}\n")


def data(run):
    _called(run, "data")
    for number in range(3):
        write_text(run.dir("data") / "deep" / f"{number}.txt", str(run.config["data.n"]))
    (run.dir("data") / "empty").mkdir()


def net(run):
    """Appends in place, as a trainer does to its log."""
    _called(run, "net")
    if run.config["model.fail"]:
        raise DataError("made to fail", remedy="do not")
    log = run.dir("net") / "log.jsonl"
    for _ in range(2 - (len(log.read_text().splitlines()) if log.exists() else 0)):
        with open(log, "a") as stream:
            stream.write(f"{run.config['model.k']}\n")
        time.sleep(run.config["model.sleep"])
    write_json(run.dir("net") / "seed.json", run.seed + run.config["model.seed"])


def decode(run):
    from hybrid.score.results import write_decode

    _called(run, "decode")
    refs = {f"u{k}": list("abcdefghij") for k in range(run.config["data.n"])}
    seed = read_json(run.dir("net") / "seed.json")
    for system in run.config["decode.systems"]:
        wrong = {"mono": 6, "ce": run.config["model.k"] + seed, "lfmmi": run.config["model.k"] + seed - 1}[system]
        for condition, words in (("clean", 1), ("noisy", 2)):
            for name in ("dev", "test"):
                hyps = {
                    u: ["x"] * words + ref[words:] if k < wrong - (name == "dev") else ref
                    for k, (u, ref) in enumerate(refs.items())
                }
                write_decode(
                    run.exp, refs, hyps, system=system, condition=condition, name=name, tuned_on="dev",
                    seed=run.seed if system == "mono" else seed,
                )  # fmt: skip


def score(run):
    from hybrid.score.results import collect

    _called(run, "score")
    write_text(run.dir("score") / "rows", str(len(collect(run.exp))))


STAGES = [
    Stage("data", data, settings=("data",), seeded=False),
    Stage("net", net, needs=("data",), settings=("model",)),
    Stage("decode", decode, needs=("net",), settings=("decode", "data.n", "model.k")),
    Stage("score", score, needs=("decode",), outside=("results.json",)),
]


def register(folder: Path) -> None:
    """Make it known to `hybrid run toy` in this process. folder: gets its file of settings."""
    file = folder / "toy.toml"
    if not file.exists():
        write_text(file, TOML)
    REGISTERED["toy"] = Recipe("toy", file, STAGES)
