"""Rooms: impulse responses from a talker and from noises elsewhere to one microphone.

Two providers with one interface, so that every recipe makes its conditions with the same code:

- `SimulatedRooms`: shoebox rooms by the image method (Allen and Berkley 1979, in pyroomacoustics);
- `MeasuredRooms` (hybrid/data/measured.py): a folder of measured responses. What is made with them is called
  "measured rooms": the nearest thing to playing speech through a loudspeaker and recording it again, and not that.

Responses come at the sampling rate that is asked for; a room's geometry is the same at each.
A talker's response has its direct path at sample LEAD, whatever the distance and the rate: with the first LEAD
samples of the convolution dropped, speech in the room lines up with the clean recording, and the alignments of that
hold for it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Dict, List, Optional, Protocol, Sequence, Tuple

import numpy as np
from scipy import signal

from hybrid.errors import ConfigError, DataError, MissingDependency

RATE = 16000  # the rate where none is given
SPEED_OF_SOUND = 343.0  # m/s, pyroomacoustics' default
LEAD = 16  # samples before the direct path (1 ms at 16 kHz): a fractional delay's sinc rises before its peak


def stable_rng(*parts: object) -> np.random.Generator:
    """Return a generator that depends on `parts` alone: on no order, process or machine (Python's hash() is salted)."""
    digest = hashlib.blake2b("\0".join(str(part) for part in parts).encode("utf-8"), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


@dataclass(frozen=True)
class Placement:
    """One talker and some noises in one room: float32 responses, their direct paths at LEAD."""

    talker: np.ndarray  # [samples]
    noises: List[np.ndarray]  # one [samples] a noise
    rt60: float  # seconds
    room: str
    description: Dict[str, Any]  # what to record with the cut: plain values


class Room(Protocol):
    def place(self, rng: np.random.Generator, noises: int) -> Placement: ...


class Rooms(Protocol):
    """A set of rooms. `choose` is cheap and random, `open` may be expensive and is the same for the same key."""

    def choose(self, rng: np.random.Generator) -> str: ...

    def open(self, key: str, rate: int = RATE) -> Room:
        """Return the room whose responses are at `rate`."""
        ...

    def describe(self) -> Dict[str, Any]:
        """Return plain values that differ whenever the responses would."""
        ...


def reverberation_time(response: np.ndarray, rate: int = RATE, *, low: float = -5.0, high: float = -25.0) -> float:
    """Return RT60, s, by Schroeder's backward integration (JASA 37, 1965): a line through `low`..`high` dB (T20).

    Raises DataError where the decay never gets there.
    """
    energy = np.cumsum(np.asarray(response, dtype=np.float64)[::-1] ** 2)[::-1]
    if energy.size == 0 or energy[0] <= 0:
        raise DataError("an impulse response without energy", remedy="leave this response out")
    decay = 10 * np.log10(energy / energy[0] + 1e-30)
    first, last = int(np.argmax(decay < low)), int(np.argmax(decay < high))
    if last - first < 2:
        raise DataError(
            f"an impulse response whose decay does not reach {high:g} dB", remedy="leave this response out"
        )
    slope = np.polyfit(np.arange(first, last) / rate, decay[first:last], 1)[0]
    return float(-60.0 / slope)


def direct_path(response: np.ndarray) -> int:
    """Return the sample where the direct sound begins: the first one within 10 dB of the largest.

    The largest sample itself will not do: where talker and microphone face different ways a reflection is stronger.
    """
    magnitude = np.abs(response)
    return int(np.argmax(magnitude >= 10 ** (-10 / 20) * magnitude.max()))


@dataclass(frozen=True)
class SimulatedRooms:
    """Shoebox rooms by the image method, each drawn from `seed` and its number.

    rt60, talker_distance: uniform, in s and m; size: lowest and highest length, width and height in m.
    number: of rooms in the pool, each with `talkers` and `noise_places` positions; None: every cut has a room of
    its own. A pool is cheaper: a room costs some 0.05 s and 0.02 s a position.
    walls: "equal": all six absorb alike; "random": each absorbs differently, by a factor of up to 4.
    loudspeaker: the talker is heard through a random small loudspeaker (high-pass and two broad resonances).
    """

    seed: int
    number: Optional[int] = None
    rt60: Tuple[float, float] = (0.2, 0.6)
    talker_distance: Tuple[float, float] = (1.0, 3.0)
    size: Tuple[Tuple[float, float, float], Tuple[float, float, float]] = ((3.0, 3.0, 2.4), (8.0, 6.0, 3.5))
    talkers: int = 2
    noise_places: int = 4
    walls: str = "equal"
    loudspeaker: bool = False
    name: str = "simulated"

    def __post_init__(self) -> None:
        if not 0.1 <= self.rt60[0] <= self.rt60[1] <= 1.5:
            raise ConfigError(f"rt60 {self.rt60}: not a range within 0.1 to 1.5 s", remedy="give (lowest, highest)")
        if not 0.1 <= self.talker_distance[0] <= self.talker_distance[1]:
            raise ConfigError(f"talker_distance {self.talker_distance}: not a range", remedy="give (lowest, highest)")
        if self.walls not in ("equal", "random"):
            raise ConfigError(f"walls {self.walls!r}: neither 'equal' nor 'random'", remedy="give one of these")
        # A talker must fit somewhere: half a metre from the walls, the lowest distance from the microphone.
        if any(low > high or low < 1.5 for low, high in zip(*self.size, strict=True)):
            raise ConfigError(f"size {self.size}: not a range of rooms of at least 1.5 m", remedy="make them larger")
        if self.talker_distance[0] > 0.8 * (max(self.size[0][:2]) - 0.8):
            raise ConfigError(
                f"a talker at {self.talker_distance[0]:g} m does not fit into rooms of {self.size[0]} m",
                remedy="make the rooms larger or the distance smaller",
            )

    def choose(self, rng: np.random.Generator) -> str:
        return f"{rng.integers(self.number)}" if self.number else f"{rng.integers(2**62):x}"

    def open(self, key: str, rate: int = RATE) -> SimulatedRoom:
        return _open_simulated(self, key, rate)

    def describe(self) -> Dict[str, Any]:
        return {field: getattr(self, field) for field in self.__dataclass_fields__}


@lru_cache(maxsize=256)  # a pool of 200 takes some 40 MB; the sets of a copy, speed by speed, share it
def _open_simulated(rooms: SimulatedRooms, key: str, rate: int) -> SimulatedRoom:
    return SimulatedRoom(rooms, key, rate)


class SimulatedRoom:
    """One shoebox: geometry drawn at once, the response of a position simulated when it is first asked for."""

    def __init__(self, rooms: SimulatedRooms, key: str, rate: int = RATE) -> None:
        rng = stable_rng("room", rooms.seed, key)
        self.rooms, self.key, self.rate = rooms, key, rate
        self.rt60 = float(rng.uniform(*rooms.rt60))
        self.size = rng.uniform(*rooms.size)
        lowest = rooms.talker_distance[0]
        # At most what fits: two points of the inner box (0.4 m from the walls) may be this far apart.
        highest = min(rooms.talker_distance[1], 0.85 * float(np.linalg.norm(self.size[:2] - 0.8)))
        self.absorption = self._absorption(rng)
        talkers: List[np.ndarray] = []
        while len(talkers) < rooms.talkers:
            # One microphone for the room: redrawn as long as the first talker finds no place.
            if not talkers:
                self.microphone = np.append(rng.uniform(0.4, self.size[:2] - 0.4), rng.uniform(0.6, 1.6))
            distance, angle = rng.uniform(lowest, highest), rng.uniform(0, 2 * math.pi)
            height = rng.uniform(1.1, 1.8)
            flat = math.sqrt(max(distance**2 - (height - self.microphone[2]) ** 2, 0.01))
            place = np.append(self.microphone[:2] + flat * np.array([math.cos(angle), math.sin(angle)]), height)
            if np.all(place > 0.3) and np.all(place < self.size - 0.3):
                talkers.append(place)
        self.positions: List[np.ndarray] = talkers
        while len(self.positions) < rooms.talkers + rooms.noise_places:
            place = rng.uniform([0.2, 0.2, 0.2], self.size - 0.2)
            distance_apart = min(float(np.linalg.norm(place - position)) for position in (self.microphone, *talkers))
            if distance_apart > 0.5:  # a noise is somewhere else than the talker
                self.positions.append(place)
        self.speaker = _loudspeaker(rng, rate) if rooms.loudspeaker else None
        self._responses: Dict[int, np.ndarray] = {}

    def place(self, rng: np.random.Generator, noises: int) -> Placement:
        talker = int(rng.integers(self.rooms.talkers))
        if noises > self.rooms.noise_places:
            raise ConfigError(
                f"{noises} noises, but only {self.rooms.noise_places} places for them in a room",
                remedy="raise noise_places or ask for fewer noises",
            )
        places = self.rooms.talkers + rng.choice(self.rooms.noise_places, size=noises, replace=False)
        # A room of a pool will be asked for its other positions too, and all at once is cheaper.
        pool = range(len(self.positions))
        self._simulate(pool if self.rooms.number else [talker, *(int(i) for i in places)])
        direct = self._responses[talker]
        if self.speaker is not None:
            direct = signal.sosfilt(self.speaker, direct).astype(np.float32)
        distance = float(np.linalg.norm(self.positions[talker] - self.microphone))
        description = {"distance": round(distance, 3), "size": [round(float(x), 3) for x in self.size]}
        return Placement(
            talker=direct,
            noises=[self._responses[int(i)] for i in places],
            rt60=round(self.rt60, 4),
            room=f"{self.rooms.name}-{self.key}",
            description=description,
        )

    def _absorption(self, rng: np.random.Generator) -> Dict[str, float]:
        """Energy absorption of each wall by Sabine's formula, 0.161 V / (S T)."""
        x, y, z = (float(v) for v in self.size)
        area = {"east": y * z, "west": y * z, "north": x * z, "south": x * z, "floor": x * y, "ceiling": x * y}
        mean = 0.161 * x * y * z / (sum(area.values()) * self.rt60)
        factor = {wall: 1.0 for wall in area}
        if self.rooms.walls == "random":
            factor = {wall: float(2.0 ** rng.uniform(-1, 1)) for wall in area}
            scale = sum(area.values()) / sum(area[w] * factor[w] for w in area)
            factor = {wall: f * scale for wall, f in factor.items()}
        return {wall: min(0.98, mean * f) for wall, f in factor.items()}

    def _simulate(self, indices: Sequence[int]) -> None:
        missing = [i for i in dict.fromkeys(indices) if i not in self._responses]
        if not missing:
            return
        try:
            import pyroomacoustics as pra
        except ImportError:
            raise MissingDependency(
                "pyroomacoustics is not installed; rooms are simulated with it", remedy="pip install pyroomacoustics"
            ) from None
        # Images of order n lie at n / sqrt(sum 1 / side^2) or further. All are wanted up to 40 dB of decay, two
        # thirds of RT60; the decay is fitted to 25 dB, and the order enters the cost with its third power.
        tightest = 1.0 / math.sqrt(float(np.sum(1.0 / self.size**2)))
        order = math.ceil(SPEED_OF_SOUND * self.rt60 * 40 / 60 / tightest)
        materials = {wall: pra.Material(value) for wall, value in self.absorption.items()}
        # By reciprocity source and microphone change places: the images of the microphone serve every position.
        box = pra.ShoeBox(self.size, fs=self.rate, materials=materials, max_order=order)
        box.add_source(self.microphone)
        box.add_microphone_array(np.array([self.positions[i] for i in missing]).T)
        box.image_source_model()
        # Only some directions still have images after the 45th decibel: leaving these out saves half of the rest.
        away = np.linalg.norm(box.sources[0].images - self.microphone[:, None].astype(np.float32), axis=0)
        box.visibility[0][:, away > max(SPEED_OF_SOUND * self.rt60 * 45 / 60, float(self.size.sum()))] = 0
        box.compute_rir()
        delay = pra.constants.get("frac_delay_length") // 2
        for i, (response,) in zip(missing, box.rir, strict=True):
            distance = float(np.linalg.norm(self.positions[i] - self.microphone))
            self._responses[i] = self._finish(response, delay + distance / SPEED_OF_SOUND * self.rate)

    def _finish(self, response: np.ndarray, direct: float) -> np.ndarray:
        """The response with its direct path at LEAD, its decay brought to the wanted RT60.

        Sabine's formula misses the decay of a shoebox's images by up to a third (their paths are no diffuse field).
        An exponential exp(-a t) makes up for it, as more or less absorption by the air would:
        energy e^(-13.8 t / T) x e^(-2 a t) = e^(-13.8 t / T'), so a = 6.9 (1 / T' - 1 / T).
        """
        tail = from_direct(response, round(direct))[: LEAD + round(1.2 * self.rt60 * self.rate)].astype(np.float64)
        time = np.maximum(np.arange(tail.size) - LEAD, 0) / self.rate
        for _ in range(2):  # once is not quite enough: the decay is no straight line
            decay = 3 * math.log(10) * (1 / self.rt60 - 1 / reverberation_time(tail[LEAD:], self.rate))
            tail *= np.exp(-decay * time)
        return tail.astype(np.float32)


def from_direct(response: np.ndarray, direct: int) -> np.ndarray:
    """Shift `response` so that sample `direct` becomes sample LEAD."""
    shift = direct - LEAD
    return response[shift:] if shift >= 0 else np.concatenate([np.zeros(-shift, response.dtype), response])


def _loudspeaker(rng: np.random.Generator, rate: int) -> np.ndarray:
    """Return the second-order sections of a small loudspeaker: high-pass at 100 to 250 Hz, two resonances of +-6 dB.

    A resonance from the Nyquist frequency on is left out: at this rate nobody hears it.
    """
    sections = [signal.butter(2, float(rng.uniform(100, 250)), "highpass", fs=rate, output="sos")[0]]
    for low, high in ((300.0, 1200.0), (1500.0, 5000.0)):
        frequency, gain, quality = math.exp(rng.uniform(math.log(low), math.log(high))), rng.uniform(-6, 6), 1.0
        if frequency >= rate / 2:
            continue
        amplitude, omega = 10 ** (gain / 40), 2 * math.pi * frequency / rate
        alpha = math.sin(omega) / (2 * quality)  # peaking equaliser of the RBJ cookbook
        b = [1 + alpha * amplitude, -2 * math.cos(omega), 1 - alpha * amplitude]
        a = [1 + alpha / amplitude, -2 * math.cos(omega), 1 - alpha / amplitude]
        sections.append(np.array([*b, *a]) / a[0])
    return np.array(sections)
