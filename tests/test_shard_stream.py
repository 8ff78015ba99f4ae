"""Streaming: every utterance once, the same batches whoever reads them, exact resume, damage, memory, threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import List

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_stream import ids_of, made, packed_source, same, utterance

from hybrid.data.batches import Batches, Utterance
from hybrid.data.packing import pack
from hybrid.data.stream import ShardStream, open_source
from hybrid.errors import ConfigError

KEY = (3, 1, 0)


def noise(features: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return features + rng.standard_normal(features.shape).astype(np.float32)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """23 utterances and 12, in shards of five."""
    place = tmp_path_factory.mktemp("sources")
    return [packed_source(place / "a"), packed_source(place / "b", 12, first=100)]


def stream_of(sources, **more) -> ShardStream:
    return ShardStream(sources, 40, **{"window": 8, "transform": noise, "loaders": 0, **more})


def order_of(stream: ShardStream) -> np.ndarray:
    return np.random.default_rng(5).permutation(stream.shards())


# ------------------------------------------------------------------ who reads what


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 7), max_size=6), min_size=1, max_size=3),
    st.integers(1, 9),
    st.integers(1, 12),
    st.integers(1, 60),
    st.integers(0, 2),
    st.randoms(use_true_random=False),
)
def test_every_utterance_once(sizes, size, window, max_frames, loaders, random):
    """Shards of any size, empty ones too, over any number of ranks, more than there are utterances too."""
    stream = ShardStream([made(s, f"s{i}") for i, s in enumerate(sizes)], max_frames, window=window, loaders=loaders)
    order = stream.shards().tolist()
    random.shuffle(order)
    parts = []
    for rank in range(size):
        reading = stream.read(order, KEY, rank, size)
        batches = list(reading)
        assert reading.num_utterances == len(ids_of(batches))
        for batch in batches:
            assert len(batch.ids) == 1 or batch.features.shape[0] * batch.features.shape[1] <= max_frames
        parts.append(ids_of(batches))
    everything = [f"s{i}-{n}" for i, s in enumerate(sizes) for n in range(sum(s))]
    assert sorted(one for part in parts for one in part) == sorted(everything)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_ranks_take_stretches_of_the_row():
    stream = ShardStream([made([3, 0, 4])], 40)
    found = [{one for one in ids_of(list(stream.read(stream.shards(), KEY, rank, 3)))} for rank in range(3)]
    assert found == [{"m-0", "m-1"}, {"m-2", "m-3"}, {"m-4", "m-5", "m-6"}]


def test_windows_and_batches_are_those_of_an_epoch_in_memory():
    """The first window by the code for epochs in memory, with the stream's random numbers in the place of its own."""
    source = made([4, 4, 4])
    stream = ShardStream([source], 40, window=10)
    found = list(stream.read(stream.shards(), KEY))
    utterances = [one for index in range(3) for one in source.read(index)][:10]
    plan = Batches(utterances, 40).plan
    lengths = np.array([one.num_frames for one in utterances])
    expected = plan.batches(lengths, np.random.default_rng([*KEY, 1, 0]))
    assert len(found) > len(expected) > 1  # a second window comes after it
    for batch, places in zip(found[: len(expected)], expected, strict=True):
        assert sorted(batch.ids) == sorted(utterances[i].id for i in places)


