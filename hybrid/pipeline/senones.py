"""Stage senones: alignments of the clean sets, the tree of the network topology, and what networks train on."""

from __future__ import annotations

import shutil
from functools import partial
from typing import Dict, Iterator, List, Tuple

import numpy as np
from lhotse import CutSet
from lhotse.cut import Cut

from hybrid.data.arrays import read_arrays, read_cuts, write_arrays
from hybrid.errors import DataError
from hybrid.gmm.apply import align_store
from hybrid.gmm.chunks import Data, map_chunks
from hybrid.gmm.passes import Context
from hybrid.gmm.trees import position_questions
from hybrid.hmm.alignment import network_frames, network_pdfs, phone_segments, subsample_durations, windows
from hybrid.hmm.build_tree import TreeStats, build_tree, phone_questions
from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import network_topology
from hybrid.io import read_json, write_json
from hybrid.lexicon.lang import Lang
from hybrid.pipeline.gmm import bootstrap_options, lang_of, load, open_store, report_unusable
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.sets import FRAME_SUBSAMPLING_FACTOR, OUTPUT_FRAME_SHIFT, feature_folder, set_list
from hybrid.pipeline.systems import aligning_step, is_aligned

Segments = Dict[str, Tuple[np.ndarray, np.ndarray]]  # id -> phones [n], durations [n] in network frames


def senones(run: RecipeRun) -> None:
    """Write EXP/senones: model/ (tree, topology, transitions), ali/SET (phones and durations by id), occupancy.json."""
    settings = run.settings.senones
    if not is_aligned(run.settings):
        flat(run)
        return
    step = aligning_step(run.settings)
    lang = lang_of(run, step)
    model = load(run, step)
    silence = np.asarray(lang.silence_ids)
    sets = set_list(run)
    names = [*sets.clean, sets.clean_dev.name]
    problems = run.problems("senones")
    stats: List[TreeStats] = []
    segments: Dict[str, Segments] = {}
    total = 0
    width, central = settings.context, settings.context - 1 if settings.context < 3 else 1
    gmm_options = bootstrap_options(run)
    with run.executor() as executor:
        for name in run.progress(names, desc="align"):
            store = open_store(run, "senones", [name])
            context = Context(
                run.dir("senones") / "align" / name, lang.silence_ids, run.seed, executor, run.log, run.progress
            )
            data, reasons = align_store(model, store, lang, gmm_options.align, context, gmm_options.boost_silence)
            report_unusable(problems, reasons, data)
            total += store.utterances
            work = partial(coarse, data=data, senones=model.senones, silence=silence, width=width, central=central)
            segments[name] = {}
            for chunk_segments, failures, chunk_stats in map_chunks(executor, work, store):
                segments[name].update(chunk_segments)
                for identifier, reason in failures.items():
                    problems.add(identifier, reason)
                if name in sets.clean:
                    stats = [chunk_stats] if not stats else [(stats[0] + chunk_stats).merged()]
            if not segments[name]:
                raise DataError("not one utterance could be aligned", remedy="look at problems.jsonl of the gmm stage")
    all_stats = stats[0]
    topology = network_topology(lang.phone_ids)
    tree, _sums = build_tree(
        all_stats,
        topology,
        lang.phone_groups(),
        central=central,
        max_leaves=settings.leaves,
        threshold=settings.threshold,
        questions=[*phone_questions(all_stats, central, lang.phone_groups()), *position_questions(lang)],
        unsplit=lang.silence_ids,
        min_count=settings.min_count,
    )
    new_senones = Senones(topology, tree, model.senones.phones)
    new_senones.save(run.dir("senones") / "model")
    counts = np.zeros(new_senones.num_pdfs)
    for name in names:
        items = _targets(read_cuts(feature_folder(run, name, "mfcc")), segments[name], new_senones, silence)
        rows = list(items)
        write_arrays(run.dir("senones") / "ali" / name, rows, names=["pdfs"], frame_shift=OUTPUT_FRAME_SHIFT)
        if name in sets.clean:
            for _, arrays in rows:
                counts += np.bincount(arrays["pdfs"], minlength=new_senones.num_pdfs)
        write_json(
            run.dir("senones") / "ali" / f"{name}.phones.json",
            {
                identifier: [phones.tolist(), lengths.tolist()]
                for identifier, (phones, lengths) in sorted(segments[name].items())
            },
        )
    for folder in ("align", "store"):  # what the alignments were made with
        shutil.rmtree(run.dir("senones") / folder)
    write_json(run.dir("senones") / "occupancy.json", {"counts": counts.astype(int).tolist()})
    run.log(
        f"  {new_senones.num_pdfs} senones, {int(counts.sum())} frames of 30 ms, "
        f"median {np.median(counts):.0f} frames a senone, {int((counts == 0).sum())} never seen"
    )
    problems.close(total, run.settings.limits.problems)


