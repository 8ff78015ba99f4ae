"""A folder of audio files, each with its transcript beside it, as for the Montreal Forced Aligner.

    corpus/anna/one.wav    corpus/anna/one.lab (or .txt): the words that are said in the whole file
    corpus/anna/two.wav    corpus/anna/two.TextGrid: a tier per speaker, an interval with text per utterance

An utterance is named by its path in the corpus without the ending (`anna/one`; in a TextGrid with its place added,
`anna/two-001`). Its speaker is the folder, the tier of a TextGrid, or what Reading.speaker takes from the file's name.
Tiers `notes` are no speech (as in MFA), and tiers `phones` are what aligners write beside the words: neither is read.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Dict, List, Optional, Set

from hybrid.corpus.listing import Listing, Utterance
from hybrid.corpus.reading import Reading
from hybrid.corpus.text import decode, plain_id, read_bytes
from hybrid.corpus.textgrid import read_textgrid
from hybrid.data.containers import FOREIGN, READABLE, looks_like_audio
from hybrid.errors import DataError

TEXT = (".lab", ".txt", ".textgrid")  # the first that is there counts
_NO_SPEECH = re.compile(r"(.* - )?(notes|phones)( \d+)?", re.IGNORECASE)


def list_folder(folder: Path, reading: Reading) -> Listing:
    """List what a folder and the folders below hold. Links to folders are followed, hidden names left out."""
    listing = Listing("folder of audio and transcripts")
    audio: Dict[str, List[Path]] = {}
    texts: Dict[str, Dict[str, Path]] = {}
    other_files: Dict[str, List[Path]] = {}
    for file in _files(folder, listing):
        name = plain_id(file.relative_to(folder).with_suffix("").as_posix())
        suffix = file.suffix.lower()
        if suffix in READABLE or suffix in FOREIGN:
            audio.setdefault(name, []).append(file)
        elif suffix in TEXT:
            texts.setdefault(name, {})[suffix] = file
        else:
            other_files.setdefault(name, []).append(file)
    for name in set(texts) - set(audio):
        # Audio under another ending, or none: known by its first bytes.
        files = [file for file in other_files.get(name, []) if looks_like_audio(file)]
        if files:
            audio[name] = files
    if not reading.transcripts:
        texts = {}
    reader = _Reader(listing, reading)
    for name in sorted({*audio, *texts} if audio else ()):
        transcripts = texts.get(name, {})
        transcript = next((transcripts[suffix] for suffix in TEXT if suffix in transcripts), None)
        reader.read(name, audio.get(name, []), transcript)
    if reader.passed_over:
        listing.notes.append(
            f"{len(reader.passed_over)} TextGrids have tiers `notes` or `phones`, which are no speech (the first: "
            f"{reader.passed_over[0]})"
        )
    return listing


class _Reader:
    def __init__(self, listing: Listing, reading: Reading) -> None:
        self.listing, self.reading = listing, reading
        self.passed_over: List[Path] = []  # TextGrids with tiers that are no speech

    def read(self, name: str, files: List[Path], transcript: Optional[Path]) -> None:
        listing = self.listing
        if not files:
            listing.skip(name, "transcript without audio", transcript, "put the audio beside it under the same name")
            return
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            listing.skip(name, f"several audio files of one name: {names}", files[0], "keep one of them")
            return
        path = Path(os.path.abspath(files[0]))
        listing.recordings[name] = path
        utterance = Utterance(name, name, speaker=_speaker(path, self.reading))
        if not self.reading.transcripts:
            listing.utterances.append(utterance)
        elif transcript is None:
            what = "audio without transcript (.lab, .txt or .TextGrid beside it)"
            listing.skip(name, what, path, "put its transcript beside it")
        elif transcript.suffix.lower() == ".textgrid":
            self._textgrid(utterance, transcript)
        else:
            listing.utterances.append(_text(utterance, transcript))

    def _textgrid(self, utterance: Utterance, transcript: Path) -> None:
        """An utterance for each interval with text; its tier is the speaker unless the file's name is."""
        self.listing.spoken_of.add(utterance.id)
        try:
            tiers = [tier for tier in read_textgrid(transcript) if not tier.points]
        except DataError as error:
            self.listing.skip(utterance.id, error.what, error.file, error.remedy)
            return
        speech = [tier for tier in tiers if not _NO_SPEECH.fullmatch(tier.name.strip())]
        if len(speech) < len(tiers):
            self.passed_over.append(transcript)
        intervals = [
            (interval, place)
            for place, tier in enumerate(speech)
            for interval in tier.intervals
            if interval.text.strip()
        ]
        if not intervals:
            self.listing.skip(
                utterance.id, "the transcript is empty: no interval with text", transcript, "transcribe it"
            )
        order = sorted(intervals, key=lambda pair: (pair[0].start, speech[pair[1]].name))
        for number, (interval, place) in enumerate(order, 1):
            speaker = utterance.speaker if self.reading.speaker else plain_id(speech[place].name) or utterance.speaker
            self.listing.utterances.append(
                replace(
                    utterance,
                    id=f"{utterance.id}-{number:03d}",
                    text=interval.text,
                    speaker=speaker,
                    start=interval.start,
                    end=interval.end,
                    tier=(place, len(speech)),
                )
            )


def _speaker(path: Path, reading: Reading) -> Optional[str]:
    """None where the pattern is not found in the file's name."""
    if isinstance(reading.speaker, str):
        match = re.search(reading.speaker, path.stem)
        name = match[1] if match and match[1] else ""
    else:
        name = path.stem[: reading.speaker] if reading.speaker else path.parent.name
    return plain_id(name) or None


def _text(utterance: Utterance, transcript: Path) -> Utterance:
    try:
        return replace(utterance, text=decode(read_bytes(transcript)))
    except UnicodeDecodeError as error:
        wrong = f"the transcript is not UTF-8 (byte {error.start + 1}: {error.reason})"
    except DataError as error:
        wrong = f"the transcript: {error.what}"
    return replace(utterance, wrong=wrong, file=transcript)


def _files(folder: Path, listing: Listing) -> List[Path]:
    """All files below, sorted; each folder once, though links lead to it again. What cannot be read is skipped."""
    files: List[Path] = []
    real_folders: Set[Path] = set()

    def unreadable(error: OSError) -> None:
        place = Path(str(error.filename))
        name = plain_id(place.relative_to(folder).as_posix())
        listing.skip(name, f"the folder cannot be read: {error.strerror}", place, "check its permissions")

    for top, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        real_folder = Path(top).resolve()
        if real_folder in real_folders:
            folders.clear()
            continue
        real_folders.add(real_folder)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith(".") and _plain(file := Path(top) / name, listing):
                files.append(file)
    return sorted(files)


def _plain(file: Path, listing: Listing) -> bool:
    """Whether it is a file with a name that can be written down; what is not is skipped, where it is of a corpus."""
    printable = str(file).encode("utf-8", "backslashreplace").decode("utf-8")
    if printable != str(file):
        reason = "the name of the file is not UTF-8"
        listing.skip(plain_id(Path(printable).stem), reason, printable, "give it another name")
        return False
    if file.exists() and not file.is_file():  # a pipe would be waited for
        listing.skip(plain_id(file.stem), "it is no plain file", file, "take it out of the corpus")
        return False
    return True