def test_a_window_mixes_its_shards_and_no_others():
    stream = ShardStream([made([5] * 12)], 20, window=20)
    found = [int(one.split("-")[1]) // 5 for one in ids_of(list(stream.read(stream.shards(), KEY)))]
    for window in range(3):
        shards = found[20 * window : 20 * window + 20]
        assert sorted(set(shards)) == list(range(4 * window, 4 * window + 4))
        assert sum(a != b for a, b in zip(shards, shards[1:])) > 8  # 3 were they one after the other


def test_a_key_is_an_order_and_another_key_another(sources):
    stream = stream_of(sources)
    order = order_of(stream)
    first = list(stream.read(order, KEY))
    assert same(first, list(stream.read(order.tolist(), KEY)))
    for key in ((3, 2, 0), (3, 1, 1), (4, 1, 0)):
        other = list(stream.read(order, key))
        assert ids_of(other) != ids_of(first) and sorted(ids_of(other)) == sorted(ids_of(first))


def test_transforms_do_not_depend_on_ranks_and_windows(sources):
    found = []
    for size, window in ((1, 8), (2, 8), (3, 5), (40, 100)):
        stream = stream_of(sources, window=window)
        heard = {}
        for rank in range(size):
            for batch in stream.read(order_of(stream), KEY, rank, size):
                heard.update({one: x[:n] for one, x, n in zip(batch.ids, batch.features, batch.lengths.tolist())})
        found.append(heard)
    for heard in found[1:]:
        assert found[0].keys() == heard.keys() and len(heard) == 35
        assert all(found[0][one].equal(heard[one]) for one in heard)


@pytest.mark.parametrize("options", [{"loaders": 1}, {"loaders": 3}, {"loaders": 2, "ahead": 1}, {"ahead": 1}])
def test_batches_do_not_depend_on_loaders(sources, options):
    stream = stream_of(sources)
    for rank in range(2):
        expected = list(stream.read(order_of(stream), KEY, rank, 2))
        assert same(list(stream_of(sources, **options).read(order_of(stream), KEY, rank, 2)), expected)


def test_what_was_packed_comes_back(sources):
    stream = ShardStream(sources, 40)
    found = {one.id: one for batch in stream.read(stream.shards(), KEY) for one in batch.utterances}
    assert len(found) == 35 and stream.dim == 4
    for number in (*range(23), *range(100, 112)):
        expected, one = utterance(number), found[f"u{number:03d}"]
        np.testing.assert_array_equal(one.features, expected.features)
        np.testing.assert_array_equal(one.pdfs, expected.pdfs)
        assert (one.extra["clean_cut"], one.extra["text"]) == (f"clean_cut{number}", f"go {number}")
        soft, wanted = one.extra["soft"], expected.extra["soft"]
        assert (soft.codec, soft.k) == (wanted.codec, wanted.k)
        np.testing.assert_array_equal(soft.packed, wanted.packed)


def test_sizes_are_known_without_reading(sources):
    stream = stream_of(sources)
    assert stream.sizes(stream.shards()).tolist() == [5, 5, 5, 5, 3, 5, 5, 2]
    expected = [sum(utterance(n).num_frames for n in range(i, min(i + 5, 23))) for i in range(0, 23, 5)]
    assert sources[0].frames.tolist() == expected


# ------------------------------------------------------------------ going on


@pytest.mark.parametrize("rank, size", [(0, 1), (1, 3)])
def test_resume_at_every_position(sources, rank, size):
    stream = stream_of(sources)
    order = order_of(stream)
    reading = stream.read(order, KEY, rank, size)
    states, whole = [reading.state], []
    for batch in reading:
        whole.append(batch)
        states.append(json.loads(json.dumps(reading.state)))
    assert len(whole) > 3
    for position, state in enumerate(states):
        again = stream_of(sources, loaders=position % 2).read(order, KEY, rank, size, start=state)
        assert again.state == state
        assert same(list(again), whole[position:])
        assert again.state == states[-1]


def test_windows_before_are_not_read():
    asked = []
    stream = ShardStream([made([5] * 40, asked=asked.append)], 20, window=10, loaders=0)
    reading = stream.read(stream.shards(), KEY)
    while reading.state["window"] < 15:
        next(reading)
    asked.clear()
    list(stream.read(stream.shards(), KEY, start=reading.state))
    assert asked == list(range(30, 40))


@pytest.mark.parametrize(
    "change, what",
    [
        ({"rank": 1}, "something else"),
        ({"size": 3}, "something else"),
        ({"key": (3, 1, 1)}, "something else"),
        ({"order": [(0, 0), (1, 0)]}, "something else"),
        ({"start": {"window": 0}}, "not the state"),
        ({"start": 7}, "not the state"),
        ({"window": 900}, "outside of the 3 windows"),
    ],
)
def test_a_state_of_something_else(sources, change, what):
    stream = stream_of(sources)
    state = stream.read(stream.shards(), KEY, 0, 2).state
    if "window" in change:
        state["window"] = change["window"]
    asked = {"order": stream.shards(), "key": KEY, "rank": 0, "size": 2, "start": state, **change}
    asked.pop("window", None)
    with pytest.raises(ConfigError, match=what):
        stream.read(asked["order"], asked["key"], asked["rank"], asked["size"], asked["start"])


# ------------------------------------------------------------------ memory and threads


@pytest.mark.parametrize("loaders", [0, 2])
def test_memory_is_a_window_and_what_is_read_ahead(loaders):
    alive, most = weakref.WeakSet(), [0]

    class Kept(Utterance):
        __hash__ = object.__hash__

    def count(one: Utterance) -> None:
        one.__class__ = Kept
        alive.add(one)
        most[0] = max(most[0], len(alive))

    stream = ShardStream([made([4] * 200, made=count)], 30, window=20, loaders=loaders, ahead=3)
    for _ in stream.read(stream.shards(), KEY):
        pass
    # A window, the shard that reaches over its end, three shards ahead and those that the loaders are at.
    assert 20 <= most[0] <= 20 + 4 + 4 * (3 + 1 + loaders)


def loader_threads() -> List[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("shards")]


def test_no_threads_are_left(sources):
    stream = stream_of(sources, loaders=2)
    order = order_of(stream)
    with stream.read(order, KEY) as reading:
        next(reading)
        assert loader_threads()
    assert not loader_threads() and list(reading) == []
    list(stream.read(order, KEY))
    assert not loader_threads()


def test_a_forgotten_reading_ends_without_being_waited_for():
    """As by a loop that was left, or by the garbage collector, which works in any thread that holds any lock."""
    go_on, asked, in_time = threading.Event(), [], []

    def ask(shard: int) -> None:
        asked.append(shard)
        if shard:
            in_time.append(go_on.wait(20))

    stream = ShardStream([made([4] * 50, asked=ask)], 30, window=4, loaders=2, ahead=3)
    reading = stream.read(stream.shards(), KEY)
    next(reading)
    threads = loader_threads()
    assert len(threads) == 2
    del reading  # in vain, were it to wait for the shards that are being read
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert not loader_threads() and len(asked) <= 1 + 2 + 3
    assert in_time and all(in_time)


def test_a_process_that_stops_early_ends(sources):
    project = Path(__file__).resolve().parent.parent
    command = [sys.executable, str(project / "tests" / "toy_stream.py"), str(sources[0].folder)]
    environment = {**os.environ, "PYTHONPATH": str(project)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


# ------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    "options, what",
    [
        ({"window": 0}, "window is 0"),
        ({"loaders": -1}, "loaders is -1"),
        ({"ahead": 0}, "ahead is 0"),
        ({"max_problems": 2}, "max_problems is 2"),
        ({"max_frames": 0}, "max_frames is 0"),
    ],
)
def test_bad_settings(options, what):
    with pytest.raises(ConfigError, match=what):
        ShardStream([made([3])], **{"max_frames": 10, **options})


@pytest.mark.parametrize(
    "order, key, rank, size, what",
    [
        ([(0, 3)], KEY, 0, 1, "no shard 3 of source 0"),
        ([(1, 0)], KEY, 0, 1, "no shard 0 of source 1"),
        ([(0, -1)], KEY, 0, 1, "no shard -1"),
        ([(0, 0)], KEY, 2, 2, "rank 2 of 2"),
        ([(0, 0)], KEY, 0, 0, "size is 0"),
        ([(0, 0)], (1, -2), 0, 1, "seed is -2"),
    ],
)
def test_bad_questions(order, key, rank, size, what):
    with pytest.raises(ConfigError, match=what):
        ShardStream([made([3, 1, 2])], 10).read(order, key, rank, size)


def test_other_dimensions_are_refused(tmp_path, sources):
    pack(tmp_path, [utterance(1, dim=3)], frame_shift=0.03)
    with pytest.raises(ConfigError, match=r"different dimensions: \[3, 4\]"):
        ShardStream([*sources, open_source(tmp_path)], 10)
