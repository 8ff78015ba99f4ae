"""What Lhotse's recordings, supervisions and cuts say, as a Listing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Optional, Set

from lhotse import MonoCut, MultiCut, Recording, SupervisionSegment

from hybrid.corpus.listing import Listing, Utterance, find_file, gender_of
from hybrid.corpus.reading import Reading
from hybrid.corpus.text import plain_id
from hybrid.errors import DataError


class Items:
    """Adds items to a listing; blanks in ids, which part the columns of tables, become underscores.

    beside: the folder that relative paths may start from.

    trusted: the items were made here and not read from a file, and may name commands.
    """

    def __init__(self, listing: Listing, beside: Path, reading: Reading, *, trusted: bool = False) -> None:
        self.listing, self.beside, self.reading, self.trusted = listing, beside, reading, trusted
        self._supervised: Set[str] = set()
        self._located: Dict[str, Recording] = {}  # as it was given

    def add_recording(self, recording: Recording) -> None:
        name = plain_id(str(recording.id))
        if name in self.listing.recordings:
            error = DataError("the id of the recording is given twice", remedy="give each an id of its own")
            self.listing.recordings[name] = error
            return
        self.listing.recordings[name] = self._locate(recording)

    def add_supervision(self, one: SupervisionSegment) -> None:
        name = plain_id(str(one.recording_id))
        self._supervised.add(name)
        if name not in self.listing.recordings:
            what = f"no recording {name} among the recordings"
            self.listing.skip(plain_id(str(one.id)), what, None, "add it to the recordings")
            return
        self._add(plain_id(str(one.id)), name, one, 0.0, one.channel)

    def finish(self) -> None:
        """Add, without transcripts, each recording that no supervision speaks of as an utterance."""
        self.listing.spoken_of |= self._supervised
        if not self.reading.transcripts:
            for name in self.listing.recordings:
                if name not in self._supervised:
                    self.listing.utterances.append(Utterance(name, name))

    def add_cut(self, cut: Any) -> None:
        """Add an utterance for each supervision of a cut; without transcripts also a cut that has none."""
        identifier = plain_id(str(cut.id))
        if not isinstance(cut, (MonoCut, MultiCut)) or cut.recording is None:
            kind = "no audio" if isinstance(cut, (MonoCut, MultiCut)) else f"a {type(cut).__name__}"
            remedy = "give cuts of one recording each, with their recordings"
            self.listing.skip(identifier, f"{kind}: only cuts of one recording are read", None, remedy)
            return
        name = plain_id(str(cut.recording.id))
        if name not in self._located:
            self._located[name] = cut.recording
            self.listing.recordings[name] = self._locate(cut.recording)
        elif self._located[name] != cut.recording:
            what = f"another recording than in a cut before has the id {name}"
            self.listing.skip(identifier, what, None, "give each recording an id of its own")
            return
        self.listing.spoken_of.add(name)
        for supervision in cut.supervisions:
            # A MonoCut says which channel is read; of several the supervision does.
            channel = supervision.channel if isinstance(cut, MultiCut) else cut.channel
            utterance_id = plain_id(str(supervision.id)) if len(cut.supervisions) > 1 else identifier
            self._add(utterance_id, name, supervision, cut.start, channel)
        if not cut.supervisions and self.reading.transcripts:
            self.listing.skip(identifier, "a cut without transcript", None, "give it a supervision")
        elif not cut.supervisions:
            self._append(identifier, name, None, cut.start, cut.duration, cut.channel)

    def _add(
        self, identifier: str, recording: str, supervision: SupervisionSegment, offset: float, channel: Any
    ) -> None:
        start: Any = supervision.start
        if _is_number(start) and _is_number(offset):
            start = round(offset + start, 8)
        self._append(identifier, recording, supervision, start, supervision.duration, channel)

    def _append(
        self,
        identifier: str,
        recording: str,
        supervision: Optional[SupervisionSegment],
        start: Any,
        duration: Any,
        channel: Any,
    ) -> None:
        channels = channel if isinstance(channel, (list, tuple)) else [channel]
        if not channels or not all(map(_is_number, (start, duration, *channels))):
            what = f"start {start!r}, duration {duration!r}, channel {channel!r}: these are no numbers"
            self.listing.skip(identifier, what, None, "mend the manifest")
            return
        reading_channel = self.reading.channel
        text = None if supervision is None else supervision.text
        speaker = None if supervision is None else supervision.speaker
        wrong = None if text is None or isinstance(text, str) else f"the transcript is no text: {text!r}"
        self.listing.utterances.append(
            Utterance(
                identifier,
                recording,
                # A supervision without text is as one with an empty text.
                "" if text is None else str(text),
                None if speaker is None else str(speaker).strip() or None,
                float(start),
                round(float(start) + float(duration), 8),
                int(reading_channel if reading_channel is not None and reading_channel in channels else min(channels)),
                None if supervision is None else gender_of(supervision.gender),
                wrong,
            )
        )

    def _locate(self, recording: Recording) -> Any:
        """The same with paths that can be opened from anywhere; a DataError for what cannot be used."""
        sources = []
        for source in recording.sources:
            if source.type == "command" and not self.trusted:
                return DataError(
                    f"the audio is a command, `{str(source.source)[:60]}`: commands are not run, because a manifest "
                    "from elsewhere could then do anything on your machine",
                    remedy="write the audio to files once (lhotse's CutSet.save_audios), and give that manifest",
                )
            if source.type == "file":
                source = replace(source, source=str(find_file(str(source.source), self.beside)))
            sources.append(source)
        numbers = (recording.sampling_rate, recording.num_samples, recording.duration)
        if not sources or not all(_positive(value) for value in numbers):
            what = "the manifest gives no source" if not sources else "the manifest gives {} Hz, {} samples, {} s"
            return DataError(what.format(*numbers), remedy="write the manifest again with lhotse")
        return replace(recording, id=plain_id(str(recording.id)), sources=sources)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _positive(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value) and value > 0
