"""From a simpler system to a new tree: statistics, questions, leaves as single Gaussians, alignments carried over.

What steps/train_deltas.sh, train_lda_mllt.sh and train_sat.sh begin with: acc-tree-stats, cluster-phones,
compile-questions, build-tree, gmm-init-model, convert-ali and compile-train-graphs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from hybrid.errors import DataError
from hybrid.gmm.chunks import Data, compile_graphs, convert_alignments, map_chunks, tree_chunk
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.estimate import lean, within_variance
from hybrid.gmm.model import GmmModel
from hybrid.gmm.passes import Context, PassOptions
from hybrid.hmm.build_tree import TreeStats, build_tree, phone_questions
from hybrid.hmm.senones import Senones
from hybrid.lexicon.lang import Lang


@dataclass(frozen=True)
class TreeOptions:
    """leaves: at most; threshold: the least gain of a split (Kaldi's --thresh); extra_questions: sets of phones to ask
    about besides those that clustering finds (Kaldi's extra_questions.txt)."""

    leaves: int
    threshold: float = 300.0
    extra_questions: Sequence[Sequence[int]] = ()


def compile_all(
    lang: Lang, senones: Senones, data: Data, folder: Path, context: Context
) -> Tuple[Data, Dict[str, str]]:
    """Compiles the training graphs of all chunks in `folder`.

    Returns the data with them, and {id: reason} of utterances that have none.
    """
    part = lang.of_words(data.store.words())
    work = partial(compile_graphs, store=data.store, lang=part, senones=senones, folder=folder)
    reasons: Dict[str, str] = {}
    for chunk_reasons in map_chunks(context.executor, work, data.store):
        reasons.update(chunk_reasons)
    return replace(data, graphs=folder), reasons


def position_questions(lang: Lang) -> List[List[int]]:
    """Returns for each place in a word all phones at it.

    Clustering cannot find these sets, because a root's positions share data.
    """
    if not lang.position_dependent:
        return []
    places: Dict[str, List[int]] = {}
    for name, number in lang.phones.items():
        if number in set(lang.phone_ids) and number not in lang.silence_ids:
            places.setdefault(name.rpartition("_")[2], []).append(number)
    return [sorted(members) for _, members in sorted(places.items())]


def tree_stats(data: Data, senones: Senones, context: Context) -> TreeStats:
    """Returns triphone statistics of all aligned frames. Raises DataError where no utterance is aligned."""
    work = partial(tree_chunk, data=data, senones=senones, context_free=np.asarray(context.silence_phones))
    stats: Optional[TreeStats] = None
    for part in map_chunks(context.executor, work, data.store):
        stats = part if stats is None else (stats + part).merged()
    if stats is None or not len(stats.classes):
        raise DataError("no aligned utterance to grow a tree on", remedy="look at problems.jsonl of the stage")
    return stats


def new_tree(
    simpler: Senones, data: Data, lang: Lang, tree: TreeOptions, opts: PassOptions, context: Context
) -> Tuple[GmmModel, Data]:
    """Grows a new tree on `data`, whose alignments are of `simpler`.

    Returns a model of single Gaussians on its leaves, and the data with graphs and alignments of the new tree, in the
    context's folder.
    """
    context_free = np.asarray(context.silence_phones)
    stats = tree_stats(data, simpler, context)
    groups = lang.phone_groups()
    # The middle state tells phones apart best (Kaldi's cluster-phones --pdf-class-list).
    questions = phone_questions(stats, 1, groups, classes=[1]) + [tuple(extra) for extra in tree.extra_questions]
    grown, sums = build_tree(
        stats,
        simpler.topology,
        groups,
        central=1,
        max_leaves=tree.leaves,
        threshold=tree.threshold,
        questions=questions,
        unsplit=context.silence_phones,
    )
    senones = Senones(simpler.topology, grown, simpler.phones)
    counts, first, second = sums[:, 0], sums[:, 1 : 1 + stats.dim], sums[:, 1 + stats.dim :]
    means = first / counts[:, None]
    pdf_variances, within = second / counts[:, None] - means**2, within_variance(counts, first, second)
    variances = np.stack([lean(v, n, within) for v, n in zip(pdf_variances, counts)])
    variances = np.maximum(variances, opts.variance_floor)
    context.log(f"tree: {grown.num_pdfs} pdfs from {len(stats.classes)} events, {len(questions)} questions")
    converted = context.folder / "alignments.0"
    work = partial(
        convert_alignments, data=data, old=simpler, new=senones, context_free=context_free, folder=converted
    )
    for _ in map_chunks(context.executor, work, data.store):
        pass
    data, _reasons = compile_all(lang, senones, data, context.folder / "graphs", context)
    model = GmmModel(senones, DiagGmms.single(means, variances), data.feature_transform)
    return model, replace(data, alignments=converted)
