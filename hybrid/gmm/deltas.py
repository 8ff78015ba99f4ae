"""Triphones on features with deltas (Kaldi's steps/train_deltas.sh).

A tree is grown on the alignments of a simpler system; its leaves start as single Gaussians with the
statistics that the tree was grown on; alignments are carried over; then the passes.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Optional, Sequence

import numpy as np

from hybrid.errors import DataError
from hybrid.gmm.align import Alignments
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.train import GmmModel, Log, PassOptions, Progress, TrainingSet, _plain, run_passes
from hybrid.hmm.alignment import convert, phone_segments, windows
from hybrid.hmm.build_tree import TreeStats, build_tree, phone_questions
from hybrid.hmm.senones import Senones
from hybrid.io import PathLike


def options(*, passes: int = 35, gaussians: int = 9000, **more) -> PassOptions:
    """train_deltas.sh: 35 passes, realignment in 10, 20, 30, Gaussians grown until ten passes before the end."""
    return PassOptions(
        passes=passes,
        realign=tuple(n for n in (10, 20, 30) if n < passes),
        gaussians=gaussians,
        last_increase=max(1, passes - 10),
        **more,
    )


def tree_stats(data: TrainingSet, alignments: Alignments, senones: Senones, silence: np.ndarray) -> TreeStats:
    """Triphone statistics of all aligned frames (Kaldi's acc-tree-stats --ci-phones=silence).

    Raises DataError where no utterance is aligned.
    """
    contexts, classes, features = [], [], []
    for identifier in data.ids:
        tids = alignments.tids.get(identifier)
        if tids is None:
            continue
        phones, durations = phone_segments(tids, senones)
        contexts.append(np.repeat(windows(phones, 3, 1, silence), durations, axis=0))
        classes.append(senones.tid2class[tids])
        features.append(data.features[identifier])
    if not contexts:
        raise DataError("no aligned utterance to grow a tree on", remedy="look at problems.jsonl of the stage")
    return TreeStats.from_frames(np.concatenate(contexts), np.concatenate(classes), np.concatenate(features))


def train_deltas(
    simpler: Senones,
    alignments: Alignments,
    data: TrainingSet,
    opts: PassOptions,
    *,
    groups: Sequence[Sequence[int]],
    silence_phones: Sequence[int],
    leaves: int,
    threshold: float = 300.0,
    extra_questions: Sequence[Sequence[int]] = (),
    graphs,
    folder: PathLike,
    seed: int = 0,
    executor: Optional[Executor] = None,
    log: Log = print,
    progress: Progress = _plain,
) -> GmmModel:
    """`alignments` are of `simpler`; `graphs(senones)` compiles the training graphs {id: UtteranceGraph} of a tree.

    extra_questions: sets of phones to ask about besides those that clustering finds (Kaldi's extra_questions.txt).
    """
    silence = np.asarray(silence_phones)
    stats = tree_stats(data, alignments, simpler, silence)
    # The middle state tells phones apart best (Kaldi's cluster-phones --pdf-class-list).
    questions = phone_questions(stats, 1, groups, classes=[1]) + [tuple(extra) for extra in extra_questions]
    tree, sums = build_tree(
        stats,
        simpler.topology,
        groups,
        central=1,
        max_leaves=leaves,
        threshold=threshold,
        questions=questions,
        unsplit=silence_phones,
    )
    senones = Senones(simpler.topology, tree, simpler.phones)
    means = sums[:, 1 : 1 + stats.dim] / sums[:, :1]
    variances = np.maximum(sums[:, 1 + stats.dim :] / sums[:, :1] - means**2, opts.variance_floor)
    log(f"tree: {tree.num_pdfs} pdfs from {len(stats.classes)} events, {len(questions)} questions")
    converted = Alignments(
        {i: convert(tids, simpler, senones, silence) for i, tids in alignments.tids.items()},
        dict(alignments.loglike),
        list(alignments.failed),
    )
    data = TrainingSet(data.ids, data.features, graphs(senones))
    return run_passes(
        GmmModel(senones, DiagGmms.single(means, variances)),
        data,
        converted,
        opts,
        folder=folder,
        seed=seed,
        executor=executor,
        log=log,
        progress=progress,
        silence_phones=silence_phones,
    )
