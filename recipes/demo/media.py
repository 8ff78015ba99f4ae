"""Media noise made on the spot: music, babble, dialogue and household sounds, and the rooms of the third condition.

Nothing here is recorded: music is chords, bass and drums from oscillators; babble and dialogue are synthetic voices
that speak nowhere in the corpus; household sounds are filtered noise, clicks and beeps. Train and test share neither
a voice nor a piece.
"""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple, Union

import numpy as np
from scipy import signal

from hybrid.data.flac import description_of, write_flac
from hybrid.data.rooms import RATE, SimulatedRooms, stable_rng
from hybrid.recipes.demo.synth import library, speak
from hybrid.recipes.demo.voices import speakers

VERSION = 1

# Recordings of each kind and their length in seconds: some 10 minutes to train with, half of that to test with.
PIECES: Dict[str, Dict[str, Tuple[int, float]]] = {
    "train": {"music": (10, 20.0), "babble": (6, 20.0), "dialogue": (8, 20.0), "household": (32, 4.0)},
    "test": {"music": (5, 20.0), "babble": (3, 20.0), "dialogue": (4, 20.0), "household": (16, 4.0)},
}

# What the other voices talk about: nothing that a voice assistant is told, though many words are the same.
TALK = """i told her that we should never have sold that house
and then the whole family moved back to the coast | you cannot be serious about this
the train was so full that nobody found a seat | she has been working there for almost eleven years
well if you ask me the second half was much better | what did the doctor say about your knee
they closed the old theater because of the roof | my brother wants to open a small restaurant downtown
that is not what the newspaper said this morning | we had to wait outside until somebody came with a key
the minister declined to comment on the report | prices have gone up again and wages have not
scientists believe that the glacier will be gone by then | a spokesman confirmed that nobody was hurt
coming up after the break we talk to the winner of the final | and he shoots but the keeper gets a hand to it
i never liked the way he looked at people | did you really think that i would not notice
give it to me before somebody sees you | there is something that you should know about your father
mix the dough until it is smooth and let it rest | now fold the paper along the dotted line
our story begins in a village at the edge of the forest | once there was a miller who had three sons
the captain turned around and ordered everybody below deck | nobody had seen the stranger before that winter
it depends on how long you are planning to stay | honestly the colors looked much nicer in the shop
he forgot his passport and missed the whole conference | could you pass me those scissors over there
the lecture explained how birds find their way at sea | her grandfather built boats and so did his father"""


def build_noises(
    out_dir: Union[str, Path],
    seed: int,
    executor: Optional[Executor] = None,
    pieces: Optional[Dict[str, Dict[str, Tuple[int, float]]]] = None,
    progress: Optional[Callable[[int], None]] = None,
) -> Dict[str, Path]:
    """Write OUT_DIR/{train,test}/{music,babble,dialogue,household}/NN.flac; return {"train": folder, "test": folder}.

    The folders are what `NoiseLibrary.from_folder` reads. Files of an earlier run with the same seed are kept.
    pieces: numbers and seconds, by default PIECES. Raises MissingDependency where eSpeak NG is not installed.
    """
    library()
    jobs = [
        (str(Path(out_dir) / part / kind / f"{kind}{number:02d}.flac"), seed, part, kind, number, seconds)
        for part, kinds in (pieces or PIECES).items()
        for kind, (count, seconds) in kinds.items()
        for number in range(count)
    ]
    futures = [executor.submit(_piece, *job) for job in jobs] if executor is not None else None
    for number, job in enumerate(jobs):
        if futures is not None:
            futures[number].result()
        else:
            _piece(*job)
        if progress is not None:
            progress(1)
    return {part: Path(out_dir) / part for part in (pieces or PIECES)}


