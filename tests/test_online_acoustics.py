"""From samples in pieces to log-likelihoods: the bits of offline decoding where the model was made for it, and the same
bits however the samples come where it was not."""

from __future__ import annotations

from pathlib import Path
from typing import List

import gmm_tools
import numpy as np
import pytest

from hybrid.data.cmvn import cmvn_stats
from hybrid.data.feature_config import LogMel, Mfcc, config_to_json
from hybrid.data.features import FeatureExtractor
from hybrid.data.online_cmvn import OnlineCmvnConfig
from hybrid.data.resampling import resample
from hybrid.decode.acoustics import GmmAcoustics, NetworkAcoustics
from hybrid.errors import ConfigError, ModelError
from hybrid.gmm.feature_transform import FeatureTransform
from hybrid.gmm.model import GmmModel
from hybrid.nnet.model_io import build_model, save_model
from hybrid.online.loglikes import OnlineAcoustics
from hybrid.online.network import ChunkConfig

RATE, BANDS = 16000, 20
NETWORKS = {
    "delay": ("lstm", {"hidden": 16, "layers": 2, "delay": 3}),
    "blstm": ("lstm", {"hidden": 16, "layers": 2, "bidirectional": True}),
    "tdnnf": ("tdnnf", {"hidden": 16, "bottleneck": 6, "small": 8, "big": 12, "strides": [1, 1, 3]}),
}


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Noise whose loudness wanders."""
    rng = np.random.default_rng([seed, samples])
    loud = np.repeat(rng.uniform(0.01, 0.3, samples // 800 + 1), 800)[:samples]
    return (rng.standard_normal(samples) * loud).astype(np.float32)


def network(folder: Path, name: str, cmvn: str, *, posteriors: bool = True, mean: bool = True) -> NetworkAcoustics:
    kind, more = NETWORKS[name]
    senones = gmm_tools.make_senones(gmm_tools.make_lang(), "network")
    model = build_model(kind, {"input_dim": 3 * BANDS, "num_pdfs": senones.num_pdfs, **more}, 1)
    priors = np.random.default_rng(0).dirichlet(np.full(senones.num_pdfs, 5.0))
    logmel = LogMel(sampling_rate=RATE, num_bins=BANDS)
    online = OnlineCmvnConfig(np.linspace(8.0, 12.0, BANDS) if mean else None, np.full(BANDS, 4.0)).to_json()
    features = {"logmel": config_to_json(logmel), "cmvn": cmvn, "frame_subsampling_factor": 3}
    own = {"online_cmvn": online}
    save_model(
        folder / name, model, features={**features, **(own if cmvn == "online" else {})},
        config={"frame_shift": 0.03, "chunk": {"chunk": 6, "right_context": 4}, **({} if cmvn == "online" else own)},
        writers={"senones": senones.save}, priors=priors if posteriors else None,
    )  # fmt: skip
    return NetworkAcoustics(folder / name)


def gaussians(folder: Path) -> GmmAcoustics:
    senones = gmm_tools.make_senones(gmm_tools.make_lang())
    gmms = gmm_tools.random_gmms(np.random.default_rng(3), senones.num_pdfs, 39)
    model = GmmModel(senones, gmms, FeatureTransform.deltas(13))
    about = {"mfcc": config_to_json(Mfcc(sampling_rate=RATE)), "cmvn": {"per": "speaker", "variance": True}}
    model.save(folder / "gmm", about)
    return GmmAcoustics(folder / "gmm")


def offline(acoustics, samples: np.ndarray) -> np.ndarray:
    features = FeatureExtractor(acoustics.features).compute(samples, RATE)
    return acoustics.loglikes({"a": features})["a"]


def streamed(stream, samples: np.ndarray, sizes: List[int]) -> np.ndarray:
    rows, begin, number = [], 0, 0
    while begin < len(samples):
        size = sizes[number % len(sizes)]
        rows.append(stream.accept(samples[begin : begin + size]))
        begin, number = begin + size, number + 1
    return np.concatenate([*rows, stream.finish()])


@pytest.mark.parametrize("posteriors", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_made_to_stream_gives_the_bits_of_offline_decoding(name: str, posteriors: bool, tmp_path: Path) -> None:
    acoustics = network(tmp_path, name, "online", posteriors=posteriors)
    online = OnlineAcoustics(acoustics)
    assert online.exact and online.chunk == ChunkConfig(6, 4 if name == "blstm" else 0)
    for samples in (400, 9000, 40123):
        x = noise(samples)
        wanted = offline(acoustics, x)
        assert len(wanted) == -(-round(samples / 160) // 3) and wanted.dtype == np.float32
        for sizes in ([samples], [1600], [8000, 0, 3], [777]):
            assert np.array_equal(streamed(online.create(), x, sizes), wanted)


@pytest.mark.parametrize("cmvn", ["speaker", "utterance+variance", "none"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_made_for_whole_utterances(name: str, cmvn: str, tmp_path: Path) -> None:
    """With the mean known beforehand, and all the right context there is, offline's numbers; else near them."""
    acoustics = network(tmp_path, name, cmvn)
    x = noise(40123)
    wanted = offline(acoustics, x)
    features = FeatureExtractor(acoustics.features).compute(x, RATE)
    chunk = ChunkConfig(6, 1000 if name == "blstm" else 0)
    known = OnlineAcoustics(acoustics, chunk=chunk, mean=cmvn_stats({"a": features})["a"])
    np.testing.assert_allclose(streamed(known.create(), x, [1600]), wanted, atol=2e-5)
    online = OnlineAcoustics(acoustics, chunk=chunk)
    assert not online.exact
    running = streamed(online.create(), x, [40123])
    for sizes in ([1600], [8000, 0, 3], [777]):
        assert np.array_equal(streamed(online.create(), x, sizes), running)
    assert running.shape == wanted.shape and (np.abs(running - wanted).max() > 1e-3) == (cmvn != "none")


