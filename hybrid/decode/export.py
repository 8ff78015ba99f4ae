"""`hybrid export`: one folder that recognises anywhere, without the trainer and without the rest of the run."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterable, NamedTuple, Optional

import numpy as np

from hybrid.data.features import available_backends
from hybrid.decode.acoustics import NetworkAcoustics, load_acoustics
from hybrid.decode.calibration import CALIBRATION
from hybrid.decode.decoder import Decoder
from hybrid.decode.exported import (
    ABOUT,
    GRAPH,
    KIND,
    LANG,
    MODEL,
    ONNX,
    SENONES,
    Export,
    check_same,
    describe,
    is_export,
    open_export,
)
from hybrid.decode.graph_file import write_search_graph
from hybrid.decode.load import load
from hybrid.decode.onnx_acoustics import OnnxAcoustics, onnxruntime_installed
from hybrid.decode.search_graph import SearchGraph
from hybrid.decode.trained import (
    backend_of,
    calibration_of,
    decoded_condition,
    find_search,
    find_system,
    training_commit,
)
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.io import PathLike, atomic_folder, atomic_write, load_tensors, read_json, write_json
from hybrid.lexicon.lang import Lang
from hybrid.nnet.onnx_export import onnx_bytes

TOLERANCE = 1e-4  # between the log-likelihoods of onnxruntime and of torch, where these are of the size of 1
_TRIED = (1, 2, 7, 120)  # frames


class Written(NamedTuple):
    """What was exported. size: in bytes; difference: the largest of log-likelihoods between onnxruntime and torch, None
    where there is no ONNX form, or no onnxruntime to try it."""

    export: Export
    size: int
    difference: Optional[float]


class _Source(NamedTuple):
    """What an export is made of; folders are the run's, or those of another export. graph: a file."""

    export: Export
    model: Path
    graph: Path
    lang: Path
    calibration: Optional[Path]
    num_pdfs: int


def export(
    exp: PathLike, system: Optional[str], out: PathLike, *, condition: Optional[str] = None, onnx: bool = False
) -> Written:
    """Write what recognises with one system of a run (or of an export) into the folder `out`, which is whole or not
    there.

    condition: of which scale, penalty and calibration are taken; as `load` has it. onnx: whether to add an ONNX form of
    the network; where onnxruntime is installed, it is compared with torch.
    Raises ConfigError where `out` is neither an export nor empty, and for Gaussians in ONNX; MissingDependency without
    the package onnx; HybridError as `load` does.
    """
    out = Path(os.path.realpath(out))
    _check_free(out)
    source = _of_export(Path(exp), system, condition) if is_export(Path(exp)) else _of_run(Path(exp), system, condition)
    if onnx and not source.export.network:
        raise ConfigError(f"{source.export.system} is of Gaussians, which have no ONNX form", remedy="leave out --onnx")
    made, difference = replace(source.export, folder=out, onnx=onnx), None
    with atomic_folder(out) as folder:
        _copy(source.model, folder, MODEL)
        for name, path in ((SENONES, source.model / SENONES), (LANG, source.lang)):
            _copy(path, folder / name, sorted(item.name for item in path.iterdir()))
        if source.calibration is not None:
            _copy(source.calibration.parent, folder, [CALIBRATION])
        write_search_graph(folder / GRAPH, _graph(source))
        if onnx:
            difference = _write_onnx(folder)
        write_json(folder / ABOUT, made.to_json(describe(folder)))
        load(folder)  # what cannot be loaded is not written
        size = sum(path.stat().st_size for path in folder.rglob("*"))
    return Written(made, size, difference)


def _of_run(exp: Path, system: Optional[str], condition: Optional[str]) -> _Source:
    chosen = find_system(exp, system, condition)
    acoustics = load_acoustics(chosen.model, chosen.network)
    search = find_search(exp, chosen, condition, acoustics.scale)
    decoded = decoded_condition(exp, chosen, condition)
    about = Export(
        exp, chosen.name, decoded, chosen.network, False, acoustics.features.sampling_rate,
        backend_of(exp, available_backends()), search, training_commit(exp, chosen),
    )  # fmt: skip
    calibration = calibration_of(exp, chosen, decoded)
    return _Source(about, chosen.model, chosen.graph, exp / "lang", calibration, acoustics.num_pdfs)


def _of_export(folder: Path, system: Optional[str], condition: Optional[str]) -> _Source:
    about = open_export(folder)
    check_same(about, system, condition)
    num_pdfs = load_acoustics(folder, about.network).num_pdfs
    return _Source(about, folder, about.graph, about.lang, about.calibration, num_pdfs)


def _graph(source: _Source) -> SearchGraph:
    """Return the graph, checked against model and lexicon."""
    decoder, words = Decoder(source.graph, num_pdfs=source.num_pdfs), Lang.load(source.lang).word_disambig
    if decoder.max_word >= words:
        raise ModelError(
            f"the graph has words up to {decoder.max_word}, the lexicon {words - 1}", file=source.graph,
            remedy="run the graph stage again",
        )  # fmt: skip
    return decoder.graph


def _check_free(out: Path) -> None:
    """Raise ConfigError unless `out` is absent, an empty folder, or an export that may be replaced."""
    if not out.exists():
        return
    remedy = "give the name of a new folder, or of an export that is to be replaced"
    if not out.is_dir():
        raise ConfigError(f"{out} is no folder", remedy=remedy)
    try:
        about = read_json(out / ABOUT) if any(out.iterdir()) else {"kind": KIND}
    except DataError:
        about = None
    if not isinstance(about, dict) or about.get("kind") != KIND:
        raise ConfigError(f"{out} is neither an export nor empty", remedy=remedy)


def _copy(source: Path, target: Path, names: Iterable[str]) -> None:
    for name in names:
        try:
            stream = open(source / name, "rb")
        except OSError as error:
            raise ModelError(f"cannot be read: {error.strerror}", file=source / name) from error
        with stream, atomic_write(target / name) as copy:
            shutil.copyfileobj(stream, copy)


def _write_onnx(folder: Path) -> Optional[float]:
    """Write the ONNX form of the network in a folder; return how far it is from torch, None without onnxruntime."""
    config: Dict[str, Any] = read_json(folder / "config.json")
    torch_form = NetworkAcoustics(folder)
    settings = torch_form.model.config.to_dict()  # with what older folders leave to the defaults
    with atomic_write(folder / ONNX) as stream:
        stream.write(onnx_bytes(str(config["kind"]), settings, load_tensors(folder / "model.safetensors")))
    if not onnxruntime_installed():
        return None
    onnx_form, rng, difference = OnnxAcoustics(folder, ONNX), np.random.default_rng(0), 0.0
    for frames in _TRIED:
        x = rng.standard_normal((frames, torch_form.input_dim)).astype(np.float32)
        wanted = torch_form.outputs(x)
        found = float(np.abs(onnx_form.outputs(x) - wanted).max())
        difference = max(difference, found)
        if found > TOLERANCE * max(1.0, float(np.abs(wanted).max())):
            raise ModelError(
                f"onnxruntime's log-likelihoods of {frames} frames differ from torch's by {found:.2g}", file=folder,
                remedy="export it without --onnx, and report this: it is a defect",
            )  # fmt: skip
    return difference
