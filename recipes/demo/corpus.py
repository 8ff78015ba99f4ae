"""The demo's corpus: voice-assistant commands, spoken by synthetic voices. All of its speech is synthetic.

    grammar -> sentences -> eSpeak NG -> microphone and background of each speaker -> 16-bit FLAC, cuts

No voice of dev or test is heard in train. A cut's supervision has the true times of its words and phones as its
alignment, and its custom field `pronunciations` ([word, phone, ...] each) says how they were spoken. What the speakers
of "unlabelled" say stands nowhere, their files included.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import Executor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Set, Tuple, Union

import numpy as np
from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem
from scipy import signal

from hybrid.data.flac import description_of, write_flac
from hybrid.data.noise import active_power
from hybrid.data.rooms import RATE, stable_rng
from hybrid.errors import ConfigError
from hybrid.recipes.demo.grammar import sentence
from hybrid.recipes.demo.pronounce import SILENCE, align
from hybrid.recipes.demo.synth import Voice, library, speak
from hybrid.recipes.demo.voices import VARIANTS, speakers

VERSION = 1  # raise it when the same seed would give other samples

# Minutes and speakers of each set: what a small machine trains on in minutes, and some 1,000 test words.
MINUTES: Dict[str, float] = {"train": 45.0, "dev": 5.0, "test": 8.0}
SPEAKERS: Dict[str, int] = {"train": 96, "dev": 8, "test": 12, "unlabelled": 480}


def build_corpus(
    out_dir: Union[str, Path],
    seed: int,
    minutes: Optional[Mapping[str, float]] = None,
    executor: Optional[Executor] = None,
    progress: Optional[Callable[[int], None]] = None,
) -> Dict[str, CutSet]:
    """Make the corpus and return {"train": cuts, "dev": cuts, "test": cuts}; the audio stands in
    OUT_DIR/{train,dev,test}/SPEAKER/ID.flac.

    minutes: of each set, by default MINUTES; of "unlabelled" none. Files of an earlier run with the same seed are kept.
    progress: called with the number of cuts just done. Raises MissingDependency where eSpeak NG is not installed.
    """
    minutes = {**MINUTES, **(minutes or {})}
    for name in minutes:
        if name not in SPEAKERS or not minutes[name] > 0:
            raise ConfigError(f"minutes.{name} = {minutes[name]}", remedy="give train, dev and test a positive number")
    library()  # where it is missing: one clear error, not one from each process
    tasks: List[Tuple[str, Voice, float]] = []
    for name, length in minutes.items():
        # A tiny set has fewer speakers, so that none of them is without an utterance.
        number = min(SPEAKERS[name], max(1, int(length * 60 / 3)))
        tasks.extend((name, voice, length * 60 / number) for voice in speakers(name, seed, number))
    jobs = [(str(out_dir), seed, part, voice, seconds) for part, voice, seconds in tasks]
    cuts: Dict[str, List[MonoCut]] = {name: [] for name in minutes}
    futures = [executor.submit(_speaker, *job) for job in jobs] if executor is not None else None
    for index, job in enumerate(jobs):
        rows = futures[index].result() if futures is not None else _speaker(*job)
        cuts[job[2]].extend(_cut(row) for row in rows)
        if progress is not None:
            progress(len(rows))
    return {name: CutSet.from_cuts(members) for name, members in cuts.items()}


def _speaker(out_dir: str, seed: int, part: str, voice: Voice, seconds: float) -> List[Dict[str, Any]]:
    """Make the utterances of one speaker, until there are `seconds` of them; rows for `_cut`."""
    rng = stable_rng("speaker", seed, voice.name)
    microphone = _microphone(rng)
    background = float(rng.uniform(35, 50))  # dB below the speech
    level = float(rng.uniform(-32, -22))  # dB of full scale, active speech
    rows: List[Dict[str, Any]] = []
    total = 0.0
    texts: Set[str] = set()
    while total < seconds:
        utterance_rng = stable_rng("utterance", seed, voice.name, len(rows))
        text = sentence(utterance_rng)
        while text in texts and len(texts) < 1000:
            text = sentence(utterance_rng)
        texts.add(text)
        name = f"{voice.name}-{len(rows):03d}"
        path = Path(out_dir) / part / voice.name / f"{name}.flac"
        made_from = f"{VERSION} {seed} {json.dumps(asdict(voice))} {text}"
        if part == "unlabelled":
            made_from = hashlib.sha256(made_from.encode()).hexdigest()
        row = description_of(path, made_from)
        if row is None:
            secret = part == "unlabelled"
            row = _utterance(path, made_from, name, text, voice, utterance_rng, microphone, background, level, secret)
        row["path"] = str(path)
        rows.append(row)
        total += row["samples"] / RATE
    return rows


def _utterance(
    path: Path,
    made_from: str,
    name: str,
    text: str,
    voice: Voice,
    rng: np.random.Generator,
    microphone: np.ndarray,
    background: float,
    level: float,
    secret: bool,
) -> Dict[str, Any]:
    """Write the file, with a row for `_cut` as its comment; secret: that does not tell what is said."""
    spoken = speak(
        replace(voice, rate=voice.rate + int(rng.integers(-12, 13)), pitch=voice.pitch + int(rng.integers(-4, 5))), text
    )
    phones, words = align(spoken, voice.accent)
    # The synthesiser ends in a pause of its own; pauses here are ours, of a length that varies.
    end = max((start + length for symbol, start, length in phones if symbol != SILENCE), default=0.0) + 0.05
    speech = spoken.audio[: round(end * RATE)]
    before, after = (round(seconds * RATE) for seconds in rng.uniform(0.15, 0.45, size=2))
    audio = np.pad(speech, (before, after)).astype(np.float64)
    audio = signal.sosfilt(microphone, audio)
    audio *= 10 ** ((level + rng.uniform(-2, 2)) / 20) / np.sqrt(active_power(audio))
    hiss = signal.lfilter([1.0], [1.0, -0.9], rng.standard_normal(len(audio)))
    audio += hiss * np.sqrt(active_power(audio) / np.square(hiss).mean()) * 10 ** (-background / 20)
    audio *= min(1.0, 0.99 / float(np.abs(audio).max()))
    shift = before / RATE
    row: Dict[str, Any] = {"id": name, "samples": len(audio), "speaker": voice.name}
    if not secret:
        row["text"] = text
        row["phones"] = [
            (symbol, round(start + shift, 4), round(length, 4))
            for symbol, start, length in phones
            if symbol != SILENCE and length > 0
        ]
        row["words"] = [(word, round(start + shift, 4), round(length, 4)) for word, start, length, _ in words]
        row["pronunciations"] = [[word, *pronunciation] for word, _, _, pronunciation in words if pronunciation]
    write_flac(path, audio, RATE, made_from, row)
    return row


def _microphone(rng: np.random.Generator) -> np.ndarray:
    """Return second-order sections: a high-pass at 60 to 150 Hz and a gentle tilt, one for each speaker."""
    sections = signal.butter(2, float(rng.uniform(60, 150)), "highpass", fs=RATE, output="sos")
    # First-order shelf above 1 kHz of +-4 dB: H(s) = (g s + w) / (s + w).
    gain = 10 ** (float(rng.uniform(-4, 4)) / 20)
    b, a = signal.bilinear([gain, 2 * np.pi * 1000], [1.0, 2 * np.pi * 1000], fs=RATE)
    return np.concatenate([sections, [[*b, 0.0, *a, 0.0]]])


def _cut(row: Mapping[str, Any]) -> MonoCut:
    name, samples = row["id"], row["samples"]
    recording = Recording(
        id=name,
        sources=[AudioSource(type="file", channels=[0], source=row["path"])],
        sampling_rate=RATE,
        num_samples=samples,
        duration=samples / RATE,
    )
    transcript: Dict[str, Any] = {}
    custom: Dict[str, Any] = {"synthetic": True}
    if "text" in row:
        transcript["text"] = row["text"]
        transcript["alignment"] = {
            kind: [AlignmentItem(symbol, start, duration) for symbol, start, duration in row[key]]
            for kind, key in (("word", "words"), ("phone", "phones"))
        }
        custom = {"pronunciations": row["pronunciations"], **custom}
    supervision = SupervisionSegment(
        id=name, recording_id=name, start=0.0, duration=samples / RATE, channel=0,
        language="en", speaker=row["speaker"], **transcript,
    )  # fmt: skip
    return MonoCut(
        id=name, start=0.0, duration=samples / RATE, channel=0, recording=recording, supervisions=[supervision],
        custom=custom,
    )  # fmt: skip


__all__ = ["MINUTES", "SPEAKERS", "VARIANTS", "build_corpus"]
