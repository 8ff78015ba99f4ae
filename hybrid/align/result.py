"""What an alignment is to its readers: words, phones and states with their times.

Times are seconds in the recording (not in the utterance), rounded to the microsecond in one place, so that what ends
and what begins there carry the same number.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

from hybrid.errors import DataError


@dataclass(frozen=True)
class StateTime:
    """A visit to one HMM state of a phone, counted from 0."""

    state: int
    start: float
    end: float


@dataclass(frozen=True)
class PhoneTime:
    """`phone` without position mark; `word` is an index into the utterance's words, None for silence between words."""

    phone: str
    start: float
    end: float
    word: Optional[int]
    states: Tuple[StateTime, ...] = ()


@dataclass(frozen=True)
class WordTime:
    """`word` as it stands in the transcript after normalisation; `source` says where its pronunciation is from."""

    word: str
    start: float
    end: float
    confidence: Optional[float] = None
    source: str = "lexicon"  # or "g2p", or "unknown": aligned as the unknown word


@dataclass(frozen=True)
class AlignedUtterance:
    """`phones` cover start to end without a gap; `loglike` is the log-likelihood a frame of the best path."""

    id: str
    recording: str
    channel: int
    speaker: str
    text: str
    start: float
    end: float
    loglike: float
    words: List[WordTime] = field(default_factory=list)
    phones: List[PhoneTime] = field(default_factory=list)

    def phones_of(self, word: int) -> List[PhoneTime]:
        return [phone for phone in self.phones if phone.word == word]

    def to_json(self) -> Dict[str, Any]:
        """Return a row of alignment.jsonl: phones within their words, silences apart, states as [state, start, end]."""

        def row(phone: PhoneTime) -> Dict[str, Any]:
            states = [[state.state, state.start, state.end] for state in phone.states]
            return {"phone": phone.phone, "start": phone.start, "end": phone.end, "states": states}

        words = []
        for number, word in enumerate(self.words):
            confidence = None if word.confidence is None else round(word.confidence, 4)
            words.append(
                {
                    "word": word.word,
                    "start": word.start,
                    "end": word.end,
                    "confidence": confidence,
                    "source": word.source,
                    "phones": [row(phone) for phone in self.phones_of(number)],
                }
            )
        return {
            "id": self.id,
            "recording": self.recording,
            "channel": self.channel,
            "speaker": self.speaker,
            "text": self.text,
            "start": self.start,
            "end": self.end,
            "loglike": round(self.loglike, 4),
            "words": words,
            "silences": [row(phone) for phone in self.phones if phone.word is None],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> AlignedUtterance:
        """Return the utterance of a row of alignment.jsonl. Raises DataError for a row that is no alignment."""

        def phone(row: Mapping[str, Any], word: Optional[int]) -> PhoneTime:
            states = tuple(StateTime(int(state), begin, end) for state, begin, end in row["states"])
            return PhoneTime(row["phone"], row["start"], row["end"], word, states)

        try:
            phones = [phone(row, None) for row in value["silences"]]
            for number, word in enumerate(value["words"]):
                phones += [phone(row, number) for row in word["phones"]]
            names = ("word", "start", "end", "confidence", "source")
            return cls(
                **{name: value[name] for name in ("id", "recording", "channel", "speaker", "text", "start", "end")},
                loglike=value["loglike"],
                words=[WordTime(**{name: word[name] for name in names}) for word in value["words"]],
                phones=sorted(phones, key=lambda phone_time: (phone_time.start, phone_time.end)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not an alignment: {error!r}", remedy="align again") from error
