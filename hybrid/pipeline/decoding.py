"""Stages graph and decode."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Sequence, Tuple

from hybrid.data.arrays import read_cuts
from hybrid.decode.run import decode_set, tune
from hybrid.errors import ConfigError
from hybrid.fst import read_fst, to_arrays, write_fst
from hybrid.hmm.graph import make_hclg, tids_to_pdfs
from hybrid.io import read_json, write_json
from hybrid.lexicon.lang import Lang
from hybrid.measure import commit
from hybrid.nnet.priors import outputs_of
from hybrid.pipeline import gmm as gmm_stage
from hybrid.pipeline.loglikes import SYSTEMS, System
from hybrid.pipeline.recipe import Recipe
from hybrid.pipeline.senones import aligned, network_senones
from hybrid.pipeline.sets import (
    CONDITIONS,
    feature_folder,
    set_name,
    speakers_of,
    texts_of,
)
from hybrid.run import Run
from hybrid.score.results import write_decode


def graph(run: Run, recipe: Recipe) -> None:
    """EXP/graph/{mono,tri1,tri2,tri3,network}.fst over pdf + 1, of the systems that there are."""
    grammar = read_fst(run.dir("lm") / "G.fst")
    settings = run.config.section("graph")
    jobs: List[Tuple[str, Any, float]] = [
        (name, gmm_stage.load(run, name).senones, settings["self_loop_scale"]) for name in gmm_stage.trained(run)
    ]
    jobs.append(("network", network_senones(run), settings["network_self_loop_scale"]))
    for name, senones, self_loop_scale in run.progress(jobs, desc="HCLG"):
        lang = gmm_stage.lang_of(run, name)
        made = make_hclg(lang, grammar, senones, transition_scale=1.0, self_loop_scale=self_loop_scale)
        over_pdfs = tids_to_pdfs(made, senones)
        write_fst(run.dir("graph") / f"{name}.fst", over_pdfs)
        arrays = to_arrays(over_pdfs)
        run.log(f"  {name}: {arrays.num_states} states, {len(arrays.arcs)} arcs")


def decode(run: Run, recipe: Recipe) -> None:
    """EXP/decode/SYSTEM/CONDITION/{dev,test}: hyp.txt, wer.json; a decode that is there already is kept.

    The acoustic scale and the word insertion penalty are chosen on the development set of the same condition; the
    rows "tuned on test" use the test set's own best, as Kaldi's published numbers do, for that comparison alone.
    """
    lang = Lang.load(run.dir("lang"))
    settings = run.config.section("decode")
    tuning_sets(settings)  # a wrong setting is said before any work is done
    jobs = [(system, condition) for system in chosen_systems(settings, trained_models(run)) for condition in CONDITIONS]
    problems = run.problems("decode")
    total = 0
    with run.executor() as executor:
        for system, condition in run.progress(jobs, desc="decode"):
            total += _decode_one(run, lang, settings, system, condition, executor, problems)
    problems.close(max(total, 1), run.config["limits.problems"])


def trained_models(run: Run) -> List[str]:
    """The models that this run's settings make."""
    networks = ["ce", "lfmmi"] if run.config["student.control"] else []
    if run.config["student.enabled"]:
        networks += ["teacher_ce", "teacher_lfmmi"]
        networks += ["student_ce"] if run.config["student.frames"] else []
        networks += ["student_lfmmi"] if run.config["student.sequence"] else []
    if not aligned(run):
        networks = [system for system in networks if system not in ("ce", "teacher_ce")]
    return [*gmm_stage.trained(run), *networks]


