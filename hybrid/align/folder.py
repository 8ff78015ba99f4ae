"""A folder of audio files, each with its transcript beside it, as for the Montreal Forced Aligner.

    corpus/anna/one.wav    corpus/anna/one.lab (or .txt): the words that are said in the whole file
    corpus/anna/two.wav    corpus/anna/two.TextGrid: a tier per speaker, an interval with text per utterance

An utterance is named by its path in the corpus without the ending (`anna/one`; in a TextGrid with its place added,
`anna/two-001`). Its speaker is the folder, the tier of a TextGrid, or the first letters of the file's name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, List, Optional, Set

from lhotse import Recording

from hybrid.align.inputs import Corpus, plain_id
from hybrid.align.textgrid import decode, read_textgrid
from hybrid.errors import DataError

AUDIO = (".wav", ".flac", ".sph", ".ogg", ".opus", ".mp3", ".aiff", ".aif")
TEXT = (".lab", ".txt", ".textgrid")  # the first that is there counts


def read_folder(folder: Path, *, speaker_characters: int = 0) -> Corpus:
    """`speaker_characters` > 0: the speaker is so many letters of the file's name."""
    corpus = Corpus("folder of audio and transcripts")
    audio: Dict[str, List[Path]] = {}
    text: Dict[str, Dict[str, Path]] = {}
    for file in _files(folder):
        name = plain_id(file.relative_to(folder).with_suffix("").as_posix())
        if file.suffix.lower() in AUDIO:
            audio.setdefault(name, []).append(file)
        elif file.suffix.lower() in TEXT:
            text.setdefault(name, {})[file.suffix.lower()] = file
    for name in sorted({*audio, *text} if audio else ()):
        files, transcripts = audio.get(name, []), text.get(name, {})
        transcript = next((transcripts[suffix] for suffix in TEXT if suffix in transcripts), None)
        if not files:
            corpus.leave(name, "transcript without audio", transcript)
        elif len(files) > 1:
            corpus.leave(name, f"several audio files of one name: {', '.join(file.name for file in files)}", files[0])
        elif transcript is None:
            corpus.leave(name, "audio without transcript (.lab, .txt or .TextGrid beside it)", files[0])
        else:
            recording = corpus.open(files[0], name)
            if recording is not None:
                speaker = files[0].resolve().parent.name
                if speaker_characters:
                    speaker = files[0].stem[:speaker_characters]
                _utterances(corpus, recording, transcript, speaker, bool(speaker_characters))
    return corpus


def _utterances(corpus: Corpus, recording: Recording, transcript: Path, speaker: str, fixed: bool) -> None:
    if transcript.suffix.lower() != ".textgrid":
        text = _read_text(corpus, recording.id, transcript)
        if text is not None:
            corpus.add(recording.id, recording, 0.0, None, plain_id(speaker), text)
        return
    try:
        tiers = [tier for tier in read_textgrid(transcript) if not tier.points]
    except DataError as error:
        corpus.leave(recording.id, error.what, error.file)
        return
    spoken = [(one, tier.name) for tier in tiers for one in tier.intervals if one.text.strip()]
    if not spoken:
        corpus.leave(recording.id, "the transcript is empty: no interval with text", transcript)
    for number, (one, name) in enumerate(sorted(spoken, key=lambda pair: (pair[0].start, pair[1])), 1):
        identifier = f"{recording.id}-{number:03d}"
        who = speaker if fixed else name.strip() or speaker
        corpus.add(identifier, recording, one.start, one.end, plain_id(who), one.text)


def _read_text(corpus: Corpus, name: str, path: Path) -> Optional[str]:
    try:
        return decode(path.read_bytes())
    except UnicodeDecodeError as error:
        corpus.leave(name, f"the transcript is not UTF-8 (byte {error.start + 1}: {error.reason})", path)
    except OSError as error:
        corpus.leave(name, f"the transcript cannot be read: {error.strerror}", path)
    return None


def _files(folder: Path) -> List[Path]:
    """All files below, sorted; links to folders are followed once each, hidden names are left out."""
    found: List[Path] = []
    seen: Set[Path] = set()
    for top, folders, names in os.walk(folder, followlinks=True):
        real = Path(top).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(top) / name for name in names if not name.startswith(".")]
    return sorted(found)
