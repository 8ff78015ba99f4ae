"""Triphones on features with deltas (Kaldi's steps/train_deltas.sh).

A tree is grown on the alignments of a simpler system; its leaves start as single Gaussians with the
statistics that the tree was grown on; alignments are carried over; then the passes.
"""

from __future__ import annotations

from typing import Tuple

from hybrid.gmm.chunks import Data
from hybrid.gmm.model import GmmModel
from hybrid.gmm.passes import Context, PassOptions, run_passes
from hybrid.gmm.trees import TreeOptions, new_tree
from hybrid.hmm.senones import Senones
from hybrid.lexicon.lang import Lang


def options(*, passes: int = 35, gaussians: int = 9000, **more) -> PassOptions:
    """Returns the options of train_deltas.sh.

    35 passes, realignment in 10, 20, 30, Gaussians grown until ten passes before the end.
    """
    return PassOptions(
        passes=passes,
        realign=tuple(n for n in (10, 20, 30) if n < passes),
        gaussians=gaussians,
        last_increase=max(1, passes - 10),
        **more,
    )


def train_deltas(
    simpler: Senones, data: Data, lang: Lang, tree: TreeOptions, opts: PassOptions, context: Context
) -> Tuple[GmmModel, Data]:
    """Trains triphones on features with deltas, from the alignments of a simpler system.

    `data`: alignments of `simpler`, and the feature transform whose features the tree and the mixtures are for.
    """
    model, data = new_tree(simpler, data, lang, tree, opts, context)
    return run_passes(model, data, opts, context)
