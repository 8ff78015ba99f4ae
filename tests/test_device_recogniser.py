"""A recogniser on a GPU, as far as a machine without one can show it: every tensor is moved there and back
(device_tools.py), and results are those of the CPU."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Iterator, List

import numpy as np
import pytest
import torch
from device_tools import GPU, TURING, PretendedGpu, pretend_gpus
from lhotse import CutSet
from small_run import RATE
from test_online_acoustics import NETWORKS, gaussians, network, noise
from test_online_acoustics import RATE as ONLINE_RATE

from hybrid.cli import main
from hybrid.data.audio import load_samples
from hybrid.decode.acoustics import GmmAcoustics, NetworkAcoustics
from hybrid.decode.export import export
from hybrid.decode.load import load
from hybrid.decode.result import Result
from hybrid.errors import ConfigError
from hybrid.io import read_json, read_jsonl
from hybrid.nnet.precision import outputs_in
from hybrid.online.loglikes import OnlineAcoustics
from hybrid.parallel import SerialExecutor


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGpu]:
    pretend_gpus(monkeypatch, TURING, TURING)
    with PretendedGpu() as pretended:
        yield pretended


def texts(results: List[Result]) -> List[str]:
    return [result.text for result in results]


def test_what_a_gpu_refuses_is_refused(gpu: PretendedGpu) -> None:
    """Else the other tests here would show nothing."""
    here, there = torch.ones(3), torch.ones(3).to("cuda:1")
    assert (here.device.type, there.device) == ("cpu", GPU) and (there + there).device == GPU
    assert torch.arange(3, device=there.device).device == GPU and there.new_zeros(2).device == GPU
    assert there.cpu().device.type == "cpu" and there.cpu().numpy().tolist() == [1.0, 1.0, 1.0]
    for mixed in (lambda: here + there, lambda: torch.cat((here, there)), lambda: there[torch.tensor([1])]):
        with pytest.raises(RuntimeError, match="tensors on cuda:1, and on the CPU"):
            mixed()
    for read in (there.numpy, lambda: np.asarray(there)):
        with pytest.raises(TypeError, match="cuda:1"):
            read()
    assert (there + 1.0).cpu().tolist() == [2.0, 2.0, 2.0] and gpu.counts["add"] == 2


@pytest.mark.parametrize("system", ["ce", "lfmmi", "mono"])
def test_a_recogniser_there(small_run: Path, small_cuts: CutSet, gpu: PretendedGpu, system: str) -> None:
    here, there = load(small_run, system), load(small_run, system, device="cuda:1")
    before = sum(gpu.counts.values())
    wanted, found = here.many(small_cuts), there.many(small_cuts)
    assert texts(found.values()) == texts(wanted.values()) and len(set(texts(wanted.values()))) > 3
    assert sum(gpu.counts.values()) > before  # it was computed there
    done = sum(gpu.counts.values())
    cut = next(iter(small_cuts))
    assert there(cut).text == here(cut).text
    assert sum(gpu.counts.values()) > done
    samples = load_samples(cut, RATE)
    for streamed in (lambda asr: [*asr.transcribe(cut)], lambda asr: [*asr.stream([samples], RATE)]):
        assert texts(streamed(there)) == texts(streamed(here))
    assert there.context(["BA"])(cut).text == here.context(["BA"])(cut).text


@pytest.mark.parametrize("name", [*NETWORKS])
@pytest.mark.parametrize("cmvn", ["online", "utterance"])
def test_every_kind_of_network_there(gpu: PretendedGpu, tmp_path: Path, name: str, cmvn: str) -> None:
    """Whole utterances, here and by an executor, and streams alone and together."""
    here = network(tmp_path, name, cmvn)
    there = NetworkAcoustics(here.folder, "cuda:1")
    assert {value.device for value in there.model.state_dict().values()} == {GPU}
    rng = np.random.default_rng(1)
    features = {f"u{n}": rng.normal(10, 3, (n, here.features.dim)).astype(np.float32) for n in (50, 31, 130)}
    wanted = here.loglikes(features)
    for found in (there.loglikes(features), there.loglikes(features, executor=SerialExecutor(), jobs=2)):
        assert list(found) == list(wanted)
        for utterance, rows in wanted.items():
            assert type(found[utterance]) is np.ndarray
            np.testing.assert_allclose(found[utterance], rows, atol=1e-4)
    for slots in (1, 24):
        rows = []
        for acoustics in (here, there):
            online = OnlineAcoustics(acoustics, slots=slots)
            streams = [online.create() for _ in range(2)]
            for number, stream in enumerate(streams):
                stream.push(noise(ONLINE_RATE, number))
            online.compute(streams)
            for stream in streams:
                stream.end()
            online.compute(streams)
            rows.append(np.concatenate([stream.pop() for stream in streams]))
        assert len(rows[0]) > 50
        np.testing.assert_allclose(rows[1], rows[0], atol=1e-4)


def test_gaussians_there(gpu: PretendedGpu, tmp_path: Path) -> None:
    here = gaussians(tmp_path)
    there = GmmAcoustics(here.folder, "cuda:1")
    features = {"a": np.random.default_rng(1).normal(0, 3, (70, 13)).astype(np.float32)}
    found = there.loglikes(features)["a"]
    assert gpu.counts["addmm"] == 1 and found.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(found, here.loglikes(features)["a"], rtol=1e-5, atol=1e-3)


def test_commands_take_a_device(
    small_run: Path, small_cuts: CutSet, gpu: PretendedGpu, tmp_path: Path, monkeypatch, capsys
) -> None:  # fmt: skip
    file = tmp_path / "a.wav"
    shutil.copy(next(iter(small_cuts)).recording.sources[0].source, file)
    command = ["transcribe", str(small_run), str(file), "--jobs", "1", "--out"]
    assert main([*command, str(tmp_path / "here")]) == 0 and not gpu.counts["linear"] + gpu.counts["addmm"]
    assert main([*command, str(tmp_path / "there"), "--device", "cuda:1"]) == 0
    assert gpu.counts["linear"] + gpu.counts["addmm"]
    wanted, found = (list(read_jsonl(tmp_path / name / "transcripts.jsonl")) for name in ("here", "there"))
    assert wanted[0]["text"] == found[0]["text"] != ""
    assert main([*command, str(tmp_path / "no"), "--device", "cuda:2"]) == 2
    assert "device is cuda:2, but torch sees cuda:0 to cuda:1" in capsys.readouterr().err
    pytest.importorskip("websockets")
    assert main(["serve", str(small_run), "--device", "gpu"]) == 2
    assert "device is 'gpu'" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(small_run: Path) -> None:
    with pytest.raises(ConfigError, match="device is cuda, but torch sees none"):
        load(small_run, "ce", device="cuda")
    assert load(small_run, "ce", device="auto")._acoustics.device == "cpu"


def test_onnxruntime_knows_no_device(small_run: Path, tmp_path: Path, monkeypatch) -> None:
    """What asks for both is told so; an export is run by torch where a GPU is asked for."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    out = tmp_path / "out"
    export(small_run, "ce", out, onnx=True)
    assert read_json(out / "export.json")["onnx"]
    for device in ("cuda", "cuda:1"):
        with pytest.raises(ConfigError, match=f"onnxruntime does not use the device {device}"):
            load(out, onnx=True, device=device)
    assert type(load(out, onnx=True, device="auto")._acoustics).__name__ == "OnnxAcoustics"
    pretend_gpus(monkeypatch, TURING, TURING)
    with PretendedGpu():
        acoustics = load(out, device="cuda:1")._acoustics
        assert isinstance(acoustics, NetworkAcoustics) and acoustics.model.input_mean.device == GPU


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_a_gpu_without_bfloat16_computes_in_float32(gpu: PretendedGpu, monkeypatch, precision: str) -> None:
    """torch 1.13 refuses to name bfloat16 there, even for an autocast that is off."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *more: False)
    layer = torch.nn.Linear(4, 3).to("cuda:1")
    found = outputs_in(precision, lambda x: {"logits": layer(x)}, torch.ones(2, 4).to("cuda:1"))["logits"]
    assert found.device == GPU and found.dtype == torch.float32
