"""Networks chunk by chunk: as on whole utterances, and the same bits however frames come and whoever else streams."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest
import torch

from hybrid.data.batches import Utterance
from hybrid.errors import ConfigError, DataError, ModelError
from hybrid.nnet.base import AcousticModel
from hybrid.nnet.batch_norm import BatchNorm
from hybrid.nnet.infer import compute_loglikes
from hybrid.nnet.model_io import build_model
from hybrid.nnet.streaming import Chunk, StreamState
from hybrid.online.network import ChunkConfig, OnlineNetwork, chunk_config, chunked_loglikes, chunked_set_loglikes

DIM, PDFS = 12, 9
MODELS: Dict[str, Any] = {
    "lstm": ("lstm", {}),
    "delay": ("lstm", {"delay": 5}),
    "input layer": ("lstm", {"delay": 2, "input_layer_dim": 10, "input_layer_context": 2, "layer_norm": True}),
    "projection": ("lstm", {"delay": 1, "proj": 8}),
    "tdnnf": ("tdnnf", {}),
    "tdnnf, few": ("tdnnf", {"context": 2, "strides": [1, 0, 3]}),
    "tdnnf, one": ("tdnnf", {"context": 0, "strides": [1]}),
}
BLSTM = {"bidirectional": True, "input_layer_dim": 10, "input_layer_context": 2}
LENGTHS = (0, 1, 2, 5, 7, 8, 9, 16, 41)


def make(kind: str, more: Dict[str, Any]) -> AcousticModel:
    sizes = {"hidden": 16, "layers": 2} if kind == "lstm" else {"hidden": 16, "bottleneck": 6, "small": 8, "big": 12}
    model = build_model(kind, {"input_dim": DIM, "num_pdfs": PDFS, **sizes, **more}, 1).eval()
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.mean.normal_(generator=generator)
            module.variance.uniform_(0.5, 2.0, generator=generator)
    return model


def frames(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, length]).standard_normal((length, DIM)).astype(np.float32)


def streamed(network: OnlineNetwork, x: np.ndarray, sizes: List[int]) -> np.ndarray:
    stream, rows, begin, number = network.create(), [], 0, 0
    while begin < len(x):
        size = sizes[number % len(sizes)]
        rows.append(network.accept(stream, x[begin : begin + size]))
        begin, number = begin + size, number + 1
    return np.concatenate([*rows, network.finish(stream)])


@pytest.mark.parametrize("name", MODELS)
def test_chunks_give_what_the_whole_utterance_gives(name: str) -> None:
    model = make(*MODELS[name])
    priors = np.random.default_rng(0).dirichlet(np.full(PDFS, 5.0))
    for length in LENGTHS:
        x = frames(length)
        for size in (1, 3, 8, 100):
            network = OnlineNetwork(model, ChunkConfig(size), priors)
            chunked = chunked_loglikes(network, x)
            assert chunked.shape == (length, PDFS) and chunked.dtype == np.float32
            if length:
                whole = compute_loglikes(model, [Utterance("a", x)], priors)["a"]
                np.testing.assert_allclose(chunked, whole, atol=1e-5)
            for sizes in ([1], [2, 0, 9], [40]):
                assert np.array_equal(streamed(network, x, sizes), chunked)


def test_a_bidirectional_one_sees_its_right_context_and_no_more() -> None:
    model = make("lstm", BLSTM)
    x = frames(41)
    whole = compute_loglikes(model, [Utterance("a", x)])["a"]
    differences = []
    for right in (0, 2, 8, 50):
        network = OnlineNetwork(model, ChunkConfig(8, right))
        chunked = chunked_loglikes(network, x)
        for sizes in ([1], [7, 0], [41]):
            assert np.array_equal(streamed(network, x, sizes), chunked)
        differences.append(float(np.abs(chunked - whole).max()))
        # what comes after chunk, right context and the input layer's two neighbours changes nothing
        other = x.copy()
        other[8 + right + 2 :] += 5
        assert np.array_equal(chunked_loglikes(network, other)[:8], chunked[:8])
        if right < 30:
            other[8 + right + 1] += 5
            assert not np.array_equal(chunked_loglikes(network, other)[:8], chunked[:8])
    assert differences[0] > differences[1] > differences[2] > differences[3] and differences[3] < 1e-5


@pytest.mark.parametrize("name, lookahead", [("lstm", 0), ("delay", 5), ("input layer", 4), ("tdnnf, few", 2)])
def test_an_output_comes_when_what_it_depends_on_has_come(name: str, lookahead: int) -> None:
    network = OnlineNetwork(make(*MODELS[name]), ChunkConfig(1))
    assert network.lookahead == pytest.approx(lookahead if name != "tdnnf, few" else (2 + 1 + 3) / 3)
    stream, x = network.create(), frames(20)
    out = [len(network.accept(stream, x[t : t + 1])) for t in range(20)]
    assert out == [0] * lookahead + [1] * (20 - lookahead)
    assert len(network.finish(stream)) == lookahead


@pytest.mark.parametrize("slots", [24, 5, 1])
@pytest.mark.parametrize("name", [*MODELS, "blstm"])
def test_who_else_streams_changes_no_bit(name: str, slots: int) -> None:
    """Streams of other lengths, begun at other times, in calls of up to 24, 5, 1; alone, with others, with many."""
    model = make(*MODELS.get(name, ("lstm", BLSTM)))
    config = ChunkConfig(4, 4 if name == "blstm" else 0)
    network = OnlineNetwork(model, config, slots=slots)
    utterances = [frames(length, seed) for seed, length in enumerate([30, 3, 17, 30, 8, 25, 1, 30, 12, 29] * 3)]
    wanted = [chunked_loglikes(OnlineNetwork(model, config), x) for x in utterances]
    streams = [network.create() for _ in utterances]
    rows: List[List[np.ndarray]] = [[] for _ in utterances]
    for step in range(20):
        for number, (stream, x) in enumerate(zip(streams, utterances)):
            begin = 3 * (step - number % 7)
            if not stream.ended and begin >= 0:
                stream.push(x[begin : begin + 3])
                if begin + 3 >= len(x):
                    stream.end()
        network.compute(streams)
        for number, stream in enumerate(streams):
            rows[number] += stream.pop()
    for x, mine, right in zip(utterances, rows, wanted):
        assert np.array_equal(np.concatenate(mine), right)
        assert np.array_equal(streamed(network, x, [5]), right)


@pytest.mark.parametrize("name", [*MODELS, "blstm"])
def test_whether_company_changes_bits_is_tried_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = OnlineNetwork(make(*MODELS.get(name, ("lstm", BLSTM))), ChunkConfig(4, 4 * (name == "blstm")), slots=24)
    assert network.same_in_company()
    real = network._stream.step

    def step(state: StreamState, chunk: Chunk) -> Tuple[torch.Tensor, StreamState]:
        """In a call of many, the last of them ends with another bit."""
        logits, after = real(state, chunk)
        if len(logits) > 1:
            logits = logits.clone()
            logits[-1] = torch.nextafter(logits[-1], torch.tensor(float("inf")))
        return logits, after

    monkeypatch.setattr(network._stream, "step", step)
    assert not network.same_in_company()


def test_a_set_of_utterances_here_or_in_an_executor() -> None:
    model = make("lstm", {"delay": 2})
    inputs = {f"u{n}": frames(n, n) for n in (9, 3, 20)}
    config = ChunkConfig(4)
    here = chunked_set_loglikes(model, config, None, inputs)
    with ThreadPoolExecutor(2) as executor:
        there = chunked_set_loglikes(model, config, None, inputs, executor=executor, jobs=2)
    assert list(here) == list(there) == list(inputs)
    for name, x in inputs.items():
        assert np.array_equal(here[name], there[name])
        assert np.array_equal(here[name], chunked_loglikes(OnlineNetwork(model, config), x))


def test_a_stream_of_an_hour_holds_a_chunk() -> None:
    for name in ("input layer", "tdnnf", "blstm"):
        model = make(*MODELS.get(name, ("lstm", BLSTM)))
        network = OnlineNetwork(model, ChunkConfig(4, 4 if name == "blstm" else 0))
        stream = network.create()
        held = []
        for seed in range(60):
            network.accept(stream, frames(7, seed))
            held.append(len(stream.frames) + sum(x.shape[1] for x in stream.state.tensors.values()))
        assert max(held[5:]) == max(held[5:20]) and not stream.rows


def test_what_cannot_be() -> None:
    model = make("lstm", {})
    for values in ((0, 0), (4, -1)):
        with pytest.raises(ConfigError, match="chunk"):
            ChunkConfig(*values)
    for kind in ("lstm", "tdnnf"):
        with pytest.raises(ConfigError, match="right context"):
            OnlineNetwork(make(kind, {}), ChunkConfig(4, 2))
    for slots in (0, -1):
        with pytest.raises(ConfigError, match="slots"):
            OnlineNetwork(model, ChunkConfig(4), slots=slots)
    network = OnlineNetwork(model, ChunkConfig(4))
    stream = network.create()
    with pytest.raises(DataError, match="12 features"):
        network.accept(stream, np.zeros((2, 3), np.float32))
    network.finish(stream)
    with pytest.raises(ModelError, match="after the end"):
        network.accept(stream, frames(2))
    assert len(network.finish(stream)) == 0
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"not finite.*utterance: u9|u9.*not finite"):
        chunked_set_loglikes(model, ChunkConfig(4), None, {"u9": frames(9)})


def test_chunks_of_a_model() -> None:
    lstm, blstm = make("lstm", {}), make("lstm", BLSTM)
    assert chunk_config(lstm) == ChunkConfig(8) and chunk_config(blstm) == ChunkConfig(24, 24)
    asked = {"chunk": 10, "right_context": 5, "window": 1}
    assert chunk_config(lstm, asked) == ChunkConfig(10) and chunk_config(blstm, asked) == ChunkConfig(10, 5)
    assert chunk_config(blstm, {"chunk": 0, "right_context": 0}) == ChunkConfig(24, 24)
