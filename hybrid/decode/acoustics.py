"""An acoustic model of a run as decoding sees it: which features it reads, and their log-likelihoods."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Protocol

import numpy as np

from hybrid.data.cmvn import apply_cmvn
from hybrid.data.feature_config import FeatureConfig, config_from_json
from hybrid.data.online_cmvn import online_cmvn_of
from hybrid.data.transforms import model_input
from hybrid.errors import ConfigError, ModelError
from hybrid.gmm.device import DeviceGmms
from hybrid.gmm.model import GmmModel
from hybrid.hmm.senones import Senones
from hybrid.io import read_json
from hybrid.nnet.priors import priors_of_model

Arrays = Dict[str, np.ndarray]
Speakers = Optional[Mapping[str, str]]  # id -> speaker; None: each utterance has one of its own


_AGAIN = "run the stage that trains the model again"


class Acoustics(Protocol):
    """features: what `loglikes` is given, not normalised; per_speaker: whether it takes a speaker's mean off;
    cmvn: whose mean that is ("speaker", "utterance", "online", "none"; "+variance"); frame_shift: of `loglikes`, in
    seconds; scale: of its log-likelihoods, where no development set has chosen one; device: of torch."""

    features: FeatureConfig
    num_pdfs: int
    frame_shift: float
    senones: Senones
    per_speaker: bool
    cmvn: str
    scale: float
    device: str

    def loglikes(
        self, features: Mapping[str, np.ndarray], speakers: Speakers = None, *, executor: Optional[Executor] = None,
        jobs: int = 1,
    ) -> Arrays:  # fmt: skip
        """Return float32 [frames, num_pdfs] of each utterance, natural log. executor: takes a network's work, in so
        many parts."""
        ...


class NetworkFolder:
    """What a network's folder says beside the parameters: features, senones, priors, frames. torch is not loaded.

    outputs [T, num_pdfs] are likelihoods where `priors` is None, else posteriors to be divided by them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, file = folder, folder / "config.json"
        config = read_json(file)
        _check_names(config, file, "frame_shift", "model")
        _check_names(config["model"], file, "num_pdfs", "input_dim")
        self.frame_shift = _positive(config, "frame_shift", (int, float), file)
        self.num_pdfs = _positive(config["model"], "num_pdfs", int, file)
        self.input_dim = _positive(config["model"], "input_dim", int, file)
        self.senones = Senones.load(folder / "senones")
        self._settings = read_json(folder / "features.json")
        file = folder / "features.json"
        self.features = _features(self._settings, "logmel", file)
        self.priors = priors_of_model(folder)
        self.scale = 1.0 if self.priors is None else 0.3
        _check_names(self._settings, file, "cmvn", "frame_subsampling_factor")
        self.cmvn = str(self._settings["cmvn"])
        self.frame_subsampling_factor = _positive(self._settings, "frame_subsampling_factor", int, file)
        self.per_speaker = self.cmvn.startswith("speaker")
        self.online_cmvn = online_cmvn_of({**config, **self._settings}, self.cmvn.endswith("+variance"))
        self.chunk: Optional[Mapping[str, int]] = config.get("chunk")  # of streams (hybrid/online)
        read = self.features.dim * self.frame_subsampling_factor
        sizes = [self.senones.num_pdfs] if self.priors is None else [self.senones.num_pdfs, len(self.priors)]
        if any(size != self.num_pdfs for size in sizes) or read != self.input_dim:
            raise ModelError(
                f"a network from {self.input_dim} features to {self.num_pdfs} pdfs beside "
                f"{self.frame_subsampling_factor} x {self.features.dim} features and senones (and priors) of {sizes} "
                "pdfs",
                file=folder, remedy="the parts are of several models: " + _AGAIN,
            )  # fmt: skip

    def network_input(self, features: Mapping[str, np.ndarray], speakers: Speakers) -> Arrays:
        """Return what the network reads of features that are not normalised, float32 [T, input_dim]."""
        return model_input(features, speakers, self._settings)


