"""Speaker transforms for speech without transcripts, from what a first pass recognised (Kaldi's steps/decode_fmllr.sh).

The best path of the first pass names a pdf for each frame; with posteriors of the speaker-independent mixtures a
transform is estimated for the speaker-adapted ones; the adapted features are decoded; and from that path the transform
is estimated once more, on top. Kaldi takes the posteriors of a lattice where this takes its best path. Silence counts
little: it says more about the room than about the speaker.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional

import numpy as np

from hybrid.errors import DataError
from hybrid.gmm.feature_transform import adapt
from hybrid.gmm.fmllr import Transforms, compose, estimate_fmllr, frame_terms, speaker_stats
from hybrid.gmm.model import GmmModel

SILENCE_WEIGHT = 0.01  # as decode_fmllr.sh


def adapt_speakers(
    model: GmmModel,
    features: Mapping[str, np.ndarray],
    pdfs: Mapping[str, np.ndarray],
    speakers: Mapping[str, str],
    silent_pdfs: np.ndarray,
    before: Optional[Transforms] = None,
    silence_weight: float = SILENCE_WEIGHT,
) -> Transforms:
    """Estimates a transform for each speaker from a first pass, and returns them as {speaker: [D, D + 1]}.

    features {id: [T, D]} without transforms, those of one speaker in memory at a time; pdfs {id: [T]} of the first
    pass.

    before: the transforms that this first pass was made with, None for none; the new ones stand in their place. An
    utterance without a path (no pdfs) says nothing; a speaker with too few frames keeps what they have.
    """
    by_speaker: Dict[str, List[str]] = {}
    for identifier in sorted(features):
        by_speaker.setdefault(speakers[identifier], []).append(identifier)
    names, stats = [], []
    dim = model.feature_transform.dim
    for speaker, identifiers in by_speaker.items():
        frames: List[np.ndarray] = [np.zeros((0, dim), np.float32)]
        paths: List[np.ndarray] = [np.zeros(0, np.int64)]
        for identifier in identifiers:
            known = pdfs.get(identifier)
            if known is None or not len(known):
                continue
            frames.append(features[identifier])
            paths.append(np.asarray(known, np.int64))
            if len(known) != len(frames[-1]):
                raise DataError(
                    f"a path of {len(known)} frames for {len(frames[-1])} frames of features",
                    utterance=identifier,
                    remedy="decode the same features again",
                )
        x, path = np.concatenate(frames), np.concatenate(paths)
        source = None
        if before is None and model.speaker_independent is not None:
            source = (model.speaker_independent, x)
        elif before is not None:
            x = adapt(x, before[speaker])
        a, b = frame_terms(model.gmms, x, path, source)
        weights = np.where(np.isin(path, silent_pdfs), silence_weight, 1.0)
        names.append(speaker)
        stats.append(speaker_stats(x, a, b, weights))
    transforms = {name: transform for name, (transform, _) in zip(names, estimate_fmllr(stats))}
    return transforms if before is None else {name: compose(transforms[name], before[name]) for name in transforms}


def silent_pdfs(model: GmmModel, silence_phones: np.ndarray) -> np.ndarray:
    senones = model.senones
    return np.unique(senones.tid2pdf[1:][np.isin(senones.tid2phone[1:], silence_phones)])
