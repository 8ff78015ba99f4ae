"""A network run by onnxruntime: without torch, which takes seconds to load, and faster where one utterance is all there
is."""

from __future__ import annotations

from concurrent.futures import Executor
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import numpy as np

from hybrid.decode.acoustics import Arrays, NetworkFolder, Speakers
from hybrid.errors import DataError, MissingDependency, ModelError

_AGAIN = "export it again"
INSTALL = "pip install 'hybrid-asr[onnx]'"


def onnxruntime_installed() -> bool:
    return find_spec("onnxruntime") is not None


class OnnxAcoustics(NetworkFolder):
    """As NetworkAcoustics, whose numbers it gives within 1e-4. file: of nnet/onnx_export.py, beside the model.

    Raises MissingDependency without onnxruntime, ModelError for a file that is not of this model.
    """

    device = "cpu"

    def __init__(self, folder: Path, file: str) -> None:
        super().__init__(folder)
        self._file = file
        self._session = _session(folder / file)
        inputs = {item.name: item.shape for item in self._session.get_inputs()}
        outputs = {item.name: item.shape for item in self._session.get_outputs()}
        sound = set(inputs) == {"features", "lengths"} and list(outputs) == ["logits"]
        if not sound or inputs["features"][2:] != [self.input_dim] or outputs["logits"][2:] != [self.num_pdfs]:
            raise ModelError(
                f"a network from {inputs} to {outputs}, not from {self.input_dim} features to {self.num_pdfs} pdfs",
                file=folder / file, remedy=_AGAIN,
            )  # fmt: skip

    def loglikes(
        self, features: Mapping[str, np.ndarray], speakers: Speakers = None, *, executor: Optional[Executor] = None,
        jobs: int = 1,
    ) -> Arrays:  # fmt: skip
        read = self.network_input(features, speakers)
        if executor is None:
            return {name: self.outputs(x, name) for name, x in read.items()}
        names = sorted(read, key=lambda name: -len(read[name]))
        parts = [{name: read[name] for name in names[part::jobs]} for part in range(jobs)]
        found: Dict[str, np.ndarray] = {}
        for future in [executor.submit(_run_part, self.folder, self._file, part) for part in parts if part]:
            found.update(future.result())
        return {name: found[name] for name in read}

    def outputs(self, x: np.ndarray, utterance: Optional[str] = None) -> np.ndarray:
        """Return the log-likelihoods [T, num_pdfs] of one utterance's x [T, input_dim], as `network_input` makes it."""
        if x.shape[1] != self.input_dim:
            raise DataError(
                f"{x.shape[1]} features a frame, the model reads {self.input_dim}", utterance=utterance,
                remedy="compute the features with the model's own features.json",
            )  # fmt: skip
        inputs = {"features": np.ascontiguousarray(x[None], np.float32), "lengths": np.array([len(x)], np.int64)}
        logits: np.ndarray = self._session.run(["logits"], inputs)[0][0]
        if self.priors is not None:
            logits = logits - logits.max(axis=1, keepdims=True)
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
            logits -= np.log(self.priors).astype(np.float32)
        if not np.isfinite(logits).all():
            raise ModelError("the model's output is not finite", utterance=utterance, remedy="train it again")
        return logits


def _session(path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency(f"onnxruntime cannot be imported: {error}", remedy=INSTALL) from error
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"no network: {error.strerror}", file=path, remedy=_AGAIN) from None
    if b"location" in data:  # how a tensor says that it is kept in another file, of any path
        raise ModelError("a network whose parameters are in other files", file=path, remedy=_AGAIN)
    options = onnxruntime.SessionOptions()
    # One thread, as everywhere in a process; and no plan of memory for each length that was ever seen.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no type of their own
        what = " ".join(str(error).split())[:200]
        raise ModelError(f"onnxruntime cannot load it: {what}", file=path, remedy=_AGAIN) from error


@lru_cache(maxsize=1)
def _acoustics(folder: Path, file: str) -> OnnxAcoustics:
    return OnnxAcoustics(folder, file)


def _run_part(folder: Path, file: str, part: Mapping[str, np.ndarray]) -> Arrays:
    return {name: _acoustics(folder, file).outputs(x, name) for name, x in part.items()}
