"""Stages graph and decode."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

from hybrid.data.arrays import read_cuts
from hybrid.data.batches import Utterance
from hybrid.decode.run import decode_set, tune
from hybrid.errors import ConfigError
from hybrid.fst import read_fst, to_arrays, write_fst
from hybrid.hmm.graph import make_hclg, tids_to_pdfs
from hybrid.io import read_json, write_json
from hybrid.measure import commit
from hybrid.nnet.infer import compute_loglikes
from hybrid.nnet.model_io import load_model
from hybrid.pipeline import gmm as gmm_stage
from hybrid.pipeline.recipe import Recipe
from hybrid.pipeline.senones import network_senones
from hybrid.pipeline.sets import (
    CONDITIONS,
    feature_folder,
    gmm_features,
    network_features,
    set_name,
    speakers_of,
    texts_of,
)
from hybrid.run import Run
from hybrid.score.results import write_decode
from hybrid.train.priors import load_priors
from lexicon.lang import Lang

NETWORKS = ("ce", "lfmmi")


def graph(run: Run, recipe: Recipe) -> None:
    """EXP/graph/{mono,tri1,network}.fst over pdf + 1."""
    lang = Lang.load(run.dir("lang"))
    grammar = read_fst(run.dir("lm") / "G.fst")
    settings = run.config.section("graph")
    jobs: List[Tuple[str, Any, float]] = [
        (name, gmm_stage.load(run, name).senones, settings["self_loop_scale"]) for name in gmm_stage.SYSTEMS
    ]
    jobs.append(("network", network_senones(run), settings["network_self_loop_scale"]))
    for name, senones, self_loop_scale in run.progress(jobs, desc="HCLG"):
        made = make_hclg(lang, grammar, senones, transition_scale=1.0, self_loop_scale=self_loop_scale)
        over_pdfs = tids_to_pdfs(made, senones)
        write_fst(run.dir("graph") / f"{name}.fst", over_pdfs)
        arrays = to_arrays(over_pdfs)
        run.log(f"  {name}: {arrays.num_states} states, {len(arrays.arcs)} arcs")


Loglikes = Dict[str, np.ndarray]


def gmm_loglikes(run: Run, system: str, name: str, executor: Any) -> Loglikes:
    model = gmm_stage.load(run, system)
    _cuts, features = gmm_features(run, name)
    return {identifier: model.loglikes(x) for identifier, x in features.items()}


def network_loglikes(run: Run, system: str, name: str, executor: Any) -> Loglikes:
    """CE: log posterior less log prior; LF-MMI: the outputs as they are."""
    folder = run.dir(system) / "model"
    model, _about = load_model(folder)
    features = read_json(folder / "features.json")
    priors = load_priors(folder / "senones") if system == "ce" else None
    _cuts, matrices = network_features(run, name, features["normalise"])
    data = [Utterance(identifier, x) for identifier, x in matrices.items()]
    return compute_loglikes(model, data, priors, executor=executor, jobs=run.jobs)


def decode(run: Run, recipe: Recipe) -> None:
    """EXP/decode/SYSTEM/CONDITION/{dev,test}: hyp.txt, wer.json; a decode that is there already is kept.

    The acoustic scale and the word insertion penalty are chosen on the development set of the same condition; the
    rows "tuned on test" use the test set's own best, as Kaldi's published numbers do, for that comparison alone.
    """
    lang = Lang.load(run.dir("lang"))
    settings = run.config.section("decode")
    tuning_sets(settings)  # a wrong setting is said before any work is done
    systems: List[Tuple[str, str, Callable[..., Loglikes]]] = [
        (name, name, gmm_loglikes) if name in gmm_stage.SYSTEMS else (name, "network", network_loglikes)
        for name in chosen_systems(settings)
    ]
    jobs = [(system, condition) for system in systems for condition in CONDITIONS]
    problems = run.problems("decode")
    total = 0
    with run.executor() as executor:
        for (system, graph_name, loglikes), condition in run.progress(jobs, desc="decode"):
            total += _decode_one(
                run, lang, settings, system, graph_name, loglikes, condition, executor, problems
            )
    problems.close(max(total, 1), run.config["limits.problems"])


def chosen_systems(settings: Dict[str, Any]) -> List[str]:
    """decode.systems, in the table's order. Raises ConfigError."""
    names = list(settings["systems"])
    known = (*gmm_stage.SYSTEMS, *NETWORKS)
    if not names or not set(names) <= set(known):
        raise ConfigError(f"decode.systems is {names}", remedy=f"some or all of {', '.join(known)}")
    return [name for name in known if name in names]


