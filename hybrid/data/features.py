"""Features: one front end over three libraries that give the same numbers, and the driver that fills a set.

Both kinds follow Kaldi (compute-mfcc-feats, compute-fbank-feats): 25 ms Povey windows every 10 ms, preemphasis
0.97, the mean of each frame removed, no dither, frames centred on multiples of the shift (snip-edges=false), so
N samples at 16 kHz give round(N / 160) frames, at 8 kHz round(N / 80). They are computed in blocks of a fixed size
(frame_blocks.py), so that speech which arrives piece by piece has the same numbers to the last bit. Audio is given
in [-1, 1] and scaled to Kaldi's 16-bit range inside, because the logarithm's floor (1.2e-7) lies far below the quietest
speech only on that scale.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence

import numpy as np

from hybrid.data.audio import load_samples
from hybrid.data.cmvn import apply_cmvn, cmvn_stats
from hybrid.data.feature_config import (
    FeatureConfig,
    LogMel,
    Mfcc,
    config_from_json,
    config_to_json,
    kind_of,
    window_samples,
)
from hybrid.data.frame_blocks import Compute, FrameBlocks
from hybrid.data.transforms import deltas, splice, stack_frames
from hybrid.device import choose
from hybrid.errors import ConfigError, DataError, MissingDependency
from hybrid.io import PathLike, Problems
from hybrid.parallel import worker_number

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from hybrid.data.arrays import Progress

__all__ = [
    "Extraction",
    "FeatureExtractor",
    "LogMel",
    "Mfcc",
    "apply_cmvn",
    "available_backends",
    "cmvn_stats",
    "config_from_json",
    "config_to_json",
    "deltas",
    "extract",
    "extract_kinds",
    "splice",
    "stack_frames",
]

SCALE = 32768.0
BACKENDS = ("kaldifeat", "lhotse", "kaldi_native_fbank")


def available_backends() -> list[str]:
    """Return the names of the installed feature libraries, best first."""
    return [name for name in BACKENDS if find_spec(name) is not None]


@dataclass
class FeatureExtractor:
    """`compute(samples, rate)` -> [T, D]; picklable, and the library is imported at the first call.

    device: hybrid/device.py; each process takes its own GPU. Features from a GPU have not the bits of those from the
    CPU. kaldi_native_fbank knows the CPU alone.
    backend "auto" takes kaldifeat where it is installed, else lhotse's. The three agree within 0.01 per
    coefficient on speech (tests/test_features.py), so a model trained with one decodes with another.
    """

    config: FeatureConfig = field(default_factory=LogMel)
    backend: str = "auto"
    device: str = "cpu"
    _function: Optional[Compute] = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.backend != "auto" and self.backend not in BACKENDS:
            raise ConfigError(
                f"unknown feature backend '{self.backend}'", remedy=f"use one of auto, {', '.join(BACKENDS)}"
            )

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, "_function": None}

    @property
    def dim(self) -> int:
        return self.config.dim

    @property
    def kind(self) -> str:
        return kind_of(self.config)

    @property
    def backend_used(self) -> str:
        return available_backends()[0] if self.backend == "auto" else self.backend

    def num_frames(self, num_samples: int) -> int:
        """Return the number of frames of so many samples, as Kaldi with snip-edges=false.

        It is round(num_samples / frame shift in samples), halves up.
        """
        shift = round(self.config.frame_shift * self.config.sampling_rate)
        return (num_samples + shift // 2) // shift

    def compute(self, samples: np.ndarray, sampling_rate: int) -> np.ndarray:
        """Compute the features float32 [T, D] of samples [N] or [1, N], float in [-1, 1].

        Raises DataError: another sampling rate, more channels, less than one window, NaN or infinity.
        """
        samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim == 2 and samples.shape[0] == 1:
            samples = samples[0]
        if samples.ndim != 1:
            raise DataError(f"audio of shape {list(samples.shape)} where one channel is wanted", remedy="pick one")
        if sampling_rate != self.config.sampling_rate:
            raise DataError(
                f"audio at {sampling_rate} Hz for features at {self.config.sampling_rate} Hz",
                remedy="read it with load_samples, which resamples",
            )
        window = int(self.config.frame_length * sampling_rate)
        if len(samples) < window:
            raise DataError(
                f"audio of {len(samples)} samples is shorter than one window of {window}", remedy="leave it out"
            )
        if not np.isfinite(samples).all():
            raise DataError("audio holds NaN or infinite samples", remedy="convert the file again or leave it out")
        blocks = self.blocks()
        result = np.concatenate([blocks.accept(samples), blocks.finish()])
        if result.shape != (self.num_frames(len(samples)), self.dim):
            raise RuntimeError(f"{self.backend_used} gave {result.shape} for {len(samples)} samples")
        return result

    def blocks(self) -> FrameBlocks:
        """Return what computes the frames of one signal piece by piece, the same as `compute` does."""
        if self._function is None:
            self._function = _BUILD[self.backend_used](self.config, choose(self.device, worker_number()))
        length, shift = window_samples(self.config)
        return FrameBlocks(self._function, self.dim, length, shift)


@dataclass
class _Extract:
    """Computes several kinds of features of a cut, whose audio is read once for those of one rate."""

    extractors: Dict[str, FeatureExtractor]

    def __call__(self, cut: Cut) -> Dict[str, np.ndarray]:
        samples: Dict[int, np.ndarray] = {}
        arrays = {}
        for name, extractor in self.extractors.items():
            rate = extractor.config.sampling_rate
            if rate not in samples:
                samples[rate] = load_samples(cut, rate)
            arrays[name] = extractor.compute(samples[rate], rate)
        return arrays


def extract(
    cuts: Iterable[Cut],
    extractor: FeatureExtractor,
    folder: PathLike,
    *,
    executor: Optional[Executor] = None,
    problems: Optional[Problems] = None,
    progress: Optional[Progress] = None,
    shard_size: int = 500,
) -> int:
    """Write the features of every cut as a set of arrays (hybrid/data/arrays.py) called "mfcc" or "logmel".

    Resumes after a kill. Cuts whose audio cannot be used go to `problems` and are left out; without `problems`
    the first raises its DataError. Returns how many cuts were written.
    """
    return extract_kinds(
        cuts, [Extraction(extractor, Path(folder), problems)], executor=executor, progress=progress,
        shard_size=shard_size,
    )[0]  # fmt: skip


@dataclass(frozen=True)
class Extraction:
    """What is extracted, and the set that it is written to, as in `extract`."""

    extractor: FeatureExtractor
    folder: Path
    problems: Optional[Problems] = None


def extract_kinds(
    cuts: Iterable[Cut],
    extractions: Sequence[Extraction],
    *,
    executor: Optional[Executor] = None,
    progress: Optional[Progress] = None,
    shard_size: int = 500,
) -> List[int]:
    """Write several kinds of features of every cut, a set each, in one pass over the audio; return how many cuts were
    written of each. A cut of which one kind cannot be computed is left out of all. Else as `extract`."""
    from hybrid.data.array_writing import ArraySet, write_sets  # with lhotse, which a recogniser may do without

    extractors = {each.extractor.kind: each.extractor for each in extractions}
    sets = [
        ArraySet(
            each.folder, [each.extractor.kind], each.extractor.config.frame_shift,
            {"features": config_to_json(each.extractor.config), "backend": each.extractor.backend_used},
            each.problems,
        )
        for each in extractions
    ]  # fmt: skip
    return write_sets(
        sets, cuts, _Extract(extractors), executor=executor, progress=progress, shard_size=shard_size
    )


# ------------------------------------------------------------------ the libraries: of segments their BLOCK frames

_TOGETHER = 256  # segments that a GPU is given at once: 164 s of speech


def _need(name: str, command: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependency(f"{name} cannot be imported: {error}", remedy=command) from error


def _kaldifeat(config: FeatureConfig, device: str) -> Compute:
    kaldifeat = _need("kaldifeat", "pip install kaldifeat, or set the feature backend to lhotse")
    torch = import_module("torch")
    options = kaldifeat.MfccOptions() if isinstance(config, Mfcc) else kaldifeat.FbankOptions()
    _set_options(options, config)
    options.device = torch.device(device)
    computer = kaldifeat.Mfcc(options) if isinstance(config, Mfcc) else kaldifeat.Fbank(options)
    return _by_torch(lambda segments: torch.stack(computer(list(segments))), device)


def _kaldi_native_fbank(config: FeatureConfig, device: str) -> Compute:
    knf = _need("kaldi_native_fbank", "pip install kaldi-native-fbank")
    options = knf.MfccOptions() if isinstance(config, Mfcc) else knf.FbankOptions()
    _set_options(options, config)
    computer = knf.OnlineMfcc if isinstance(config, Mfcc) else knf.OnlineFbank

    def compute(samples: np.ndarray) -> np.ndarray:
        online = computer(options)
        online.accept_waveform(config.sampling_rate, samples * np.float32(SCALE))
        return np.stack([online.get_frame(frame) for frame in range(online.num_frames_ready)])

    return partial(map, compute)


def _set_options(options: Any, config: FeatureConfig) -> None:
    """kaldifeat and kaldi-native-fbank share Kaldi's names of options."""
    options.frame_opts.samp_freq = config.sampling_rate
    options.frame_opts.frame_length_ms = 1000 * config.frame_length
    options.frame_opts.frame_shift_ms = 1000 * config.frame_shift
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = config.num_bins
    options.mel_opts.low_freq = config.low_freq
    options.mel_opts.high_freq = config.high_freq
    options.use_energy = isinstance(config, Mfcc) and config.use_energy
    if isinstance(config, Mfcc):
        options.num_ceps = config.num_ceps
        options.cepstral_lifter = config.cepstral_lifter


