"""A folder with all that the recipes of LibriSpeech read, in the layouts as they unpack, of AN4's speech: LibriSpeech/,
openslr 11's lexicon and trigram, musan/, RIRS_NOISES/."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Dict, List, Sequence

import numpy as np
import soundfile
from corpora import Spoken, an4_utterances, write_librispeech

from hybrid.data.audio import load_samples
from hybrid.lexicon.lexicon import Lexicon
from hybrid.lm import arpa
from hybrid.lm.ngram import train as train_ngram

RATE = 16000
LEXICON, TRIGRAM = "librispeech-lexicon.txt", "3-gram.pruned.1e-7.arpa.gz"
LEFT_OUT = "AREA"  # a word of the training transcripts that the lexicon lacks
STRANGE = "ZYGOTE"  # a word of the trigram that the lexicon lacks
# Files of MUSAN: folder -> how many.
_MUSAN = {"music/fma": 2, "music/rfm": 1, "noise/free-sound": 2, "noise/sound-bible": 2, "speech/librivox": 2,
          "speech/us-gov": 2}  # fmt: skip
_PART_NAMES = ("dev-clean", "test-clean", "test-other", "dev-other")


def write_all(root: Path, data: Path, training_speakers: int = 6, utterances: int = 8) -> Dict[str, List[Spoken]]:
    """Write the folder; return the utterances of each part of LibriSpeech, of speakers that no other part has."""
    parts = _parts(an4_utterances(data, "train"), training_speakers, utterances)
    write_librispeech(root / "LibriSpeech", parts)
    _write_about(root / "LibriSpeech")
    _write_words(root, data, parts["train-clean-100"])
    _write_musan(root / "musan", data)
    _write_rirs(root / "RIRS_NOISES")
    return parts


def _parts(spoken: Sequence[Spoken], training_speakers: int, utterances: int) -> Dict[str, List[Spoken]]:
    by_speaker: Dict[str, List[Spoken]] = {}
    for one in spoken:
        by_speaker.setdefault(one.speaker, []).append(one)
    speakers = [speaker for speaker, its in sorted(by_speaker.items()) if len(its) >= utterances]
    training, others = speakers[:training_speakers], speakers[training_speakers:]
    parts = {"train-clean-100": [one for speaker in training for one in by_speaker[speaker][:utterances]]}
    parts["train-clean-100"] += [one for one in spoken if LEFT_OUT in one.text.split()][:1]
    used = {one.id for one in parts["train-clean-100"]}
    for name, speaker in zip(_PART_NAMES, others):
        parts[name] = [one for one in by_speaker[speaker] if one.id not in used][:utterances]
    return parts


def _write_about(root: Path) -> None:
    """SPEAKERS.TXT and its like, which stand beside the parts."""
    lines = ["; Some pipe-separated fields: ID, SEX, SUBSET, MINUTES, NAME"]
    for folder in sorted(root.glob("*/*")):
        lines.append(f"{folder.name:<5}| F | {folder.parent.name:<17}| 25.03 | Käthe O'Neill | \"reader\"")
    (root / "SPEAKERS.TXT").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in ("README.TXT", "LICENSE.TXT", "CHAPTERS.TXT", "BOOKS.TXT"):
        (root / name).write_text("of the corpus\n")


def _write_words(root: Path, data: Path, training: Sequence[Spoken]) -> None:
    """The lexicon with stress, a tab after each word and several pronunciations; a trigram with <UNK>, and words that
    the lexicon lacks."""
    lexicon = Lexicon.from_file(data / "an4" / "etc" / "an4.dic")
    lines = []
    for word in sorted(lexicon.words):
        for pron in lexicon.pronunciations(word):
            phones = [phone + "1" if phone[0] in "AEIOU" else phone for phone in pron.phones]
            lines.append(f"{word}\t{' '.join(phones)}\n")
    kept = [line for line in lines if line.split()[0] != LEFT_OUT]
    assert len(kept) > len({line.split()[0] for line in kept}) and len(kept) < len(lines)
    (root / LEXICON).write_text("".join(kept))
    sentences = [one.text.split() for one in training]
    sentences += [[STRANGE, "OF", "<UNK>"], *([word] for word in sorted(lexicon.words))]
    model = train_ngram(sentences, 3)
    arpa.write(root / "plain.arpa", model)
    with gzip.open(root / TRIGRAM, "wb") as stream:
        stream.write((root / "plain.arpa").read_bytes())
    (root / "plain.arpa").unlink()


def _write_musan(root: Path, data: Path) -> None:
    sources = {"music": "music", "noise": "household", "speech": "dialogue"}
    for folder, count in _MUSAN.items():
        kind, origin = folder.split("/")
        (root / folder).mkdir(parents=True)
        files = sorted((data / "noise" / "train" / sources[kind]).glob("*.flac"))
        for number in range(count):
            samples = load_samples(files[number % len(files)])
            samples = samples[RATE * number : RATE * (number + 4)]
            soundfile.write(root / folder / f"{kind}-{origin}-{number:04d}.wav", samples, RATE)
        (root / folder / "LICENSE").write_text("free\n")
        (root / folder / "ANNOTATIONS").write_text(f"{kind}-{origin}-0000 genre N artist\n")
    (root / "README").write_text("MUSAN\n")


def _write_rirs(root: Path) -> None:
    """Real rooms of several channels and of one, with room noise beside; simulated ones; point sources; lists."""
    real, simulated, point = (
        root / name for name in ("real_rirs_isotropic_noises", "simulated_rirs", "pointsource_noises")
    )
    rng = np.random.default_rng(0)
    names = [f"RVB2014_type1_rir_{size}room{room}_{place}_{angle}" for size in ("large", "small") for room in (1, 2)
             for place in ("far", "near") for angle in ("angla", "anglb")]  # fmt: skip
    names += [f"RWCP_type4_rir_p{room}_imp{angle}" for room in "ab" for angle in (10, 30, 50)]
    rows = []
    for name in names:
        _response(rng, real / f"{name}.wav", channels=2 if name.startswith("RVB") else 1)
        room = "_".join(name.split("_")[:4])
        rows.append(f"--rir-id {name} --room-id {room} RIRS_NOISES/{real.name}/{name}.wav\n")
    (real / "rir_list").write_text("".join(rows))
    for room in (1, 2):
        noise = 0.01 * rng.standard_normal(2 * RATE)
        soundfile.write(real / f"RVB2014_type1_noise_largeroom{room}_1.wav", noise, RATE)
    (real / "noise_list").write_text("")
    for size in ("smallroom", "largeroom"):
        for room in (1, 2):
            for place in range(1, 5):
                _response(rng, simulated / size / f"Room{room:03d}" / f"Room{room:03d}-{place:05d}.wav")
        (simulated / size / "room_info").write_text("")
        (simulated / size / "rir_list").write_text("")
    for number in range(3):
        point.mkdir(parents=True, exist_ok=True)
        samples = 0.05 * rng.standard_normal(2 * RATE)
        soundfile.write(point / f"noise-free-sound-{number:04d}.wav", samples, RATE)
    (root / "README").write_text("RIRS\n")


def _response(rng: np.random.Generator, path: Path, channels: int = 1) -> None:
    """An impulse response: direct sound, then noise that falls by 60 dB in 0.2 s."""
    path.parent.mkdir(parents=True, exist_ok=True)
    length = RATE // 5
    samples = 0.1 * rng.standard_normal((length, channels)) * 10 ** (-3 * np.arange(length) / length)[:, None]
    samples[:40] = 0.0
    samples[40] = 0.8
    soundfile.write(path, samples if channels > 1 else samples[:, 0], RATE)
