"""Rooms whose impulse responses were measured; the interface is that of hybrid/data/rooms.py."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np
import soundfile
from scipy import signal

from hybrid.data.noise import audio_files
from hybrid.data.rooms import LEAD, RATE, Placement, direct_path, from_direct, reverberation_time
from hybrid.errors import DataError

DIRHA = "dirha living room"


@dataclass(frozen=True)
class Response:
    """A measured response: its file, the room, where the source stood, and the microphone."""

    path: str
    room: str
    source: str
    microphone: str


class MeasuredRooms:
    """A folder of measured responses, grouped into rooms by their names.

    | name                              | room              | source     | microphone |
    |-----------------------------------|-------------------|------------|------------|
    | dirha_T1_O6_LA3 (DIRHA, a flat)   | dirha living room | T1_O6      | LA3        |
    | tamulionis_S2R14 (a lecture room) | tamulionis        | S2         | R14        |
    | any other: HALL_SOURCE_MICROPHONE | HALL              | SOURCE     | MICROPHONE |
    | in a folder: KITCHEN/any          | KITCHEN           | any        |            |

    DIRHA's talkers stood in the living room; its microphones K* hung in the kitchen next door, where the strongest
    path is no direct one, so they are left out. Left out too are rooms with a single response (the concert halls):
    a noise must come from another position. `rejected` names both.

    The first noise comes from another source to the talker's microphone where that was measured. Else a noise's
    response is that of another pair of source and microphone in the room, its microphone of another array: by
    reciprocity it is the response from that other microphone's place to where the talker was, as far from the
    talker's own as two places in that room are.
    """

    def __init__(self, folder: Union[str, Path], responses: Optional[Iterable[Response]] = None) -> None:
        """Group the responses of a folder; responses: those to take, in this order, where they are not all of it."""
        self.folder = Path(folder)
        rooms: Dict[str, List[Response]] = {}
        self.rejected: List[Tuple[str, str]] = []
        for response in scan_responses(self.folder) if responses is None else responses:
            if response.room == DIRHA and response.microphone.startswith("K"):
                name = Path(response.path).name
                self.rejected.append((name, "its microphone is in another room than its source"))
                continue
            rooms.setdefault(response.room, []).append(response)
        for room in [room for room, members in rooms.items() if len(members) < 2]:
            self.rejected.extend((Path(r.path).name, "the only position of its room") for r in rooms.pop(room))
        if not rooms:
            raise DataError(
                "no room with two measured positions or more", file=folder, remedy="put its .flac or .wav files there"
            )
        self.rooms = {room: tuple(members) for room, members in rooms.items()}

    def choose(self, rng: np.random.Generator) -> str:
        """Draw a room, with a chance in proportion to its positions; return its name."""
        sizes = np.array([len(responses) for responses in self.rooms.values()], dtype=np.float64)
        return list(self.rooms)[int(rng.choice(len(sizes), p=sizes / sizes.sum()))]

    def open(self, key: str, rate: int = RATE) -> MeasuredRoom:
        return MeasuredRoom(key, self.rooms[key], rate)

    def describe(self) -> Dict[str, Any]:
        """Return the rooms and their files; of more than a thousand files a digest."""
        names = {room: [Path(r.path).name for r in files] for room, files in self.rooms.items()}
        if sum(map(len, names.values())) <= 1000:
            return {"measured": names}
        return {"measured": hashlib.blake2b(json.dumps(names).encode("utf-8"), digest_size=16).hexdigest()}


def scan_responses(folder: Union[str, Path]) -> List[Response]:
    """List the responses of a folder by name; nothing is read yet. Raises DataError where there is no such folder."""
    root = Path(folder)
    if not root.is_dir():
        raise DataError("no such folder of impulse responses", file=folder, remedy="give the folder that has them")
    responses = []
    for path in audio_files(root):
        room, source, microphone = parse_name(path.stem)
        home = path.relative_to(root).parent.as_posix()
        if home != "." and room != DIRHA:
            # What is a room is said by the folder; two of them may have files of the same names.
            room, source = (f"{home}/{room}", source) if source else (home, path.stem)
        responses.append(Response(str(path), room, source, microphone))
    return responses


def parse_name(stem: str) -> Tuple[str, str, str]:
    """Return room, source and microphone from a file's name; see MeasuredRooms.

    >>> parse_name("dirha_T1_O6_LA3"), parse_name("tamulionis_S2R14"), parse_name("cellar_s1_m2")
    (('dirha living room', 'T1_O6', 'LA3'), ('tamulionis', 'S2', 'R14'), ('cellar', 's1', 'm2'))
    """
    if match := re.fullmatch(r"dirha_(T\d+_O\d+)_(\w+)", stem):
        return DIRHA, match[1], match[2]
    if match := re.fullmatch(r"(\w+?)_(S\d+)(R\d+)", stem):
        return match[1], match[2], match[3]
    parts = stem.rsplit("_", 2)
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else (stem, "", "")


class MeasuredRoom:
    """A room and its responses, resampled to `rate` when they are read."""

    def __init__(self, name: str, responses: Sequence[Response], rate: int = RATE) -> None:
        self.name, self.responses, self.rate = name, responses, rate

    def place(self, rng: np.random.Generator, noises: int) -> Placement:
        talker = self.responses[int(rng.integers(len(self.responses)))]
        noise_responses: List[Response] = []
        for _ in range(noises):
            pairs = {(r.source, r.microphone) for r in (talker, *noise_responses)}
            unused = [r for r in self.responses if (r.source, r.microphone) not in pairs] or [
                r for r in self.responses if r is not talker
            ]
            same_microphone = [r for r in unused if r.microphone == talker.microphone]
            array = _array(talker.microphone)
            other_arrays = [r for r in unused if _array(r.microphone) != array]
            candidates = same_microphone or other_arrays or unused
            noise_responses.append(candidates[int(rng.integers(len(candidates)))])
        direct = load_response(talker.path, self.rate)
        return Placement(
            talker=direct,
            noises=[load_response(r.path, self.rate) for r in noise_responses],
            rt60=round(reverberation_time(direct[LEAD:], self.rate), 4),
            room=self.name,
            description={"responses": [Path(r.path).stem for r in (talker, *noise_responses)]},
        )


def _array(microphone: str) -> str:
    """LDM03 -> LDM; R14 -> R14, for single microphones far apart that share their letter."""
    letters = microphone.rstrip("0123456789LCR") or microphone
    return letters if len(letters) > 1 else microphone


@lru_cache(maxsize=256)
def load_response(path: str, rate: int = RATE) -> np.ndarray:
    """Return float32 [samples] at `rate`, the file's first channel, the direct path at LEAD.

    Raises DataError where the file is no audio or holds silence.
    """
    try:
        response, file_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"no audio: {error}", file=path, remedy="delete the file or put a whole one there") from None
    mono = response[:, 0]
    if mono.size == 0 or not np.isfinite(mono).all() or not mono.any():
        raise DataError("an impulse response that is silent or not finite", file=path, remedy="delete the file")
    if file_rate != rate:
        common = math.gcd(file_rate, rate)
        mono = signal.resample_poly(mono, rate // common, file_rate // common).astype(np.float32)
    mono = from_direct(mono, direct_path(mono))
    return mono / np.abs(mono).max()