def test_a_mean_alone(tmp_path: Path) -> None:
    acoustics = network(tmp_path, "delay", "utterance")
    x = noise(20000)
    mean = cmvn_stats({"a": FeatureExtractor(acoustics.features).compute(x, RATE)})["a"].mean
    rows = streamed(OnlineAcoustics(acoustics, mean=mean).create(), x, [999])
    np.testing.assert_allclose(rows, offline(acoustics, x), atol=2e-5)


def test_gaussians(tmp_path: Path) -> None:
    acoustics = gaussians(tmp_path)
    x = noise(20123)
    stats = cmvn_stats({"a": FeatureExtractor(acoustics.features).compute(x, RATE)})["a"]
    known = OnlineAcoustics(acoustics, mean=stats)
    rows = streamed(known.create(), x, [1600])
    np.testing.assert_allclose(rows, offline(acoustics, x), rtol=1e-4, atol=1e-2)
    assert known.frame_shift == 0.01 and known.lookahead == pytest.approx(4 * 0.01 + 0.0075)
    for online in (known, OnlineAcoustics(acoustics), OnlineAcoustics(acoustics, chunk=ChunkConfig(1))):
        wanted = streamed(online.create(), x, [len(x)])
        for sizes in ([160], [8000, 0, 3], [777]):
            assert np.array_equal(streamed(online.create(), x, sizes), wanted)
    with pytest.raises(ConfigError, match="right context"):
        OnlineAcoustics(acoustics, chunk=ChunkConfig(4, 4))


def test_the_next_utterance_of_a_stream(tmp_path: Path) -> None:
    acoustics = network(tmp_path, "delay", "online")
    online, x, y = OnlineAcoustics(acoustics), noise(16000), noise(12000, 1)
    stream = online.create()
    streamed(stream, x, [1600])
    stats = stream.stats
    assert stats is not None and stats.count == 100
    with pytest.raises(ModelError, match="reset"):
        stream.accept(y)
    assert not len(stream.finish())
    stream.reset(keep_mean=False)
    alone = streamed(stream, y, [1600])
    assert np.array_equal(alone, offline(acoustics, y))
    stream.reset(keep_mean=False)
    streamed(stream, x, [1600])
    stream.reset()
    after = streamed(stream, y, [700])
    assert after.shape == alone.shape and np.abs(after - alone).max() > 1e-3
    stream.reset(keep_mean=False)
    stream.accept(x)
    stream.reset(keep_mean=False)  # amid an utterance: nothing of it is left
    assert np.array_equal(streamed(stream, y, [12000]), alone)


