"""From transition ids to words, phones and states with times and confidences."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from hybrid.align.aligner import FRAME_SHIFT, Aligner
from hybrid.align.confidence import KAPPA, WordSpan, confidences
from hybrid.align.loop import PhoneLoop
from hybrid.align.result import AlignedUtterance, PhoneTime, StateTime, WordTime
from hybrid.errors import DataError
from hybrid.hmm.alignment import phone_segments
from hybrid.hmm.senones import Senones
from hybrid.lexicon.lang import Lang
from hybrid.lexicon.segment import WordSegment, word_segments
from hybrid.parallel import ordered_map


class Reference(NamedTuple):
    """What is known of an utterance beside its path: its place in the recording, its words and where their
    pronunciations are from."""

    recording: str
    channel: int
    speaker: str
    start: float
    end: float
    words: Sequence[str]
    sources: Sequence[str]


class ViterbiPath(NamedTuple):
    """features [T, D] as the aligner's mixtures take them, transition ids [T], score a frame."""

    features: np.ndarray
    tids: np.ndarray
    loglike: float


def assemble_all(
    aligner: Aligner, loop: PhoneLoop, known: Mapping[str, Reference], executor: Optional[Executor] = None
) -> Iterator[List[Any]]:
    """Yield the list of results of each chunk.

    A result is an AlignedUtterance, or (id, reason), for each of the chunk's utterances in `known` that has a path.
    """

    def jobs() -> Iterator[Tuple[Aligner, PhoneLoop, int, Dict[str, Reference]]]:
        for index in range(aligner.num_chunks):
            ids = aligner.data.store.about(index)["ids"]
            yield aligner, loop, index, {identifier: known[identifier] for identifier in ids if identifier in known}

    return map(_assemble_chunk, jobs()) if executor is None else ordered_map(executor, _assemble_chunk, jobs())


def _assemble_chunk(job: Tuple[Aligner, PhoneLoop, int, Dict[str, Reference]]) -> List[Any]:
    aligner, loop, index, references = job
    rows: List[Any] = []
    for identifier, features, tids, loglike in aligner.chunk(index):
        if tids is None or identifier not in references:
            continue
        try:
            path = ViterbiPath(features, tids, loglike)
            rows.append(assemble(aligner, loop, identifier, references[identifier], path))
        except DataError as error:
            rows.append((identifier, error.what))
    return rows


def assemble(
    aligner: Aligner, loop: PhoneLoop, identifier: str, one: Reference, found: ViterbiPath
) -> AlignedUtterance:
    """Return the words, phones and states of an utterance with their times and confidences.

    Raises DataError where the phones of the alignment do not spell its words.
    """
    lang, senones = aligner.lang, aligner.senones
    phones, durations = phone_segments(found.tids, senones)
    ids = lang.word_ids(" ".join(one.words), identifier)
    segments = word_segments(phones, durations, ids, lang, utterance=identifier)
    word_spans = [spoken_word(segment, lang, loop) for segment in segments]
    word_confidences = confidences(loop, aligner.loglikes(found.features), word_spans, KAPPA)
    clock = _Clock(one.start, one.end, len(found.tids))
    words = [
        WordTime(word, clock(segment.start), clock(segment.start + segment.frames), float(confidence), source)
        for word, segment, confidence, source in zip(one.words, segments, word_confidences, one.sources, strict=True)
    ]
    return AlignedUtterance(
        id=identifier,
        recording=one.recording,
        channel=one.channel,
        speaker=one.speaker,
        text=" ".join(one.words),
        start=round(one.start, 6),
        end=round(one.end, 6),
        loglike=found.loglike,
        words=words,
        phones=_phones(found.tids, phones, durations, segments, lang, senones, clock),
    )


def spoken_word(segment: WordSegment, lang: Lang, loop: PhoneLoop) -> WordSpan:
    """Return the word of a segment with all of its pronunciations, as confidences take it."""
    pronunciations = lang.lexicon.pronunciations(lang.word_names[segment.word])
    return WordSpan(
        segment.start,
        segment.frames,
        tuple(tuple(loop.phones(pronunciation.phones)) for pronunciation in pronunciations),
        tuple(math.log(pronunciation.prob) for pronunciation in pronunciations),
    )


class _Clock:
    """Frame -> seconds in the recording; the last frame ends with the utterance."""

    def __init__(self, start: float, end: float, frames: int) -> None:
        self.start, self.end, self.frames = start, end, frames

    def __call__(self, frame: int) -> float:
        return round(self.end if frame >= self.frames else self.start + FRAME_SHIFT * int(frame), 6)


def _phones(
    tids: np.ndarray,
    phones: np.ndarray,
    durations: np.ndarray,
    segments: Sequence[WordSegment],
    lang: Lang,
    senones: Senones,
    clock: _Clock,
) -> List[PhoneTime]:
    owner: Dict[int, int] = {}
    for number, segment in enumerate(segments):
        owner.update(dict.fromkeys(range(segment.first, segment.first + segment.count), number))
    visits = np.flatnonzero(~senones.is_self_loop[tids])  # frames at which a state is entered
    ends = np.r_[visits[1:], len(tids)]
    states = senones.tid2hmm_state[tids[visits]]
    phone_times = []
    begin = 0
    for number, (phone, frames) in enumerate(zip(phones.tolist(), durations.tolist())):
        visit_numbers = range(*np.searchsorted(visits, [begin, begin + frames]))
        state_times = tuple(
            StateTime(int(states[visit]), clock(visits[visit]), clock(ends[visit])) for visit in visit_numbers
        )
        name = lang.base_phone(phone)
        phone_times.append(PhoneTime(name, clock(begin), clock(begin + frames), owner.get(number), state_times))
        begin += frames
    return phone_times
