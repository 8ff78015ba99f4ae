"""A recogniser from what a run has trained: `hybrid.load("exp/an4")("a.wav").text`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from hybrid.data.features import available_backends
from hybrid.decode.acoustics import load_acoustics
from hybrid.decode.recogniser import Recogniser
from hybrid.decode.trained import backend_of, find_calibration, find_search, find_system
from hybrid.io import PathLike
from hybrid.lexicon.lang import Lang


def load(exp: PathLike, system: Optional[str] = None, *, condition: Optional[str] = None) -> Recogniser:
    """Load a recogniser from a run's folder.

    system: its name in the run's tables (mono, tri1, tri3_si, ce, lfmmi ...); without one the best on the development
    set by EXP/results.json. condition: of which the scale and the penalty were chosen; without one clean, or the first
    that there is.
    Raises HybridError that names the file which is missing or broken, and the stage that makes it.
    """
    exp = Path(exp)
    chosen = find_system(exp, system, condition)
    acoustics = load_acoustics(chosen.model, chosen.network)
    search = find_search(exp, chosen, condition, acoustics.scale)
    lang = Lang.load(exp / "lang")
    backend = backend_of(exp, available_backends())
    recogniser = Recogniser(chosen.name, acoustics, chosen.graph, lang, search, backend)
    recogniser.files = (chosen.model, chosen.graph)
    recogniser.calibration = find_calibration(exp, chosen, condition)
    return recogniser
