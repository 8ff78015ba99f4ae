"""Alignment of any set of utterances with a finished system (Kaldi's steps/align_si.sh and align_fmllr.sh).

A speaker-adapted system aligns twice: without transforms and with the mixtures made for that, then, after each
speaker's transform has been estimated on that alignment, with the adapted ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Tuple

from hybrid.gmm.align import AlignOptions
from hybrid.gmm.chunks import Data
from hybrid.gmm.model import GmmModel
from hybrid.gmm.passes import Context, align_all
from hybrid.gmm.sat import estimate_transforms
from hybrid.gmm.store import Store
from hybrid.gmm.trees import compile_all
from hybrid.lexicon.lang import Lang


def align_store(
    model: GmmModel,
    store: Store,
    lang: Lang,
    options: AlignOptions,
    context: Context,
    boost_silence: float = 1.0,
    keep: bool = False,
) -> Tuple[Data, Dict[str, str]]:
    """Aligns every utterance of a store with a finished system.

    Returns the data with graphs, transforms and alignments in the context's folder, and {id: reason} of the utterances
    without a graph.

    Utterances that no path fits have length 0 in the alignments. keep: what an earlier, killed run of the same settings
    has aligned stays.
    """
    folder = context.folder
    data, reasons = compile_all(lang, model.senones, Data(store, model.feature_transform), folder / "graphs", context)
    data, _ = align_all(model, data, options, context, folder / "alignments.first", boost_silence, keep)
    if model.adapted:
        data, gain = estimate_transforms(model, data, context, "transforms")
        context.log(f"  fMLLR: {gain:.3f} a frame over none")
        plain = replace(data, alignments=None)
        data, _ = align_all(model, plain, options, context, folder / "alignments.adapted", boost_silence, keep)
    return data, reasons