def _lhotse(config: FeatureConfig, device: str) -> Compute:
    torch = import_module("torch")
    layers = import_module("lhotse.features.kaldi.layers")
    common = {
        "sampling_rate": config.sampling_rate,
        "frame_length": config.frame_length,
        "frame_shift": config.frame_shift,
        "num_filters": config.num_bins,
        "low_freq": config.low_freq,
        "high_freq": config.high_freq,
        "use_energy": False,
        "dither": 0.0,
        "snip_edges": False,  # here, for lhotse warns of the other
    }
    if isinstance(config, Mfcc):
        lifter = config.cepstral_lifter
        layer = layers.Wav2MFCC(num_ceps=config.num_ceps, cepstral_lifter=lifter, **common)
    else:
        layer = layers.Wav2LogFilterBank(**common)
    layer.wav2win.snip_edges = True
    layer = layer.to(device)

    def compute(segments: Any) -> Any:
        result = layer(segments)
        if isinstance(config, Mfcc) and config.use_energy:
            # lhotse 1.33's own use_energy overwrites the first frame instead of the first coefficient.
            energies = np.stack([_log_energy(samples, config) for samples in segments.cpu().numpy()])
            result[:, :, 0] = torch.from_numpy(energies).to(device)
        return result

    return _by_torch(compute, device)


