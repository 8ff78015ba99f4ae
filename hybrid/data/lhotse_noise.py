"""Noises and responses through Lhotse's recipes: prepare_musan and prepare_rir_noise on the unpacked corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from hybrid.data.measured import Response
from hybrid.data.noise import Noise
from hybrid.data.rirs_noises import REAL, SIMULATED, as_real, as_simulated, find_rirs_noises
from hybrid.errors import DataError

PARTS: Dict[str, Sequence[str]] = {"musan": ("music", "noise", "speech"), "rir_noise": ("point_noise", "iso_noise")}
_KINDS = {"point_noise": "pointsource", "iso_noise": "isotropic"}
_FOLDERS = {"point_noise": "pointsource_noises", "iso_noise": REAL, "real_rir": REAL, "sim_rir": SIMULATED}


def find_musan(root: Path) -> Optional[Path]:
    """Return the folder with music/, noise/ and speech/: this one, or musan in it; None where there is none."""
    for folder in (root, root / "musan"):
        if all((folder / part).is_dir() for part in PARTS["musan"]):
            return folder
    return None


def noises(name: str, part: str, data: Path) -> List[Noise]:
    """List the recordings of a recipe, `musan` or `rir_noise`, or of one part of it.

    Raises DataError where the corpus is not there or Lhotse cannot prepare it.
    """
    root = _find(name, data)
    parts = [part] if part else [p for p in PARTS[name] if name == "musan" or (root / _FOLDERS[p]).is_dir()]
    noise_list = []
    for part in parts:
        for recording in _prepare(name, root, part):
            path = str(recording.sources[0].source)
            place = Path(path).relative_to(root).as_posix()
            kind = _KINDS.get(part, part)
            noise_list.append(Noise(place, kind, recording.num_samples, recording.sampling_rate, path))
    if not noise_list:
        raise DataError(f"Lhotse's recipe {name} has found no recording", file=root, remedy="unpack the whole corpus")
    return sorted(noise_list, key=lambda noise: noise.name)


def responses(part: str, data: Path) -> List[Response]:
    """List the responses of rir_noise, real_rir or sim_rir; [] where they are not unpacked."""
    root = _find("rir_noise", data)
    if not (root / _FOLDERS[part]).is_dir():
        return []
    files = sorted(Path(recording.sources[0].source) for recording in _prepare("rir_noise", root, part))
    return as_real(files, root) if part == "real_rir" else as_simulated(files)


def _find(name: str, data: Path) -> Path:
    root = find_musan(data) if name == "musan" else find_rirs_noises(data)
    if root is None:
        layout = "musan/{music,noise,speech}" if name == "musan" else "RIRS_NOISES/"
        number = 17 if name == "musan" else 28
        remedy = f"unpack it (openslr {number}), and give its folder with --data DIR"
        raise DataError(f"{name} is not there: no {layout}", file=data, remedy=remedy)
    return root


def _prepare(name: str, root: Path, part: str) -> Any:
    from lhotse.recipes import prepare_musan, prepare_rir_noise

    recipe = prepare_musan if name == "musan" else prepare_rir_noise
    try:
        return recipe(root, parts=(part,))[part]["recordings"]
    except Exception as error:  # recipes say in all sorts of ways, asserts among them, that a file is no good
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"Lhotse's recipe {name} fails on {part}: {reason}", file=root, remedy="unpack the corpus again"
        ) from error
