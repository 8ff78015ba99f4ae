"""Triphones on spliced cepstra after LDA and MLLT (Kaldi's steps/train_lda_mllt.sh).

LDA takes the neighbours of a frame to the directions that tell the simpler system's pdfs apart; a tree is grown on
the result; in a few early passes MLLT turns the features so that diagonal covariances fit them, and the mixtures'
means along with them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Tuple

from hybrid.gmm.chunks import Data, lda_chunk, map_chunks, total
from hybrid.gmm.feature_transform import FeatureTransform
from hybrid.gmm.lda import LdaStats, estimate_lda
from hybrid.gmm.model import GmmModel
from hybrid.gmm.passes import Context, PassOptions, run_passes
from hybrid.gmm.trees import TreeOptions, new_tree
from hybrid.lexicon.lang import Lang


def options(*, passes: int = 35, gaussians: int = 9000, power: float = 0.2, **more) -> PassOptions:
    """Returns the options of train_lda_mllt.sh: as train_deltas.sh, with MLLT in passes 2, 4, 6, 12 and the power
    0.2."""
    return PassOptions(
        passes=passes,
        realign=tuple(n for n in (10, 20, 30) if n < passes),
        gaussians=gaussians,
        last_increase=max(1, passes - 10),
        power=power,
        mllt=tuple(n for n in (2, 4, 6, 12) if n < passes),
        **more,
    )


def train_lda_mllt(
    simpler: GmmModel,
    data: Data,
    lang: Lang,
    tree: TreeOptions,
    opts: PassOptions,
    context: Context,
    *,
    splice: int = 3,
    dim: int = 40,
) -> Tuple[GmmModel, Data]:
    """Trains triphones on spliced cepstra after LDA and MLLT, from the alignments of a simpler system.

    `data`: alignments of `simpler`. splice: neighbours on either side; dim: what LDA leaves of them.

    Raises DataError where `dim` is more than there is, or the frames are too few.
    """
    senones = simpler.senones
    spliced = FeatureTransform.splice(data.store.base_dim, splice, splice)
    data = replace(data, feature_transform=spliced, transforms=None)
    work = partial(
        lda_chunk,
        data=data,
        tid2pdf=senones.tid2pdf,
        silent=context.silent(simpler),
        number=senones.num_pdfs,
    )
    stats: LdaStats = total(map_chunks(context.executor, work, data.store))
    matrix, values = estimate_lda(stats, dim)
    context.log(
        f"LDA: {len(values)} to {dim} dimensions; between over within variance {values[0]:.1f} to {values[dim - 1]:.3f}"
    )
    data = replace(data, feature_transform=data.feature_transform.then(matrix))
    model, data = new_tree(senones, data, lang, tree, opts, context)
    return run_passes(model, data, opts, context)
