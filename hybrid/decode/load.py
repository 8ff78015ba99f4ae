"""A recogniser from what a run has trained, or from an export of it: `hybrid.load("exp/an4")("a.wav").text`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from hybrid.data.features import available_backends
from hybrid.decode.acoustics import Acoustics, load_acoustics
from hybrid.decode.calibration import Calibration
from hybrid.decode.exported import ONNX, check_same, is_export, open_export
from hybrid.decode.onnx_acoustics import INSTALL, OnnxAcoustics, onnxruntime_installed
from hybrid.decode.recogniser import Recogniser
from hybrid.decode.trained import backend_of, calibration_of, decoded_condition, find_search, find_system
from hybrid.device import choose
from hybrid.errors import ConfigError, MissingDependency
from hybrid.io import PathLike
from hybrid.lexicon.deferred import DeferredLang
from hybrid.lexicon.lang import Lang

SEARCHES = ("own", "k2")
_EXPORT = "hybrid export EXP SYSTEM OUT --onnx"
_WITHOUT_TORCH = "kaldi_native_fbank"  # the feature library that needs none


def load(
    exp: PathLike, system: Optional[str] = None, *, condition: Optional[str] = None, onnx: Optional[bool] = None,
    device: str = "cpu", search: str = "own",
) -> Recogniser:  # fmt: skip
    """Load a recogniser from a run's folder, or from one that `hybrid export` wrote.

    system: its name in the run's tables (mono, tri1, tri3_si, ce, lfmmi ...); without one the best on the development
    set by EXP/results.json. condition: of which the scale and the penalty were chosen; without one clean, or the first
    that there is. onnx: whether onnxruntime runs the network of an export; without it where it can, and then torch is
    not loaded. device: of the network or the Gaussians, "cpu", "cuda", "cuda:1", or "auto", a GPU where there is one;
    scores are the same bits on one device alone, and not on the CPU and a GPU, so that a GPU is used when it is asked
    for. search: "own", or "k2", which searches batches of whole utterances on the device (k2_search.py); streams and
    `transcribe` take our own.
    Raises HybridError that names the file which is missing or broken, and the stage that makes it.
    """
    exp = Path(exp)
    if search not in SEARCHES:
        raise ConfigError(f"search {search!r}", remedy=f"use one of {', '.join(SEARCHES)}")
    if onnx and device not in ("cpu", "auto"):
        raise ConfigError(f"onnxruntime does not use the device {device} here", remedy="leave onnx out, or the device")
    device = choose("cpu" if onnx else device)
    if is_export(exp):
        return _load_export(exp, system, condition, onnx, device, search)
    if onnx:
        raise ConfigError(f"a run has no ONNX form of its networks: {exp}", remedy=_EXPORT)
    chosen = find_system(exp, system, condition)
    acoustics = load_acoustics(chosen.model, chosen.network, device)
    settings = find_search(exp, chosen, condition, acoustics.scale)
    lang = Lang.load(exp / "lang")
    backend = backend_of(exp, available_backends())
    calibration = calibration_of(exp, chosen, decoded_condition(exp, chosen, condition))
    files = (chosen.model, chosen.graph, exp / "lang", *([] if calibration is None else [calibration]))
    return Recogniser(
        chosen.name, acoustics, chosen.graph, lang, settings, backend, files=files,
        calibration=None if calibration is None else Calibration.load(calibration),
        k2_device=device if search == "k2" else None,
    )  # fmt: skip


def _load_export(
    folder: Path, system: Optional[str], condition: Optional[str], onnx: Optional[bool], device: str, search: str
) -> Recogniser:
    export = open_export(folder)
    check_same(export, system, condition)
    if onnx and not export.onnx:
        raise ConfigError(f"no ONNX form of the network in {folder}", remedy=_EXPORT)
    if onnx and not onnxruntime_installed():
        raise MissingDependency("onnxruntime is not installed", remedy=INSTALL)
    installed = available_backends()
    backend = export.backend if export.backend in installed else "auto"
    acoustics: Acoustics
    if export.onnx and onnx is not False and device == "cpu" and onnxruntime_installed():
        acoustics = OnnxAcoustics(folder, ONNX)
        backend = _WITHOUT_TORCH if _WITHOUT_TORCH in installed else backend
    else:
        acoustics = load_acoustics(folder, export.network, device)
    lang = DeferredLang(export.lang)
    return Recogniser(
        export.system, acoustics, export.graph, lang, export.search, backend, files=(folder,),
        calibration=None if export.calibration is None else Calibration.load(export.calibration),
        k2_device=device if search == "k2" else None,
    )  # fmt: skip