def other_rooms(seed: int, number: Optional[int] = None) -> SimulatedRooms:
    """Return rooms for "simulated re-recording (other rooms)": nothing measured, yet unlike what training has heard.

    Each wall absorbs differently, rooms are larger and livelier, and the talker is heard through a small loudspeaker.
    """
    return SimulatedRooms(
        seed,
        number=number,
        rt60=(0.4, 0.8),
        size=((4.0, 3.5, 2.6), (11.0, 8.0, 4.5)),
        walls="random",
        loudspeaker=True,
        name="other",
    )


def _piece(path: str, seed: int, part: str, kind: str, index: int, seconds: float) -> None:
    made_from = f"{VERSION} {seed} {part} {kind} {index} {seconds:g}"
    if description_of(path, made_from) is not None:
        return
    rng = stable_rng("media", seed, part, kind, index)
    samples = round(seconds * RATE)
    if kind == "music":
        audio = music(rng, samples)
    elif kind == "household":
        audio = household(rng, samples, index)
    elif kind == "dialogue":
        audio = talk(rng, samples, part, seed, 2)
    else:
        audio = np.sum([talk(rng, samples, part, seed, 2) for _ in range(3)], axis=0)
    audio = 0.5 * audio / max(float(np.abs(audio).max()), 1e-9)
    write_flac(path, audio, RATE, made_from)


