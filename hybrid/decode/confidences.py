"""How sure a set's recognised words are: what a calibration is learnt from, and what it then says."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from hybrid.decode.run import Answer, Loglikes, cached_decoder, graph_key, over_chunks, read_chunk
from hybrid.decode.scored_words import ScoredWord, WordScorer
from hybrid.errors import DataError
from hybrid.hmm.senones import Senones
from hybrid.io import PathLike
from hybrid.lexicon.lang import Lang
from hybrid.score.wer import align


def score_words(
    loglikes: Loglikes, graph: PathLike, *, lang: PathLike, senones: PathLike, acoustic_scale: float,
    word_penalty: float, beam: float, max_active: int, ids: Optional[Iterable[str]] = None,
    executor: Optional[Executor] = None,
) -> Dict[str, List[ScoredWord]]:  # fmt: skip
    """Return the recognised words of each utterance with times and features, sorted by id; what cannot be decoded has
    none. lang, senones: folders."""
    work = partial(
        _score_chunk, graph=graph_key(graph), lang=str(lang), senones=str(senones), scale=acoustic_scale,
        penalty=word_penalty, beam=beam, max_active=max_active,
    )  # fmt: skip
    return over_chunks(work, loglikes, ids, executor, None, None)


@lru_cache(maxsize=1)
def _scorer(lang: str, senones: str) -> WordScorer:
    return WordScorer(Lang.load(Path(lang)), Senones.load(Path(senones)))


def _score_chunk(
    chunk: Sequence[Tuple[str, Any]], *, graph: Tuple[str, int, int], lang: str, senones: str, scale: float,
    penalty: float, beam: float, max_active: int,
) -> List[Answer]:  # fmt: skip
    decoder, scorer = cached_decoder(graph, beam, max_active, penalty), _scorer(lang, senones)
    answers: List[Answer] = []
    for utterance, loglikes in read_chunk(chunk):
        words: List[ScoredWord] = []
        if not isinstance(loglikes, DataError):  # which the decoding of the set has named
            lattice = decoder.lattice(loglikes, scale, utterance)
            if lattice is not None:
                words = scorer.score(lattice, loglikes, scale)
        answers.append((utterance, words, None))
    return answers


@dataclass(frozen=True)
class Judged:
    """The words of a set: features [n, 3], and whether each is right, bool [n]: whether an alignment of the utterance's
    words with its transcript has it beside the same word."""

    features: np.ndarray
    right: np.ndarray

    @staticmethod
    def of(words: Mapping[str, Sequence[ScoredWord]], references: Mapping[str, Sequence[str]]) -> Judged:
        features: List[np.ndarray] = []
        right: List[bool] = []
        for utterance, reference in references.items():
            said = words.get(utterance, [])
            pairs = align(list(reference), [word.word for word in said])
            right += [ref == hyp for ref, hyp in pairs if hyp is not None]
            features += [word.features for word in said]
        return Judged(np.array(features).reshape(-1, 3), np.array(right, bool))