@pytest.mark.parametrize("name", NETWORKS)
def test_many_streams_in_few_calls(name: str, tmp_path: Path) -> None:
    acoustics = network(tmp_path, name, "online")
    batched, single = OnlineAcoustics(acoustics, slots=24), OnlineAcoustics(acoustics)
    speech = [noise(3000 + 1700 * number, number) for number in range(10)]
    streams = [batched.create() for _ in speech]
    rows: List[List[np.ndarray]] = [[] for _ in speech]
    for begin in range(0, 24000, 1200):
        for stream, x in zip(streams, speech):
            if begin < len(x):
                stream.push(x[begin : begin + 1200])
            else:
                stream.end()
        batched.compute(streams)
        for mine, stream in zip(rows, streams):
            mine.append(stream.pop())
    for mine, x in zip(rows, speech):
        found = np.concatenate(mine)
        assert np.array_equal(found, streamed(batched.create(), x, [len(x)]))
        np.testing.assert_allclose(found, streamed(single.create(), x, [len(x)]), atol=1e-5)


def test_another_sampling_rate(tmp_path: Path) -> None:
    acoustics = network(tmp_path, "delay", "online")
    x = noise(44100)
    wanted = offline(acoustics, resample(x, 44100, RATE))
    assert np.array_equal(streamed(OnlineAcoustics(acoustics).create(44100), x, [441, 0, 2000]), wanted)


def test_nothing_and_less_than_a_window(tmp_path: Path) -> None:
    online = OnlineAcoustics(network(tmp_path, "tdnnf", "online"))
    for samples in (0, 1, 399):
        rows = streamed(online.create(), noise(samples), [100])
        assert rows.shape == (0, online.num_pdfs) and rows.dtype == np.float32


def test_when_rows_come(tmp_path: Path) -> None:
    """No later than latency says, and some as late."""
    for name in NETWORKS:
        online = OnlineAcoustics(network(tmp_path, name, "online"))
        stream, step = online.create(), 80
        x, worst, rows = noise(32000), 0.0, 0
        for begin in range(0, len(x), step):
            new = len(stream.accept(x[begin : begin + step]))
            if new:
                worst = max(worst, (begin + step) / RATE - rows * online.frame_shift)
            rows += new
        assert rows and online.latency - 0.031 <= worst <= online.latency + step / RATE
        assert online.latency == pytest.approx(online.lookahead + 6 * 0.03)


def test_memory_of_a_long_stream_is_flat(tmp_path: Path) -> None:
    for online in (OnlineAcoustics(network(tmp_path, "blstm", "online")), OnlineAcoustics(gaussians(tmp_path))):
        stream, x, held = online.create(), noise(1600), []
        for _ in range(300):
            stream.accept(x)
            held.append(sum(array.nbytes for array in arrays_of(stream)))
        assert max(held[150:]) <= 1.1 * max(held[70:150]) and max(held) < 3_000_000


def arrays_of(value, seen=None) -> List[np.ndarray]:
    """All arrays that an object holds, but for those of the model that streams share."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, (OnlineAcoustics, GmmModel)) or type(value).__name__ == "OnlineNetwork":
        return []
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        return [value]
    if type(value).__name__ == "Tensor":
        return [value.numpy()]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    parts = [*parts, *getattr(value, "__dict__", {}).values()]
    return [array for part in parts for array in arrays_of(part, seen)]


def test_what_does_not_stream() -> None:
    class Other:
        num_pdfs, frame_shift, features, online_cmvn = 3, 0.03, LogMel(), OnlineCmvnConfig()

    with pytest.raises(ModelError, match="no streaming of Other"):
        OnlineAcoustics(Other())
