"""What a run's folder holds for recognition: its systems, the best of them, and what its development set chose.

    EXP/SYSTEM/model, EXP/gmm/SYSTEM                 the acoustic models
    EXP/graph/network.fst, EXP/graph/SYSTEM.fst      what they are decoded with
    EXP/lang                                         the words
    EXP/results.json                                 error rates, for the best system
    EXP/decode/SYSTEM/CONDITION/dev/wer.json         acoustic scale and word penalty

Everything is found from EXP: a run may have been moved.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from hybrid.decode.calibration import CALIBRATION
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import read_json
from hybrid.score.results import CONDITIONS, DEV, decode_folder, read_results

SPEAKER_INDEPENDENT = "_si"  # ends the name of the first pass of a system that adapts to speakers


@dataclass(frozen=True)
class System:
    """A system of a run: the folder of its model, its graph, and whether it is a network."""

    name: str
    model: Path
    graph: Path
    network: bool


@dataclass(frozen=True)
class Search:
    """How a system is decoded. word_penalty: a cost added to each word; beam in units of scaled cost."""

    acoustic_scale: float
    word_penalty: float = 0.0
    beam: float = 15.0
    max_active: int = 7000


def systems(exp: Path) -> Dict[str, System]:
    """Return the systems that a run has trained and that need one pass to decode, by name.

    Raises DataError where EXP is no run's folder.
    """
    remedy = "give the folder of a run (--exp of hybrid run), or run the recipe"
    if not exp.is_dir():
        raise DataError("no such folder", file=exp, remedy=remedy)
    found: Dict[str, System] = {}
    for config in sorted((exp / "gmm").glob("*/config.json")):
        about = read_json(config)
        if isinstance(about, dict) and about.get("kind") == "gmm":
            model = config.parent
            name = model.name + (SPEAKER_INDEPENDENT if about.get("adapted") else "")
            found[name] = System(name, model, exp / "graph" / f"{model.name}.fst", False)
    for config in sorted(exp.glob("*/model/config.json")):
        about = read_json(config)
        if isinstance(about, dict) and "model" in about:
            name = config.parent.parent.name
            found[name] = System(name, config.parent, exp / "graph" / "network.fst", True)
    if not found:
        raise DataError("no trained model in this folder", file=exp, remedy=remedy)
    return found


def find_system(exp: Path, name: Optional[str], condition: Optional[str]) -> System:
    """Return the system of that name, or without one the best on the development set by results.json.

    Raises ConfigError for a system that the run has not or that takes more than one pass, DataError where there are
    several and no results.
    """
    known = systems(exp)
    if name is None:
        return known[_best(exp, list(known), condition)]
    if name in known:
        return known[name]
    if f"{name}{SPEAKER_INDEPENDENT}" in known:
        raise ConfigError(
            f"{name} adapts to each speaker in further passes over all of their speech",
            remedy=f"use {name}{SPEAKER_INDEPENDENT}, its first pass, or a network",
        )
    raise ConfigError(f"no system {name!r} in {exp}", remedy=f"use one of {', '.join(known)}")


def _best(exp: Path, known: List[str], condition: Optional[str]) -> str:
    if len(known) == 1:
        return known[0]
    path = exp / "results.json"
    named = f"name a system: one of {', '.join(known)}"
    if not path.exists():
        raise DataError("several systems, and no results that say which is best", file=path, remedy=named)
    rows = [row for row in read_results(path) if row["set"] == DEV and row["system"] in known]
    rows = [row for row in rows if row["condition"] == _condition([row["condition"] for row in rows], condition)]
    if not rows:
        heard = "" if condition is None else f" in the condition {condition!r}"
        raise DataError(f"no results of the development set{heard}", file=path, remedy=named)
    # of equals the one further down: tables go from the weakest system to the strongest
    return str(min(reversed(rows), key=lambda row: row["wer"])["system"])


def _condition(there: List[str], wanted: Optional[str]) -> Optional[str]:
    """The condition wanted, or of those that are there the first in the order of tables: clean, if there is any."""
    if wanted is not None:
        return wanted
    return min(there, key=lambda name: (CONDITIONS.index(name) if name in CONDITIONS else len(CONDITIONS), name),
               default=None)  # fmt: skip


def find_search(exp: Path, system: System, condition: Optional[str], scale: float) -> Search:
    """Return the acoustic scale, the penalty and the beams that the run's decoding used in `condition`.

    Where the system was not decoded: `scale`, with a warning. Raises as `decoded_condition`, and DataError for a file
    that does not say.
    """
    chosen = decoded_condition(exp, system, condition)
    if chosen is None:
        warnings.warn(
            f"{system.name} of {exp} was not decoded: no acoustic scale was chosen on a development set, {scale:g} is "
            "taken (hybrid run ... --stage decode chooses one)",
            stacklevel=3,  # the caller of load
        )
        return Search(scale)
    path = decode_folder(exp, system.name, chosen, DEV) / "wer.json"
    settings = read_json(path).get("settings", {})
    try:
        return Search(
            float(settings["acoustic_scale"]), float(settings["word_penalty"]),
            float(settings.get("beam", Search.beam)), int(settings.get("max_active", Search.max_active)),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"no acoustic scale and word penalty: {error}", file=path, remedy="run the decode stage again"
        ) from None


def decoded_condition(exp: Path, system: System, condition: Optional[str]) -> Optional[str]:
    """Return the condition whose decoding says how to search: `condition`, or without one clean, or the first that
    there is; None where the system was not decoded.

    Raises DataError for a condition that was not decoded while others were.
    """
    decoded = sorted(path.parent.parent.name for path in (exp / "decode" / system.name).glob(f"*/{DEV}/wer.json"))
    chosen = _condition(decoded, condition)
    if not decoded or chosen in decoded:
        return chosen if decoded else None
    raise DataError(
        f"{system.name} was not decoded in the condition {chosen!r}",
        file=exp / "decode" / system.name,
        remedy=f"use one of {', '.join(decoded)}",
    )


def calibration_of(exp: Path, system: System, condition: Optional[str]) -> Optional[Path]:
    """Return the file by which a system's confidences are calibrated in a condition; None where there is none."""
    path = exp / "decode" / system.name / str(condition) / CALIBRATION
    return path if path.is_file() else None


def training_commit(exp: Path, system: System) -> Optional[str]:
    """Return the commit of the source that trained a system, as its stage's mark has it; None where no mark says."""
    stage = system.model.parent.name if system.network else "gmm"
    marks = [read_json(path) for path in sorted((exp / "marks").glob(f"*-{stage}.json"))]
    commits = [mark.get("commit") for mark in marks if isinstance(mark, dict)]
    return str(commits[-1]) if commits and commits[-1] else None


def backend_of(exp: Path, installed: List[str]) -> str:
    """Return the library that the run's features were computed with, where it is installed here; else "auto"."""
    path = exp / "features" / "features.json"
    used = read_json(path).get("backend") if path.exists() else None
    return str(used) if used in installed else "auto"


__all__: Tuple[str, ...] = (
    "Search", "System", "backend_of", "calibration_of", "decoded_condition", "find_search", "find_system", "systems",
    "training_commit",
)  # fmt: skip
