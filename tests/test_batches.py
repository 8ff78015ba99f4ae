from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.data.batches import IGNORE, Batches, Utterance, collate
from hybrid.data.specaugment import SpecAugment
from hybrid.errors import ConfigError, DataError


def utterances_of(lengths, dim=3, pdfs=True) -> list:
    rng = np.random.default_rng(1)
    made = []
    for number, length in enumerate(lengths):
        targets = rng.integers(0, 9, size=length) if pdfs else None
        made.append(Utterance(f"u{number}", rng.normal(size=(length, dim)).astype(np.float32), targets))
    return made


many_lengths = st.lists(st.integers(1, 40), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(many_lengths, st.integers(1, 120), st.integers(0, 2**31), st.integers(0, 50), st.integers(0, 5), st.booleans())
def test_every_utterance_once_within_the_limits(lengths, max_frames, seed, epoch, most, shuffle):
    batches = Batches(utterances_of(lengths), max_frames, seed, shuffle=shuffle, max_utterances=most)
    indices = batches.epoch(epoch).indices
    assert sorted(i for batch in indices for i in batch) == list(range(len(lengths)))
    for batch in indices:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= max_frames
        assert not most or len(batch) <= most


@settings(max_examples=30, deadline=None)
@given(many_lengths, st.integers(1, 120), st.integers(0, 2**31), st.lists(st.integers(0, 9), max_size=5))
def test_an_epoch_does_not_depend_on_what_was_asked_before(lengths, max_frames, seed, before):
    transform = SpecAugment(stack=1, time_width=3, band_width=2)
    asked = Batches(utterances_of(lengths), max_frames, seed, transform=transform)
    for number in before:
        list(asked.epoch(number))
    fresh = Batches(utterances_of(lengths), max_frames, seed, transform=transform).epoch(4)
    found = asked.epoch(4)
    assert found.indices == fresh.indices
    for index in reversed(range(len(fresh))):
        assert found[index].features.equal(fresh[index].features)


def test_epochs_and_seeds_differ_and_lengths_are_alike():
    lengths = np.random.default_rng(0).integers(10, 200, size=300).tolist()
    utterances = utterances_of(lengths, dim=1)
    batches = Batches(utterances, 2000, seed=1)
    first = batches.epoch(0).indices
    assert first != batches.epoch(1).indices != Batches(utterances, 2000, seed=2).epoch(1).indices
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in first)
    assert padded < 1.25 * sum(lengths)
    plain = Batches(utterances, 2000, shuffle=False)
    assert plain.epoch(0).indices == plain.epoch(7).indices


def test_collate():
    utterances = utterances_of([2, 4, 2])
    utterances[1].pdfs[0] = IGNORE
    utterances[2].extra["numerator"] = "graph"
    batch = collate(utterances)
    assert batch.ids == ["u1", "u0", "u2"] and batch.lengths.tolist() == [4, 2, 2]
    assert batch.features.dtype == torch.float32 and batch.features.shape == (3, 4, 3) and batch.num_frames == 8
    np.testing.assert_array_equal(batch.features[1, :2].numpy(), utterances[0].features)
    assert batch.features[1:, 2:].eq(0).all() and batch.pdfs[1:, 2:].eq(IGNORE).all()
    assert batch.pdfs[0].tolist() == utterances[1].pdfs.tolist()
    assert batch.utterances[2].extra == {"numerator": "graph"}
    utterances[0].pdfs = None
    assert collate(utterances).pdfs is None


def test_an_epoch_is_a_sequence():
    batches = Batches(utterances_of([3, 4, 5, 6]), 6)
    epoch = batches.epoch(0)
    assert len(epoch) == len(list(epoch)) == 4
    assert [batch.ids for batch in epoch[1:3]] == [epoch.ids(1), epoch.ids(2)]
    assert batches.num_frames == 18 and batches.dim == 3


def _bad(**changes):
    good = {"id": "bad-1", "features": np.zeros((4, 3), np.float32), "pdfs": np.zeros(4, np.int32)}
    return [Utterance("good", np.zeros((4, 3), np.float32)), Utterance(**{**good, **changes})]


@pytest.mark.parametrize(
    "utterances, message",
    [
        ([], "no utterances"),
        (_bad(id="good"), "stands twice"),
        (_bad(features=np.zeros((0, 3), np.float32)), "no frames"),
        (_bad(features=np.zeros(4, np.float32)), "not a float matrix"),
        (_bad(features=np.zeros((4, 3), np.int32)), "not a float matrix"),
        (_bad(features=np.zeros((4, 2), np.float32)), "2 features a frame where the others have 3"),
        (_bad(features=np.full((4, 3), np.inf, np.float32)), "not finite"),
        (_bad(pdfs=np.zeros(5, np.int32)), "for 4 frames"),
        (_bad(pdfs=np.zeros(4, np.float32)), "for 4 frames"),
        (_bad(pdfs=np.array([0, -1, 2, 3])), "negative pdf"),
    ],
)
def test_bad_utterances(utterances, message):
    with pytest.raises(DataError, match=message) as caught:
        Batches(utterances, 100)
    if utterances:
        assert caught.value.utterance == utterances[-1].id


@pytest.mark.parametrize(
    "arguments", [{"max_frames": 0}, {"max_frames": 10.5}, {"max_utterances": -1}, {"jitter": -0.1}, {"seed": -1}]
)
def test_bad_settings(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        Batches(utterances_of([3]), **{"max_frames": 10, **arguments})


# --- SpecAugment


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**31))
def test_specaugment_masks_what_it_may(frames, seed):
    features = np.ones((frames, 12), dtype=np.float32)
    out = SpecAugment(time_masks=3, time_width=20, time_share=0.3, band_masks=1, band_width=2)(
        features, np.random.default_rng(seed)
    )
    assert features.all() and out.shape == features.shape
    silent = ~out.any(axis=1)
    assert silent.sum() <= 0.3 * frames
    bands = out[~silent].reshape(-1, 3, 4)
    gone = ~bands.any(axis=0)
    assert (gone == gone[0]).all() and gone[0].sum() <= 2
    assert bands[:, ~gone].all()


def test_bad_specaugment():
    with pytest.raises(ConfigError, match="time_width"):
        SpecAugment(time_width=-1)
    with pytest.raises(ConfigError, match="not 3 stacked"):
        SpecAugment()(np.zeros((4, 10), np.float32), np.random.default_rng(0))
