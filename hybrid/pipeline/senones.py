"""Stage senones: alignments of the clean sets, the tree of the network topology, and what networks train on."""

from __future__ import annotations

import shutil
from array import array
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
from lhotse.cut import Cut

from hybrid.data.arrays import iterate_arrays, write_arrays
from hybrid.data.text_column import TextColumn
from hybrid.device import for_workers
from hybrid.errors import DataError
from hybrid.gmm.apply import align_store
from hybrid.gmm.chunks import Data, map_chunks
from hybrid.gmm.passes import Context
from hybrid.gmm.trees import position_questions
from hybrid.hmm.alignment import network_frames, network_pdfs, phone_segments, subsample_durations, windows
from hybrid.hmm.build_tree import TreeStats, build_tree, phone_questions
from hybrid.hmm.senones import Senones
from hybrid.hmm.topology import network_topology
from hybrid.io import disk_errors, write_json
from hybrid.lexicon.lang import Lang
from hybrid.pipeline.alignments import PDFS, PHONES, by_frame
from hybrid.pipeline.gmm import bootstrap_options, lang_of, load, open_store, report_unusable
from hybrid.pipeline.recipe_run import RecipeRun
from hybrid.pipeline.sets import FRAME_SUBSAMPLING_FACTOR, OUTPUT_FRAME_SHIFT, feature_folder, set_list
from hybrid.pipeline.systems import aligning_step, is_aligned

Segments = Dict[str, Tuple[np.ndarray, np.ndarray]]  # id -> phones [n], durations [n] in network frames


def senones(run: RecipeRun) -> None:
    """Write EXP/senones: model/ (tree, topology, transitions), ali/SET (alignments.py), occupancy.json.

    The tree is grown on the alignments of all sets and then says their pdfs: until then the phones of a set wait in a
    file, from which they go into its shards.
    """
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
    waiting: Dict[str, WaitingSegments] = {}
    total = 0
    width, central = settings.context, settings.context - 1 if settings.context < 3 else 1
    gmm_options = bootstrap_options(run)
    device = for_workers(run.device(run.settings.gmm.device))
    with run.executor() as executor:
        for name in run.progress(names, desc="align"):
            store = open_store(run, "senones", [name])
            context = Context(
                run.dir("senones") / "align" / name, lang.silence_ids, run.seed, executor, run.log, run.progress, device
            )
            data, reasons = align_store(model, store, lang, gmm_options.align, context, gmm_options.boost_silence)
            report_unusable(problems, reasons, data)
            total += store.utterances
            work = partial(coarse, data=data, senones=model.senones, silence=silence, width=width, central=central)
            waiting[name] = WaitingSegments(run.dir("senones") / "align" / f"{name}.i32")
            with waiting[name].writing() as add:
                for chunk_segments, failures, chunk_stats in map_chunks(executor, work, store):
                    for identifier, (phones, durations) in chunk_segments.items():
                        add(identifier, phones, durations)
                    for identifier, reason in failures.items():
                        problems.add(identifier, reason)
                    if name in sets.clean:
                        stats = [chunk_stats] if not stats else [(stats[0] + chunk_stats).merged()]
            for folder in (context.folder, store.folder):  # what they were made with
                shutil.rmtree(folder)
            if not len(waiting[name]):
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
    for name in run.progress(names, desc="pdfs"):
        write_arrays(
            run.dir("senones") / "ali" / name,
            _alignments(
                feature_folder(run, name, "mfcc"), waiting[name], new_senones, silence,
                counts if name in sets.clean else None,
            ),
            names=[PDFS, PHONES], frame_shift=OUTPUT_FRAME_SHIFT,
        )  # fmt: skip
    for folder_name in ("align", "store"):
        shutil.rmtree(run.dir("senones") / folder_name)
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


class WaitingSegments:
    """Phones and durations of a set's utterances in a file, int32, one utterance after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids = TextColumn()
        self._ends = array("q", [0])  # phones up to each utterance

    def __len__(self) -> int:
        return len(self.ids)

    @contextmanager
    def writing(self) -> Iterator[Callable[[str, np.ndarray, np.ndarray], None]]:
        """Give add(id, phones, durations)."""
        with disk_errors(self.path), open(self.path, "wb") as stream:

            def add(identifier: str, phones: np.ndarray, durations: np.ndarray) -> None:
                stream.write(np.stack([phones, durations]).astype(np.int32).tobytes())
                self.ids.append(identifier)
                self._ends.append(self._ends[-1] + len(phones))

            yield add

    def read(self, number: int) -> np.ndarray:
        """Read phones and durations of the utterance ids[number], int32 [2, n]."""
        begin, end = self._ends[number], self._ends[number + 1]
        return np.fromfile(self.path, np.int32, 2 * (end - begin), offset=8 * begin).reshape(2, -1)


def _alignments(
    features: Path, waiting: WaitingSegments, senones: Senones, silence: np.ndarray, counts: Optional[np.ndarray]
) -> Iterator[Tuple[Cut, Dict[str, np.ndarray]]]:
    """Yield the cuts of a set of features that are aligned, with pdfs and phones; the frames of each pdf are added to
    `counts` [num_pdfs]."""
    numbers = {identifier: number for number, identifier in enumerate(waiting.ids)}
    for cut, _ in iterate_arrays(features):
        if cut.id not in numbers:
            continue
        phones, durations = waiting.read(numbers[cut.id])
        pdfs = network_pdfs(phones, durations, senones, silence)
        if counts is not None:
            counts += np.bincount(pdfs, minlength=senones.num_pdfs)
        yield cut, {PDFS: pdfs, PHONES: by_frame(phones, durations)}


def network_senones(run: RecipeRun) -> Senones:
    return Senones.load(run.dir("senones") / "model")
