"""Packed targets: ids come back exactly, values within the derived bound, and so do mass and entropy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.data.topk_codec import RANGE, Codec, quantisation_error, top_k
from hybrid.errors import ConfigError, DataError, HybridError, ModelError

SHAPES = [(1, 1), (2, 1), (2, 2), (5, 3), (17, 5), (256, 10), (257, 10), (370, 20), (370, 370), (3000, 20), (3000, 40)]
SHAPES += [(4096, 5), (4097, 5), (70000, 7), (131072, 20)]


def logits_of(num_pdfs: int, frames: int, seed: int = 0, scale: float = 3.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal((frames, num_pdfs))).astype(np.float32)


def slow_top_k(logits: np.ndarray, k: int):
    rows = [sorted(range(len(row)), key=lambda i, row=row: (-row[i], i))[:k] for row in logits.tolist()]
    ids = np.array(rows, dtype=np.int32).reshape(-1, k)
    wide = logits.astype(np.float64)
    best = wide.max(axis=1)
    rest = np.log(np.exp(wide - best[:, None]).sum(axis=1))
    return ids, np.take_along_axis(logits, ids, axis=1), rest


def slow_encode(codec: Codec, ids, values, rest) -> list[list[int]]:
    """Byte by byte, as the docstring of the codec says."""
    packed = []
    for frame in range(len(ids)):
        best = float(values[frame, 0])
        codes = [round(255 * (min(best - float(v), 40.0) / 40.0) ** 0.5) for v in values[frame]]
        if codec.k == codec.num_pdfs:
            of_pdf = dict(zip(ids[frame].tolist(), codes))
            packed.append([of_pdf[pdf] for pdf in range(codec.num_pdfs)])
            continue
        bits = "".join(format(i, f"0{max(1, (codec.num_pdfs - 1).bit_length())}b") for i in ids[frame].tolist())
        bits += "0" * (-len(bits) % 8)
        row = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)] + codes[1:]
        outside = float(np.exp(np.float64(rest[frame]))) - sum(np.exp(float(v) - best) for v in values[frame])
        code = 0
        if outside > np.exp(-20.0):
            high = np.log(codec.num_pdfs)
            code = 1 + round((min(np.log(outside), high) + 20) / (high + 20) * 65534)
        packed.append([*row, code // 256, code % 256])
    return packed


def slow_decode_ids(codec: Codec, packed: np.ndarray) -> list[list[int]]:
    found = []
    width = max(1, (codec.num_pdfs - 1).bit_length())
    for row in packed.tolist():
        bits = "".join(format(byte, "08b") for byte in row)
        found.append([int(bits[n * width : (n + 1) * width], 2) for n in range(codec.k)])
    return found


def check_round_trip(codec: Codec, triple) -> None:
    ids, values, rest = triple
    packed = codec.encode(ids, values, rest)
    assert packed.dtype == np.uint8 and packed.shape == (len(ids), codec.frame_bytes)
    back_ids, back, back_rest = codec.decode(packed)
    assert (back_ids.dtype, back.dtype, back_rest.dtype) == (np.int32, np.float32, np.float32)
    difference = values[:, :1].astype(np.float64) - values
    bound = quantisation_error(np.minimum(difference, RANGE)) + 1e-5
    assert (back[:, 0] == 0).all() and (np.diff(back, axis=1) <= 0).all()
    assert (np.abs(back + np.minimum(difference, RANGE)) <= bound).all()
    if not codec.keeps_all:
        np.testing.assert_array_equal(back_ids, ids)
    else:  # values that became equal stand in the order of their ids
        for row in range(len(ids)):
            assert sorted(back_ids[row]) == list(range(codec.num_pdfs))
        np.testing.assert_array_equal(np.take_along_axis(codec.dense(packed), back_ids, axis=1), back)
    outside = np.maximum(np.exp(rest.astype(np.float64)) - np.exp(-difference).sum(axis=1), 0)
    total = np.exp(rest.astype(np.float64))
    limit = np.log((np.exp(bound - difference).sum(axis=1) + outside * np.exp(5e-4)) / total) + 1e-5
    assert (np.abs(back_rest - rest) <= limit).all()
    # Packing what was unpacked changes nothing but, by a step at most, the mass outside.
    again = codec.encode(back_ids, back, back_rest)
    np.testing.assert_array_equal(again[:, : codec.frame_bytes - 2], packed[:, : codec.frame_bytes - 2])


@pytest.mark.parametrize("num_pdfs, k", SHAPES)
def test_round_trip_and_slow_oracle(num_pdfs, k):
    logits = logits_of(num_pdfs, 7)
    triple = top_k(logits, k)
    ids, values, rest = slow_top_k(logits, k)
    np.testing.assert_array_equal(triple[0], ids)
    np.testing.assert_array_equal(triple[1], values)
    np.testing.assert_allclose(triple[2], rest, atol=1e-5)
    codec = Codec(num_pdfs, k)
    packed = codec.encode(*triple)
    assert packed.tolist() == slow_encode(codec, *triple)
    if not codec.keeps_all:
        assert slow_decode_ids(codec, packed) == ids.tolist()
    check_round_trip(codec, triple)


def test_bytes_a_frame():
    assert [Codec(3000, k).frame_bytes for k in (5, 10, 20, 40, 3000)] == [14, 26, 51, 101, 3000]
    assert Codec.from_dict(Codec(3000, 20).to_dict()) == Codec(3000, 20)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_logits(data):
    """Ties, huge spans and all orders; small numbers of pdfs and those for which only blocks are sorted."""
    num_pdfs = data.draw(st.one_of(st.integers(1, 40), st.integers(700, 900)))
    k = data.draw(st.integers(1, min(num_pdfs, 25)))
    seed = data.draw(st.integers(0, 2**32 - 1))
    step = data.draw(st.sampled_from([0.0, 0.25, 4.0]))
    logits = logits_of(num_pdfs, data.draw(st.integers(0, 5)), seed, data.draw(st.sampled_from([0.0, 0.1, 3.0, 40.0])))
    if step:
        logits = np.round(logits / step) * step
    triple = top_k(logits, k)
    expected = slow_top_k(logits, k)
    np.testing.assert_array_equal(triple[0], expected[0])
    np.testing.assert_array_equal(triple[1], expected[1])
    check_round_trip(Codec(num_pdfs, k), triple)


@pytest.mark.parametrize("num_pdfs", [30, 3000])
def test_ties_go_to_the_lower_id(num_pdfs):
    ids = top_k(np.zeros((3, num_pdfs), dtype=np.float32), 20)[0]
    np.testing.assert_array_equal(ids, np.broadcast_to(np.arange(20), (3, 20)))
    logits = np.full((1, num_pdfs), -0.0, dtype=np.float32)
    logits[0, 7:] = 0.0  # zeros of either sign are equal
    logits[0, 25] = 1.0
    assert top_k(logits, 3)[0].tolist() == [[25, 0, 1]]


def test_frames_do_not_depend_on_their_company():
    logits = logits_of(3000, 200)
    whole = top_k(logits, 20)
    for part, one in zip(top_k(logits[60:90], 20), whole, strict=True):
        np.testing.assert_array_equal(part, one[60:90])
    codec = Codec(3000, 20)
    np.testing.assert_array_equal(codec.encode(*whole)[60:90], codec.encode(*(one[60:90] for one in whole)))


@given(st.floats(0, RANGE))
def test_the_bound_of_a_value(difference):
    triple = (np.array([[0, 1]]), np.array([[0.0, -difference]]), np.array([3.0]))
    codec = Codec(10, 2)
    back = codec.decode(codec.encode(*triple))[1]
    assert abs(back[0, 1] + difference) <= quantisation_error(difference) + 1e-6


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_what_quantising_does_to_a_softmax(temperature):
    """Under the bound of the docstring, by the errors that were really made."""
    codec = Codec(3000, 20)
    ids, values, rest = top_k(logits_of(3000, 300), 20)
    exact = (values - values[:, :1]).astype(np.float64)
    errors = codec.decode(codec.encode(ids, values, rest))[1] - exact
    log_p = exact / temperature - np.log(np.exp(exact / temperature).sum(axis=1, keepdims=True))
    q = (exact + errors) / temperature
    log_q = q - np.log(np.exp(q).sum(axis=1, keepdims=True))
    kl = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    spread = errors.max(axis=1) - errors.min(axis=1)
    assert (kl <= spread**2 / (8 * temperature**2) + 1e-12).all()
    assert kl.mean() < 1e-3 / temperature**2


def test_posteriors_mass_outside_and_entropy():
    logits = logits_of(3000, 200, scale=5.0)
    wide = logits.astype(np.float64)
    p = np.exp(wide - wide.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    entropy = -(p * np.log(p)).sum(axis=1)
    for k in (5, 20, 3000):
        codec = Codec(3000, k)
        triple = top_k(logits, k)
        kept = np.take_along_axis(p, triple[0], axis=1)
        stored = codec.decode(codec.encode(*triple))
        np.testing.assert_allclose(np.exp(stored[1] - stored[2][:, None]), np.sort(kept)[:, ::-1], atol=0.02)
        outside = 1 - kept.sum(axis=1)
        found = 1 - np.exp(stored[1].astype(np.float64) - stored[2][:, None]).sum(axis=1)
        np.testing.assert_allclose(found, outside, rtol=0.05, atol=1e-6)
        exact, packed = codec.posterior_entropy(*triple), codec.posterior_entropy(*stored)
        assert exact.dtype == np.float32
        assert (exact >= entropy - 1e-4).all()
        assert (exact <= entropy + outside * np.log(3000) + 1e-4).all()
        np.testing.assert_allclose(packed, exact, atol=0.05)
    np.testing.assert_allclose(exact, entropy, atol=1e-4)


def test_certain_frames():
    """Nothing outside: neither noise nor a negative mass, and no entropy."""
    logits = np.full((4, 3000), -100.0, dtype=np.float32)
    logits[:, 5] = 100.0
    codec = Codec(3000, 20)
    triple = codec.decode(codec.encode(*top_k(logits, 20)))
    assert (triple[0][:, 0] == 5).all() and (triple[2] < 1e-12).all()  # 19 of 40 nats below
    np.testing.assert_allclose(codec.posterior_entropy(*triple), 0, atol=1e-6)


@pytest.mark.parametrize("num_pdfs, k, fewer", [(3000, 20, 5), (370, 370, 10), (17, 5, 1)])
def test_fewer_than_are_stored(num_pdfs, k, fewer):
    codec = Codec(num_pdfs, k)
    packed = codec.encode(*top_k(logits_of(num_pdfs, 30), k))
    ids, values, rest = codec.decode(packed)
    some = codec.decode(packed, fewer)
    np.testing.assert_array_equal(some[0], ids[:, :fewer])
    np.testing.assert_array_equal(some[1], values[:, :fewer])
    np.testing.assert_array_equal(some[2], rest)  # still over all pdfs


def test_half_precision_logits():
    logits = logits_of(500, 20).astype(np.float16)
    for one, two in zip(top_k(logits, 5), top_k(logits.astype(np.float32), 5), strict=True):
        np.testing.assert_array_equal(one, two)


GOOD = top_k(logits_of(300, 4), 3)


@pytest.mark.parametrize(
    "do, error, what",
    [
        (lambda: Codec(0, 1), ConfigError, "num_pdfs is 0"),
        (lambda: Codec(10, 0), ConfigError, "k is 0"),
        (lambda: Codec(10, 11), ConfigError, "the 11 highest of 10"),
        (lambda: Codec(10, True), ConfigError, "k is True"),
        (lambda: Codec(10, 2.0), ConfigError, "k is 2.0"),
        (lambda: Codec(1 << 18, 2), ConfigError, "262144 pdfs"),
        (lambda: Codec.from_dict({"format": 0}), ConfigError, "format 0"),
        (lambda: Codec.from_dict({"format": 1}), ConfigError, "num_pdfs is None"),
        (lambda: top_k(np.zeros((2, 5), np.float32), 6), ConfigError, "6 highest of 5"),
        (lambda: top_k(np.zeros(5, np.float32), 1), DataError, "not a float matrix"),
        (lambda: top_k(np.zeros((2, 5), int), 1), DataError, "not a float matrix"),
        (lambda: top_k([[1.0]], 1), DataError, "not a float matrix"),
        (lambda: top_k(np.array([[0, np.nan, 1]], np.float32), 1), DataError, "not finite"),
        (lambda: top_k(np.array([[0, np.inf, 1]], np.float32), 1), DataError, "not finite"),
        (lambda: top_k(np.array([[0, -np.inf, 1]], np.float32), 1), DataError, "not finite"),
        (lambda: Codec(300, 4).encode(*GOOD), ModelError, "for 4 a frame"),
        (lambda: Codec(300, 3).encode(GOOD[0], GOOD[1], GOOD[2][:2]), ModelError, r"rest \[2\]"),
        (lambda: Codec(200, 3).encode(GOOD[0] + 100, *GOOD[1:]), DataError, "pdfs 0 to 199"),
        (lambda: Codec(300, 3).encode(GOOD[0] - 300, *GOOD[1:]), DataError, "pdfs 0 to 299"),
        (lambda: Codec(300, 3).encode(GOOD[0].astype(float), *GOOD[1:]), DataError, "pdfs 0 to 299"),
        (lambda: Codec(300, 3).encode(GOOD[0], GOOD[1][:, ::-1], GOOD[2]), DataError, "do not fall"),
        (lambda: Codec(300, 3).encode(GOOD[0], GOOD[1] * np.nan, GOOD[2]), DataError, "not finite"),
        (lambda: Codec(300, 3).encode(*GOOD[:2], GOOD[2] * 0), DataError, "less than the values alone"),
        (lambda: Codec(3, 3).encode(GOOD[0] * 0, *GOOD[1:]), DataError, "stands twice"),
        (lambda: Codec(300, 3).decode(np.zeros((4, 8), np.uint8), 4), ConfigError, "4 targets a frame asked for, 3"),
        (lambda: Codec(300, 3).decode(np.zeros((4, 9), np.uint8)), DataError, r"uint8 \[4, 9\] in the place of"),
        (lambda: Codec(300, 3).decode(np.zeros((4, 8), np.int8)), DataError, "int8"),
        (lambda: Codec(300, 3).decode(b"abc"), DataError, "bytes in the place of"),
        (lambda: Codec(300, 3).decode(np.full((4, 8), 255, np.uint8)), DataError, "pdf 511 in targets of 300 pdfs"),
        (lambda: Codec(300, 3).dense(np.zeros((4, 8), np.uint8)), ConfigError, "3 of 300 logits"),
    ],
)
def test_bad_inputs(do, error, what):
    with pytest.raises(error, match=what) as caught:
        do()
    assert isinstance(caught.value, HybridError)
