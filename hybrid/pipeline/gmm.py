"""Stage gmm: monophones from a flat start, then triphones."""

from __future__ import annotations

from typing import Any, Dict, List

from hybrid.data.features import Mfcc, config_to_json
from hybrid.errors import DataError
from hybrid.gmm import deltas, mono
from hybrid.gmm.align import AlignOptions, UtteranceGraph, align
from hybrid.gmm.train import GmmModel, TrainingSet
from hybrid.hmm.graph import TrainingGraphs, min_frames
from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import bootstrap_topology
from hybrid.io import Problems
from hybrid.pipeline.recipe import Recipe
from hybrid.pipeline.sets import gmm_features, texts_of
from hybrid.run import Run
from lexicon.lang import Lang

SYSTEMS = ("mono", "tri1")


def align_options(run: Run) -> AlignOptions:
    return AlignOptions(beam=run.config["gmm.beam"], retry_beam=run.config["gmm.retry_beam"])


def training_graphs(
    lang: Lang, senones: Senones, texts: Dict[str, str], ids: List[str]
) -> Dict[str, UtteranceGraph]:
    """Graphs without transition probabilities, which each alignment pass adds anew."""
    compiler = TrainingGraphs(lang, senones, transition_scale=0.0, self_loop_scale=0.0)
    return {i: UtteranceGraph.from_fst(compiler.compile(lang.word_ids(texts[i], i), i)) for i in ids}


def usable(
    lang: Lang, senones: Senones, texts: Dict[str, str], frames: Dict[str, int], problems: Problems
) -> Dict[str, UtteranceGraph]:
    """Graphs of the utterances that have words in the lexicon and are long enough for them; others are named."""
    compiler = TrainingGraphs(lang, senones, transition_scale=0.0, self_loop_scale=0.0)
    graphs: Dict[str, UtteranceGraph] = {}
    for identifier in sorted(frames):
        try:
            fst = compiler.compile(lang.word_ids(texts[identifier], identifier), identifier)
        except DataError as error:
            problems.add(identifier, str(error))
            continue
        least = min_frames(fst)
        if frames[identifier] < least:
            problems.add(
                identifier,
                f"too short for its words: {frames[identifier]} frames of 10 ms, they need {least}",
            )
            continue
        graphs[identifier] = UtteranceGraph.from_fst(fst)
    return graphs


def gmm(run: Run, recipe: Recipe) -> None:
    """EXP/gmm/mono and EXP/gmm/tri1: model folders, passes.jsonl, and the state to resume from."""
    settings = run.config.section("gmm")
    lang = Lang.load(run.dir("lang"))
    cuts, features = gmm_features(run, "train")
    texts = texts_of(cuts)
    nonsilence = [phone for phone in lang.phone_ids if phone not in lang.silence_ids]
    phones = {name: number for name, number in lang.phones.items() if number in set(lang.phone_ids)}
    topology = bootstrap_topology(nonsilence, lang.silence_ids)
    senones = Senones.monophone(topology, phones, lang.phone_groups())
    problems = run.problems("gmm")
    graphs = usable(lang, senones, texts, {i: len(x) for i, x in features.items()}, problems)
    about = {
        "mfcc": config_to_json(Mfcc(**run.config.section("features").get("mfcc", {}))),
        "cmvn": {"per": "speaker", "variance": settings["variance_normalisation"]},
        "deltas": 2,
    }
    with run.executor() as executor:
        data = TrainingSet(sorted(graphs), features, graphs)
        shared: Dict[str, Any] = {"seed": run.seed, "executor": executor, "log": run.log, "progress": run.progress,
                  "silence_phones": lang.silence_ids}
        model = mono.train_mono(
            senones,
            data,
            mono.options(
                passes=settings["mono_passes"], gaussians=settings["mono_gaussians"], align=align_options(run),
                boost_silence=settings["boost_silence"],
            ),
            folder=run.dir("gmm") / "mono",
            **shared,
        )
        model.save(run.dir("gmm") / "mono", about)
        start = align(data.ids, features, graphs, model.gmms, model.senones, align_options(run), executor)
        report_failed(problems, start.failed)
        data = TrainingSet([i for i in data.ids if i in start.tids], features, graphs)

        def compile_graphs(tree: Senones) -> Dict[str, UtteranceGraph]:
            return training_graphs(lang, tree, texts, data.ids)

        model = deltas.train_deltas(
            model.senones,
            start,
            data,
            deltas.options(
                passes=settings["tri_passes"], gaussians=settings["tri_gaussians"], align=align_options(run),
                boost_silence=settings["boost_silence"],
            ),
            groups=lang.phone_groups(),
            leaves=settings["tri_leaves"],
            threshold=settings["tri_threshold"],
            extra_questions=position_questions(lang),
            graphs=compile_graphs,
            folder=run.dir("gmm") / "tri1",
            **shared,
        )
        model.save(run.dir("gmm") / "tri1", about)
    problems.close(len(features), run.config["limits.problems"])


def position_questions(lang: Lang) -> List[List[int]]:
    """All phones at one place in a word; clustering cannot find these sets, because a root's positions share data."""
    if not lang.position_dependent:
        return []
    places: Dict[str, List[int]] = {}
    for name, number in lang.phones.items():
        if number in set(lang.phone_ids) and number not in lang.silence_ids:
            places.setdefault(name.rpartition("_")[2], []).append(number)
    return [sorted(members) for _, members in sorted(places.items())]


def report_failed(problems: Problems, failed: List[str]) -> None:
    for identifier in failed:
        problems.add(identifier, "no path through its training graph, even with the retry beam: check its transcript")


def load(run: Run, system: str) -> GmmModel:
    return GmmModel.load(run.dir("gmm") / system)
