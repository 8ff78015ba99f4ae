"""Parting of recordings and rooms into those of training, development and test, by their names alone.

The order is that of a hash of each name, so that it depends on no machine and on no order of files, and one name more
or less moves few others.
"""

from __future__ import annotations

import hashlib
import re
from typing import Dict, List, Mapping, Sequence, Set

SPLITS = ("train", "dev", "test")
TEST_SHARE = 0.2  # of the recordings of noises
_ROOMS = {"test": 3, "dev": 2, "train": 5}  # shares of rooms, in the order in which parts get their first one
LEAST = 3  # recordings in each part: a test condition draws up to three at once
# A cut-off piece of a recording, and ESC-50's names: fold, recording, take and class
_PIECE = re.compile(r"[-_. ](part|pt|piece|seg|segment|chunk|clip|take)[-_. ]?\d+$", re.IGNORECASE)
_ESC = re.compile(r"(^|.*_)(\d-\d+)-[A-Z](-\d+)?$")


def by_hash(names: Sequence[str]) -> List[str]:
    """Sort names in an order that is no order of theirs, the same everywhere."""
    return sorted(names, key=lambda name: (hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest(), name))


def recording_of(name: str) -> str:
    """Return the recording that a file is of: `rain-part2.wav` and `rain-part3.wav` are of one.

    >>> recording_of("rain/a-part2.wav"), recording_of("rain/a.flac"), recording_of("esc/1-211527-B-20.wav")
    ('rain/a', 'rain/a', 'esc/1-211527')
    """
    folder, slash, file = name.rpartition("/")
    stem = file.rpartition(".")[0] or file
    if match := _ESC.match(stem):
        return f"{folder}{slash}{match[2]}"
    return folder + slash + _PIECE.sub("", stem)


def held_for_test(kinds: Mapping[str, Sequence[str]]) -> Set[str]:
    """Choose the recordings of the test part: a fifth, three at least, and of each kind its share.

    kinds: the recordings of each. Empty where there are fewer than three for each part.
    """
    places: Dict[str, float] = {}
    for members in kinds.values():
        for place, name in enumerate(by_hash(sorted(set(members)))):
            # Kinds are dealt out alike: the first of each comes before the second of any that is no larger.
            places[name] = (place + 0.5) / len(set(members))
    if len(places) < 2 * LEAST:
        return set()
    order = {name: number for number, name in enumerate(by_hash(list(places)))}
    count = max(LEAST, round(TEST_SHARE * len(places)))
    return set(sorted(places, key=lambda name: (places[name], order[name]))[:count])


def part_rooms(rooms: Sequence[str], splits: Sequence[str] = SPLITS) -> Dict[str, List[str]]:
    """Part rooms among some of train, dev and test: as 5 to 2 to 3. Where there are fewer rooms than parts, test gets
    one first, then dev; a part that gets none is not in the result."""
    order = by_hash(rooms)
    parts = [split for split in _ROOMS if split in splits][: len(order)]
    rooms_of: Dict[str, List[str]] = {}
    for place, split in enumerate(parts):
        num_later = len(parts) - place - 1  # parts that get one each, at least, after this
        share = _ROOMS[split] / sum(_ROOMS[part] for part in parts[place:])
        count = min(max(1, round(share * len(order))), len(order) - num_later)
        rooms_of[split], order = order[:count], order[count:]
    return rooms_of
