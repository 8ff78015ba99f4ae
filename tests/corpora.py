"""AN4's speech in the forms that users' corpora have: a Kaldi data folder, Lhotse's manifests, audio with labels,
LibriSpeech's layout, yesno's."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence

import numpy as np
import soundfile

from hybrid.corpus import Reading
from hybrid.data.audio import load_samples
from hybrid.recipes.an4.prepare import read_an4


class Spoken(NamedTuple):
    """An utterance of AN4."""

    id: str
    speaker: str
    gender: str
    text: str
    audio: Path
    samples: int


def an4_utterances(data: Path, name: str) -> List[Spoken]:
    """Those of the set "train" or "test", sorted by id."""
    found = []
    for cut in sorted(read_an4(data, name, Reading()).cuts, key=lambda cut: cut.id):
        said = cut.supervisions[0]
        audio = Path(cut.recording.sources[0].source)
        found.append(Spoken(cut.id, said.speaker, said.gender, said.text, audio, cut.recording.num_samples))
    return found


def write_kaldi(folder: Path, spoken: Sequence[Spoken]) -> Path:
    folder.mkdir(parents=True)
    lines: Dict[str, List[str]] = {"wav.scp": [], "text": [], "utt2spk": []}
    for one in spoken:
        lines["wav.scp"].append(f"{one.id} {one.audio}\n")
        lines["text"].append(f"{one.id} {one.text}\n")
        lines["utt2spk"].append(f"{one.id} {one.speaker}\n")
    genders = sorted({(one.speaker, one.gender) for one in spoken})
    lines["spk2gender"] = [f"{speaker} {gender}\n" for speaker, gender in genders]
    for name, rows in lines.items():
        (folder / name).write_text("".join(rows))
    return folder


def kaldi_folder(folder: Path, speakers: str, seconds: float = 2.0, rate: int = 8000) -> None:
    """Write a Kaldi data folder of noise: an utterance "one two" of each speaker, who has one letter for a name."""
    folder.mkdir(parents=True)
    tables = {"wav.scp": "", "text": "", "utt2spk": ""}
    for number, speaker in enumerate(speakers):
        audio = folder / f"{speaker}.wav"
        soundfile.write(audio, np.random.default_rng(number).normal(0, 0.1, round(rate * seconds)), rate)
        tables["wav.scp"] += f"{speaker}-1 {audio}\n"
        tables["text"] += f"{speaker}-1 one two\n"
        tables["utt2spk"] += f"{speaker}-1 {speaker}\n"
    for name, text in tables.items():
        (folder / name).write_text(text)


def write_lhotse(folder: Path, spoken: Sequence[Spoken]) -> Path:
    """Recordings and supervisions as two manifests; returns that of the recordings."""
    folder.mkdir(parents=True)
    recordings, supervisions = [], []
    for one in spoken:
        duration = one.samples / 16000
        recordings.append({
            "id": one.id, "sources": [{"type": "file", "channels": [0], "source": str(one.audio)}],
            "sampling_rate": 16000, "num_samples": one.samples, "duration": duration, "channel_ids": [0],
        })  # fmt: skip
        supervisions.append({
            "id": one.id, "recording_id": one.id, "start": 0.0, "duration": duration, "channel": 0, "text": one.text,
            "speaker": one.speaker, "gender": one.gender,
        })  # fmt: skip
    for name, rows in (("recordings", recordings), ("supervisions", supervisions)):
        with gzip.open(folder / f"an4_{name}.jsonl.gz", "wt") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
    return folder / "an4_recordings.jsonl.gz"


def write_audio_folder(folder: Path, spoken: Sequence[Spoken]) -> Path:
    """All files side by side; the speaker is the middle of a file's name (an251-fash-b)."""
    folder.mkdir(parents=True)
    for one in spoken:
        shutil.copy(one.audio, folder / f"{one.id}{one.audio.suffix}")
        (folder / f"{one.id}.lab").write_text(one.text + "\n")
    return folder


def write_librispeech(root: Path, parts: Dict[str, Sequence[Spoken]]) -> Path:
    """LibriSpeech/PART/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac and SPEAKER-CHAPTER.trans.txt."""
    numbers: Dict[str, int] = {}
    for part, spoken in parts.items():
        texts: Dict[Path, List[str]] = {}
        counts: Dict[str, int] = {}
        for one in spoken:
            speaker = 100 + numbers.setdefault(one.speaker, len(numbers))
            folder = root / part / str(speaker) / "1"
            folder.mkdir(parents=True, exist_ok=True)
            counts[one.speaker] = counts.get(one.speaker, -1) + 1
            name = f"{speaker}-1-{counts[one.speaker]:04d}"
            soundfile.write(folder / f"{name}.flac", load_samples(one.audio), 16000)
            texts.setdefault(folder / f"{speaker}-1.trans.txt", []).append(f"{name} {one.text}\n")
        for path, lines in texts.items():
            path.write_text("".join(lines))
    return root


def write_yesno(folder: Path, spoken: Sequence[Spoken]) -> Path:
    """60 files of eight words of one talker's YES and NO each, at 8 kHz, named by what is said: 0_1_... .wav."""
    folder.mkdir(parents=True)
    words = {text: [load_samples(one.audio, 8000) for one in spoken if one.text == text] for text in ("NO", "YES")}
    assert all(words.values())
    rng = np.random.default_rng(0)
    names = rng.permutation(256)[:60]
    for number in names:
        bits = [int(bit) for bit in f"{number:08b}"]
        samples = []
        for bit in bits:
            choices = words["YES" if bit else "NO"]
            samples.append(choices[int(rng.integers(len(choices)))])
        path = folder / f"{'_'.join(map(str, bits))}.wav"
        soundfile.write(path, np.concatenate(samples), 8000, subtype="PCM_16")
    return folder
