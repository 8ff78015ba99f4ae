"""Features on a GPU, as far as a machine without one can show it: the numbers of the CPU, and many segments at once."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, List

import numpy as np
import pytest
import torch
from device_tools import HOPPER, TURING, PretendedGpu, pretend_gpus
from lhotse import CutSet

from hybrid.data import features
from hybrid.data.features import FeatureExtractor, LogMel, Mfcc
from hybrid.data.frame_blocks import BLOCK
from hybrid.errors import ConfigError
from hybrid.label import manifest

RATE = 16000


def noise(seconds: float) -> np.ndarray:
    return (np.random.default_rng(1).standard_normal(int(seconds * RATE)) * 0.1).astype(np.float32)


@pytest.mark.parametrize("config", [LogMel(), Mfcc(), Mfcc(use_energy=True)])
@pytest.mark.parametrize("seconds", [0.03, 0.7, 4.0])
def test_lhotses_features_there(monkeypatch: pytest.MonkeyPatch, config: Any, seconds: float) -> None:
    monkeypatch.setattr(features, "_TOGETHER", 3)
    samples = noise(seconds)
    wanted = FeatureExtractor(config, "lhotse").compute(samples, RATE)
    pretend_gpus(monkeypatch, HOPPER, TURING)
    extractor = pickle.loads(pickle.dumps(FeatureExtractor(config, "lhotse", "auto")))
    with PretendedGpu() as gpu:
        found = extractor.compute(samples, RATE)
    assert sum(gpu.counts.values()) > 5  # it was computed there
    assert type(found) is np.ndarray and found.dtype == np.float32 and found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=1e-3)


def test_a_gpu_is_given_many_segments_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch for every 64 frames would leave it idle; the CPU takes each alone, for the sake of the last bits."""
    sizes: List[int] = []

    def fake_torch(compute: Any, device: str) -> Any:
        return real(lambda segments: (sizes.append(len(segments)), compute(segments))[1], device)

    real = features._by_torch
    monkeypatch.setattr(features, "_by_torch", fake_torch)
    pretend_gpus(monkeypatch, TURING, TURING)
    samples = noise(0.01 * BLOCK * 9 + 0.3)
    FeatureExtractor(LogMel(), "lhotse").compute(samples, RATE)
    assert sizes == [1] * 11  # the block that the end finds half full is computed again with it
    sizes.clear()
    with PretendedGpu():
        FeatureExtractor(LogMel(), "lhotse", "cuda:1").compute(samples, RATE)
    assert sizes == [10, 1]


class FakeKaldifeat(ModuleType):
    """Its interface: options with a device; a list of signals -> of each [frames, bins], on that device."""

    def __init__(self) -> None:
        super().__init__("kaldifeat")
        self.devices: List[torch.device] = []

    def FbankOptions(self) -> Any:
        return SimpleNamespace(frame_opts=SimpleNamespace(), mel_opts=SimpleNamespace(), device=torch.device("cpu"))

    def Fbank(self, options: Any) -> Any:
        def compute(signals: List[torch.Tensor]) -> List[torch.Tensor]:
            assert isinstance(signals, list) and all(signal.dim() == 1 for signal in signals)
            self.devices += [options.device]
            return [signal.to(options.device).reshape(-1)[: BLOCK * 64].reshape(BLOCK, 64) for signal in signals]

        return compute


@pytest.mark.parametrize(("device", "place"), [("cpu", "cpu"), ("auto", "cuda:1"), ("cuda:1", "cuda:1")])
def test_kaldifeat_is_told_its_device(monkeypatch: pytest.MonkeyPatch, device: str, place: str) -> None:
    fake = FakeKaldifeat()
    monkeypatch.setitem(sys.modules, "kaldifeat", fake)
    pretend_gpus(monkeypatch, HOPPER, TURING)
    with PretendedGpu():
        found = FeatureExtractor(LogMel(), "kaldifeat", device).compute(noise(2.0), RATE)
    assert found.shape == (200, 64) and {str(used) for used in fake.devices} == {place}


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpus(monkeypatch)
    with pytest.raises(ConfigError, match="device is cuda, but torch sees none"):
        FeatureExtractor(LogMel(), "lhotse", "cuda").compute(noise(1.0), RATE)


def test_labelling_computes_features_where_its_teacher_is(monkeypatch: pytest.MonkeyPatch, small_cuts: CutSet) -> None:
    cuts = list(small_cuts)[:2]
    rate = cuts[0].sampling_rate
    about = {"logmel": features.config_to_json(LogMel(sampling_rate=rate))}
    used: List[str] = []

    def extractor(config: Any, device: str) -> FeatureExtractor:
        used.append(device)
        return FeatureExtractor(config, "lhotse")

    class Teacher:
        device, features = torch.device("cuda:1"), about

        def __call__(self, data: List[Any]) -> Any:
            return {utterance.id: utterance.features for utterance in data}

    monkeypatch.setattr(manifest, "FeatureExtractor", extractor)
    monkeypatch.setattr(manifest, "model_input", lambda raw, speakers, about: raw)
    monkeypatch.setattr(manifest, "_teacher", lambda label: Teacher())
    label = manifest.Label(Path("model"), None, Path("out"))  # type: ignore[arg-type]
    outputs = manifest._Outputs(label, cuts)(cuts)
    assert used == ["cuda:1"] and list(outputs) == [cut.id for cut in cuts]
    manifest.features_of(cuts, about)  # as `hybrid pack` does
    assert used == ["cuda:1", "cpu"]