def tuning_sets(settings: Dict[str, Any]) -> List[str]:
    """decode.tune_on. Raises ConfigError; "dev" is always wanted, because results are compared on it."""
    names = list(settings["tune_on"])
    if names not in (["dev"], ["dev", "test"]):
        raise ConfigError(f"decode.tune_on is {names}", remedy='use ["dev"] or ["dev", "test"]')
    return names


def _decode_one(
    run: Run,
    lang: Lang,
    settings: Dict[str, Any],
    system: str,
    graph_name: str,
    loglikes: Callable[..., Loglikes],
    condition: str,
    executor: Any,
    problems: Any,
) -> int:
    path = run.dir("graph") / f"{graph_name}.fst"
    seed = read_json(run.dir(system) / "model" / "config.json")["seed"] if system in NETWORKS else run.seed
    grid = settings["gmm" if graph_name != "network" else system]
    search: Dict[str, Any] = {"beam": float(settings["beam"]), "max_active": int(settings["max_active"])}
    matrices: Dict[str, Loglikes] = {}
    cuts = {}
    references: Dict[str, Dict[str, List[str]]] = {}
    for split in ("dev", "test"):
        name = set_name(split, condition)
        cuts[split] = read_cuts(feature_folder(run, name, "mfcc"))
        references[split] = {i: text.split() for i, text in texts_of(cuts[split]).items()}
    total = sum(map(len, references.values()))
    done = run.dir("decode") / system / condition / "problems.json"
    if done.exists():
        problems.rows += read_json(done)
        return total
    before = len(problems.rows)
    seconds: Dict[str, float] = {}
    for split in ("dev", "test"):
        started = time.perf_counter()
        matrices[split] = loglikes(run, system, set_name(split, condition), executor)
        seconds[split] = time.perf_counter() - started
    for tuned_on in tuning_sets(settings):
        found = tune(
            matrices[tuned_on], references[tuned_on], path, lang.words,
            scales=grid["scales"], penalties=grid["penalties"], executor=executor,
            slack=0.5 if tuned_on == "dev" else 0.0,  # on test as Kaldi's best_wer.sh: the fewest, by chance or not
            join=lang.words_of,
            **search,
        )
        for edge in found.edges:
            run.log(f"  {system} {condition}: the best {edge} on {tuned_on} is at the end of the values tried")
        for split in ("dev", "test") if tuned_on == "dev" else ("test",):
            started = time.perf_counter()
            hypotheses = decode_set(
                matrices[split], path, lang.words, acoustic_scale=found.scale, word_penalty=found.penalty,
                executor=executor, problems=problems, join=lang.words_of, **search,
            )
            took = seconds[split] + time.perf_counter() - started
            row = write_decode(
                run.exp, references[split], hypotheses, system=system, condition=condition, name=split,
                tuned_on=tuned_on, seed=seed, speakers=speakers_of(cuts[split]),
                settings={**search, **found.as_dict()}, seconds=took, commit=commit(), problems=problems,
            )
            if split == "test" and tuned_on == "dev":
                run.log(
                    f"  {system} {condition}: {row['wer']:.2f} % on test, {found.counts.wer:.2f} % on dev, "
                    f"scale {found.scale:.3g}, penalty {found.penalty:g}"
                )
    write_json(done, problems.rows[before:])
    return total
