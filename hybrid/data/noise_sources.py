"""Where noises and rooms come from, and which of them training, development and test hear.

    open_noises("noise/", "train")             a folder, with or without train/ and test/, with or without kinds
    open_noises("musan/", "test")              MUSAN as unpacked (openslr 17)
    open_rooms("RIRS_NOISES/", "test")         RIRS_NOISES as unpacked (openslr 28); noises, too
    open_noises("lhotse:musan", "train", data) the same through Lhotse's recipes; lhotse:rir_noise
    open_rooms("rir/", "test")                 a folder of responses, with or without train/, dev/ and test/

Noises of the test part are of no recording that training or development hears; rooms of one part are in no other.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Union

from hybrid.data import lhotse_noise
from hybrid.data.containers import READABLE
from hybrid.data.measured import MeasuredRooms, Response, scan_responses
from hybrid.data.noise import FOLDERS, Noise, NoiseLibrary, audio_files, scan_noises
from hybrid.data.parting import LEAST, SPLITS, held_for_test, part_rooms, recording_of
from hybrid.data.rirs_noises import (
    find_rirs_noises,
    has_simulated,
    isotropic_session,
    real_responses,
    rirs_noises,
    simulated_responses,
)
from hybrid.data.sources import LHOTSE
from hybrid.errors import ConfigError, DataError
from hybrid.io import PathLike

Source = Union[str, Path]


def open_noises(source: Source, split: str, data: Optional[PathLike] = None) -> NoiseLibrary:
    """Open the noises that a part (train, dev or test) hears.

    source: a folder, or lhotse:musan, lhotse:musan/PART or lhotse:rir_noise of the folder `data`. A folder with
    train/ and test/ is taken as it is parted (dev hears dev/, or where there is none train/); any other is parted by
    recording: a fifth of each kind is for the test.
    Raises ConfigError for another source or part, DataError for a folder that is missing, without recordings, or with
    too few to be parted.
    """
    _check(split)
    if str(source).startswith(LHOTSE):
        name, part = _lhotse_name(source, data)
        noises = lhotse_noise.noises(name, part, Path(data or ""))
        return _part_noises(noises, split, Path(data or ""))
    root = _folder(source, "noises")
    if _parted(root):
        folder = root / ("train" if split == "dev" and not (root / "dev").is_dir() else split)
        if not folder.is_dir():
            raise DataError(f"no noises for {split}", file=folder, remedy=f"put recordings there, or {FOLDERS}")
        return NoiseLibrary.from_folder(folder)
    rirs = find_rirs_noises(root)
    if rirs is not None:
        return _part_noises(rirs_noises(rirs), split, rirs)
    musan = lhotse_noise.find_musan(root)
    return _part_noises(scan_noises(musan or root), split, musan or root)


def open_rooms(source: Source, split: str, data: Optional[PathLike] = None) -> MeasuredRooms:
    """Open the measured rooms of a part (train, dev or test); what is heard in one is heard in no other.

    source: a folder of responses (MeasuredRooms says how their names are read), RIRS_NOISES as unpacked, or
    lhotse:rir_noise of the folder `data`. A folder with train/, dev/ or test/ is taken as it is parted (where there is
    no dev/, dev takes rooms of train/, which train then does without); any other is parted by room. RIRS_NOISES has
    its real rooms in dev and test, its simulated ones in train.
    Raises ConfigError for another source or part, DataError for a folder that is missing or has too few rooms.
    """
    _check(split)
    if str(source).startswith(LHOTSE):
        name, part = _lhotse_name(source, data)
        if name != "rir_noise" or part:
            raise ConfigError(f"{source} has no rooms", remedy=f"use {LHOTSE}rir_noise")
        home = Path(data or "")
        real, simulated = (partial(lhotse_noise.responses, kind, home) for kind in ("real_rir", "sim_rir"))
        return _rirs_rooms(real, simulated, split, home)
    root = _folder(source, "impulse responses")
    if _parted(root):
        return _folder_rooms(root, split)
    rirs = find_rirs_noises(root)
    if rirs is not None:
        return _rirs_rooms(partial(real_responses, rirs), partial(simulated_responses, rirs), split, rirs)
    return _part_rooms(scan_responses(root), SPLITS, split, root)


# ------------------------------------------------------------------ noises


def _part_noises(noises: Sequence[Noise], split: str, root: Path) -> NoiseLibrary:
    recording = {n.name: isotropic_session(n.name) if n.kind == "isotropic" else recording_of(n.name) for n in noises}
    kinds: Dict[str, List[str]] = {}
    for noise in noises:
        kinds.setdefault(noise.kind, []).append(recording[noise.name])
    test = held_for_test(kinds)
    if not test:
        raise DataError(
            f"{len(set(recording.values()))} recordings are too few to part into noises of training and others of the "
            f"test: it takes {2 * LEAST}",
            file=root,
            remedy="add recordings, or part them yourself into train/ and test/",
        )
    return NoiseLibrary([noise for noise in noises if (recording[noise.name] in test) == (split == "test")])


# ------------------------------------------------------------------ rooms


def _folder_rooms(root: Path, split: str) -> MeasuredRooms:
    """Of a folder that is parted. Where there is no dev/, its rooms come out of train/."""
    folder = root / split
    if split in ("train", "dev") and not (root / "dev").is_dir():
        folder = root / "train"
        if folder.is_dir():
            return _part_rooms(scan_responses(folder), ("train", "dev"), split, folder)
    if not folder.is_dir():
        problem = f"no impulse responses for {split}"
        raise DataError(problem, file=root / split, remedy="put responses of rooms there that no other part has")
    return MeasuredRooms(folder)


def _part_rooms(responses: Iterable[Response], splits: Sequence[str], split: str, root: Path) -> MeasuredRooms:
    measured = MeasuredRooms(root, responses)
    parts = part_rooms(list(measured.rooms), splits)
    if split not in parts or len(parts) == 1:
        names = ", ".join(sorted(measured.rooms)[:3])
        raise DataError(
            f"{len(measured.rooms)} rooms with two positions or more ({names}) are too few to part into those of "
            f"{', '.join(splits)}",
            file=root,
            remedy="add responses of other rooms, or part them yourself into folders train/, dev/ and test/",
        )
    return MeasuredRooms(root, [response for room in parts[split] for response in measured.rooms[room]])


def _rirs_rooms(
    real: Callable[[], List[Response]], simulated: Callable[[], List[Response]], split: str, root: Path
) -> MeasuredRooms:
    """Real rooms for dev and test, simulated ones for training; where only one sort is there, it is parted. The
    simulated ones, 60,000 files, are listed only where they are asked for."""
    rooms = real()
    if not rooms:
        return _part_rooms(simulated(), SPLITS, split, root)
    if not has_simulated(root):
        return _part_rooms(rooms, SPLITS, split, root)
    return MeasuredRooms(root, simulated()) if split == "train" else _part_rooms(rooms, ("dev", "test"), split, root)


# ------------------------------------------------------------------ sources


def _check(split: str) -> None:
    if split not in SPLITS:
        raise ConfigError(f"no part {split!r} of noises or rooms", remedy=f"use one of {', '.join(SPLITS)}")


def _lhotse_name(source: Source, data: Optional[PathLike]) -> Sequence[str]:
    name, _, part = str(source)[len(LHOTSE) :].strip("/").partition("/")
    if name not in lhotse_noise.PARTS or (part and part not in lhotse_noise.PARTS[name]):
        names = [LHOTSE + name for name in lhotse_noise.PARTS]
        raise ConfigError(f"no noises or rooms {source}", remedy=f"use {', '.join(names)}, or a folder")
    if data is None:
        raise ConfigError(f"{source}: where is it unpacked?", remedy="give that folder with --data DIR")
    return name, part


def _folder(source: Source, contents: str) -> Path:
    root = Path(source)
    if not root.is_dir():
        raise DataError(f"no such folder of {contents}", file=root, remedy="mend the path, or unpack it there")
    return root


def _parted(root: Path) -> bool:
    """Whether a folder is parted by its own folders. Raises DataError where others with audio stand beside them."""
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not any(path.name in ("train", "test") for path in folders):
        return False
    strays = [path.name for path in folders if path.name not in SPLITS and audio_files(path)]
    strays += [path.name for path in root.iterdir() if path.suffix.lower() in READABLE and path.is_file()]
    if strays:
        raise DataError(
            f"beside train/ and test/ there is audio that belongs to neither ({', '.join(sorted(strays)[:3])})",
            file=root,
            remedy="move it into train/, dev/ or test/, or out of this folder",
        )
    return True
