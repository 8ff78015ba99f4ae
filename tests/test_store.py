"""The store of features: whole speakers in chunks, every utterance once, normalised as elsewhere; broken folders."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.data.cmvn import apply_cmvn
from hybrid.errors import DataError, HybridError
from hybrid.gmm.store import Store, StoredUtterance


def _items(sizes, seed=0, dim=2):
    """sizes: frames of each utterance, by speaker; the utterances of all speakers mixed."""
    rng = np.random.default_rng(seed)
    items = [
        StoredUtterance(
            f"{speaker}-{n}", f"s{speaker}", f"TEXT {speaker} {n}", rng.normal(3, 2, (frames, dim)).astype(np.float32)
        )
        for speaker, own in enumerate(sizes)
        for n, frames in enumerate(own)
    ]
    return [items[i] for i in rng.permutation(len(items))]


def _create(folder, items, chunk_frames=60_000, variance=False):
    return Store.create(folder, lambda: iter(items), variance=variance, chunk_frames=chunk_frames)


SIZES = st.lists(st.lists(st.sampled_from([1, 2, 5, 9, 40]), min_size=1, max_size=8), min_size=1, max_size=7)


@settings(max_examples=20, deadline=None)
@given(SIZES, st.sampled_from([1, 10, 30, 1000]))
def test_chunks_hold_whole_speakers_and_every_utterance_once(sizes, chunk_frames):
    items = {item.id: item for item in _items(sizes)}
    with TemporaryDirectory() as folder:
        store = _create(folder, list(items.values()), chunk_frames)
        chunks = list(store)
        assert [chunk.index for chunk in chunks] == list(range(store.num_chunks))
    ids = [name for chunk in chunks for name in chunk.ids]
    assert sorted(ids) == sorted(items) and len(ids) == store.utterances
    assert sum(len(chunk.base) for chunk in chunks) == store.frames
    giants = {f"s{n}" for n, own in enumerate(sizes) if sum(own) > chunk_frames}
    seen = [speaker for chunk in chunks for speaker in dict.fromkeys(chunk.speakers)]
    for speaker in set(seen) - giants:
        assert seen.count(speaker) == 1
    for chunk in chunks:
        assert len(chunk.ids) > 0
        for number, name in enumerate(chunk.ids):
            item = items[name]
            assert (chunk.speakers[number], chunk.texts[number]) == (item.speaker, item.text)
            assert chunk.lengths[number] == len(item.features)
        own = [speaker for speaker, _rows in chunk.speaker_rows()]
        assert len(own) == len(set(own))
        assert [rows.stop - rows.start for _, rows in chunk.speaker_rows()] == [
            sum(len(items[n].features) for n, s in zip(chunk.ids, chunk.speakers) if s == speaker) for speaker in own
        ]
        # A chunk is larger than asked for only where an utterance at its end is what makes it so.
        assert chunk.lengths.sum() <= chunk_frames + chunk.lengths.max()


@pytest.mark.parametrize("variance", [False, True])
def test_features_are_normalised_as_elsewhere(tmp_path, variance):
    items = _items([[5, 9, 40], [2], [30, 1]])
    store = _create(tmp_path, items, 30, variance)
    expected = apply_cmvn(
        {item.id: item.features for item in items}, {item.id: item.speaker for item in items}, variance=variance
    )
    seen = []
    for chunk in store:
        assert chunk.base.dtype == np.float32
        for name, begin, end in zip(chunk.ids, chunk.offsets[:-1], chunk.offsets[1:], strict=True):
            np.testing.assert_array_equal(chunk.base[begin:end], expected[name])
            seen.append(name)
    assert sorted(seen) == sorted(expected) and len(seen) == 6


def test_the_order_of_the_utterances_does_not_matter(tmp_path):
    items = _items([[5, 9], [2, 3, 4]])
    one, two = _create(tmp_path / "a", items, 10), _create(tmp_path / "b", items[::-1], 10)
    assert one.num_chunks == two.num_chunks
    assert sum(len(chunk.ids) for chunk in one) == 5
    for a, b in zip(one, two, strict=True):
        assert a.ids == b.ids
        np.testing.assert_allclose(a.base, b.base, atol=1e-6)


def test_a_giant_is_divided_into_parts_of_about_one_size(tmp_path):
    store = _create(tmp_path, _items([[3], [10] * 20, [3]]), 60)
    sizes = [int(chunk.lengths.sum()) for chunk in store]
    assert sizes == [3, 50, 50, 50, 53]


def test_a_folder_brings_back_the_same_and_can_be_sent(tmp_path):
    made = _create(tmp_path, _items([[5], [9]]))
    assert Store.open(tmp_path) == made == pickle.loads(pickle.dumps(made))
    assert (made.utterances, made.frames, made.base_dim, made.num_chunks) == (2, 14, 2, 1)


def test_making_it_again_replaces_it(tmp_path):
    _create(tmp_path, _items([[50], [90]]), 10)
    made = _create(tmp_path, _items([[5]]))
    assert Store.open(tmp_path) == made and made.frames == 5
    assert (tmp_path / "base.f32").stat().st_size == 5 * 2 * 4


def test_a_store_that_was_not_finished_is_not_there(tmp_path):
    _create(tmp_path, _items([[5], [9]]))
    calls = []

    def breaks():
        calls.append(1)
        for item in _items([[5], [9]]):
            if len(calls) == 2 and item.speaker == "s1":
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        Store.create(tmp_path, breaks, variance=False)
    with pytest.raises(DataError, match="no finished store") as caught:
        Store.open(tmp_path)
    assert str(tmp_path) in str(caught.value) and caught.value.remedy


def _row(number, speaker="s", frames=3, dim=2):
    return StoredUtterance(f"u{number}", speaker, "A", np.ones((frames, dim), np.float32))


@pytest.mark.parametrize("items, what, utterance", [
    ([], "no utterances", None),
    ([_row(1), _row(2), _row(1)], "same id", "u1"),
    ([_row(1), _row(1, "other")], "same id", "u1"),
    ([_row(1), _row(2, dim=3)], "3] among others of 2", "u2"),
    ([StoredUtterance("u1", "s", "A", np.ones(3, np.float32))], "among others of None", "u1"),
], ids=["none", "twice", "twice by two speakers", "another width", "no matrix"])  # fmt: skip
def test_bad_input_is_refused_with_its_name(tmp_path, items, what, utterance):
    with pytest.raises(DataError, match=what) as caught:
        _create(tmp_path, items)
    assert caught.value.utterance == utterance
    assert not (tmp_path / "store.json").exists()


@pytest.mark.parametrize("second", [
    [_row(1)], [_row(2), _row(1)], [_row(1), _row(2), _row(3)], [_row(1), _row(2, frames=4)],
], ids=["fewer", "another order", "more", "longer"])  # fmt: skip
def test_utterances_that_change_between_the_two_readings_are_refused(tmp_path, second):
    readings = iter([[_row(1), _row(2)], second])
    with pytest.raises(DataError, match="changed meanwhile") as caught:
        Store.create(tmp_path, lambda: iter(next(readings)), variance=False)
    assert caught.value.remedy and not (tmp_path / "store.json").exists()


def _cut(name, by):
    def change(folder: Path):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-by])

    return change


BROKEN = {
    "no folder": (lambda f: [p.unlink() for p in f.iterdir() if p.is_file()], "store.json"),
    "no store.json": (lambda f: (f / "store.json").unlink(), "store.json"),
    "store.json cut off": (_cut("store.json", 5), "store.json"),
    "store.json of something else": (lambda f: (f / "store.json").write_text(json.dumps({"x": 1})), "store.json"),
    "store.json a list": (lambda f: (f / "store.json").write_text("[]"), "store.json"),
    "frames cut off": (_cut("base.f32", 4), "base.f32"),
    "frames gone": (lambda f: (f / "base.f32").unlink(), "base.f32"),
    "a chunk cut off": (_cut("chunks/000000.json", 5), "000000.json"),
    "a chunk gone": (lambda f: (f / "chunks" / "000000.json").unlink(), "000000.json"),
}


@pytest.mark.parametrize("change, what", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_folder_is_refused_with_its_name_and_a_remedy(tmp_path, change, what):
    _create(tmp_path, _items([[5], [9]]))
    change(tmp_path)
    with pytest.raises(HybridError, match=what) as caught:
        list(Store.open(tmp_path))
    assert caught.value.remedy
