"""Alignments as people read them: words and phones with their frames; and what a lexicon learns from them."""

from __future__ import annotations

from concurrent.futures import Executor
from functools import partial
from typing import Any, Dict, Iterator, List, Optional

from hybrid.errors import DataError
from hybrid.gmm.chunks import Data, map_chunks, total
from hybrid.hmm.alignment import phone_segments
from hybrid.hmm.senones import Senones
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.prons import PronCounts, learn
from hybrid.lexicon.segment import word_segments


def rows(data: Data, senones: Senones, lang: Lang, executor: Optional[Executor]) -> Iterator[Dict[str, Any]]:
    """Yields a row for each aligned utterance.

    "id", "loglike" a frame, "words" and "phones" as [name, start, frames].
    """
    work = partial(_rows, data=data, senones=senones, lang=lang.of_words(data.store.words()))
    for part in map_chunks(executor, work, data.store):
        yield from part


def _rows(index: int, *, data: Data, senones: Senones, lang: Lang) -> List[Dict[str, Any]]:
    about, alignments = data.store.about(index), data.aligned(index)
    records = []
    for number, tids in enumerate(alignments.each()):
        if tids is None:
            continue
        identifier = about["ids"][number]
        phones, durations = phone_segments(tids, senones)
        starts = [0, *durations.cumsum().tolist()]
        words = word_segments(
            phones, durations, lang.word_ids(about["texts"][number], identifier), lang, utterance=identifier
        )
        records.append(
            {
                "id": identifier,
                "loglike": round(float(alignments.loglike[number]), 4),
                "words": [[lang.word_names[w.word], int(w.start), int(w.frames)] for w in words],
                "phones": [
                    [senones.phone_names[int(phone)], start, int(length)]
                    for phone, start, length in zip(phones, starts, durations)
                ],
            }
        )
    return records


def learn_probs(data: Data, senones: Senones, lang: Lang, executor: Optional[Executor], *, silence: bool) -> Lang:
    """Returns the lexicon with the pronunciations' probabilities in these alignments.

    With `silence` also those of pauses around each word (Kaldi's get_prons.sh and dict_dir_add_pronprobs.sh); all ids
    stay.

    Raises DataError where nothing is aligned.
    """
    work = partial(_prons, data=data, senones=senones, lang=lang.of_words(data.store.words()))
    counts = total(map_chunks(executor, work, data.store))
    if counts is None or not counts.utterances:
        raise DataError("no aligned utterance to learn from", remedy="look at problems.jsonl of the stage")
    estimates = learn(counts, lang)
    return lang.with_probs(estimates.lexicon, estimates.silence_probs if silence else None)


def _prons(index: int, *, data: Data, senones: Senones, lang: Lang) -> PronCounts:
    about, alignments = data.store.about(index), data.aligned(index)
    counts = PronCounts()
    for identifier, text, tids in zip(about["ids"], about["texts"], alignments.each()):
        if tids is not None:
            phones, durations = phone_segments(tids, senones)
            words = lang.word_ids(text, identifier)
            counts.add(word_segments(phones, durations, words, lang, utterance=identifier), phones, lang)
    return counts
