"""What features are made: the settings of MFCC and log mel, as they stand in a model's features.json."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Mapping, Tuple, Union

import numpy as np

from hybrid.data.transforms import mel
from hybrid.errors import ConfigError


@dataclass(frozen=True)
class Mfcc:
    """Kaldi's default MFCC; `use_energy` puts the frame's log energy in the place of C0."""

    num_ceps: int = 13
    num_bins: int = 23
    low_freq: float = 20.0
    high_freq: float = 0.0  # 0 is the Nyquist frequency, below 0 counts from it
    cepstral_lifter: float = 22.0
    use_energy: bool = False
    sampling_rate: int = 16000
    frame_length: float = 0.025
    frame_shift: float = 0.01

    def __post_init__(self) -> None:
        _check(self)

    @property
    def dim(self) -> int:
        return self.num_ceps


@dataclass(frozen=True)
class LogMel:
    """Kaldi's log mel filter bank; 20 to 7600 Hz as lhotse, icefall and most recipes of today, 20 to 3600 at 8 kHz."""

    num_bins: int = 64
    low_freq: float = 20.0
    high_freq: float = -400.0
    sampling_rate: int = 16000
    frame_length: float = 0.025
    frame_shift: float = 0.01

    def __post_init__(self) -> None:
        _check(self)

    @property
    def dim(self) -> int:
        return self.num_bins


FeatureConfig = Union[Mfcc, LogMel]
_KINDS = {"mfcc": Mfcc, "logmel": LogMel}


def _check(config: FeatureConfig) -> None:
    """Raise ConfigError for what would give frames that drift in time, or bands that hear nothing."""
    rate, kind = config.sampling_rate, kind_of(config)
    if rate <= 0 or config.frame_shift <= 0 or config.frame_length < config.frame_shift:
        raise ConfigError(
            f"features '{kind}': windows of {config.frame_length} s every {config.frame_shift} s at {rate} Hz",
            remedy="give a rate and a shift above 0, and windows that are no shorter than the shift",
        )
    shift = config.frame_shift * rate
    if abs(shift - round(shift)) > 1e-6:
        # Kaldi takes whole samples: frames would come 0.2 % too early, 23 ms in ten seconds at 11025 Hz.
        raise ConfigError(
            f"features '{kind}': a shift of {config.frame_shift} s is {shift:g} samples at {rate} Hz",
            remedy=f"resample the speech, to {8000 if rate < 16000 else 16000} Hz for one",
        )
    nyquist = rate / 2
    high = config.high_freq if config.high_freq > 0 else nyquist + config.high_freq
    if not 0 <= config.low_freq < high <= nyquist:
        raise ConfigError(
            f"features '{kind}': bands from {config.low_freq:g} to {high:g} Hz, where audio at {rate} Hz ends at "
            f"{nyquist:g}",
            remedy="set low_freq and high_freq; a high_freq of 0 or below counts from the end",
        )
    size = 1 << (int(config.frame_length * rate) - 1).bit_length()  # of the transform
    edges = np.linspace(mel(config.low_freq), mel(high), config.num_bins + 2)
    lines = mel(np.arange(size // 2) * rate / size)
    line_counts = np.searchsorted(lines, edges[2:], "left") - np.searchsorted(lines, edges[:-2], "right")
    if config.num_bins < 1 or not (line_counts > 0).all():
        raise ConfigError(
            f"features '{kind}': {config.num_bins} bands from {config.low_freq:g} to {high:g} Hz are narrower than the "
            f"lines of a spectrum at {rate} Hz, {rate / size:g} Hz apart",
            remedy="set a smaller num_bins",
        )


def config_to_json(config: FeatureConfig) -> Dict[str, Any]:
    """Return {"kind": "mfcc" or "logmel", and the settings}: what stands in a model's features.json."""
    return {"kind": kind_of(config), **asdict(config)}


def config_from_json(values: Mapping[str, Any]) -> FeatureConfig:
    """Read what `config_to_json` returned. Raises ConfigError for an unknown kind or setting."""
    settings = dict(values)
    kind = settings.pop("kind", None)
    if kind not in _KINDS:
        raise ConfigError(f"unknown kind of features {kind!r}", remedy=f"use one of {', '.join(_KINDS)}")
    try:
        return _KINDS[kind](**settings)
    except TypeError as error:
        raise ConfigError(f"features '{kind}': {error}") from None


def window_samples(config: FeatureConfig) -> Tuple[int, int]:
    """Return the length and the shift of the windows, in samples."""
    return int(config.frame_length * config.sampling_rate), round(config.frame_shift * config.sampling_rate)


def kind_of(config: FeatureConfig) -> str:
    return next(kind for kind, cls in _KINDS.items() if isinstance(config, cls))
