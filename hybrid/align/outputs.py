"""Alignments as files: words.ctm, phones.ctm, textgrid/, alignment.jsonl, supervisions.jsonl.gz."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Sequence

from lhotse import SupervisionSegment
from lhotse.supervision import AlignmentItem

from hybrid.align.ctm import CtmRow, write_ctm
from hybrid.align.result import AlignedUtterance, PhoneTime
from hybrid.align.textgrid import Interval, Tier, tier, write_textgrid
from hybrid.errors import ConfigError
from hybrid.io import PathLike, write_jsonl

FORMATS = ("ctm", "textgrid", "json", "lhotse")


def check_formats(formats: Sequence[str]) -> List[str]:
    """Return the formats, each once. Raises ConfigError for a name that is none of FORMATS."""
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"no output format {name!r}", remedy=f"use some of {', '.join(FORMATS)}")
    return list(dict.fromkeys(formats))


def write_outputs(
    folder: PathLike,
    utterances: Sequence[AlignedUtterance],
    durations: Mapping[str, float],
    formats: Sequence[str] = FORMATS,
) -> List[str]:
    """Writes the formats asked for; `durations` of the recordings in seconds. Returns the names of what was written."""
    folder = Path(folder)
    written = []
    for name in check_formats(formats):
        if name == "ctm":
            write_ctm(folder / "words.ctm", word_rows(utterances))
            write_ctm(folder / "phones.ctm", phone_rows(utterances))
            written += ["words.ctm", "phones.ctm"]
        elif name == "textgrid":
            for recording, recording_utterances in by_recording(utterances).items():
                path = folder / "textgrid" / _inside(recording)
                write_textgrid(path, tiers_of(recording_utterances, durations[recording]))
            written.append("textgrid/")
        elif name == "json":
            write_jsonl(folder / "alignment.jsonl", (utterance.to_json() for utterance in utterances))
            written.append("alignment.jsonl")
        else:
            supervisions = (supervision(utterance).to_dict() for utterance in utterances)
            write_jsonl(folder / "supervisions.jsonl.gz", supervisions)
            written.append("supervisions.jsonl.gz")
    return written


def _inside(recording: str) -> Path:
    """`anna/one` -> anna/one.TextGrid; a name may not lead out of the folder."""
    parts = [part for part in recording.split("/") if part not in ("", ".", "..")]
    return Path(*parts[:-1], f"{parts[-1] if parts else 'recording'}.TextGrid")


def word_rows(utterances: Iterable[AlignedUtterance]) -> List[CtmRow]:
    """Return the rows of words.ctm: channels count from 1 in a CTM, times are those of the recording."""
    return [
        CtmRow(
            utterance.recording, str(utterance.channel + 1), word.start, word.end - word.start, word.word,
            word.confidence,
        )  # fmt: skip
        for utterance in utterances
        for word in utterance.words
    ]


def phone_rows(utterances: Iterable[AlignedUtterance]) -> List[CtmRow]:
    """Return the rows of phones.ctm.

    A phone has the confidence of its word; silences have 1, as Kaldi writes where it has none.
    """
    return [
        CtmRow(
            utterance.recording, str(utterance.channel + 1), phone.start, phone.end - phone.start, phone.phone,
            _sure(utterance, phone),
        )  # fmt: skip
        for utterance in utterances
        for phone in utterance.phones
    ]


def _sure(utterance: AlignedUtterance, phone: PhoneTime) -> float:
    confidence = None if phone.word is None else utterance.words[phone.word].confidence
    return 1.0 if confidence is None else confidence


def by_recording(utterances: Iterable[AlignedUtterance]) -> Dict[str, List[AlignedUtterance]]:
    groups: Dict[str, List[AlignedUtterance]] = {}
    for utterance in utterances:
        groups.setdefault(utterance.recording, []).append(utterance)
    return groups


def tiers_of(utterances: Sequence[AlignedUtterance], duration: float) -> List[Tier]:
    """Return two tiers, `words` and `phones`; of several speakers `SPEAKER - words` and `SPEAKER - phones`, as MFA's.

    Silence between words is empty, in both. The alignment's last frame is cut to the recording's end. Words of a
    speaker's utterances that overlap in time have further tiers, `words 2` and `phones 2`: no word is lost.
    """
    speakers = sorted({utterance.speaker for utterance in utterances})
    layers = [
        (speaker, number, layer)
        for speaker in speakers
        for number, layer in enumerate(_layers(utterances, speaker), 1)
    ]
    tiers = []
    for speaker, number, layer in layers:
        words = [Interval(word.start, word.end, word.word) for utterance in layer for word in utterance.words]
        phones = [
            Interval(phone.start, phone.end, phone.phone)
            for utterance in layer
            for phone in utterance.phones
            if phone.word is not None
        ]
        for name, intervals in (("words", words), ("phones", phones)):
            label = name if number == 1 else f"{name} {number}"
            label = label if len(speakers) == 1 else f"{speaker} - {label}"
            tiers.append(tier(label, intervals, 0.0, round(duration, 6)))
    return tiers


def _layers(utterances: Sequence[AlignedUtterance], speaker: str) -> List[List[AlignedUtterance]]:
    """The speaker's utterances in as few lists as can be in which no two have words at the same time."""
    layers: List[List[AlignedUtterance]] = []
    ends: List[float] = []
    speaker_utterances = [utterance for utterance in utterances if utterance.speaker == speaker]
    for utterance in sorted(
        speaker_utterances,
        key=lambda utterance: (utterance.words[0].start if utterance.words else utterance.start, utterance.id),
    ):
        words = utterance.words
        start, end = (words[0].start, words[-1].end) if words else (utterance.start, utterance.start)
        place = next((number for number, last in enumerate(ends) if last <= start), len(layers))
        if place == len(layers):
            layers.append([])
            ends.append(end)
        layers[place].append(utterance)
        ends[place] = max(ends[place], end)
    return layers


def supervision(utterance: AlignedUtterance) -> SupervisionSegment:
    """Return Lhotse's supervision with alignments `word`, `phone` and `state` (`AH_1`: the second state of AH).

    Times are those of the recording; the score is the confidence of the word, None for silence.
    """

    def item(symbol: str, start: float, end: float, score=None) -> AlignmentItem:
        return AlignmentItem(symbol, start, round(end - start, 6), None if score is None else round(score, 4))

    phones, states = [], []
    for phone in utterance.phones:
        score = None if phone.word is None else utterance.words[phone.word].confidence
        phones.append(item(phone.phone, phone.start, phone.end, score))
        states += [item(f"{phone.phone}_{state.state}", state.start, state.end, score) for state in phone.states]
    return SupervisionSegment(
        id=utterance.id,
        recording_id=utterance.recording,
        start=utterance.start,
        duration=round(utterance.end - utterance.start, 8),
        channel=utterance.channel,
        text=utterance.text,
        speaker=utterance.speaker,
        alignment={
            "word": [item(word.word, word.start, word.end, word.confidence) for word in utterance.words],
            "phone": phones,
            "state": states,
        },
    )