def chosen_systems(settings: Dict[str, Any], models: Sequence[str]) -> List[System]:
    """decode.systems ([]: all there are), in the table's order, with the first passes that they need.

    Raises ConfigError.
    """
    names = set(settings["systems"] or [system.name for system in SYSTEMS if system.model in models])
    known = [system.name for system in SYSTEMS]
    if not names <= set(known):
        raise ConfigError(
            f"decode.systems is {list(settings['systems'])}", remedy=f"some or all of {', '.join(known)}"
        )
    missing = [system.name for system in SYSTEMS if system.name in names and system.model not in models]
    if missing:
        there = ", ".join(system.name for system in SYSTEMS if system.model in models)
        raise ConfigError(
            f"decode.systems names {', '.join(missing)}: left out by gmm.last, senones.align_with or [student]",
            remedy=f"some of {there}",
        )
    names |= {system.needs for system in SYSTEMS if system.name in names}
    return [system for system in SYSTEMS if system.name in names]


def tuning_sets(settings: Dict[str, Any]) -> List[str]:
    """decode.tune_on. Raises ConfigError; "dev" is always wanted, because results are compared on it."""
    names = list(settings["tune_on"])
    if names not in (["dev"], ["dev", "test"]):
        raise ConfigError(f"decode.tune_on is {names}", remedy='use ["dev"] or ["dev", "test"]')
    return names


def _grid(run: Run, system: System) -> str:
    """Posteriors divided by priors want smaller scales than the outputs of a network trained per sequence."""
    if not system.network:
        return "gmm"
    return "ce" if outputs_of(run.dir(system.model) / "model") == "posteriors" else "lfmmi"


def _decode_one(
    run: Run,
    lang: Lang,
    settings: Dict[str, Any],
    system: System,
    condition: str,
    executor: Any,
    problems: Any,
) -> int:
    path = run.dir("graph") / f"{system.graph}.fst"
    seed = read_json(run.dir(system.model) / "model" / "config.json")["seed"] if system.network else run.seed
    grid = settings[_grid(run, system)]
    search: Dict[str, Any] = {"beam": float(settings["beam"]), "max_active": int(settings["max_active"])}
    cuts = {}
    references: Dict[str, Dict[str, List[str]]] = {}
    for split in ("dev", "test"):
        name = set_name(split, condition)
        cuts[split] = read_cuts(feature_folder(run, name, "mfcc"))
        references[split] = {i: text.split() for i, text in texts_of(cuts[split]).items()}
    total = sum(map(len, references.values()))
    done = run.dir("decode") / system.name / condition / "problems.json"
    if done.exists():
        problems.rows += read_json(done)
        return total
    before = len(problems.rows)
    matrices, seconds = system.loglikes(run, system, condition, executor, search)
    for tuned_on in tuning_sets(settings):
        found = tune(
            matrices[tuned_on], references[tuned_on], path, lang.words,
            scales=grid["scales"], penalties=grid["penalties"], executor=executor,
            slack=0.5 if tuned_on == "dev" else 0.0,  # on test as Kaldi's best_wer.sh: the fewest, by chance or not
            join=lang.words_of,
            **search,
        )
        for edge in found.edges:
            run.log(f"  {system.name} {condition}: the best {edge} on {tuned_on} is at the end of the values tried")
        for split in ("dev", "test") if tuned_on == "dev" else ("test",):
            started = time.perf_counter()
            hypotheses = decode_set(
                matrices[split], path, lang.words, acoustic_scale=found.scale, word_penalty=found.penalty,
                executor=executor, problems=problems, join=lang.words_of, **search,
            )
            took = seconds[split] + time.perf_counter() - started
            row = write_decode(
                run.exp, references[split], hypotheses, system=system.name, condition=condition, name=split,
                tuned_on=tuned_on, seed=seed, speakers=speakers_of(cuts[split]),
                settings={**search, **found.as_dict()}, seconds=took, commit=commit(), problems=problems,
            )
            if split == "test" and tuned_on == "dev":
                run.log(
                    f"  {system.name} {condition}: {row['wer']:.2f} % on test, {found.counts.wer:.2f} % on dev, "
                    f"scale {found.scale:.3g}, penalty {found.penalty:g}"
                )
    write_json(done, problems.rows[before:])
    return total
