"""Stage senones: alignments of the clean sets, the tree of the network topology, and what networks train on."""

from __future__ import annotations

from typing import Dict, Iterator, List, Tuple

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut

from hybrid.data.arrays import read_arrays, write_arrays
from hybrid.errors import DataError
from hybrid.gmm.align import Alignments, UtteranceGraph, align
from hybrid.gmm.train import GmmModel
from hybrid.hmm.alignment import network_frames, network_pdfs, phone_segments, subsample_durations, windows
from hybrid.hmm.build_tree import TreeStats, build_tree, phone_questions
from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import network_topology
from hybrid.io import Problems, write_json
from hybrid.pipeline.gmm import align_options, load, position_questions, report_failed, usable
from hybrid.pipeline.recipe import Recipe
from hybrid.pipeline.sets import NETWORK_RATE, gmm_features, set_list, set_name, texts_of
from hybrid.run import Run
from lexicon.lang import Lang

FRAME_SHIFT = 0.01
Segments = Dict[str, Tuple[np.ndarray, np.ndarray]]  # id -> phones [n], durations [n] in network frames


def senones(run: Run, recipe: Recipe) -> None:
    """EXP/senones: model/ (tree, topology, transitions), ali/SET (phones and durations by id), occupancy.json."""
    settings = run.config.section("senones")
    lang = Lang.load(run.dir("lang"))
    model = load(run, settings["align_with"])
    silence = np.asarray(lang.silence_ids)
    names = set_list(run)["clean"] + [set_name("dev", "clean")]
    problems = run.problems("senones")
    stats: List[TreeStats] = []
    segments: Dict[str, Segments] = {}
    sets: Dict[str, CutSet] = {}
    total = 0
    width, central = settings["context"], settings["context"] - 1 if settings["context"] < 3 else 1
    with run.executor() as executor:
        for name in run.progress(names, desc="align"):
            cuts, features = gmm_features(run, name)
            found, _graphs = align_set(run, lang, model, texts_of(cuts), features, problems, executor)
            total += len(features)
            sets[name] = cuts
            segments[name], some = coarse(found, model, features, silence, width, central, problems)
            if not name.startswith("dev"):
                stats.append(some)
    all_stats = stats[0]
    for some in stats[1:]:
        all_stats = all_stats + some
    topology = network_topology(lang.phone_ids)
    tree, _sums = build_tree(
        all_stats,
        topology,
        lang.phone_groups(),
        central=central,
        max_leaves=settings["leaves"],
        threshold=settings["threshold"],
        questions=[*phone_questions(all_stats, central, lang.phone_groups()), *position_questions(lang)],
        unsplit=lang.silence_ids,
        min_count=settings["min_count"],
    )
    made = Senones(topology, tree, model.senones.phones)
    made.save(run.dir("senones") / "model")
    counts = np.zeros(made.num_pdfs)
    for name in names:
        items = _targets(sets[name], segments[name], made, silence)
        shifts = {"pdfs": FRAME_SHIFT * NETWORK_RATE}
        rows = list(items)
        write_arrays(run.dir("senones") / "ali" / name, rows, names=["pdfs"], frame_shift=shifts["pdfs"])
        if not name.startswith("dev"):
            for _, arrays in rows:
                counts += np.bincount(arrays["pdfs"], minlength=made.num_pdfs)
        write_json(
            run.dir("senones") / "ali" / f"{name}.phones.json",
            {i: [phones.tolist(), lengths.tolist()] for i, (phones, lengths) in sorted(segments[name].items())},
        )
    write_json(run.dir("senones") / "occupancy.json", {"counts": counts.astype(int).tolist()})
    run.log(
        f"  {made.num_pdfs} senones, {int(counts.sum())} frames of 30 ms, "
        f"median {np.median(counts):.0f} frames a senone, {int((counts == 0).sum())} never seen"
    )
    problems.close(total, run.config["limits.problems"])


def align_set(
    run: Run,
    lang: Lang,
    model: GmmModel,
    texts: Dict[str, str],
    features: Dict[str, np.ndarray],
    problems: Problems,
    executor,
) -> Tuple[Alignments, Dict[str, UtteranceGraph]]:
    graphs = usable(lang, model.senones, texts, {i: len(x) for i, x in features.items()}, problems)
    found = align(sorted(graphs), features, graphs, model.gmms, model.senones, align_options(run), executor)
    report_failed(problems, found.failed)
    return found, graphs


def coarse(
    found: Alignments,
    model: GmmModel,
    features: Dict[str, np.ndarray],
    silence: np.ndarray,
    width: int,
    central: int,
    problems: Problems,
) -> Tuple[Segments, TreeStats]:
    """Phones with durations in 30 ms frames, and tree statistics of the middle 10 ms frame of each."""
    segments: Segments = {}
    contexts, classes, rows = [], [], []
    for identifier, tids in found.tids.items():
        phones, fine = phone_segments(tids, model.senones)
        try:
            durations = subsample_durations(fine, NETWORK_RATE)
        except DataError as error:
            problems.add(identifier, error.what)
            continue
        segments[identifier] = (phones, durations)
        index, kinds = network_frames(phones, durations)
        contexts.append(windows(phones, width, central, silence)[index])
        classes.append(kinds)
        middle = np.minimum(np.arange(len(index)) * NETWORK_RATE + NETWORK_RATE // 2, len(tids) - 1)
        rows.append(features[identifier][middle])
    if not segments:
        raise DataError("not one utterance could be aligned", remedy="look at problems.jsonl of the gmm stage")
    return segments, TreeStats.from_frames(np.concatenate(contexts), np.concatenate(classes), np.concatenate(rows))


def _targets(
    cuts: CutSet, segments: Segments, made: Senones, silence: np.ndarray
) -> Iterator[Tuple[Cut, Dict[str, np.ndarray]]]:
    for cut in cuts:
        if cut.id in segments:
            phones, durations = segments[cut.id]
            yield cut, {"pdfs": network_pdfs(phones, durations, made, silence)}


def read_targets(run: Run, name: str) -> Dict[str, np.ndarray]:
    """id -> pdfs [T30] int32 of a clean set."""
    _cuts, pdfs = read_arrays(run.dir("senones") / "ali" / name, "pdfs")
    return pdfs


def read_segments(run: Run, name: str) -> Segments:
    from hybrid.io import read_json

    rows = read_json(run.dir("senones") / "ali" / f"{name}.phones.json")
    return {i: (np.asarray(phones, np.int32), np.asarray(lengths, np.int32)) for i, (phones, lengths) in rows.items()}


def network_senones(run: Run) -> Senones:
    return Senones.load(run.dir("senones") / "model")
