"""From transition ids to words, phones and states with times and confidences."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from hybrid.align.confidence import KAPPA, Spoken, confidences
from hybrid.align.engine import CHUNK, FRAME_SHIFT, Engine
from hybrid.align.loop import PhoneLoop
from hybrid.align.result import AlignedUtterance, PhoneTime, StateTime, WordTime
from hybrid.errors import DataError
from hybrid.hmm.alignment import phone_segments
from hybrid.hmm.senones import Senones
from hybrid.parallel import ordered_map
from lexicon.lang import Lang
from lexicon.segment import WordSegment, word_segments


class Aligned(NamedTuple):
    """What is known of an utterance once it is aligned: words, sources of their pronunciations, features, tids."""

    id: str
    recording: str
    channel: int
    speaker: str
    start: float
    end: float
    words: Sequence[str]
    sources: Sequence[str]
    features: np.ndarray
    tids: np.ndarray
    loglike: float


def assemble_all(
    engine: Engine, loop: PhoneLoop, utterances: Iterable[Aligned], executor: Optional[Executor] = None
) -> Iterable[List[Any]]:
    """An AlignedUtterance, or (id, reason), for each; in lists of CHUNK, in their order."""

    def jobs() -> Iterable[Tuple[Engine, PhoneLoop, List[Aligned]]]:
        chunk: List[Aligned] = []
        for one in utterances:
            chunk.append(one)
            if len(chunk) == CHUNK:
                yield engine, loop, chunk
                chunk = []
        if chunk:
            yield engine, loop, chunk

    return map(_assemble_chunk, jobs()) if executor is None else ordered_map(executor, _assemble_chunk, jobs())


def _assemble_chunk(job: Tuple[Engine, PhoneLoop, List[Aligned]]) -> List[Any]:
    engine, loop, utterances = job
    rows: List[Any] = []
    for one in utterances:
        try:
            rows.append(assemble(engine, loop, one))
        except DataError as error:
            rows.append((one.id, error.what))
    return rows


def assemble(engine: Engine, loop: PhoneLoop, one: Aligned) -> AlignedUtterance:
    """Raises DataError where the phones of the alignment do not spell its words."""
    lang, senones = engine.lang, engine.senones
    phones, durations = phone_segments(one.tids, senones)
    segments = word_segments(phones, durations, lang.word_ids(" ".join(one.words), one.id), lang, utterance=one.id)
    spoken = [spoken_word(segment, lang, loop) for segment in segments]
    sure = confidences(loop, engine.loglikes(one.features), spoken, KAPPA)
    clock = _Clock(one.start, one.end, len(one.tids))
    words = [
        WordTime(word, clock(segment.start), clock(segment.start + segment.frames), float(confidence), source)
        for word, segment, confidence, source in zip(one.words, segments, sure, one.sources, strict=True)
    ]
    return AlignedUtterance(
        id=one.id,
        recording=one.recording,
        channel=one.channel,
        speaker=one.speaker,
        text=" ".join(one.words),
        start=round(one.start, 6),
        end=round(one.end, 6),
        loglike=one.loglike,
        words=words,
        phones=_phones(one.tids, phones, durations, segments, lang, senones, clock),
    )


def spoken_word(segment: WordSegment, lang: Lang, loop: PhoneLoop) -> Spoken:
    """The word of a segment with all of its pronunciations, as confidences take it."""
    items = lang.lexicon.pronunciations(lang.word_names[segment.word])
    return Spoken(
        segment.start,
        segment.frames,
        tuple(tuple(loop.phones(item.phones)) for item in items),
        tuple(math.log(item.prob) for item in items),
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
    out = []
    begin = 0
    for number, (phone, frames) in enumerate(zip(phones.tolist(), durations.tolist())):
        some = range(*np.searchsorted(visits, [begin, begin + frames]))
        visited = tuple(StateTime(int(states[k]), clock(visits[k]), clock(ends[k])) for k in some)
        name = lang.base_phone(phone)
        out.append(PhoneTime(name, clock(begin), clock(begin + frames), owner.get(number), visited))
        begin += frames
    return out
