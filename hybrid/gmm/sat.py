"""Speaker-adaptive training: an affine transform for each speaker, the mixtures trained on what it gives.

Matches Kaldi's steps/train_sat.sh. Transforms are estimated on the simpler system, a tree is grown on the adapted
features, and in a few passes the transforms are estimated anew on top of those there are (fmllr.py). Test speakers
have no transform before they have been recognised once: for that first pass a second set of mixtures is estimated, with
the posteriors of the adapted features but sums over those without transforms (Kaldi's final.alimdl).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Tuple

from hybrid.gmm.chunks import Data, fmllr_chunk, independent_chunk, map_chunks, total
from hybrid.gmm.estimate import GmmStats, update
from hybrid.gmm.model import GmmModel
from hybrid.gmm.passes import Context, PassOptions, run_passes
from hybrid.gmm.trees import TreeOptions, new_tree
from hybrid.lexicon.lang import Lang


def options(*, passes: int = 35, gaussians: int = 9000, power: float = 0.2, **more) -> PassOptions:
    """Returns the options of train_sat.sh.

    As train_deltas.sh, with new transforms in passes 2, 4, 6, 12 and the power 0.2.
    """
    return PassOptions(
        passes=passes,
        realign=tuple(n for n in (10, 20, 30) if n < passes),
        gaussians=gaussians,
        last_increase=max(1, passes - 10),
        power=power,
        fmllr=tuple(n for n in (2, 4, 6, 12) if n < passes),
        **more,
    )


def estimate_transforms(model: GmmModel, data: Data, context: Context, name: str) -> Tuple[Data, float]:
    """Estimates new transforms of all speakers in FOLDER/NAME, on top of those that `data` has.

    Returns the data with them, and their gain a frame.
    """
    folder = context.folder / name
    work = partial(
        fmllr_chunk,
        data=data,
        gmms=model.gmms,
        tid2pdf=model.senones.tid2pdf,
        silent=context.silent(model),
        folder=folder,
        posteriors_from=model.speaker_independent if data.transforms is None else None,
    )
    gain = frames = 0.0
    for chunk_gain, count in map_chunks(context.executor, work, data.store):
        gain, frames = gain + chunk_gain, frames + count
    return replace(data, transforms=folder), gain / max(frames, 1.0)


def train_sat(
    simpler: GmmModel, data: Data, lang: Lang, tree: TreeOptions, opts: PassOptions, context: Context
) -> Tuple[GmmModel, Data]:
    """Trains a speaker-adapted system, with a transform for each speaker.

    `data`: alignments of `simpler`, whose features its transforms (none, or those it has) lead on from.
    """
    data, gain = estimate_transforms(simpler, data, context, "transforms.0")
    context.log(f"fMLLR on {context.folder.name}'s start: {gain:.3f} a frame")
    model, data = new_tree(simpler.senones, data, lang, tree, opts, context)
    model, data = run_passes(model, data, opts, context)
    work = partial(independent_chunk, data=data, gmms=model.gmms, tid2pdf=model.senones.tid2pdf)
    stats: GmmStats = total(map_chunks(context.executor, work, data.store))
    # The same Gaussians in both: transforms take posteriors from one for the other, so none may be left out.
    independent = update(model.gmms, stats, remove=False, variance_floor=opts.variance_floor)
    return replace(model, speaker_independent=independent), data