def _by_torch(compute: Callable[[Any], Any], device: str) -> Compute:
    """Return what computes segments by `compute`, tensors [segments, samples] on a device -> [segments, BLOCK, dim].

    On the CPU each alone: the last bits of a segment depend on how many there are. A GPU is given many at once.
    """
    torch = import_module("torch")
    together = 1 if device == "cpu" else _TOGETHER

    def compute_all(segments: List[np.ndarray]) -> Iterator[np.ndarray]:
        for first in range(0, len(segments), together):
            samples = torch.from_numpy(np.stack(segments[first : first + together]) * np.float32(SCALE))
            with torch.no_grad():
                yield from compute(samples.to(device)).cpu().numpy()

    return compute_all


def _log_energy(samples: np.ndarray, config: Mfcc) -> np.ndarray:
    """Kaldi's raw log energy [T]: of the frame without its mean, before preemphasis and window."""
    length, shift = window_samples(config)
    windows = np.lib.stride_tricks.sliding_window_view(samples, length)[::shift].astype(np.float64)
    energy = np.square(windows - windows.mean(axis=1, keepdims=True)).sum(axis=1)
    return np.log(np.maximum(energy, np.finfo(np.float32).eps))


_BUILD = {"kaldifeat": _kaldifeat, "lhotse": _lhotse, "kaldi_native_fbank": _kaldi_native_fbank}
