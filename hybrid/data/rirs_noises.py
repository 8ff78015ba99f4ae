"""RIRS_NOISES (openslr 28) as it is unpacked: noises, real rooms and simulated ones (Ko et al. 2017).

    RIRS_NOISES/pointsource_noises/            noises
    RIRS_NOISES/real_rirs_isotropic_noises/    responses of RWCP, REVERB 2014 and AIR, *rir* or air_*, and room noise
    RIRS_NOISES/simulated_rirs/{small,medium,large}room/Room001/Room001-00001.wav

The lists beside the audio (rir_list) say which room a response is of: `--rir-id ID --room-id ROOM FILE`. Where there is
none, the names say it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Dict, Iterable, List, Optional

from hybrid.data.measured import Response
from hybrid.data.noise import Noise, audio_files, scan_noises
from hybrid.errors import DataError

POINT, REAL, SIMULATED = "pointsource_noises", "real_rirs_isotropic_noises", "simulated_rirs"
_NAMES = (
    re.compile(r"(RVB2014)_type\d_rir_([a-z]+\d*)_(.+)"),
    re.compile(r"(RWCP)_type\d_rir_(?:[a-z]+_)?([a-z]+\d*[a-z]?)_(imp\w*)"),
    re.compile(r"(RWCP_type\d)_(rir)_(\w+)"),
    re.compile(r"(air)_type\d_air_(?:binaural|phone(?:_bt)?)_([a-z]+\d*(?:_[a-z]{4,})*)_(\w+)"),
)


def find_rirs_noises(root: Path) -> Optional[Path]:
    """Return the folder with the three parts: this one, or RIRS_NOISES in it; None where there is none."""
    for folder in (root, root / "RIRS_NOISES"):
        if any((folder / part).is_dir() for part in (POINT, REAL, SIMULATED)):
            return folder
    return None


def has_simulated(root: Path) -> bool:
    """Return whether the simulated rooms are unpacked in this folder, or in RIRS_NOISES in it."""
    folder = find_rirs_noises(root)
    return folder is not None and (folder / SIMULATED).is_dir()


def rirs_noises(root: Path) -> List[Noise]:
    """List point-source noises and the noise of rooms, of the kinds "pointsource" and "isotropic"."""
    noise_list = []
    if (root / POINT).is_dir():
        noise_list += [replace(n, name=f"{POINT}/{n.name}", kind="pointsource") for n in scan_noises(root / POINT)]
    if (root / REAL).is_dir():
        noises = [noise for noise in scan_noises(root / REAL) if "noise" in Path(noise.name).stem]
        noise_list += [replace(noise, name=f"{REAL}/{noise.name}", kind="isotropic") for noise in noises]
    if not noise_list:
        raise DataError("no noises in RIRS_NOISES", file=root, remedy=f"unpack {POINT}/ and {REAL}/ there, too")
    return noise_list


def isotropic_session(name: str) -> str:
    """Return what a recording of a room's noise is a part of: those of one room, which differ in their last number."""
    return re.sub(r"_\d+$", "", name.rpartition(".")[0] or name)


def real_responses(root: Path) -> List[Response]:
    """List the measured responses; [] where they are not unpacked."""
    return as_real(audio_files(root / REAL), root)


def as_real(files: Iterable[Path], root: Path) -> List[Response]:
    """List the responses among the files of the real rooms, by their names and the list beside them."""
    rooms = read_rooms(root / REAL / "rir_list", root)
    responses = []
    for path in files:
        if "noise" in path.stem or "rir" not in path.stem and not path.stem.startswith("air_"):
            continue
        match = next(filter(None, (pattern.fullmatch(path.stem) for pattern in _NAMES)), None)
        room, source = (f"{match[1]} {match[2]}", match[3]) if match else (path.stem, "")
        responses.append(Response(str(path), rooms.get(_below(path), room), source, ""))
    return responses


def simulated_responses(root: Path) -> List[Response]:
    """List the simulated responses; [] where they are not unpacked."""
    return as_simulated(audio_files(root / SIMULATED))


def as_simulated(files: Iterable[Path]) -> List[Response]:
    """List simulated files as responses.

    A room is the folder of its files, Room001 of the small ones and of the large ones two.
    """
    return [Response(str(path), f"{path.parent.parent.name} {path.parent.name}", path.stem, "") for path in files]


def read_rooms(path: Path, root: Path) -> Dict[str, str]:
    """Read a list of responses: file, as `_below` names it -> room. {} where there is no list."""
    if not path.is_file():
        return {}
    rooms: Dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        fields = line.split()
        if "--room-id" in fields[:-2]:
            rooms[_below(Path(fields[-1]))] = fields[fields.index("--room-id") + 1]
    return rooms


def _below(path: Path) -> str:
    """The last two parts of a path: lists name files from another folder than we do."""
    return "/".join(path.parts[-2:])