class NetworkAcoustics(NetworkFolder):
    """A network run by torch: log posteriors less log priors, or the outputs of one trained per sequence as they
    are. device: of torch, where the model lies and all of its work is done; what goes in and comes out are arrays."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        from hybrid.nnet.model_io import load_model

        self.model, _ = load_model(folder, device)
        self.device = device
        super().__init__(folder)

    def loglikes(
        self, features: Mapping[str, np.ndarray], speakers: Speakers = None, *, executor: Optional[Executor] = None,
        jobs: int = 1,
    ) -> Arrays:  # fmt: skip
        read = self.network_input(features, speakers)
        if self.cmvn == "online":  # made to stream: an utterance has the bits of its stream
            from hybrid.online.network import chunk_config, chunked_set_loglikes

            config = chunk_config(self.model, self.chunk)
            return chunked_set_loglikes(self.model, config, self.priors, read, executor=executor, jobs=jobs)
        return self._computed(read, executor, jobs)

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """Return the log-likelihoods [T, num_pdfs] of one utterance's x [T, input_dim], as `network_input` makes it."""
        return self._computed({"": x}, None, 1)[""]

    def _computed(self, read: Arrays, executor: Optional[Executor], jobs: int) -> Arrays:
        from hybrid.data.batches import Utterance
        from hybrid.nnet.infer import compute_loglikes

        data = [Utterance(name, x) for name, x in read.items()]
        return compute_loglikes(self.model, data, self.priors, executor=executor, device=self.device, jobs=jobs)


class GmmAcoustics:
    """A Gaussian system's folder, without speakers' transforms. device: of torch, of whole utterances' likelihoods;
    those of streams are few at a time and stay on the CPU."""

    scale = 0.1
    per_speaker = True
    cmvn = "speaker"

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self.folder, self.model, self.device = folder, GmmModel.load(folder), device
        self._on_device = None if device == "cpu" else DeviceGmms(self.model.first_pass, device)
        settings = read_json(folder / "features.json")
        self.features = _features(settings, "mfcc", folder / "features.json")
        self.num_pdfs = self.model.gmms.num_pdfs
        self.frame_shift = float(self.features.frame_shift)
        self.senones = self.model.senones
        cmvn = settings.get("cmvn")
        self.norm_vars = bool(isinstance(cmvn, dict) and cmvn.get("variance", False))
        self.online_cmvn = online_cmvn_of(settings, self.norm_vars)

    def loglikes(
        self, features: Mapping[str, np.ndarray], speakers: Speakers = None, *, executor: Optional[Executor] = None,
        jobs: int = 1,
    ) -> Arrays:  # fmt: skip
        read = self.transformed(features, speakers)
        if self._on_device is not None:
            return {name: np.ascontiguousarray(self._on_device.loglikes(x).T) for name, x in read.items()}
        return {name: self.model.loglikes(x, adapted=False) for name, x in read.items()}

    def transformed(self, features: Mapping[str, np.ndarray], speakers: Speakers = None) -> Arrays:
        """Return what the mixtures read, before speakers' transforms: MFCC normalised per speaker (Kaldi's apply-cmvn),
        then the model's feature transform."""
        read = apply_cmvn(features, speakers, variance=self.norm_vars)
        return {name: self.model.feature_transform.apply(x, [len(x)]) for name, x in read.items()}


def load_acoustics(folder: Path, network: bool, device: str = "cpu") -> Acoustics:
    """Return the acoustic model of a folder. device: as hybrid/device.py chose it. Raises ModelError."""
    return NetworkAcoustics(folder, device) if network else GmmAcoustics(folder, device)


def _check_names(values: Any, file: Path, *names: str) -> None:
    for name in names:
        if not isinstance(values, dict) or name not in values:
            raise ModelError(f"no {name}: another version has written it", file=file, remedy=_AGAIN)


def _positive(values: Mapping[str, Any], name: str, kind: Any, file: Path) -> Any:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value < float("inf"):
        raise ModelError(f"{name} is {value!r}, not a number above 0", file=file, remedy=_AGAIN)
    return value


def _features(settings: Any, kind: str, file: Path) -> FeatureConfig:
    if not isinstance(settings, dict) or not isinstance(settings.get(kind), dict):
        raise ModelError(f"no features of the kind {kind}", file=file, remedy="run the stage that trains the model")
    try:
        return config_from_json(settings[kind])
    except (ConfigError, TypeError, ValueError) as error:
        what = error.what if isinstance(error, ConfigError) else f"features '{kind}': {error}"
        raise ModelError(what, file=file, remedy=_AGAIN) from error