def talk(rng: np.random.Generator, samples: int, part: str, seed: int, voices: int) -> np.ndarray:
    """Return `voices` people who talk in turn, float64 [samples], with pauses of up to half a second."""
    sentences = [text.strip() for text in TALK.replace("\n", "|").split("|")]
    people = list(rng.permutation(np.array(speakers(f"media {part}", seed, 6), dtype=object)))[:voices]
    parts: List[np.ndarray] = []
    length = -int(rng.integers(RATE))  # several of these do not begin together
    while length < samples:
        spoken = speak(people[len(parts) % voices], sentences[int(rng.integers(len(sentences)))]).audio
        level = float(np.sqrt(np.square(spoken).mean())) + 1e-9
        turn = np.pad(spoken / level, (0, int(rng.integers(RATE // 2))))
        parts.append(turn)
        length += len(turn)
    speech = np.concatenate(parts)
    return speech[len(speech) - samples :].astype(np.float64)


def music(rng: np.random.Generator, samples: int) -> np.ndarray:
    """Return a piece of music, float64 [samples]: a progression of four chords, an arpeggio or pads, a bass, and often
    drums."""
    beat = round(60 / rng.uniform(70, 140) * RATE)
    root = rng.uniform(45, 57)  # MIDI
    scale = np.array([0, 2, 4, 5, 7, 9, 11] if rng.random() < 0.6 else [0, 2, 3, 5, 7, 8, 10])
    degrees = rng.permutation([0, 3, 4, 5, 1])[:4]
    timbre = rng.uniform(0.3, 1.5)  # how fast the harmonics fall
    arpeggio, drums = rng.random() < 0.5, rng.random() < 0.7
    audio = np.zeros(samples + 8 * beat)
    for beat_number, start in enumerate(range(0, samples, beat)):
        degree = int(degrees[(beat_number // 4) % 4])
        chord = [root + 12 * ((degree + step) // 7) + scale[(degree + step) % 7] for step in (0, 2, 4)]
        if beat_number % 4 == 0:
            _add(audio, start, 0.8 * _tone(chord[0] - 12, 4 * beat, timbre + 0.5, decay=1.0))
            if not arpeggio:
                for note in chord:
                    _add(audio, start, 0.4 * _tone(note + 12, 4 * beat, timbre, decay=0.4))
        if arpeggio:
            for offset in (0, beat // 2):
                _add(audio, start + offset, 0.6 * _tone(chord[int(rng.integers(3))] + 12, beat, timbre, decay=3.0))
        if rng.random() < 0.4:  # a melody
            _add(audio, start, 0.5 * _tone(chord[int(rng.integers(3))] + 24, beat, timbre, decay=2.0))
        if drums:
            _add(audio, start, _drum(rng, low=beat_number % 2 == 0))
    return audio[:samples]


def _add(audio: np.ndarray, start: int, part: np.ndarray) -> None:
    audio[start : start + len(part)] += part[: max(0, len(audio) - start)]


def _tone(note: float, samples: int, timbre: float, decay: float) -> np.ndarray:
    time = np.arange(samples) / RATE
    frequency = 440 * 2 ** ((note - 69) / 12)
    fundamental = np.exp(2j * np.pi * frequency * time)
    wave, turning = np.zeros(samples), fundamental.copy()
    for harmonic in range(1, 9):
        if harmonic * frequency < 7000:
            wave += turning.imag * harmonic**-timbre
            turning *= fundamental
    wave *= np.exp(-decay * time)
    ramp = min(samples // 4, RATE // 50)
    wave[:ramp] *= np.linspace(0, 1, ramp)
    wave[samples - ramp :] *= np.linspace(1, 0, ramp)
    return wave / 3


def _drum(rng: np.random.Generator, low: bool) -> np.ndarray:
    time = np.arange(RATE // 5) / RATE
    if low:
        return 1.5 * np.sin(2 * np.pi * (50 * time + 6 * (1 - np.exp(-30 * time)))) * np.exp(-18 * time)
    return 0.6 * rng.standard_normal(len(time)) * np.exp(-30 * time)


def household(rng: np.random.Generator, samples: int, index: int) -> np.ndarray:
    """Return one of eight household sounds, float64 [samples], in turn by `index`."""
    time = np.arange(samples) / RATE
    white = rng.standard_normal(samples)
    sound = index % 8
    if sound == 0:  # a vacuum cleaner: a motor's harmonics in broad noise
        pitch = rng.uniform(90, 250)
        hum = np.sum(
            [np.sin(2 * np.pi * harmonic * pitch * time + harmonic) / harmonic for harmonic in range(1, 12)], axis=0
        )
        return 0.5 * hum + _band(white, 200, 5000)
    if sound == 1:  # running water
        flow = 1 + 0.5 * _band(rng.standard_normal(samples), 1, 8, order=1) * 20
        return _band(white, float(rng.uniform(600, 1500)), 7000) * np.clip(flow, 0.2, 2.0)
    if sound == 2:  # beeps
        pitch, period = rng.uniform(800, 3000), rng.uniform(0.3, 1.0)
        return np.sin(2 * np.pi * pitch * time) * (time % period < 0.4 * period) + 0.003 * white
    if sound == 3:  # a fan
        blades = 1 + 0.3 * np.sin(2 * np.pi * rng.uniform(5, 20) * time)
        return _band(white, 60, float(rng.uniform(300, 900))) * blades
    if sound == 4:  # rain on a window: many small drops
        return signal.lfilter([1.0], [1.0, -0.5], white * (rng.random(samples) < 0.02)) + 0.05 * white
    audio = 0.003 * white
    for start in np.sort(rng.uniform(0, time[-1], size=int(rng.integers(3, 6 + int(3 * samples / RATE))))):
        tail = np.arange(min(RATE // 2, samples - int(start * RATE))) / RATE
        if sound == 5:  # dishes
            hit = np.sum(
                [np.sin(2 * np.pi * frequency * tail) for frequency in rng.uniform(1500, 7000, size=5)], axis=0
            )
            decay = 20.0
        elif sound == 6:  # knocking, footsteps
            hit, decay = np.sin(2 * np.pi * rng.uniform(80, 300) * tail) + 0.3 * rng.standard_normal(len(tail)), 40.0
        else:  # typing
            hit, decay = rng.standard_normal(len(tail)), 150.0
        _add(audio, int(start * RATE), rng.uniform(0.4, 1.0) * hit * np.exp(-decay * tail))
    return audio


def _band(audio: np.ndarray, low: float, high: float, order: int = 2) -> np.ndarray:
    return signal.sosfilt(signal.butter(order, [low, min(high, 7900)], "bandpass", fs=RATE, output="sos"), audio)