def flat(run: RecipeRun) -> None:
    """Write EXP/senones/model alone: each phone has its two senones whatever its neighbours, which takes no
    alignment."""
    lang = Lang.load(run.dir("lang"))
    phones = {name: phone for phone, name in lang.phone_names.items()}
    new_senones = Senones.monophone(network_topology(lang.phone_ids), phones, lang.phone_groups())
    new_senones.save(run.dir("senones") / "model")
    run.log(f"  {new_senones.num_pdfs} senones of single phones; no alignments")


def coarse(
    index: int, *, data: Data, senones: Senones, silence: np.ndarray, width: int, central: int
) -> Tuple[Segments, Dict[str, str], TreeStats]:
    """Return the phones of a chunk with durations in 30 ms frames, {id: reason} of utterances too short for that, and
    tree statistics of the middle 10 ms frame of each 30 ms."""
    chunk, features = data.load(index)
    segments: Segments = {}
    failures: Dict[str, str] = {}
    contexts, classes, rows = [np.zeros((0, width), np.int32)], [np.zeros(0, np.int32)], [features[:0]]
    for identifier, begin, tids in zip(chunk.ids, chunk.offsets, data.aligned(index).each()):
        if tids is None:
            continue
        phones, fine = phone_segments(tids, senones)
        try:
            durations = subsample_durations(fine, FRAME_SUBSAMPLING_FACTOR)
        except DataError as error:
            failures[identifier] = error.what
            continue
        segments[identifier] = (phones, durations)
        frame, kinds = network_frames(phones, durations)
        contexts.append(windows(phones, width, central, silence)[frame])
        classes.append(kinds)
        factor = FRAME_SUBSAMPLING_FACTOR
        middle = np.minimum(np.arange(len(frame)) * factor + factor // 2, len(tids) - 1)
        rows.append(features[begin + middle])
    stats = TreeStats.from_frames(np.concatenate(contexts), np.concatenate(classes), np.concatenate(rows))
    return segments, failures, stats


def _targets(
    cuts: CutSet, segments: Segments, senones: Senones, silence: np.ndarray
) -> Iterator[Tuple[Cut, Dict[str, np.ndarray]]]:
    for cut in cuts:
        if cut.id in segments:
            phones, durations = segments[cut.id]
            yield cut, {"pdfs": network_pdfs(phones, durations, senones, silence)}


def read_targets(run: RecipeRun, name: str) -> Dict[str, np.ndarray]:
    """Return the pdfs of a clean set: id -> pdfs [T30] int32."""
    _cuts, pdfs = read_arrays(run.dir("senones") / "ali" / name, "pdfs")
    return pdfs


def read_segments(run: RecipeRun, name: str) -> Segments:
    rows = read_json(run.dir("senones") / "ali" / f"{name}.phones.json")
    return {
        identifier: (np.asarray(phones, np.int32), np.asarray(lengths, np.int32))
        for identifier, (phones, lengths) in rows.items()
    }


def network_senones(run: RecipeRun) -> Senones:
    return Senones.load(run.dir("senones") / "model")
